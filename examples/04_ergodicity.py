"""Noise makes training ergodic: one long run and many short runs of SGLD share the law exp(−L/T); descent remembers."""

import gallery
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

args = gallery.arguments(__doc__)

import matplotlib.pyplot as plt  # noqa: E402

from enerjax.flow import Phase, descend, diffuse  # noqa: E402
from enerjax.path import rollout  # noqa: E402

L = lambda x: jnp.sum((x**2 - 1) ** 2 + 0.2 * x)
T, dt, walkers = 1.0, np.sqrt(2 * 0.002), 4000
grid = jnp.linspace(-3, 3, 4001)
density = jnp.exp(-jax.vmap(L)(grid) / T)
density = density / jnp.sum(density) / (grid[1] - grid[0])
exact = float(jnp.sum(density * grid) * (grid[1] - grid[0]))


def sgld(x, steps, stride, key):
    step = lambda z, k: diffuse(L, z, dt, T, k)
    return jax.jit(lambda z, keys: rollout(step, z, keys, stride=stride).position)(Phase.at(L, x), jr.split(key, steps))


one, two = jr.split(jr.key(args.seed))
time = np.asarray(sgld(jnp.ones(1), 1_000_000, 20, one))[:, 0]
ensemble = np.asarray(sgld(jnp.ones(walkers), 5000, 5000, two))[0]
batches = time.reshape(50, -1).mean(1)
mcse = np.hypot(batches.std(ddof=1) / np.sqrt(50), ensemble.std() / np.sqrt(walkers))
gap = abs(time.mean() - ensemble.mean())
descents = rollout(lambda z, _: descend(L, z, 0.1, jnp.inf), Phase.at(L, jnp.linspace(-2, 2, 41)), length=1000).position

figure, (left, right) = plt.subplots(1, 2, figsize=(7.5, 3))
bins = np.linspace(-2.5, 2.5, 60)
left.hist(time, bins, density=True, color=gallery.BLUE, alpha=0.5, label="one long run")
left.hist(ensemble, bins, density=True, histtype="step", color=gallery.RED, label=f"{walkers} runs")
left.plot(grid, density, color=gallery.INK, label="exp(−L/T)")
left.set(xlabel="weight", xlim=(-2.5, 2.5))
left.legend(frameon=False)
right.plot(descents, lw=0.6, color=gallery.GREY)
right.set(xlabel="step", ylabel="weight", xlim=(0, 400), title="T = 0: two ends, chosen by the start")
gallery.save(figure, args.out, __file__)
sides = np.unique(np.round(np.asarray(descents[-1]), 3))
gallery.check(
    f"time average {time.mean():.3f}, ensemble average {ensemble.mean():.3f}, exact {exact:.3f}: "
    f"apart by {gap / mcse:.1f} standard errors; descent ends at {len(sides)} places",
    gap < 4 * mcse and abs(ensemble.mean() - exact) < 4 * ensemble.std() / np.sqrt(walkers) and len(sides) >= 2,
)
