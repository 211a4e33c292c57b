"""Many vectorised chains with one metric: right moments, resumable, chains independent once they draw."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from enerjax import chain
from enerjax.chain import diagnostics as dg
from enerjax.chain.store import Store

A = np.random.default_rng(0).standard_normal((6, 6)) * np.array([0.1, 0.3, 1, 1, 3, 10])
COVARIANCE = A @ A.T + 0.01 * np.eye(6)
PRECISION = jnp.asarray(np.linalg.inv(COVARIANCE))
OPTIONS = dict(chains=100, draws=40, vectorise=True, block=20, thin=2)


def energy(x):
    """A correlated Gaussian whose tail x₀ > 3σ reports a failure."""
    return 0.5 * x @ PRECISION @ x, jnp.where(x[0] > 3 * COVARIANCE[0, 0] ** 0.5, 7, 0)


@pytest.fixture(scope="module")
def crowd():
    return chain.sample(energy, chain.uniform(jnp.zeros(6), 0.1), jr.key(3), **OPTIONS)


def test_moments_and_one_short_warm_up(crowd):
    x = crowd.unconstrained
    assert x.shape == (100, 40, 6)
    scale = np.sqrt(np.diag(COVARIANCE))
    for i in range(1, 6):  # the truncation touches x₀ most
        assert abs(x[..., i].mean()) < 4.5 * dg.mcse_mean(x[..., i]) + 0.006 * scale[i]
        assert abs(x[..., i].std() - scale[i]) < 4.5 * dg.mcse_sd(x[..., i]) + 0.02 * scale[i]
    assert dg.rhat(x[..., 3]) < 1.02 and abs(crowd.stats["acceptance"].mean() - 0.8) < 0.08
    assert set(crowd.warmup["draws"]) == {crowd.warmup["draws"][0]} and crowd.warmup["draws"][0] < 150
    assert len({float(s) for s in np.unique(crowd.stats["step_size"])}) == 1, "one step size for all"
    assert {f.why for f in crowd.failures} == {chain.failure.USER + 6}
    assert all(f.place[0] > 3 * scale[0] for f in crowd.failures) and len(crowd.failures) > 3
    metric = np.asarray(crowd.metrics[0].covariance)  # learned from all, so it is nearly the covariance
    assert np.allclose(metric, COVARIANCE, atol=0.25 * np.outer(scale, scale))


def test_a_stopped_crowd_resumes_exactly(crowd, tmp_path, monkeypatch):
    class Stop(Exception):
        pass

    real, calls = Store.save, []

    def save(self, c, state):
        real(self, c, state)
        calls.append(c)
        if len(calls) == 2:
            raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(Store, "save", save)
        patch.setattr(Store, "interval", 0.0)
        with pytest.raises(Stop):
            chain.sample(energy, chain.uniform(jnp.zeros(6), 0.1), jr.key(3), directory=tmp_path, **OPTIONS)
    assert int(np.load(tmp_path / "chain-0.npz")["count"]) == 20
    again = chain.sample(energy, chain.uniform(jnp.zeros(6), 0.1), jr.key(3), directory=tmp_path, **OPTIONS)
    np.testing.assert_array_equal(again.unconstrained, crowd.unconstrained)
    assert again.warmup["gradients"] == crowd.warmup["gradients"] and len(again.failures) == len(crowd.failures)


def test_pooled_chains_must_run_together(key):
    with pytest.raises(ValueError, match="vectorise=True"):
        chain.sample(energy, jnp.zeros(6), key, pooled=True, vectorise=False)


def test_a_crowd_from_the_mode_where_some_begin_at_it():
    """A chain that is at its mode already learns no scale on the way there; the others' serves all."""
    at_it = lambda key: jnp.where(jr.bernoulli(key), 1.0, 0.0) * jnp.ones(6)
    options = dict(chains=8, draws=10, warmup=40, vectorise=True, pooled=True, block=20, start=chain.Mode())
    x = chain.sample(lambda x: energy(x)[0], at_it, jr.key(2), **options).unconstrained
    assert np.all(np.isfinite(x)) and np.all(x.std((0, 1)) > 0)
