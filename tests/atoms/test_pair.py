"""Analytic potentials against ASE, against the shipped exact silicon, and the laws every potential keeps."""

import json
import pathlib

import ase
import ase.build
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase.calculators.lj import LennardJones as AseLennardJones
from ase.calculators.morse import MorsePotential
from ase.units import GPa
from scipy.spatial.transform import Rotation

from enerjax.atoms.dataset import read
from enerjax.atoms.neighbours import all_pairs, neighbour_list
from enerjax.atoms.pair import CoreRepulsion, LennardJones, Morse, StillingerWeber, argon
from enerjax.atoms.potential import energy_forces, energy_forces_stress
from enerjax.atoms.predict import predict
from enerjax.atoms.structure import Structure, pad
from enerjax.atoms.vibrations import frequencies, relax

SILICON = pathlib.Path(__file__).parents[2] / "data" / "silicon"
TARGETS = json.loads((SILICON / "targets.json").read_text())
response = jax.jit(energy_forces_stress)
ZOO = {
    "Lennard-Jones": argon(6.0),
    "Morse": Morse(0.3429, 1.3588, 2.866, 6.0, 4.0),
    "core repulsion": CoreRepulsion(1.6, 4.0),
    "Stillinger-Weber": StillingerWeber(),
    "sum": argon(6.0) + 0.5 * CoreRepulsion(1.6, 4.0) - Morse(0.1, 1.3, 2.0, 4.0, 2.0),
}


def crystal(seed=0):
    """A rattled, sheared diamond crystal of eight atoms, smaller than two cutoffs."""
    atoms = ase.build.bulk("Si", cubic=True)
    atoms.set_cell(
        atoms.cell @ (np.eye(3) + np.random.default_rng(seed).uniform(-0.05, 0.05, (3, 3))), scale_atoms=True
    )
    atoms.rattle(0.15, seed=seed)
    return Structure.from_ase(atoms)


def test_lennard_jones_is_ase_below_the_switch():
    """The bare pair energies and forces are ASE's, where no pair lies in the switching range."""
    atoms = ase.build.molecule("C2H6")
    ours = LennardJones(0.01, 1.2, 20.0, 15.0)
    atoms.calc = AseLennardJones(sigma=1.2, epsilon=0.01, rc=50.0, ro=49.0, smooth=True)
    structure = Structure.from_ase(atoms)
    energy, forces = energy_forces(ours, structure, all_pairs(8, 20.0))
    np.testing.assert_allclose(energy, atoms.get_potential_energy(), rtol=1e-12)
    np.testing.assert_allclose(forces, atoms.get_forces(), rtol=1e-10, atol=1e-10)


def test_morse_is_ase_below_the_switch():
    atoms = ase.Atoms("Cu4", np.random.default_rng(0).uniform(0, 4, (4, 3)))
    atoms.calc = MorsePotential(epsilon=0.3429, rho0=1.3588 * 2.866, r0=2.866, rcut1=19.0, rcut2=20.0)
    energy, forces = energy_forces(
        Morse(0.3429, 1.3588, 2.866, 20.0, 15.0), Structure.from_ase(atoms), all_pairs(4, 20.0)
    )
    np.testing.assert_allclose(energy, atoms.get_potential_energy(), rtol=1e-12)
    np.testing.assert_allclose(forces, atoms.get_forces(), rtol=1e-10)


def test_core_repulsion_is_that_of_the_tables():
    """Two carbon nuclei at 0.1 Å: Z² e²/r φ(r/a) by hand; no force on a bond at rest."""
    pair = lambda d: Structure(jnp.array([[0.0, 0, 0], [0, 0, d]]), jnp.array([6, 6]))
    core = CoreRepulsion()
    x = 0.1 / (0.4685 / (2 * 6**0.23))
    phi = sum(
        c * np.exp(-d * x) for c, d in ((0.18175, 3.1998), (0.50986, 0.94229), (0.28022, 0.4029), (0.02817, 0.20162))
    )
    np.testing.assert_allclose(core(pair(0.1), all_pairs(2, 5.0)), 36 * 14.399645 / 0.1 * phi, rtol=1e-6)
    assert float(core(pair(1.53), all_pairs(2, 5.0))) == 0.0


def test_silicon_is_the_shipped_one():
    """Energies, forces and stress of the shipped set, which another program computed."""
    potential, neighbours = StillingerWeber(), None
    data = read(SILICON / "silicon.xyz")
    for frame in (data[0], data[50], data[128]):
        structure = frame.structure()
        neighbours = neighbour_list(structure, potential.cutoff, like=neighbours)
        energy, forces, stress = response(potential, structure, neighbours)
        np.testing.assert_allclose(energy, frame.energy, atol=1e-6)
        np.testing.assert_allclose(forces, frame.forces, atol=1e-6)
        np.testing.assert_allclose(stress, frame.stress, atol=1e-8)


def test_silicon_lattice_and_elastic_constants():
    """a₀, cohesive energy, C11, C12 and unrelaxed C44 are the exact ones."""
    potential = StillingerWeber()
    atoms = ase.build.bulk("Si", a=TARGETS["a0"], cubic=True)
    structure = Structure.from_ase(atoms)
    neighbours = neighbour_list(structure, potential.cutoff)

    def stress(strain):
        deform = jnp.eye(3) + strain
        return energy_forces_stress(
            potential, structure.at(structure.positions @ deform, structure.cell @ deform), neighbours
        )[2]

    C = jax.jit(jax.jacfwd(stress))(jnp.zeros((3, 3)))  # ∂σ_ab/∂ε_cd at zero stress
    energy, forces, zero = response(potential, structure, neighbours)
    np.testing.assert_allclose(energy / 8, TARGETS["e_per_atom"], rtol=1e-8)
    np.testing.assert_allclose(zero, 0.0, atol=1e-7)
    np.testing.assert_allclose(forces, 0.0, atol=1e-10)
    np.testing.assert_allclose(C[0, 0, 0, 0] / GPa, TARGETS["C11"], rtol=1e-4)
    np.testing.assert_allclose(C[0, 0, 1, 1] / GPa, TARGETS["C12"], rtol=1e-4)
    np.testing.assert_allclose(0.5 * (C[1, 2, 1, 2] + C[1, 2, 2, 1]) / GPa, TARGETS["C44_unrelaxed"], rtol=1e-4)


def test_named_potentials_refuse_other_elements():
    """Silicon's parameters are for silicon, argon's for argon, in sums and products too; one's own are for anything."""
    krypton = Structure.from_ase(ase.build.bulk("Kr", a=5.7))
    named = argon(6.0) + CoreRepulsion(1.6, 4.0), 0.5 * StillingerWeber() - argon(6.0), StillingerWeber()
    calls = (lambda p: predict(p, krypton), lambda p: frequencies(p, krypton), lambda p: relax(p, krypton))
    for potential, call in zip(named, calls, strict=True):
        with pytest.raises(ValueError, match=r"the potential knows the elements \((18,|14,|)\), not Z=36"):
            call(potential)
    own = LennardJones(0.0142, 3.65, 6.0, 4.8)
    assert predict(own, krypton).energy < 0 and frequencies(own, krypton)[0].shape == (0,)
    assert (argon(6.0) + own).elements == (18,) and StillingerWeber(species=(32,)).elements == (32,)


def test_predict_takes_anything_that_is_called_as_a_potential():
    """A plain function of structure and rows with a cutoff gives the same numbers as the potential's."""
    plain = lambda structure, neighbours: morse(structure, neighbours)
    morse, atoms = ZOO["Morse"], ase.build.bulk("Cu", a=3.7)
    plain.cutoff = morse.cutoff
    for one, two in zip(predict(plain, atoms), predict(morse, atoms), strict=True):
        np.testing.assert_allclose(one, two, atol=1e-12)


@pytest.mark.parametrize("transform", [jax.jit, jax.grad])
def test_predict_inside_jit_says_what_works_there(transform):
    molecule = Structure.from_ase(ase.build.molecule("N2"))
    inside = lambda R: predict(ZOO["Morse"], molecule.at(R)).energy
    with pytest.raises(ValueError, match=r"runs on the host: inside jit.*interaction\(structure, neighbours\)"):
        transform(inside)(molecule.positions)
    with pytest.raises(ValueError, match="runs on the host"):
        jax.jit(lambda: predict(ZOO["Morse"], molecule).energy)()


@pytest.mark.parametrize("name", ZOO)
def test_laws_of_a_potential(name):
    """Forces sum to zero, follow rotations and reflections, forget permutations and padding; stress is symmetric."""
    potential, structure = ZOO[name], crystal()
    neighbours = neighbour_list(structure, potential.cutoff)
    energy, forces, stress = response(potential, structure, neighbours)
    np.testing.assert_allclose(forces.sum(0), 0.0, atol=1e-10)
    np.testing.assert_allclose(stress, stress.T, atol=1e-12)

    Q = -Rotation.from_rotvec([0.3, -0.8, 0.5]).as_matrix()
    turned = structure.at(structure.positions @ Q, structure.cell @ Q)
    e, f, s = response(potential, turned, neighbours)
    np.testing.assert_allclose(e, energy, rtol=1e-12)
    np.testing.assert_allclose(f, forces @ Q, atol=1e-10)
    np.testing.assert_allclose(s, Q.T @ stress @ Q, atol=1e-12)

    moved = Structure(structure.positions[::-1] + 7.3, structure.species, structure.cell, structure.pbc)
    rows = neighbour_list(moved, potential.cutoff, like=neighbours)
    np.testing.assert_allclose(response(potential, moved, rows)[1], forces[::-1], atol=1e-10)
    padded = pad(structure, 10)
    np.testing.assert_allclose(potential(padded, neighbour_list(padded, potential.cutoff)), energy, rtol=1e-12)


@pytest.mark.parametrize("name", ZOO)
def test_smooth_and_consistent_through_the_cutoff(name):
    """F = −dE/dx by central differences while a third atom crosses the cutoff, and no second derivative jumps."""
    potential = ZOO[name]
    place = lambda x: jnp.array([[0.0, 0, 0], [1.9, 0, 0], [0.0, 0.4, 0]]).at[2, 0].set(x)
    energy = lambda x: potential(Structure(place(x), jnp.array([14, 14, 14])), all_pairs(3, potential.cutoff))
    xs = potential.cutoff + jnp.linspace(-0.3, 2.2, 400)
    h = 1e-5
    value, slope, curve = (jax.jit(jax.vmap(g))(xs) for g in (energy, jax.grad(energy), jax.grad(jax.grad(energy))))
    both = jax.jit(jax.vmap(energy))(jnp.concatenate([xs + h, xs - h]))
    np.testing.assert_allclose(slope, (both[:400] - both[400:]) / (2 * h), atol=1e-7)
    # a continuous curve changes half as much over half the step; a jump would not
    assert jnp.all(jnp.isfinite(curve))
    assert jnp.max(jnp.abs(jnp.diff(curve))) < 0.75 * jnp.max(jnp.abs(curve[2:] - curve[:-2])) + 1e-12
    assert jnp.abs(value[-1] - value[-2]) < 1e-14
