"""The thermal motions keep the law exp(−E/kT): moments of independent walkers against exact values, in standard errors.

Many short independent walkers instead of one long chain: then the standard error needs no autocorrelation estimate.
"""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from enerjax.flow import Bath, Phase, baoab, diffuse
from enerjax.path import rollout
from zoo import Quartic

WALKERS = 20_000


def _walk(E, step, x, kT, key, length):
    """The end points of independent walkers, all vectorised inside one state."""
    start = Phase.thermal(E, x, kT, jr.fold_in(key, 0))
    return rollout(lambda z, k: step(z, k), start, jr.split(key, length), stride=length)


def _z(sample, truth):
    """How many standard errors the mean of the sample lies from the truth."""
    return float((jnp.mean(sample) - truth) / (jnp.std(sample) / np.sqrt(sample.size)))


def test_baoab_configurations_of_an_oscillator_are_exact_at_any_step(key):
    """⟨q²⟩ = kT/k without a step error, even at ω dt = 1 (Leimkuhler and Matthews 2013, eq. 16)."""
    k, kT, dt = 2.0, 0.7, 0.7
    E = lambda x: 0.5 * k * jnp.sum(x**2)
    z = jax.jit(
        lambda key: _walk(E, lambda z, key: baoab(E, z, dt, Bath(1.0, kT), key), jnp.zeros(WALKERS), kT, key, 60)
    )(key)
    assert abs(_z(z.position[0] ** 2, kT / k)) < 4
    assert abs(_z(z.position[0], 0.0)) < 4


def test_bath_alone_is_maxwell(key):
    """p ~ N(0, m kT) after any number of steps, mass by mass."""
    mass = jnp.array([[1.0], [4.0]])
    E = lambda x: 0.0 * jnp.sum(x)
    z = Phase.at(E, jnp.zeros((2, WALKERS)))
    bath = Bath(0.5, 1.3)
    for k in jr.split(key, 40):
        z = bath(z, 0.5, k, mass)
    for momentum, m in zip(z.momentum, mass.ravel(), strict=True):
        assert abs(_z(momentum**2, m * 1.3)) < 4


def test_diffuse_has_the_variance_of_euler_maruyama(key):
    """⟨q²⟩ = (kT/k)/(1 − kε/2), ε = dt²/2: the unadjusted step's own stationary law, error included."""
    k, kT, dt = 2.0, 0.7, 0.6
    E = lambda x: 0.5 * k * jnp.sum(x**2)
    z = jax.jit(lambda key: _walk(E, lambda z, key: diffuse(E, z, dt, kT, key), jnp.zeros(WALKERS), kT, key, 60))(key)
    exact = kT / k / (1 - k * dt**2 / 4)
    assert abs(_z(z.position[0] ** 2, exact)) < 4
    assert abs(_z(z.position[0] ** 2, kT / k)) > 4  # and the test is sharp enough to see the bias


def test_langevin_finds_the_moments_of_an_anharmonic_well(key):
    """⟨x²⟩ and the virial ⟨x E'⟩ = kT of ½x² + ¼x⁴, by quadrature."""
    kT, grid = 0.8, jnp.linspace(-6, 6, 4001)
    E = Quartic(1.0)
    weight = jnp.exp(-jax.vmap(E)(grid) / kT)
    second = jnp.sum(weight * grid**2) / jnp.sum(weight)
    z = jax.jit(
        lambda key: _walk(E, lambda z, key: baoab(E, z, 0.1, Bath(1.0, kT), key), jnp.zeros(WALKERS), kT, key, 150)
    )(key)
    x = z.position[0]
    assert abs(_z(x**2, second)) < 4
    assert abs(_z(x * (x + x**3), kT)) < 4
