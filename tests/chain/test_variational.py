"""F = U − TS: equal to −log Z on a Gaussian, above it elsewhere, and honest about how far q is from p."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from enerjax import chain
from enerjax import energy as en


def test_gaussian_is_exact(key):
    """F = −log Z to 1e-6 on a correlated Gaussian, full rank; mean field pays its Kullback–Leibler divergence
    exactly."""
    A = np.random.default_rng(0).standard_normal((5, 5)) + 2 * np.eye(5)
    P, m = jnp.asarray(A @ A.T), jnp.arange(5.0)
    energy = lambda x: 0.5 * (x - m) @ P @ (x - m) + 1.5
    exact = 1.5 - 0.5 * 5 * np.log(2 * np.pi) + 0.5 * np.linalg.slogdet(P)[1]
    full = chain.variational(energy, jnp.zeros(5), key)
    assert abs(full.free_energy - exact) < 1e-6 and full.error < 1e-6
    mean_field = chain.variational(energy, jnp.zeros(5), key, full_rank=False)
    gap = 0.5 * (np.sum(np.log(np.diag(P))) - np.linalg.slogdet(P)[1])
    assert mean_field.free_energy == pytest.approx(exact + gap, abs=5 * mean_field.error + 1e-3)
    np.testing.assert_allclose(full.q.mean, m, atol=1e-5)


def test_bound_and_warning(key):
    """On a heavy tail F stays above −log Z and Pareto-k says that q does not cover p."""
    student = lambda x: 1.0 * jnp.log1p(jnp.sum(x**2))  # Cauchy: Z = π
    fit = chain.variational(student, jnp.zeros(1), key)
    assert fit.free_energy > -np.log(np.pi) - 4 * fit.error
    assert fit.pareto_k > 0.7
    mild = lambda x: 0.5 * jnp.sum(x**2) + 0.02 * jnp.sum(x**4)
    assert chain.variational(mild, jnp.zeros(2), key).pareto_k < 0.7
    with pytest.raises(ValueError, match="not finite"):
        chain.variational(lambda x: jnp.sum(jnp.log(x)), -jnp.ones(2), key)


def test_starts_are_in_the_users_space(key):
    """A log-normal: q is exact in log s, so starts are e^(2 + ξ/2), and `sample` takes them as they are."""
    energy = en.posterior(lambda x: -2 * (jnp.log(x["s"]) - 2) ** 2 - jnp.log(x["s"]), None, {"s": en.Positive()})
    fit = chain.variational(energy, lambda key: {"s": jnp.exp(jr.normal(key))}, key)
    ours = jnp.stack([fit.initial(k)["s"] for k in jr.split(key, 200)])
    log = np.log(ours)  # of negative numbers it is not a number
    assert abs(log.mean() - 2) < 4.5 * 0.5 / 200**0.5 and abs(log.std() - 0.5) < 4.5 * 0.5 / 400**0.5
    begun = chain.sample(energy, fit.initial, key, chains=1, warmup=0, draws=4, start=chain.Given())
    assert float(begun.stats["energy"][0, 0]) < 20
