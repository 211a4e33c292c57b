"""Radon in Minnesota: 919 houses in 85 counties, a varying intercept per county with a slope for soil uranium.

    python examples/radon.py POSTERIORDB/data/radon_mn.json

The data (Gelman and Hill 2007; posteriordb's radon_mn) are not shipped: give the file. Prints the effect of
measuring in the basement and of the soil, and how far counties with few houses are pulled to the common line.
"""

import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.scipy.stats import norm

from enerjax import chain
from enerjax import energy as en


def log_likelihood(x, data):
    """log radon ~ N(α_county + β₁ log uranium + β₂ floor, σ), α = μ + τ z."""
    alpha = x["mu"] + x["tau"] * x["z"]
    mean = alpha[data["county"]] + x["uranium"] * data["uranium"] + x["floor"] * data["floor"]
    return norm.logpdf(data["radon"], mean, x["sigma"]).sum()


def model(path):
    """The posterior with the data of a file."""
    raw = json.loads(Path(path).read_text())
    floats = {"uranium": "log_uppm", "floor": "floor_measure", "radon": "log_radon"}
    data = {name: np.asarray(raw[key], float) for name, key in floats.items()}
    data["county"] = np.asarray(raw["county_idx"]) - 1
    wide, unit = (lambda b: norm.logpdf(b, 0, 10)), norm.logpdf
    priors = {"z": unit, "mu": wide, "uranium": wide, "floor": wide, "tau": unit, "sigma": unit}
    return en.posterior(log_likelihood, priors, {"tau": en.Positive(), "sigma": en.Positive()}, data), data


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    with jax.enable_x64(True):
        energy, data = model(sys.argv[1])
        zero = jnp.zeros(())
        like = {"z": jnp.zeros(85), "mu": zero, "uranium": zero, "floor": zero, "tau": zero, "sigma": zero}
        free = chain.uniform(like, 1.0)
        posterior = chain.sample(energy, lambda key: energy.constrain(free(key)), jr.key(0))
        x = posterior.draws
        for name in ("floor", "uranium", "tau", "sigma"):
            print(f"{name:8} {x[name].mean():6.3f} ± {x[name].std():.3f}")
        count = np.bincount(data["county"], minlength=85)
        spread = (x["tau"][..., None] * x["z"]).std((0, 1))
        few, many = spread[count <= 2].mean(), spread[count >= 50].mean()
        print(f"sd of a county's deviation: {few:.3f} with ≤ 2 houses, {many:.3f} with ≥ 50")
        worst = posterior.diagnostics()
        print({k: round(worst[k], 4) for k in ("max_rhat", "min_ess_bulk", "divergences", "gradients")})
        # least squares with the same covariates says −0.66 for the floor; the hierarchy keeps it
        assert -0.8 < x["floor"].mean() < -0.5 and worst["max_rhat"] < 1.015
