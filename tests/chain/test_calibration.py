"""Simulation-based calibration: parameters drawn from the prior, data from them, and the rank of the truth among the
draws of the posterior is uniform, if and only if prior, likelihood, transforms, warm-up and sampler are all right.

S. Talts et al., Validating Bayesian inference algorithms with simulation-based calibration, arXiv:1804.06788 (2018).
"""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.scipy.stats import beta, norm
from scipy.stats import chisquare

from enerjax import chain
from enerjax import energy as en

BINS = 8


def ranks(simulate, make, initial, names, runs):
    """Rank of each named parameter among 63 thinned draws, {name: [runs]}; one compiled program for all data."""
    found = {n: [] for n in names}
    for i in range(runs):
        truth, data = simulate(np.random.default_rng(i))
        post = chain.sample(
            make(data), initial, jr.key(i), chains=1, warmup=200, draws=63, thin=3, start=chain.Given(), block=63
        )
        for n in names:
            found[n].append(int(np.sum(np.ravel(post.draws[n])[:63] < truth[n])))
    return found


def uniform(found):
    """p-value of the chi-square of the binned ranks."""
    counts = np.bincount(np.asarray(found) * BINS // 64, minlength=BINS)
    return chisquare(counts).pvalue


def binomial(x, data):
    k, n = data
    return k * jnp.log(x["p"]) + (n - k) * jnp.log1p(-x["p"])


def test_conjugate_model():
    """Beta–binomial on (0, 1)."""
    priors, transforms = {"p": lambda p: beta.logpdf(p, 2.0, 3.0)}, {"p": en.Interval()}
    make = lambda data: en.posterior(binomial, priors, transforms, data)

    def simulate(rng):
        p = rng.beta(2.0, 3.0)
        return {"p": p}, (np.asarray(float(rng.binomial(20, p))), np.asarray(20.0))

    runs = 96
    found = ranks(simulate, make, {"p": jnp.asarray(0.5)}, ["p"], runs)
    assert uniform(found["p"]) > 0.01
    assert uniform(np.asarray(found["p"]) // 2) < 1e-6, "a biased sampler would be seen"


def schools(x, y):
    return norm.logpdf(y, x["mu"] + x["tau"] * x["z"], 1.0).sum()


def test_hierarchical_model():
    """Five groups, non-centred: population mean and spread."""
    priors = {"mu": norm.logpdf, "tau": lambda t: norm.logpdf(jnp.log(t), -0.5, 0.7) - jnp.log(t), "z": norm.logpdf}
    transforms = {"tau": en.Positive()}
    make = lambda y: en.posterior(schools, priors, transforms, y)

    def simulate(rng):
        mu, tau, z = rng.standard_normal(), np.exp(-0.5 + 0.7 * rng.standard_normal()), rng.standard_normal(5)
        return {"mu": mu, "tau": tau}, mu + tau * z + rng.standard_normal(5)

    runs = 192
    start = {"mu": jnp.asarray(0.0), "tau": jnp.asarray(0.6), "z": jnp.zeros(5)}
    found = ranks(simulate, make, start, ["mu", "tau"], runs)
    for name, values in found.items():
        assert uniform(values) > 0.01, name
