"""Diffusion with the exact energy of a mixture: samples, likelihoods and the matching loss against known answers."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

from enerjax.fit import train
from enerjax.learning.diffusion import (
    EnergyNetwork,
    Mixture,
    Noise,
    log_likelihood,
    matching_loss,
    probability_flow,
    reverse_diffusion,
    score,
)

NOISE = Noise()


@pytest.fixture(scope="module")
def mixture():
    return Mixture(jnp.array([0.3, 0.7]), jnp.array([[-1.0, 0.5], [1.0, -0.2]]), jnp.array([0.3, 0.2]), NOISE)


def _moments(x, mixture):
    """z-scores of the share of the first component and of the first two moments."""
    share = jnp.mean(x[:, 0] < 0)
    n = len(x)
    mean = mixture.weights @ mixture.means
    second = mixture.weights @ (mixture.means**2 + mixture.widths[:, None] ** 2)
    scores = [(share - 0.3) / np.sqrt(0.21 / n)]
    for power, exact in ((1, mean), (2, second)):
        scores += list((jnp.mean(x**power, 0) - exact) / (jnp.std(x**power, 0) / np.sqrt(n)))
    return np.array([float(s) for s in scores])


def test_kernel_solves_the_forward_flow():
    """α' = −½βα and (σ²)' = β(1 − σ²), by differentiation."""
    for t in (0.05, 0.4, 0.9):
        alpha, sigma = NOISE.kernel(t)
        d_alpha = jax.grad(lambda t: NOISE.kernel(t)[0])(t)
        d_square = jax.grad(lambda t: NOISE.kernel(t)[1] ** 2)(t)
        np.testing.assert_allclose(d_alpha, -0.5 * NOISE.rate(t) * alpha, rtol=1e-12)
        np.testing.assert_allclose(d_square, NOISE.rate(t) * (1 - sigma**2), rtol=1e-10)
    assert NOISE.kernel(1.0)[0] < 0.05


def test_exact_energy_satisfies_the_fokker_planck_equation(mixture):
    """∂ₜp = ∇·(½βx p) + ½β∇²p for p = e^(−E): the mixture's energy is that of the forward flow."""
    p = lambda x, t: jnp.exp(-mixture(x, t))
    for x, t in ((jnp.array([0.2, 0.1]), 0.3), (jnp.array([-0.9, 0.6]), 0.05)):
        beta = NOISE.rate(t)
        flux = lambda x, t=t, beta=beta: 0.5 * beta * (x * p(x, t) + jax.grad(p)(x, t))
        np.testing.assert_allclose(jax.grad(p, 1)(x, t), jnp.trace(jax.jacfwd(flux)(x)), rtol=1e-9)


def test_probability_flow_turns_noise_into_the_mixture_and_back(key, mixture):
    z = jr.normal(key, (4000, 2))
    go = jax.jit(jax.vmap(lambda z: probability_flow(mixture, z, noise=NOISE, rtol=1e-4, atol=1e-5)))
    x = go(z)
    assert np.abs(_moments(x, mixture)).max() < 4.5
    back = lambda x: probability_flow(mixture, x, noise=NOISE, backwards=False, rtol=1e-6, atol=1e-7)
    forth = lambda z: probability_flow(mixture, z, noise=NOISE, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(jax.vmap(lambda z: back(forth(z)))(z[:20]), z[:20], atol=2e-3)


def test_reverse_diffusion_samples_the_mixture(key, mixture):
    starts, keys = jr.normal(key, (1500, 2)), jr.split(jr.fold_in(key, 1), 1500)
    x = jax.jit(jax.vmap(lambda z, k: reverse_diffusion(mixture, z, k, noise=NOISE, steps=300)))(starts, keys)
    assert np.abs(_moments(x, mixture)).max() < 4.5


def test_likelihood_by_the_flow_is_the_density(key, mixture):
    """log p to 1e-3, limited by what of the data is left at t = 1."""
    x = jax.vmap(mixture.sample)(jr.split(key, 16))
    ours = jax.jit(jax.vmap(lambda x: log_likelihood(mixture, x, noise=NOISE, rtol=1e-7, atol=1e-8)))(x)
    exact = -jax.vmap(lambda x: mixture(x, 1e-3))(x)
    end = jax.vmap(lambda x: probability_flow(mixture, x, noise=NOISE, backwards=False, rtol=1e-7, atol=1e-8))(x)
    leftover = jnp.sum(jax.scipy.stats.norm.logpdf(end), 1) + jax.vmap(lambda x: mixture(x, 1.0))(end)
    np.testing.assert_allclose(ours - leftover, exact, atol=1e-5)  # exact once the end's true density is used
    np.testing.assert_allclose(ours, exact, atol=0.1)


def test_denoising_matching_is_explicit_matching_up_to_a_constant(key, mixture):
    """Differences of the denoising loss between two energies are those of ⟨σ²|s − s_exact|²⟩ (Vincent 2011)."""
    other = eqx.tree_at(lambda m: m.weights, mixture, jnp.array([0.6, 0.4]))
    x = jax.vmap(mixture.sample)(jr.split(key, 4000))

    @jax.jit
    def differences(key):
        denoising = matching_loss(other, x, key, noise=NOISE) - matching_loss(mixture, x, key, noise=NOISE)
        times, normal = jr.split(key)
        t = 1e-3 + (1 - 1e-3) * jnp.mod(jr.uniform(times) + jnp.arange(4000) / 4000, 1.0)
        eps = jr.normal(normal, x.shape, x.dtype)

        def gap(x, t, eps):
            alpha, sigma = NOISE.kernel(t)
            noisy = alpha * x + sigma * eps
            return jnp.sum((sigma * (score(other, noisy, t) - score(mixture, noisy, t))) ** 2)

        return denoising, jnp.mean(jax.vmap(gap)(x, t, eps))

    denoising, explicit = jax.lax.map(differences, jr.split(jr.fold_in(key, 1), 30))
    error = jnp.std(denoising - explicit) / np.sqrt(30)
    assert explicit.mean() > 10 * error and abs(jnp.mean(denoising - explicit)) < 4 * error


@pytest.mark.slow
def test_learned_energy_approaches_the_exact_one(key, mixture):
    """A short training by `fit.train`: the gap of the matching loss to its minimum falls tenfold."""
    data = jax.vmap(mixture.sample)(jr.split(key, 8192))
    net = EnergyNetwork(2, 32, 2, noise=NOISE, key=key)
    judge = lambda energy: jnp.mean(
        jax.lax.map(lambda k: matching_loss(energy, data[:2048], k, noise=NOISE), jr.split(jr.key(5), 8))
    )
    floor = judge(mixture)
    fitted = train(
        lambda net, x, key: matching_loss(net, x, key, noise=NOISE),
        net,
        lambda epoch, key: [data[i * 512 : (i + 1) * 512] for i in range(16)],
        optax.adam(3e-3),
        key=key,
        epochs=25,
        ema=0.99,
    )
    before, after = judge(net) - floor, judge(fitted.model) - floor
    assert after < 0.1 * before
