"""The learned potential: tables against e3nn, symmetries, derivatives, smoothness, layouts, one trace per shape."""

import e3nn_jax as e3nn
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from ase.build import bulk, molecule
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from enerjax.atoms import Config, Equivariant, Structure, predict
from enerjax.atoms.equivariant.harmonics import bessel, spherical_harmonics
from enerjax.atoms.equivariant.tables import coupling, couplings, gaunt
from enerjax.atoms.neighbours import all_pairs, neighbour_list
from enerjax.atoms.potential import energy_forces, energy_forces_stress
from enerjax.atoms.vibrations import hessian

CONFIG = Config((1, 6, 8), (-13.6, -1029.0, -2042.0), channels=4, cutoff=4.0, hidden=(8,), readout=4, l_max=2)
MODEL = Equivariant(CONFIG, key=jr.key(0))
ETHANOL = Structure.from_ase(molecule("CH3CH2OH"))
PAIRS = all_pairs(9, CONFIG.cutoff)
energy = jax.jit(lambda model, R: model.interaction(ETHANOL.at(R), PAIRS))


def test_harmonics_are_those_of_e3nn():
    u = np.random.default_rng(0).normal(size=(7, 3))
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    irreps = e3nn.Irreps([(1, (l, (-1) ** l)) for l in range(6)])
    reference = e3nn.spherical_harmonics(irreps, jnp.asarray(u), True, normalization="component").array
    assert np.allclose(np.stack(spherical_harmonics(*u.T, 5), -1), reference, atol=1e-12)


@pytest.mark.parametrize("l", [(0, 1, 1), (1, 1, 2), (2, 2, 2), (3, 2, 1), (3, 3, 2)])
def test_couplings_are_clebsch_gordan_coefficients(l):
    reference = np.asarray(e3nn.clebsch_gordan(*l)) * np.sqrt(2 * l[2] + 1)
    sign = np.sign(np.sum(coupling(*l) * reference))
    assert np.allclose(coupling(*l), sign * reference, atol=1e-12)


def test_every_row_of_the_coupling_table_is_a_path_or_empty():
    tables = [table.values.reshape(-1, 16, table.values.shape[1]) for table in couplings(3, 2, 3)]
    assert [t.shape for t in tables] == [(1, 16, 16), (2, 16, 48), (2, 16, 80)]
    used = lambda t, l: int(np.abs(t[:, l * l : (l + 1) * (l + 1)]).any((1, 2)).sum())
    assert [[used(t, l) for t in tables] for l in range(4)] == [[1, 1, 1], [1, 2, 2], [1, 2, 2], [1, 1, 2]]


def test_gaunt_products_are_exact():
    """The product of functions on the grid, projected, equals the integral by a much finer rule."""
    matrix, projections = gaunt(2, 1, 3)
    synthesis, analysis = matrix.values, [p.values for p in projections]
    fine, _ = gaunt(2, 9, 3)
    a = np.random.default_rng(1).normal(size=(3, 9))
    ours = analysis[1] @ np.prod([synthesis @ x for x in a], axis=0)
    from enerjax.atoms.equivariant.tables import sphere

    y, w = sphere(30, 2)
    reference = (y[:, :4].T * w) @ np.prod([y @ x / 3 for x in a], axis=0)
    ratio = ours / reference
    assert np.allclose(ratio[1:], ratio[1]) and fine.values.shape[1] == 9


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**31 - 1), st.booleans())
def test_energy_is_invariant_and_forces_turn_with_the_molecule(seed, mirror):
    random = np.random.default_rng(seed)
    Q = Rotation.random(random_state=seed).as_matrix() * (-1 if mirror else 1)
    R = ETHANOL.positions + 0.1 * random.normal(size=(9, 3))
    e, g = jax.value_and_grad(lambda x: energy(MODEL, x))(R)
    e2, g2 = jax.value_and_grad(lambda x: energy(MODEL, x))(R @ Q.T + random.normal(size=(1, 3)))
    assert np.isclose(e, e2, rtol=1e-12, atol=1e-12) and np.allclose(g @ Q.T, g2, atol=1e-12)


def test_equivariance_in_single_precision():
    model = jax.tree.map(lambda x: x.astype(jnp.float32) if eqx.is_array(x) else x, MODEL)
    Q = jnp.asarray(Rotation.random(random_state=1).as_matrix(), jnp.float32)
    R = ETHANOL.positions.astype(jnp.float32)
    e, g = jax.value_and_grad(lambda x: energy(model, x))(R)
    e2, g2 = jax.value_and_grad(lambda x: energy(model, x))(R @ Q.T)
    assert abs(e - e2) < 1e-6 * max(1, abs(e)) and jnp.abs(g @ Q.T - g2).max() < 1e-6 * jnp.abs(g).max() * 4


def test_permutation_of_atoms():
    order = np.random.default_rng(0).permutation(9)
    shuffled = Structure(ETHANOL.positions[order], ETHANOL.species[order])
    each = MODEL.energy_per_atom(ETHANOL, PAIRS)
    assert np.allclose(MODEL.energy_per_atom(shuffled, PAIRS), each[order], atol=1e-12)


def test_forces_are_finite_differences_of_the_energy():
    R, v = ETHANOL.positions, jr.normal(jr.key(1), (9, 3))
    slope = jax.jvp(lambda x: energy(MODEL, x), (R,), (v,))[1]
    h = 1e-4
    numeric = (energy(MODEL, R + h * v) - energy(MODEL, R - h * v)) / (2 * h)
    assert np.isclose(slope, numeric, rtol=2e-6)
    assert np.isclose(slope, jnp.sum(jax.grad(lambda x: energy(MODEL, x))(R) * v), rtol=1e-12)


def test_hessian_is_the_derivative_of_the_force():
    R, v = ETHANOL.positions, jr.normal(jr.key(2), (9, 3))
    H = hessian(MODEL, ETHANOL, PAIRS)
    gradient = jax.jit(jax.grad(lambda x: energy(MODEL, x)))
    numeric = (gradient(R + 1e-4 * v) - gradient(R - 1e-4 * v)) / 2e-4
    assert np.allclose((H @ v.ravel()).reshape(9, 3), numeric, atol=1e-6)


def test_nothing_jumps_at_the_cutoff():
    """Energy, force and curvature are continuous where a neighbour enters, and zero without neighbours."""
    pair = lambda d: Structure(jnp.array([[0.0, 0.0, 0.0], [d, 0.0, 0.0]]), jnp.array([6, 8]))
    far = all_pairs(2, CONFIG.cutoff)
    e = jax.jit(lambda d: MODEL.interaction(pair(d), far))
    force, curvature = jax.jit(jax.grad(e)), jax.jit(jax.grad(jax.grad(e)))
    c = CONFIG.cutoff
    for f in (e, force, curvature):
        assert abs(f(c - 1e-5) - f(c + 1e-5)) < 1e-3 * max(1.0, abs(float(f(c / 2))))
    assert np.isfinite(curvature(c)) and np.isfinite(curvature(2 * c))
    assert force(c + 0.1) == 0.0


def test_lists_and_all_pairs_agree():
    rows = neighbour_list(ETHANOL, CONFIG.cutoff)
    assert np.isclose(MODEL.interaction(ETHANOL, rows), MODEL.interaction(ETHANOL, PAIRS), atol=1e-12)


def test_stress_is_the_derivative_by_strain():
    """In a triclinic cell smaller than the cutoff, with many images."""
    atoms = bulk("C", "diamond", a=3.6)
    atoms.rattle(0.05, seed=0)
    crystal = Structure.from_ase(atoms)
    rows = neighbour_list(crystal, CONFIG.cutoff, skin=0.5)
    stress = energy_forces_stress(MODEL, crystal, rows)[2]
    e = jax.jit(lambda R, h: MODEL.interaction(crystal.at(R, h), rows))
    for i, j in ((0, 0), (0, 1), (2, 1)):
        strain = np.zeros((3, 3))
        strain[i, j] += 0.5
        strain[j, i] += 0.5
        moved = lambda s, strain=strain: e(*(x @ (jnp.eye(3) + s * strain) for x in (crystal.positions, crystal.cell)))
        numeric = (moved(1e-4) - moved(-1e-4)) / 2e-4 / crystal.volume
        assert np.isclose(stress[i, j], numeric, rtol=1e-6, atol=1e-9)


def test_a_supercell_has_the_energy_of_its_parts():
    atoms = bulk("C", "diamond", a=3.6)
    one = predict(MODEL, atoms)
    eight = predict(MODEL, atoms * (2, 2, 2))
    assert np.isclose(eight.energy, 8 * one.energy, rtol=1e-12) and np.allclose(one.stress, eight.stress, atol=1e-12)


def test_features_are_equivariant_irreps():
    Q = Rotation.random(random_state=2).as_matrix()
    turned = ETHANOL.at(ETHANOL.positions @ Q.T)
    features, rotated = MODEL.features(ETHANOL, PAIRS), MODEL.features(turned, PAIRS)
    assert features.irreps == e3nn.Irreps("4x0e+4x1o+4x0e")
    # e3nn's harmonics order vectors as (x, y, z), so the matrix acts on them as it stands
    expected = features.transform_by_matrix(jnp.asarray(Q))
    assert np.allclose(expected.array, rotated.array, atol=1e-10)


def test_padded_atoms_are_not_there():
    from enerjax.atoms.structure import pad

    padded = pad(ETHANOL, 12)
    pairs = all_pairs(12, CONFIG.cutoff, padded.species > 0)
    e, f = energy_forces(MODEL, padded, pairs)
    assert np.isclose(e, MODEL(ETHANOL, PAIRS), atol=1e-9)
    assert not np.any(f[9:]) and np.isfinite(f).all()


def test_a_lone_atom_has_its_reference_and_the_offset_of_its_element():
    """Without neighbours densities and readouts vanish: E = E0 + scale · e_z to rounding, whatever the weights."""
    model = eqx.tree_at(lambda m: m.shift, MODEL, jnp.array([0.3, -0.7, 1.1]))
    for z, energy, shift in zip(CONFIG.species, CONFIG.atomic_energies, model.shift, strict=True):
        alone = Structure(jnp.zeros((1, 3)), jnp.array([z]))
        np.testing.assert_allclose(predict(model, alone).energy, energy + CONFIG.scale * float(shift), rtol=1e-14)


def test_bessel_recurrence():
    r = jnp.linspace(0.3, 3.9, 7)
    ours = jnp.stack(bessel(r, 4.0, 6))
    from enerjax.atoms.equivariant.harmonics import envelope

    n = np.arange(1, 7)[:, None]
    reference = np.sqrt(2 / 4.0) * np.sin(n * np.pi * r[None] / 4.0) / r[None] * envelope(r / 4.0)[None]
    assert np.allclose(ours, reference, atol=1e-13)


def test_other_shapes_of_the_model_run():
    for changes in ({"l_node": 0, "order": 2}, {"layers": 1}, {"layers": 3, "l_node": 2, "order": 1}):
        config = Config((1, 6, 8), (0.0, 0.0, 0.0), channels=2, l_max=2, hidden=(), **changes)
        assert np.isfinite(Equivariant(config, key=jr.key(1)).interaction(ETHANOL, PAIRS))


def test_bad_configurations_and_unknown_elements_are_refused():
    with pytest.raises(ValueError, match="ascending"):
        Config((6, 1), (0.0, 0.0))
    with pytest.raises(ValueError, match="exceeds l_max"):
        Config((1,), (0.0,), l_max=1, l_node=2)
    with pytest.raises(ValueError, match="Z=7"):
        predict(MODEL, molecule("NH3"))
