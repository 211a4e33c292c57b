"""Error against CPU seconds on one problem: frozen features, a trained network, and a plain Adam PINN, all ours.

    python benchmarks/solids/race.py [PROBLEM [SECONDS FOR THE NETWORK [SECONDS FOR ADAM]]]

The Adam PINN has the boundary values and coordinates built in as ours has: a K-24-24-2 tanh network in float64, Adam
with a linearly falling rate. Compilation is left out of all times. The same problems with DeepXDE and jinns are in
peer_deepxde.py and peer_jinns.py, each in an environment of its own.
"""

import sys
import time

import equinox as eqx
import jax
import jax.random as jr
import optax

from enerjax.solids import Collocation, Network, problems, solve
from enerjax.solids._clock import Clock
from enerjax.solids.solution import Solution
from enerjax.solids.survey import survey
from enerjax.solids.trained import network_loss


def adam(problem, budget, rate=3e-3, chunk=50, total=60000):
    """Train until `budget` CPU seconds, the rate falling to zero with the time; yields (seconds, steps, solution)."""
    method = Network(hidden=(24, 24), interior=20, boundary=32)
    field, loss = network_loss(survey(problem, 20, 32, Clock()), method, jr.key(0))
    params, static = eqx.partition(field.network, eqx.is_array)
    rebuild = lambda p: eqx.tree_at(lambda f: f.network, field, eqx.combine(p, static))
    optimiser = optax.inject_hyperparams(optax.adam)(rate)

    @jax.jit
    def run(state):
        def body(state, _):
            p, o = state
            updates, o = optimiser.update(jax.grad(lambda p: loss(rebuild(p)))(p), o, p)
            return (optax.apply_updates(p, updates), o), None

        return jax.lax.scan(body, state, None, length=chunk)[0]

    state = (params, optimiser.init(params))
    falling = lambda spent: jax.numpy.asarray(rate * (1 - spent / budget) + 1e-6)
    for _ in range(3):  # a rate that is set and a state that comes out of jit each compile once more
        state[1].hyperparams["learning_rate"] = falling(0.0)
        state = jax.block_until_ready(run(state))
    spent, steps, report = 0.0, 3 * chunk, 1.0
    while spent < budget and steps < total:
        state[1].hyperparams["learning_rate"] = falling(spent)
        begin = time.process_time()
        state = jax.block_until_ready(run(state))
        spent, steps = spent + time.process_time() - begin, steps + chunk
        if spent > report:
            yield spent, steps, Solution(problem, rebuild(state[0]), [])
            report *= 2
    yield spent, steps, Solution(problem, rebuild(state[0]), [])


def main():
    """Print one line per measurement."""
    name = sys.argv[1] if len(sys.argv) > 1 else "manufactured"
    train, budget = (float(sys.argv[k]) if len(sys.argv) > k else default for k, default in ((2, 50.0), (3, 50.0)))
    problem = getattr(problems, name)()
    line = lambda name, s, e: print(
        f"{name:38s} {s:8.3f} CPU s   displacement {e['displacement_relative_l2']:.1e}"
        f"   stress {e['stress_relative_l2']:.1e}",
        flush=True,
    )
    solve(problem, 0, method=Collocation(features=20, interior=8, boundary=12, widths=(1.0,)))  # JAX's own first calls
    for features in (40, 60, 80, 100, 150, 200, 300, 400):
        n = round(1.5 * features**0.5)  # three times as many residuals as unknowns; more changes no error
        method = Collocation(features=features, interior=n, boundary=round(1.6 * n), widths=(1.0,))
        solution = solve(problem, 0, method=method)
        line(f"frozen, {features} features", solution.seconds, solution.errors())
    chosen = Collocation(features=100, interior=20, boundary=32, pilot=0.6)
    solution = solve(problem, 0, method=chosen)
    line("frozen, 100 features, width chosen", solution.seconds, solution.errors())
    with jax.enable_x64(True):
        hidden = (60,)
        for seconds in (train / 16, train / 4, train):
            solution = solve(problem, 0, method=Network(hidden=hidden, max_seconds=seconds))
            parameters = solution.info["parameters"]
            line(f"trained {hidden}, {parameters} parameters", solution.seconds, solution.errors())
        for spent, steps, solution in adam(problem, budget):
            line(f"Adam PINN, {steps} steps", spent, solution.errors())


if __name__ == "__main__":
    main()
