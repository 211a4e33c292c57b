"""The same training as tutorial.py in torchdiffeq: same data, initial weights, batches of 32, rates and tolerance.

    python benchmarks/odes/tutorial_torch.py FILE.npz [--epochs 126] [--order 1] [--constant]

Needs torch and torchdiffeq, not enerjax; FILE is of `tutorial.py --write`.
"""

import argparse
import math
import os
import time

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import torch
import torchdiffeq

torch.set_num_threads(1)


class AdaBelief(torch.optim.Optimizer):
    """J. Zhuang et al., NeurIPS (2020), with optax's constants."""

    def __init__(self, parameters, rate):
        super().__init__(parameters, dict(rate=rate))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                if not state:
                    state.update(t=0, m=torch.zeros_like(p), s=torch.zeros_like(p))
                state["t"] += 1
                state["m"].lerp_(p.grad, 0.1)
                state["s"].mul_(0.999).add_((p.grad - state["m"]) ** 2, alpha=0.001).add_(1e-16)
                m, s = state["m"] / (1 - 0.9 ** state["t"]), state["s"] / (1 - 0.999 ** state["t"])
                p.sub_(group["rate"] * m / (s.sqrt() + 1e-16))


def factor(done):
    """On the rate, as there: warm-up over a tenth, constant to the half, a cosine to zero."""
    if done < 0.1:
        return (done + 0.01) / 0.11
    return 1.0 if done < 0.5 else 0.5 * (1 + math.cos(math.pi * (2 * done - 1)))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file")
    parser.add_argument("--order", type=int, default=0, help="another order of the batches, same weights")
    parser.add_argument("--epochs", type=int, default=63, help="of 8 steps, of the second stage")
    parser.add_argument("--rate", type=float, default=5e-3, help="the tutorial's is 3e-3")
    parser.add_argument("--constant", action="store_true", help="the rate stays, as in the tutorial")
    options = parser.parse_args()
    z = np.load(options.file)
    ts, ys = torch.tensor(z["ts"]), torch.tensor(z["ys"])
    layers = []
    for k in range(3):
        layer = torch.nn.Linear(z[f"w{k}"].shape[1], z[f"w{k}"].shape[0])
        layer.weight.data, layer.bias.data = torch.tensor(z[f"w{k}"]), torch.tensor(z[f"b{k}"])
        layers += [layer, torch.nn.Softplus() if k < 2 else torch.nn.Tanh()]
    net = torch.nn.Sequential(*layers)
    scale = torch.nn.Parameter(torch.tensor(1.0))
    solve = lambda y, t: torchdiffeq.odeint(lambda t, y: scale * net(y), y, t, rtol=1e-3, atol=1e-6, method="dopri5")
    torch.manual_seed(options.order)
    begin = time.process_time()
    for points, epochs, falls in ((10, 63, False), (100, options.epochs, not options.constant)):
        optimizer = AdaBelief([*net.parameters(), scale], options.rate)
        for epoch in range(epochs):
            for k, rows in enumerate(torch.randperm(256).reshape(-1, 32)):
                done = (epoch + k / 8) / epochs
                optimizer.param_groups[0]["rate"] = options.rate * (factor(done) if falls else 1.0)
                optimizer.zero_grad()
                run = solve(ys[rows, 0], ts[:points]).transpose(0, 1)
                ((run - ys[rows, :points]) ** 2).mean().backward()
                optimizer.step()
    spent = time.process_time() - begin
    with torch.no_grad():
        each = ((solve(ys[:, 0], ts).transpose(0, 1) - ys) ** 2).mean((1, 2))
    steps, loss, median = 8 * (63 + options.epochs), float(each.mean()), float(each.median())
    print(f"torchdiffeq: loss {loss:.5f}, median path {median:.5f}, {steps} steps, {spent:.1f} CPU-s")


if __name__ == "__main__":
    main()
