"""Force, curvature and stress are the derivatives of the energy: against finite differences, dense Hessians and ASE."""

import ase
import ase.calculators.lj
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from jax.test_util import check_grads

from enerjax import _tree as tree
from enerjax.energy import (
    directional,
    energy_and_force,
    energy_forces_stress,
    force,
    hessian,
    hessian_vector_product,
    rayleigh,
)
from zoo import Morse, energies


@pytest.mark.parametrize("make", energies.values(), ids=energies)
def test_force_is_minus_gradient(make):
    E, x = make()
    check_grads(jax.jit(lambda x: E(x)), (x,), order=1, modes=("fwd", "rev"), rtol=1e-6, atol=1e-8)
    v = tree.normal_like(jr.key(9), x)
    h = 1e-5
    slope = (E(tree.axpy(h, v, x)) - E(tree.axpy(-h, v, x))) / (2 * h)
    np.testing.assert_allclose(-tree.dot(force(E, x), v), slope, rtol=1e-6)
    np.testing.assert_allclose(directional(E, x, v), slope, rtol=1e-6)


@pytest.mark.parametrize("make", energies.values(), ids=energies)
def test_jit_agrees_with_eager(make):
    E, x = make()
    e, f = energy_and_force(E, x)
    e_jit, f_jit = jax.jit(lambda x: energy_and_force(E, x))(x)
    np.testing.assert_allclose(e, e_jit, rtol=1e-12)
    assert eqx.tree_equal(f, f_jit, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("make", energies.values(), ids=energies)
def test_curvature_agrees_with_the_dense_hessian(make):
    E, x = make()
    flat, unravel = ravel_pytree(x)
    H = jax.hessian(lambda w: E(unravel(w)))(flat)
    v = tree.normal_like(jr.key(2), x)
    v_flat = ravel_pytree(v)[0]
    np.testing.assert_allclose(ravel_pytree(hessian_vector_product(E, x, v))[0], H @ v_flat, rtol=1e-10, atol=1e-11)
    np.testing.assert_allclose(rayleigh(E, x, v), v_flat @ H @ v_flat / (v_flat @ v_flat), rtol=1e-10)


@pytest.mark.parametrize("batch", [1, 4, 64])
def test_hessian_is_the_dense_hessian_for_every_batch(batch):
    E, x = energies["morse"]()
    H = jax.hessian(lambda w: E(w.reshape(x.shape)))(x.ravel())
    np.testing.assert_allclose(hessian(E, x, batch=batch), H, rtol=1e-10, atol=1e-12)


def test_free_body_has_six_zero_modes():
    """At a minimum of an energy that ignores translation and rotation, six eigenvalues vanish."""
    E, x = Morse(), energies["morse"]()[1]

    @jax.jit
    def newton(x):  # the null space and negative curvature damped away
        H = hessian(E, x)
        shift = jnp.maximum(0.0, -1.5 * jnp.linalg.eigvalsh(H)[0]) + 0.02
        return x + jnp.linalg.solve(H + shift * jnp.eye(x.size), force(E, x).ravel()).reshape(x.shape)

    for _ in range(150):
        x = newton(x)
    values = jnp.linalg.eigvalsh(hessian(E, x))
    assert jnp.abs(force(E, x)).max() < 1e-8
    assert int(jnp.sum(jnp.abs(values) < 1e-6)) == 6 and values[6] > 1e-2


def _crystal():
    """Four atoms in a triclinic box and the Lennard-Jones energy of all images within the cutoff, as ASE defines it."""
    cell = jnp.array([[3.2, 0.1, 0.0], [0.3, 3.0, 0.2], [-0.2, 0.1, 3.4]])
    positions = jnp.array([[0.0, 0, 0], [1.5, 1.6, 0.1], [1.6, 0.1, 1.7], [0.1, 1.4, 1.8]])
    n = jnp.stack(jnp.meshgrid(*[jnp.arange(-2.0, 3)] * 3, indexing="ij"), -1).reshape(-1, 3)
    cutoff, pair = 4.0, lambda r2: 4 * (r2**-6 - r2**-3)

    def energy(R, h):
        d = R[None, :, None] - R[None, None, :] + (n @ h)[:, None, None]
        r2 = jnp.sum(d**2, -1)
        inside = (r2 < cutoff**2) & (r2 > 1e-9)
        return 0.5 * jnp.sum(jnp.where(inside, pair(jnp.where(inside, r2, 1.0)) - pair(cutoff**2), 0.0))

    return energy, positions, cell, cutoff


def test_stress_against_finite_strain_and_ase():
    energy, R, h, cutoff = _crystal()
    e, f, stress = energy_forces_stress(energy, R, h)
    step = 1e-5
    for a in range(3):
        for b in range(3):
            strain = np.zeros((3, 3))
            strain[a, b] += step / 2
            strain[b, a] += step / 2
            up, down = (energy(R @ (jnp.eye(3) + s), h @ (jnp.eye(3) + s)) for s in (strain, -strain))
            slope = (up - down) / (2 * step) / abs(float(jnp.linalg.det(h)))
            np.testing.assert_allclose(stress[a, b], slope, rtol=1e-6, atol=1e-8)
    atoms = ase.Atoms("Ar4", positions=np.asarray(R), cell=np.asarray(h), pbc=True)
    atoms.calc = ase.calculators.lj.LennardJones(sigma=1.0, epsilon=1.0, rc=cutoff)
    np.testing.assert_allclose(e, atoms.get_potential_energy(), rtol=1e-9)
    np.testing.assert_allclose(f, atoms.get_forces(), rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(stress, atoms.get_stress(voigt=False), rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(stress, stress.T, atol=1e-14)


def test_stress_of_a_left_handed_cell_keeps_its_sign():
    energy, R, h, _ = _crystal()
    mirrored = jnp.diag(jnp.array([-1.0, 1, 1]))
    stress = energy_forces_stress(energy, R, h)[2]
    reflected = energy_forces_stress(energy, R @ mirrored, h @ mirrored)[2]
    np.testing.assert_allclose(reflected, mirrored @ stress @ mirrored, rtol=1e-10, atol=1e-12)
