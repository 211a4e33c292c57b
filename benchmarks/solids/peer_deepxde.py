"""DeepXDE on the same problems: error against CPU seconds, Adam then L-BFGS.

    pip install deepxde torch           # an environment of its own
    python benchmarks/solids/peer_deepxde.py manufactured|kirsch|thick_cylinder|cantilever SECONDS [HIDDEN ...]

DeepXDE's own elasticity_plate.py: five outputs (u, v, σ_xx, σ_yy, σ_xy), boundary values built in
where that example builds them in, first-order residuals; PyTorch backend, float64, one thread. Adam (1e-3) has
at most a third of the time, L-BFGS the rest. Evaluation is not timed.
"""

import os
import sys
import time

os.environ["DDE_BACKEND"] = "pytorch"
import deepxde as dde
import numpy as np
import torch
from peer_problems import PROBLEMS, errors

torch.set_num_threads(1)
dde.config.set_default_float("float64")
dde.config.set_random_seed(0)


class Watch(dde.callbacks.Callback):
    """CPU seconds of training, evaluation apart; stops at the budget."""

    def __init__(self, problem):
        super().__init__()
        self.problem, self.points, self.history = problem, problem.grid(), []
        self.spent, self.steps, self.next = 0.0, 0, 0.5
        self.budget, self.mark = 0.0, time.process_time()

    def resume(self, budget):
        self.budget, self.mark = budget, time.process_time()

    def look(self):
        x, y, w = self.points
        e = errors(self.problem, x, y, w, self.model.predict(np.stack([x, y], 1)))
        self.history.append((self.spent, self.steps, *e))
        return e

    def on_epoch_end(self):
        now = time.process_time()
        self.spent, self.steps = self.spent + now - self.mark, self.steps + 1
        if self.spent >= self.next:
            self.look()
            self.next *= 1.3
        if self.spent > self.budget:
            self.model.stop_training = True
        self.mark = time.process_time()


def build(problem):
    """Geometry, residuals and tractions."""

    def pde(X, f):
        d = lambda i, j: dde.grad.jacobian(f, X, i=i, j=j)
        return problem.residual(torch, X[:, 0:1], X[:, 1:2], [f[:, k : k + 1] for k in range(5)], d)

    if not hasattr(problem, "traction"):
        geometry = dde.geometry.Rectangle(list(problem.lower), list(problem.upper))
        return geometry, dde.data.PDE(geometry, pde, [], num_domain=500, num_boundary=500, num_test=100)
    L = problem.size
    geometry = dde.geometry.Rectangle([0, 0], [L, L]) - dde.geometry.Disk([0, 0], 1)

    def condition(where, normal, k):
        def residual(X, f, _):
            x, y = X[:, 0:1], X[:, 1:2]
            return problem.traction(torch, x, y, (f[:, 2:3], f[:, 3:4], f[:, 4:5]), normal(x, y))[k]

        return dde.icbc.OperatorBC(geometry, residual, lambda x, on: on and bool(where(x)))

    sides = [
        (lambda x: np.isclose(np.hypot(*x), 1), lambda x, y: (-x, -y)),
        (lambda x: np.isclose(x[0], L), lambda x, y: (torch.ones_like(x), 0 * x)),
        (lambda x: np.isclose(x[1], L), lambda x, y: (0 * x, torch.ones_like(x))),
    ]
    conditions = [condition(where, normal, k) for where, normal in sides for k in (0, 1)]
    return geometry, dde.data.PDE(geometry, pde, conditions, num_domain=1000, num_boundary=300, num_test=100)


def main():
    """Train and print the history."""
    problem, budget = PROBLEMS[sys.argv[1]](), float(sys.argv[2])
    hidden = [int(n) for n in sys.argv[3:]] or [24, 24]
    _, data = build(problem)
    net = dde.nn.FNN([2, *hidden, 5], "tanh", "Glorot uniform")

    def transform(X, f):
        return torch.cat(problem.hard(torch, X[:, 0:1], X[:, 1:2], [f[:, k : k + 1] for k in range(5)]), dim=1)

    net.apply_output_transform(transform)
    model, watch = dde.Model(data, net), Watch(problem)
    options = {"callbacks": [watch], "display_every": 10**9, "verbose": 0}
    model.compile("adam", lr=1e-3, verbose=0)
    watch.resume(budget / 3)
    model.train(iterations=10**6, **options)
    print(f"Adam: {watch.spent:.1f} CPU s, {watch.steps} steps: displacement %.1e stress %.1e" % watch.look())
    dde.optimizers.set_LBFGS_options(maxiter=10**6, maxfun=10**7, ftol=0, gtol=0)
    model.compile("L-BFGS", verbose=0)
    watch.resume(budget)
    model.train(**options)
    watch.look()
    for spent, steps, u, s in watch.history:
        print(f"{spent:8.1f} CPU s  {steps:6d}  displacement {u:.1e}  stress {s:.1e}")
    print(
        f"parameters {sum(p.numel() for p in net.parameters())}, DeepXDE {dde.__version__}, torch {torch.__version__}"
    )


if __name__ == "__main__":
    main()
