"""Lynx and hare of Hudson Bay, 1900–1920: a posterior, and a law that was not told what the missing term is.

    python examples/lynx_hare_ude.py --data hudson_lynx_hare.json [--seed 0]

Data: pelts in thousands, E. P. Odum, Fundamentals of Ecology (1953), as the JSON file of posteriordb's
hudson_lynx_hare (y_init and y), not shipped here.

1. Posterior of Lotka–Volterra's four rates, both starts and both noises by NUTS through `path.solve`; compared with the
   10 000 reference draws of posteriordb (means below from it) in Monte Carlo standard errors.
2. A universal differential equation: births and deaths known, the interaction a network; fitted to 1900–1914,
   extrapolated to 1920.
"""

import argparse
import json
import sys
import time
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

jax.config.update("jax_enable_x64", True)

from enerjax import chain, ode, path  # noqa: E402

T = jnp.arange(21.0)
# posteriordb hudson_lynx_hare-lotka_volterra: mean and standard deviation of the reference draws
NAMES = ("alpha", "beta", "gamma", "delta", "hare0", "lynx0", "sigma_hare", "sigma_lynx")
MEAN = np.array([0.547, 0.0277, 0.800, 0.0241, 34.0, 5.94, 0.248, 0.251])
SD = np.array([0.063, 0.0042, 0.089, 0.0035, 2.9, 0.53, 0.043, 0.044])


def lotka_volterra(t, y, p):
    return jnp.stack([(p[0] - p[1] * y[1]) * y[0], (-p[2] + p[3] * y[0]) * y[1]])


def read(file):
    if not file or not Path(file).exists():
        sys.exit(f"lynx–hare data not found at {file!r}: give --data hudson_lynx_hare.json (posteriordb, not shipped).")
    table = json.loads(Path(file).read_text())
    return jnp.array([table["y_init"], *table["y"]], jnp.float64)


def energy(x, Y):
    """−log posterior of x = log(α, β, γ, δ, u₀, v₀, σ₁, σ₂); priors and likelihood of Stan's case study."""
    θ = jnp.exp(x)
    ys = path.solve(lotka_volterra, θ[4:6], T, θ[:4], rtol=1e-6, atol=1e-6, max_steps=256)
    where = jnp.array([1.0, 0.05, 1.0, 0.05])
    width = jnp.array([0.5, 0.05, 0.5, 0.05])
    prior = 0.5 * jnp.sum(((θ[:4] - where) / width) ** 2)
    prior += 0.5 * jnp.sum((x[4:6] - jnp.log(10.0)) ** 2) + jnp.sum(x[4:6])
    prior += 0.5 * jnp.sum((x[6:] + 1.0) ** 2) + jnp.sum(x[6:])
    σ = θ[6:]
    z = (jnp.log(Y) - jnp.log(ys)) / σ[None]
    misfit = 0.5 * jnp.sum(z**2) + len(T) * jnp.sum(x[6:])
    return prior + misfit - jnp.sum(x)  # the last term: volume of θ = eˣ


def posterior(Y, seed):
    begin = time.process_time()
    start = jnp.log(jnp.asarray(MEAN))
    draws = chain.sample(
        partial(energy, Y=Y), lambda key: start + 0.1 * jr.normal(key, (8,)), jr.key(seed), warmup=500, draws=1000
    )
    θ = np.exp(np.asarray(draws.draws))
    flat = θ.reshape(-1, 8)
    # batch means: Monte Carlo standard error of ours; the reference's own is SD/100
    batches = θ.reshape(θ.shape[0] * 20, -1, 8).mean(1)
    mcse = np.sqrt(batches.std(0, ddof=1) ** 2 / len(batches) + (SD / 100) ** 2)
    off = np.abs(flat.mean(0) - MEAN) / mcse
    for name, m, s, reference, o in zip(NAMES, flat.mean(0), flat.std(0), MEAN, off, strict=True):
        print(f"  {name:11s} {m:8.4f} ± {s:.4f}   reference {reference:8.4f}   {o:.1f} MCSE")
    print(f"posterior: largest distance {off.max():.1f} MCSE (goal 4), {time.process_time() - begin:.0f} CPU-s")


def interaction(Y, seed):
    """d ln u/dt = α + f₁, d ln v/dt = −γ + f₂ with f a network of the standardised logarithms."""
    log = jnp.log(Y)
    mean, spread = jnp.mean(log, 0), jnp.std(log, 0)
    x, n = (log - mean) / spread, 15
    births = lambda t, x, a: jnp.array([0.55, -0.8]) / spread
    law = ode.Universal(births, ode.Network(ode.mlp(2, 2, 8, 1, jr.key(seed), final=0.1)))
    learned = ode.learn(
        law, T[:n], x[None, :n], key=jr.key(seed), horizons=(5, 8, 11, n), epochs=150, rates=1e-2, noise=0.3,
        solver=dict(substeps=4),
    )  # fmt: skip
    ys = path.solve(learned.field, learned.starts[0], T, substeps=4) * spread + mean
    error = jnp.sqrt(jnp.mean((ys - log) ** 2, axis=1))
    still = jnp.sqrt(jnp.mean((mean - log) ** 2, axis=1))
    fitted, ahead, mean_of = (float(jnp.mean(e)) for e in (error[:n], error[n:], still[n:]))
    print(f"UDE: log error {fitted:.2f} over 1900–1914, {ahead:.2f} over 1915–1920 unseen (their mean: {mean_of:.2f})")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data")
    options = parser.parse_args()
    Y = read(options.data)
    posterior(Y, options.seed)
    interaction(Y, options.seed)


if __name__ == "__main__":
    main()
