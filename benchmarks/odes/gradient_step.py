"""One gradient step of a Neural ODE: enerjax against diffrax, in one process, CPU milliseconds (minimum, median).

    python benchmarks/odes/gradient_step.py [spiral|short|long|batch256|lotka ...] [--write DIR]

spiral   SciMLSensitivity's benchmark: 2-50-2 on y³, 30 points, one trajectory
short    diffrax's tutorial network 2-64-64-2, first 10 of its points, batch 32
long     the same, 100 points
batch256 the same, 100 points, batch 256
lotka    Lotka–Volterra, 4 parameters, 21 points, one trajectory

Rows marked `ode.softplus` have this library's softplus in the network instead of jax.nn.softplus: the same function, to
rounding. diffrax starts with the tutorial's step, the first interval of the data; `dt0=None` has it choose, as the
others do. `--write DIR` saves weights and data, which peers_torch.py reads: same network, tolerance and data; with
`--torch PYTHON` (of an environment with the torch libraries) it is run between the rounds, so that load slows
all alike. `--only WORD` leaves out the rows without the word.
"""

import argparse
import os
import re
import subprocess
import time

# one thread for all: XLA's pool has as many as there are cores otherwise, and its idle threads spin, which counts
os.environ.setdefault("PJRT_NPROC", "1")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")

import diffrax
import jax
import jax.numpy as jnp
import numpy as np

from enerjax import ode, path

RTOL, ATOL = 1e-3, 1e-6


def case(name):
    """Network sizes, input map, activation, last activation, times, starts, truth."""
    rng = np.random.default_rng(0)
    if name == "spiral":
        A = np.array([[-0.1, 2.0], [-2.0, -0.1]], np.float32)
        ts = np.linspace(0, 1.5, 30, dtype=np.float32)
        return (
            [2, 50, 2],
            lambda y: y**3,
            jnp.tanh,
            lambda x: x,
            ts,
            np.array([[2.0, 0.0]], np.float32),
            lambda y: y**3 @ A,
        )
    ts = np.linspace(0, 10, 100, dtype=np.float32)
    starts = rng.uniform(-0.6, 1, (256 if name == "batch256" else 32, 2)).astype(np.float32)
    truth = lambda y: jnp.stack([y[1] / (1 + y[1]), -y[0] / (1 + y[0])])
    return [2, 64, 64, 2], lambda y: y, jax.nn.softplus, jnp.tanh, ts[:10] if name == "short" else ts, starts, truth


def problem(name, softplus=None):
    """Parameters, field, times, starts, data; `softplus` replaces jax.nn.softplus."""
    if name == "lotka":
        params = jnp.array([0.55, 0.028, 0.80, 0.024], jnp.float32)
        ts, starts = np.linspace(0, 20, 21, dtype=np.float32), np.array([[30.0, 4.0]], np.float32)
        field = lambda t, y, p: jnp.stack([(p[0] - p[1] * y[1]) * y[0], (-p[2] + p[3] * y[0]) * y[1]])
        return params, field, ts, starts, jnp.full((1, 21, 2), 20.0, jnp.float32)
    sizes, before, act, last, ts, starts, truth = case(name)
    act = softplus if softplus is not None and act is jax.nn.softplus else act
    rng = np.random.default_rng(1)
    params = [
        (jnp.asarray(rng.normal(size=(o, i)) / np.sqrt(i), jnp.float32), jnp.zeros(o, jnp.float32))
        for i, o in zip(sizes[:-1], sizes[1:], strict=True)
    ]

    def field(t, y, params):
        y = before(y)
        for k, (w, b) in enumerate(params):
            y = w @ y + b
            y = act(y) if k < len(params) - 1 else last(y)
        return y

    exact = lambda y: path.solve(lambda t, y, a: truth(y), y, ts, rtol=1e-6, atol=1e-6)
    return params, field, ts, starts, jax.jit(jax.vmap(exact))(jnp.asarray(starts))


def candidates(field, ts):
    span = dict(rtol=RTOL, atol=ATOL)
    first = float(ts[1] - ts[0])

    def diff(adjoint, max_steps=4096, first=first):
        def run(params, y):
            return diffrax.diffeqsolve(
                diffrax.ODETerm(field), diffrax.Tsit5(), float(ts[0]), float(ts[-1]), first, y, args=params,
                saveat=diffrax.SaveAt(ts=jnp.asarray(ts)), stepsize_controller=diffrax.PIDController(**span),
                adjoint=adjoint, max_steps=max_steps,
            ).ys  # fmt: skip

        return run

    return {
        "enerjax, default (Replay)": lambda p, y: path.solve(field, y, ts, p, **span),
        "enerjax, substeps=1 (scan, Tsit5)": lambda p, y: path.solve(field, y, ts, p, substeps=1),
        "diffrax, defaults": diff(diffrax.RecursiveCheckpointAdjoint()),
        "diffrax, defaults, dt0=None": diff(diffrax.RecursiveCheckpointAdjoint(), first=None),
        "diffrax, max_steps=256=checkpoints": diff(diffrax.RecursiveCheckpointAdjoint(checkpoints=256), 256),
    }


def torch_times(python, folder, name):
    """Milliseconds of peers_torch.py, by library."""
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "peers_torch.py")
    said = subprocess.run([python, script, folder, name], capture_output=True, text=True, check=True).stdout
    found = re.findall(r"^\S+ +(\S.*?) +loss .* ([\d.]+) ms$", said, re.MULTILINE)
    return {label: float(ms) for label, ms in found}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", default=["spiral", "short", "long"])
    parser.add_argument("--write")
    parser.add_argument("--torch", help="with --write: Python of the torch libraries")
    parser.add_argument("--only", default="")
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    os.environ["EQX_ON_ERROR"] = "nan"
    for name in options.cases:
        params, field, ts, starts, data = problem(name)
        if options.write and name != "lotka":
            weights = {f"w{k}": w for k, (w, _) in enumerate(params)} | {f"b{k}": b for k, (_, b) in enumerate(params)}
            np.savez(f"{options.write}/{name}.npz", ts=ts, y0=starts, data=data, **weights)
        compiled, cost = {}, {}
        runs = candidates(field, ts)
        if name != "lotka" and case(name)[2] is jax.nn.softplus:
            fast = candidates(problem(name, ode.softplus)[1], ts)
            runs |= {f"{label}, ode.softplus": fast[label] for label in (*list(fast)[:1], "diffrax, defaults")}
        for label, run in runs.items():
            if options.only not in label:
                continue
            batch = (lambda p, run=run: run(p, starts[0])[None]) if len(starts) == 1 else (
                lambda p, run=run: jax.vmap(run, (None, 0))(p, jnp.asarray(starts)))  # fmt: skip
            loss = lambda p, batch=batch: jnp.mean((batch(p) - data) ** 2)
            begin = time.process_time()
            step = jax.jit(jax.value_and_grad(loss)).lower(params).compile()
            cost[label] = [time.process_time() - begin]
            compiled[label] = step
            value, gradient = step(params)
            norm = jnp.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(gradient)))
            print(
                f"{name:9s} {label:42s} loss {float(value):.6f} |g| {float(norm):.6f} compile {cost[label][0]:5.1f} s",
                flush=True,
            )
        turns = 20 if len(starts) == 1 else 3
        for turn in range(options.rounds):  # interleaved: a loaded machine slows all alike
            if options.torch and turn % 4 == 0:
                for label, ms in torch_times(options.torch, options.write, name).items():
                    cost.setdefault(label, [0.0]).append(ms)
            for label, step in compiled.items():
                begin = time.process_time()
                for _ in range(turns):
                    jax.block_until_ready(step(params))
                cost[label].append((time.process_time() - begin) / turns * 1e3)
        base = min(cost.get("diffrax, defaults", [0.0, float("nan")])[1:])
        for label, times in cost.items():
            best = min(times[1:])
            median = np.median(times[1:])
            print(f"{name:9s} {label:42s} {best:9.3f} ms (median {median:9.3f})  {base / best:6.2f} x diffrax")


if __name__ == "__main__":
    main()
