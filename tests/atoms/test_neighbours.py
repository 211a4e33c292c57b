"""Rows of neighbours against ASE's own list and against each other: host, inside jit, all pairs."""

import ase
import ase.build
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase.neighborlist import primitive_neighbor_list

from enerjax.atoms.neighbours import all_pairs, displacements, neighbour_list, refresh, stale
from enerjax.atoms.structure import Structure, pad, stack

CUTOFF = 3.0
rebuild = jax.jit(refresh)


def scatter(atoms, cell, pbc, seed):
    """Atoms at random in a sheared cell, some of them many cells away."""
    rng = np.random.default_rng(seed)
    scaled = rng.uniform(size=(atoms, 3)) + rng.integers(-2, 3, size=(atoms, 3)) * np.array(pbc)
    return ase.Atoms("C" * atoms, scaled_positions=scaled, cell=cell, pbc=pbc)


SYSTEMS = {
    "small triclinic": scatter(5, [[2.0, 0, 0], [0.9, 2.2, 0], [-0.5, 0.7, 2.4]], (True, True, True), 0),
    "large triclinic": scatter(150, [[13.0, 0, 0], [4.0, 12.0, 0], [-3.0, 2.0, 11.0]], (True, True, True), 1),
    "flat box": scatter(60, [[20.0, 0, 0], [0, 2.5, 0], [0, 0, 9.0]], (True, True, True), 2),
    "slab": scatter(80, [[8.0, 0, 0], [2.0, 7.0, 0], [0, 1.0, 12.0]], (True, True, False), 3),
    "wire": scatter(60, [[8.0, 0, 0], [0, 9.0, 0], [0, 0, 2.0]], (False, False, True), 4),
    "cluster": ase.Atoms("C120", positions=np.random.default_rng(5).uniform(0, 14, (120, 3))),
    "far atom": ase.Atoms("C3", positions=[[0, 0, 0], [0, 0, 1.5], [30.0, 0, 0]]),
}


def edges(neighbours, structure):
    """Sorted (i, j, distance) of every listed pair within the cutoff."""
    r = np.linalg.norm(displacements(structure.positions, structure.cell, neighbours), axis=-1)
    i, k = np.nonzero(np.asarray(neighbours.mask) & (r < CUTOFF))
    return sorted(
        zip(i.tolist(), np.asarray(neighbours.index)[i, k].tolist(), np.round(r[i, k], 9).tolist(), strict=True)
    )


def reference(atoms):
    i, j, d = primitive_neighbor_list("ijd", atoms.pbc, atoms.cell.complete(), atoms.positions, CUTOFF)
    return sorted(zip(i.tolist(), j.tolist(), np.round(d, 9).tolist(), strict=True))


def same(ours, theirs):
    assert [e[:2] for e in ours] == [e[:2] for e in theirs]
    np.testing.assert_allclose([e[2] for e in ours], [e[2] for e in theirs], atol=2e-9)


@pytest.mark.parametrize("name", SYSTEMS)
def test_host_and_jit_lists_equal_ase(name):
    atoms = SYSTEMS[name]
    structure = Structure.from_ase(atoms)
    host = neighbour_list(structure, CUTOFF, skin=0.4)
    assert host.width % 4 == 0
    same(edges(host, structure), reference(atoms))
    inside = rebuild(structure.positions, structure.cell, host)
    assert not inside.overflow
    same(edges(inside, structure), reference(atoms))
    shapes = lambda n: jax.tree.map(lambda x: (x.shape, x.dtype), n)
    assert shapes(host) == shapes(inside)


def test_bins_are_used_in_a_large_box():
    """The jit list is linear in the atoms: its candidates per atom do not grow with the box."""
    small, large = (
        neighbour_list(Structure.from_ase(ase.build.bulk("Cu", cubic=True) * (n, n, n)), 3.0) for n in (4, 8)
    )
    candidates = lambda n: n.grid.capacity * np.prod([2 * r + 1 for r in n.grid.reach])
    assert candidates(large) <= 1.5 * candidates(small)
    assert not rebuild(large.reference, large.reference_cell, large).overflow


def test_rows_stay_right_until_stale():
    """With max|u| just below skin/2 no pair within the cutoff is missing; just above, the list says so."""
    atoms = SYSTEMS["large triclinic"]
    structure = Structure.from_ase(atoms)
    neighbours = neighbour_list(structure, CUTOFF, skin=0.5)
    step = np.random.default_rng(0).normal(size=(150, 3))
    step -= step.mean(0)
    step *= 0.249 / np.linalg.norm(step, axis=1).max()
    moved = atoms.copy()
    moved.positions += step + 7.0  # a common shift does not count
    now = Structure.from_ase(moved)
    assert not stale(now.positions, now.cell, neighbours)
    same(edges(neighbours, now), reference(moved))
    moved.positions += 0.01 * step
    assert stale(Structure.from_ase(moved).positions, now.cell, neighbours)


def test_rows_stay_right_under_strain_until_stale():
    atoms = SYSTEMS["small triclinic"]
    structure = Structure.from_ase(atoms)
    neighbours = neighbour_list(structure, CUTOFF, skin=0.5)
    squeezed = atoms.copy()
    squeezed.set_cell(atoms.cell @ (np.eye(3) - 0.08 * np.eye(3)), scale_atoms=True)
    now = Structure.from_ase(squeezed)
    assert not stale(now.positions, now.cell, neighbours)
    same(edges(neighbours, now), reference(squeezed))
    squeezed.set_cell(atoms.cell @ (0.8 * np.eye(3)), scale_atoms=True)
    now = Structure.from_ase(squeezed)
    assert stale(now.positions, now.cell, neighbours)
    assert rebuild(now.positions, now.cell, neighbours).overflow


def test_overflow_is_flagged():
    atoms = SYSTEMS["large triclinic"]
    structure = Structure.from_ase(atoms)
    neighbours = neighbour_list(structure, CUTOFF)
    narrow = eqx.tree_at(
        lambda n: (n.index, n.shift, n.mask),
        neighbours,
        (neighbours.index[:, :4], neighbours.shift[:, :4], neighbours.mask[:, :4]),
    )
    assert rebuild(structure.positions, structure.cell, narrow).overflow
    gathered = jnp.zeros_like(structure.positions).at[:, 0].set(jnp.linspace(0.0, 0.2, 150))
    assert rebuild(gathered, structure.cell, neighbours).overflow
    assert rebuild(structure.positions * jnp.nan, structure.cell, neighbours).overflow
    assert stale(structure.positions * jnp.nan, structure.cell, neighbours)


@pytest.mark.parametrize("layout", [lambda s: neighbour_list(s, CUTOFF), lambda s: all_pairs(3, CUTOFF)])
def test_displacements_have_finite_gradients(layout):
    """Padded entries never produce NaN, whatever the energy does with their length."""
    structure = Structure.from_ase(SYSTEMS["far atom"])
    neighbours = layout(structure)
    r = lambda R: jnp.linalg.norm(displacements(R, None, neighbours), axis=-1)
    energy = lambda R: jnp.sum(jnp.where(r(R) < CUTOFF, (r(R) - CUTOFF) ** 2, 0.0))
    gradient = jax.grad(energy)(structure.positions)
    np.testing.assert_allclose(gradient, [[0, 0, 6.0], [0, 0, -6.0], [0, 0, 0]], atol=1e-12)


def test_padded_molecules_in_a_batch():
    """A stacked batch of ragged molecules sees the pairs that each molecule sees alone."""
    water, methane = (Structure.from_ase(ase.build.molecule(m)) for m in ("H2O", "CH4"))
    batch = stack([water, methane])
    rows = jax.vmap(lambda s: all_pairs(s.atoms, CUTOFF, s.species > 0))(batch)
    length = jax.vmap(lambda s, n: jnp.linalg.norm(displacements(s.positions, None, n), axis=-1))(batch, rows)
    for k, alone in enumerate((water, methane)):
        r = jnp.linalg.norm(displacements(alone.positions, None, all_pairs(alone.atoms, CUTOFF)), axis=-1)
        np.testing.assert_allclose(length[k, : alone.atoms, : alone.atoms], r)
    assert int(rows.mask[0].sum()) == 6
    padded = neighbour_list(pad(water, 6), CUTOFF)
    assert int(padded.mask.sum()) == 6
    again = rebuild(padded.reference, None, padded, pad(water, 6).species > 0)
    assert int(again.mask.sum()) == 6 and not again.overflow


def test_shapes_are_kept_while_they_fit():
    atoms = SYSTEMS["large triclinic"]
    structure = Structure.from_ase(atoms)
    first = neighbour_list(structure, CUTOFF, skin=0.3)
    atoms = atoms.copy()
    atoms.rattle(0.05, seed=1)
    second = neighbour_list(Structure.from_ase(atoms), CUTOFF, skin=0.3, like=first)
    assert jax.tree.structure(first) == jax.tree.structure(second) and first.index.shape == second.index.shape


def test_bad_input_is_one_line():
    with pytest.raises(ValueError, match="need a cell"):
        Structure(jnp.zeros((1, 3)), jnp.array([1]), None, (True, True, True))
    with pytest.raises(ValueError, match="lattice vector of length zero"):
        Structure.from_ase(ase.Atoms("H", pbc=True))
    with pytest.raises(ValueError, match="outside jit"):
        jax.jit(lambda s: neighbour_list(s, 3.0))(Structure.from_ase(SYSTEMS["cluster"]))
