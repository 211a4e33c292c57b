"""The same gradient step in torchdiffeq and torchode, CPU milliseconds.

    python benchmarks/odes/gradient_step.py spiral long batch256 --write /tmp/ode     (enerjax's environment)
    python benchmarks/odes/peers_torch.py /tmp/ode spiral long batch256               (an environment with the peers)

Needs torch, torchdiffeq and torchode, not enerjax. Reads the weights, starts, times and data that gradient_step.py
wrote: same network, tolerance and data, float32, one thread.
"""

import os
import sys
import time

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import torch
import torchdiffeq
import torchode

torch.set_num_threads(1)
RTOL, ATOL = 1e-3, 1e-6


class Field(torch.nn.Module):
    def __init__(self, weights, spiral):
        super().__init__()
        self.layers, self.spiral = torch.nn.ModuleList(), spiral
        for k in range(sum(name.startswith("w") for name in weights)):
            w = weights[f"w{k}"]
            layer = torch.nn.Linear(w.shape[1], w.shape[0])
            layer.weight.data, layer.bias.data = torch.tensor(w), torch.tensor(weights[f"b{k}"])
            self.layers.append(layer)

    def forward(self, t, y):
        y = y**3 if self.spiral else y
        for layer in self.layers[:-1]:
            y = layer(y)
            y = torch.tanh(y) if self.spiral else torch.nn.functional.softplus(y)
        y = self.layers[-1](y)
        return y if self.spiral else torch.tanh(y)


def main():
    folder, names = sys.argv[1], sys.argv[2:] or ["spiral", "long"]
    for name in names:
        z = dict(np.load(f"{folder}/{name}.npz"))
        y0, ts, data = (torch.tensor(np.asarray(z[k])) for k in ("y0", "ts", "data"))
        field = Field(z, name == "spiral")

        def diffeq(solve):
            ys = solve(field, y0, ts, rtol=RTOL, atol=ATOL, method="dopri5").transpose(0, 1)
            return ((ys - data) ** 2).mean()

        def ode(_):
            term = torchode.ODETerm(field)
            method, control = torchode.Tsit5(term=term), torchode.IntegralController(atol=ATOL, rtol=RTOL, term=term)
            solver = torchode.AutoDiffAdjoint(method, control)
            times = ts.expand(y0.shape[0], -1).contiguous()
            return ((solver.solve(torchode.InitialValueProblem(y0=y0, t_eval=times)).ys - data) ** 2).mean()

        cases = {
            "torchdiffeq odeint": (diffeq, torchdiffeq.odeint),
            "torchode AutoDiff Tsit5": (ode, None),
        }
        if name != "batch256":
            cases["torchdiffeq odeint_adjoint"] = (diffeq, torchdiffeq.odeint_adjoint)
        for label, (loss, how) in cases.items():
            times = []
            for _ in range(4):
                field.zero_grad()
                begin = time.process_time()
                value = loss(how)
                value.backward()
                times.append((time.process_time() - begin) * 1e3)
            norm = sum(float((p.grad**2).sum()) for p in field.parameters()) ** 0.5
            print(f"{name:9s} {label:28s} loss {float(value):.6f} |g| {norm:.6f} {min(times):10.2f} ms", flush=True)


if __name__ == "__main__":
    main()
