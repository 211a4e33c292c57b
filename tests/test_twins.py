"""The compositions of kick, drift and bath are, to rounding, the optimisers and integrators of other libraries."""

import diffrax
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

from enerjax.energy import force
from enerjax.flow import Phase, descend, diffuse, verlet
from enerjax.path import rollout
from zoo import Quartic, energies

E, X = Quartic(1.3), energies["quartic"]()[1]


def _optax(optimizer, x, n):
    state = optimizer.init(x)
    for _ in range(n):
        updates, state = optimizer.update(jax.grad(E)(x), state)
        x = optax.apply_updates(x, updates)
    return x


@pytest.mark.parametrize("friction", [0.0, 1.0, 30.0])
def test_descend_is_momentum_descent(friction):
    """optax's sgd: learning rate dt²/m, memory e^(−γdt)."""
    dt, mass, n = 0.1, 2.0, 40
    ours = rollout(lambda z, _: descend(E, z, dt, friction, mass), Phase.at(E, X), length=n, stride=n).position[0]
    theirs = _optax(optax.sgd(dt**2 / mass, momentum=float(jnp.exp(-friction * dt))), X, n)
    np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-14)


def test_descend_without_memory_is_gradient_descent_and_euler():
    """γ = ∞: optax's sgd, and diffrax's Euler step of length dt²/m on the gradient flow."""
    dt, n = 0.2, 25
    ours = rollout(lambda z, _: descend(E, z, dt, jnp.inf), Phase.at(E, X), length=n, stride=n).position[0]
    np.testing.assert_allclose(ours, _optax(optax.sgd(dt**2), X, n), rtol=1e-13, atol=1e-15)
    term = diffrax.ODETerm(lambda t, x, args: force(E, x))
    euler = diffrax.diffeqsolve(term, diffrax.Euler(), 0.0, n * dt**2, dt**2, X)
    np.testing.assert_allclose(ours, euler.ys[0], rtol=1e-11, atol=1e-13)


def test_verlet_is_diffrax_leapfrog():
    """diffrax's semi-implicit Euler, started and ended with half a kick, is velocity Verlet."""
    dt, n = 0.05, 40
    z = rollout(lambda z, _: verlet(E, z, dt), Phase.at(E, X, X[::-1]), length=n, stride=n)
    field = diffrax.ODETerm(lambda t, p, args: p), diffrax.ODETerm(lambda t, q, args: force(E, q))
    start = X, X[::-1] - dt / 2 * force(E, X)  # p a half step early: diffrax drifts first, with the new momentum
    position, momentum = X, start[1] + dt * force(E, X)
    solution = diffrax.diffeqsolve(field, diffrax.SemiImplicitEuler(), 0.0, n * dt, dt, (position, momentum))
    np.testing.assert_allclose(z.position[0], solution.ys[0][0], rtol=1e-11, atol=1e-12)


def test_diffuse_is_langevin_dynamics_by_euler_maruyama(key):
    """x − ε∇E + √(2ε kT) ξ with ε = dt²/2m: the same numbers as the formula written out."""
    dt, kT = 0.1, 0.7
    z = diffuse(E, Phase.at(E, X), dt, kT, key)
    by_hand = X - dt**2 / 2 * jax.grad(E)(X) + dt * jnp.sqrt(kT) * jr.normal(key, X.shape)
    np.testing.assert_allclose(z.position, by_hand, rtol=1e-14, atol=1e-15)


def test_blackjax_twins(key):
    """BlackJAX's velocity Verlet and SGLD with the same keys, where it is installed."""
    blackjax = pytest.importorskip("blackjax")
    step = blackjax.mcmc.integrators.velocity_verlet(lambda x: -E(x), lambda p, position=None: jnp.sum(p**2) / 2)
    state = blackjax.mcmc.integrators.IntegratorState(X, X[::-1], -E(X), force(E, X))
    z = Phase.at(E, X, X[::-1])
    for _ in range(10):
        state, z = step(state, 0.05), verlet(E, z, 0.05)
    np.testing.assert_allclose(z.position, state.position, rtol=1e-13)
