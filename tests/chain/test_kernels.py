"""Kernels leave their measure invariant, integrators are reversible and keep volume, and a wrong gradient is caught."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from enerjax import chain
from enerjax import energy as en
from enerjax.chain import diagnostics as dg
from enerjax.flow import Phase, blanes_moan4, minimum_norm, verlet, yoshida4, yoshida6

INTEGRATORS = {
    "verlet": verlet,
    "minimum norm": minimum_norm,
    "yoshida4": yoshida4,
    "yoshida6": yoshida6,
    "bm4": blanes_moan4,
}


def well(x):
    """Not Gaussian, not separable; ⟨x²⟩ by quadrature below."""
    return 0.25 * jnp.sum(x**4) + 0.5 * x[0] * x[1]


def second_moment(kT):
    g = np.linspace(-6, 6, 801)
    a, b = np.meshgrid(g, g)
    w = np.exp(-(0.25 * (a**4 + b**4) + 0.5 * a * b) / kT)
    return float((w * a**2).sum() / w.sum())


@pytest.mark.parametrize("name", INTEGRATORS)
def test_reversible_and_volume_preserving(name, key):
    """Forward, flip, forward, flip is the identity; the Jacobian of a step has determinant one."""
    step = INTEGRATORS[name]
    q, p = jr.normal(key, (2, 3))

    def move(x):
        z = step(
            lambda q: jnp.sum(q**4) + jnp.prod(q), Phase.at(lambda q: jnp.sum(q**4) + jnp.prod(q), x[:3], x[3:]), 0.1
        )
        return jnp.concatenate([z.position, z.momentum])

    x = jnp.concatenate([q, p])
    flip = jnp.array([1.0] * 3 + [-1.0] * 3)
    np.testing.assert_allclose(flip * move(flip * move(x)), x, atol=1e-12)
    assert abs(np.linalg.det(jax.jacfwd(move)(x)) - 1) < 1e-11


KERNELS = {
    "hmc": lambda kT: chain.Hmc(0.3, 6, kT=kT),
    "hmc jittered": lambda kT: chain.Hmc(0.3, 8, kT=kT, jitter=True),
    "hmc minimum norm": lambda kT: chain.Hmc(0.5, 3, kT=kT, integrator=minimum_norm),
    "mala": lambda kT: chain.Mala(0.6, kT=kT),
}


@pytest.mark.parametrize("name", KERNELS)
def test_invariant(name, key):
    """⟨x²⟩ of a correlated quartic well at kT = 0.7, against quadrature, with Monte Carlo errors."""
    kernel = KERNELS[name](0.7)
    start = jax.vmap(lambda x: Phase.at(well, x))(jr.normal(key, (16, 2)))
    run = jax.jit(jax.vmap(lambda z, k: chain.walk(kernel, well, z, k, 1500)))
    _, x, info = run(start, jr.split(key, 16))
    square = np.asarray(x[:, 200:, 0] ** 2)
    assert abs(square.mean() - second_moment(0.7)) < 4.5 * dg.mcse_mean(square)
    assert 0.5 < float(info.acceptance.mean()) < 1


def test_nuts_kernel_invariant(key):
    start = jax.vmap(lambda x: Phase.at(well, x))(jr.normal(key, (16, 2)))
    _, x, info = jax.jit(jax.vmap(lambda z, k: chain.walk(chain.Nuts(0.4), well, z, k, 600)))(start, jr.split(key, 16))
    square = np.asarray(x[:, 100:, 0] ** 2)
    assert abs(square.mean() - second_moment(1.0)) < 4.5 * dg.mcse_mean(square)
    assert float(info.steps.mean()) > 2


def test_planted_wrong_gradient_is_caught(key):
    """With the force of 1.01 E the error of H no longer vanishes as dt → 0; with the right one it falls as dt²."""

    @jax.custom_vjp
    def wrong(x):
        return 50 * jnp.sum(x**2)

    wrong.defvjp(lambda x: (wrong(x), x), lambda x, g: (1.01 * 100 * x * g,))
    right = lambda x: 50 * jnp.sum(x**2)

    def error(energy, dt):
        start = jax.vmap(lambda x: Phase.at(energy, x))(0.1 * jr.normal(key, (400, 20)))
        steps = int(0.2 / dt)
        _, info = jax.jit(jax.vmap(lambda z, k: chain.Hmc(dt, steps)(energy, z, k)))(start, jr.split(key, 400))
        return float(jnp.abs(info.error).mean())

    coarse, fine = error(right, 0.02), error(right, 0.005)
    assert fine < coarse / 10, "the error of the right gradient is of second order"
    assert error(wrong, 0.005) > 10 * fine, "that of the wrong one stays"


def test_langevin_and_sgld_with_minibatches(key):
    """A Gaussian mean from data in minibatches of half: mean and spread of the posterior to the order of dt."""
    y = jr.normal(jr.key(5), (40,)) + 2.0
    prior = lambda x: 0.5 * x**2 / 100

    class Batch(chain.kernels.eqx.Module):
        y: jax.Array

        def __call__(self, x):
            return prior(x) + 40 / self.y.shape[-1] * 0.5 * jnp.sum((self.y - x) ** 2)

    precision = 40 + 1 / 100
    mean, sd = float(y.sum() / precision), precision**-0.5
    n = 6000
    exact = chain.sample(Batch(y), jnp.asarray(0.0), key, draws=500)
    pick = jax.vmap(lambda k: jr.permutation(k, 40)[:20])(jr.split(jr.key(1), n))
    start = Phase.at(Batch(y), jnp.asarray(0.0))
    for kernel in (chain.Sgld(0.05), chain.Langevin(0.03, friction=5.0)):
        z = Phase.at(Batch(y[:20]), start.position)
        last, x, _ = jax.jit(lambda z, k, b, kernel=kernel: chain.walk(kernel, b, z, k, n, batched=True))(
            z, key, Batch(y[pick])
        )
        x = np.asarray(x[1000:])[None]
        assert abs(x.mean() - mean) < 5 * dg.mcse_mean(x) + 0.1 * sd
        assert abs(x.std() / sd - 1) < 0.25
        found = chain.calibrate(x[0], exact)
        assert found.shift < 0.1 + 2 * found.error and found.scale < 0.25 and found.worst == "x"
    assert "biased" in str(chain.calibrate(x[0] + sd, exact))
    with pytest.raises(ValueError, match="shape"):
        chain.calibrate(np.zeros((2, 3, 4, 5)), exact)


def test_many_chains(key):
    """64 chains of ChEES-HMC on a correlated log-normal of dimension 20, in the user's space."""
    A = np.random.default_rng(0).standard_normal((20, 20)) / 5 + np.eye(20)
    P = jnp.asarray(A @ A.T)
    free = lambda y: -0.5 * jnp.log(y["y"]) @ P @ jnp.log(y["y"]) - jnp.sum(jnp.log(y["y"]))
    energy = en.posterior(free, transforms={"y": en.Positive()})  # log y is the Gaussian
    starts = lambda key: {"y": jnp.exp(jr.uniform(key, (20,), minval=-2, maxval=2))}
    out = chain.sample_many(energy, starts, key, chains=64, warmup=300, draws=100)
    x = np.log(out.draws["y"])
    assert x.shape == (64, 100, 20)
    covariance = np.cov(x.reshape(-1, 20).T)
    eigenvalues = np.linalg.eigvals(covariance @ np.asarray(P)).real
    assert eigenvalues.min() > 0.75 and eigenvalues.max() < 1.3
    assert max(dg.rhat(x[..., i]) for i in range(20)) < 1.05
    summary = out.summary()
    assert summary.diagnostics["max_rhat"] == pytest.approx(max(dg.rhat(out.draws["y"][..., i]) for i in range(20)))
    assert any("R-hat" in line for line in summary.advice) == (summary.diagnostics["max_rhat"] >= 1.01)
    assert "y[19]" in str(summary)
    half = 0.5 * np.einsum("cdi,ij,cdj->cd", x, P, x)  # −log density of log y, to whose volume the draws are blind
    np.testing.assert_allclose(out.to_arviz()["sample_stats"]["lp"], -half, rtol=1e-9)
    with pytest.raises(ValueError, match="chains"):
        chain.sample_many(lambda x: x @ x, jnp.zeros(2), key, chains=1)


def test_a_thousand_chains_in_one_program():
    """1000 chains of a 50-d posterior: a logistic regression; means against those of NUTS."""
    rng = np.random.default_rng(0)
    X = jnp.asarray(rng.standard_normal((100, 50)) / 5)
    y = jnp.asarray(np.where(rng.random(100) < 0.5, 1.0, -1.0))
    energy = lambda b: jnp.sum(jax.nn.softplus(-y * (X @ b))) + 0.5 * b @ b
    out = chain.sample_many(energy, chain.uniform(jnp.zeros(50)), jr.key(1), chains=1000, warmup=120, draws=8)
    x = np.asarray(out.draws)
    assert x.shape == (1000, 8, 50)
    post = chain.sample(energy, jnp.zeros(50), jr.key(2), draws=1000)
    error = np.hypot(post.draws.std((0, 1)) / np.sqrt(4000), x.std((0, 1)) / np.sqrt(1000))
    assert np.max(np.abs(x.mean((0, 1)) - post.draws.mean((0, 1))) / error) < 4.5
    np.testing.assert_allclose(x.std((0, 1)), post.draws.std((0, 1)), rtol=0.1)
