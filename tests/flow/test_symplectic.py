"""Symplectic: JᵀΩJ = Ω for the Jacobian J of a step, hence volume is kept and the energy does not drift."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from enerjax.flow import Phase, descend
from enerjax.path import rollout
from zoo import Quartic, energies, steps

E, X = Quartic(1.3), energies["quartic"]()[1].ravel()[:6]
N = len(X)
OMEGA = jnp.block([[jnp.zeros((N, N)), jnp.eye(N)], [-jnp.eye(N), jnp.zeros((N, N))]])


def _jacobian(step, mass=1.0):
    def move(z):
        z = step(E, Phase.at(E, z[:N], z[N:]), 0.2)
        return jnp.concatenate([z.position, z.momentum])

    return jax.jit(jax.jacobian(move))(jnp.concatenate([X, X[::-1]]))


@pytest.mark.parametrize("name", steps)
def test_step_keeps_the_symplectic_form(name):
    J = _jacobian(steps[name][0])
    assert jnp.abs(J - jnp.eye(2 * N)).max() > 0.1
    np.testing.assert_allclose(J.T @ OMEGA @ J, OMEGA, atol=1e-12)


def test_friction_shrinks_volume_by_its_own_rate():
    """With friction the form is not kept: conformally symplectic, JᵀΩJ = e^(−γdt) Ω, so det J = e^(−nγdt)."""
    gamma = 0.8
    J = _jacobian(lambda E, z, dt: descend(E, z, dt, gamma))
    np.testing.assert_allclose(J.T @ OMEGA @ J, jnp.exp(-gamma * 0.2) * OMEGA, atol=1e-12)


@pytest.mark.parametrize("name", ["verlet", "blanes-moan4", "yoshida4"])
def test_energy_is_bounded_without_drift(name):
    """2000 time units: the error oscillates at its order's size and its trend is a thousand times smaller."""
    step = steps[name][0]
    z = Phase.at(E, X, X[::-1])
    start, n = z.hamiltonian(), 40_000
    H = jax.jit(lambda z: jax.vmap(Phase.hamiltonian)(rollout(lambda z, _: step(E, z, 0.05), z, length=n, stride=10)))(
        z
    )
    error = np.asarray(H / start - 1)
    trend = np.polyfit(np.linspace(0, 1, len(error)), error, 1)[0]
    assert np.abs(error).max() < {"verlet": 1e-3, "yoshida4": 3e-5, "blanes-moan4": 3e-7}[name]
    assert abs(trend) < 0.05 * np.abs(error).max()
