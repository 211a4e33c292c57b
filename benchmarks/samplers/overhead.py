"""What sampling costs beside its gradients, and what vectorised chains lose by waiting for one another.

    python benchmarks/samplers/overhead.py POSTERIORDB [german radon diamonds gaussian300 lotka_volterra]

The pure gradient is timed in a loop of its own over draws of the posterior, compiled like the sampler, before and after
each run of it. Overhead: CPU seconds of `sample` (starts, warm-up, metrics, host included) over gradients × the cost of
one. Lock-step loss: a call of the vectorised program turns as often as the chain with the most leapfrog steps in it;
turns × chains over all steps, warm-up included, is the price of running beside others. Chains in threads never wait:
their loss is 1.
"""

import argparse
import json
import time

import jax
import jax.numpy as jnp
import numpy as np
from models import load

from enerjax import chain
from enerjax.chain import compiled, driver, flat

parser = argparse.ArgumentParser()
parser.add_argument("directory")
parser.add_argument("targets", nargs="*", default=["german", "radon", "diamonds", "gaussian300", "lotka_volterra"])
parser.add_argument("--repeat", type=int, default=3)
a = parser.parse_args()
jax.config.update("jax_enable_x64", True)


class Gaussian:
    """A correlated Gaussian in 300 dimensions: one product with a full matrix."""

    dimension, radius, centre = 300, 1.0, 0.0
    A = jnp.asarray(np.random.default_rng(0).standard_normal((300, 600)) / 600**0.5)
    precision = A @ A.T

    def log_density(self, u):
        """−½ uᵀPu."""
        return -0.5 * u @ self.precision @ u


def pure(energy, points, small):
    """CPU seconds of an energy with its gradient at points [k, d], as the sampler compiles it, as a function."""
    both = jax.value_and_grad(energy)

    def turn(i, carry):  # each point depends on the gradient before, so that no step can be left out
        value, gradient = both(points[i % len(points)] + 1e-12 * carry[0])
        return gradient, carry[1] + value

    loop = lambda n: jax.lax.fori_loop(0, n, turn, (jnp.zeros_like(points[0]), jnp.zeros((), points.dtype)))
    run = compiled.Compiled(loop, small=small)

    def seconds(n):
        begin = time.process_time()
        jax.block_until_ready(run(n))
        return (time.process_time() - begin) / n

    seconds(1)  # compiles
    n = int(0.3 / max(seconds(100), 1e-7))
    return lambda: seconds(n)


for name in a.targets:
    model = Gaussian() if name == "gaussian300" else load(name, a.directory)
    energy = lambda u, model=model: -model.log_density(u)
    uniform = lambda key, m=model: jax.random.uniform(key, (m.dimension,), minval=-m.radius, maxval=m.radius)
    spread = lambda key, m=model, uniform=uniform: m.centre + uniform(key)
    draws = 300 if name in ("gaussian300", "lotka_volterra") else 1000
    first = chain.sample(energy, spread, jax.random.key(0), draws=draws)  # compiles
    small = flat.check_energy(energy, first.layout) <= 512
    cost = pure(energy, jnp.asarray(first.unconstrained[0, -200:]), small)
    rows = []
    for repeat in range(a.repeat):
        before = cost()
        post = chain.sample(energy, spread, jax.random.key(repeat + 1), draws=draws)
        one = 0.5 * (before + cost())
        rows.append((post.seconds[1] / (post.gradients * one), 1e6 * one, post.seconds[1], post.gradients))
    turns = steps = 0
    real = driver.Program.call

    def call(self, chains, metric, plan, key, together, real=real):
        """The program, counting what its lanes did."""
        global turns, steps
        result = real(self, chains, metric, plan, key, together)
        n, own = np.asarray(plan.draws), np.asarray(result[1].stats)[:, :, driver.STATS.index("steps")]
        if not np.any(plan.fresh):
            each = np.array([own[c, : n[c]].sum() for c in range(len(n))])
            turns, steps = turns + each.max(), steps + each.sum()
        return result

    driver.Program.call = call
    chain.sample(energy, spread, jax.random.key(9), draws=draws, vectorise=True)
    driver.Program.call = real
    best = min(rows)
    print(json.dumps({
        "target": name, "gradient_us": round(best[1], 2), "overhead": [round(r[0], 3) for r in rows],
        "cpu_s": round(best[2], 3), "gradients": best[3], "lock_step_loss_4": round(4 * float(turns / steps), 3),
    }), flush=True)  # fmt: skip
