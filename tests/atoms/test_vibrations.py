"""Relaxation, frequencies and phonons: the exact silicon, ASE's finite differences, and counting modes."""

import json
import pathlib

import ase
import ase.build
import jax.numpy as jnp
import numpy as np
import pytest
from ase.vibrations import Vibrations

from enerjax.atoms.calculator import Calculator
from enerjax.atoms.pair import Morse, StillingerWeber
from enerjax.atoms.structure import Structure
from enerjax.atoms.vibrations import frequencies, phonons, relax

TARGETS = json.loads((pathlib.Path(__file__).parents[2] / "data" / "silicon" / "targets.json").read_text())
BOND = Morse(4.0, 2.0, 1.1, 8.0, 6.0)


def test_phonons_of_silicon_are_the_exact_ones():
    """Γ, X and L of the primitive cell, which is smaller than the cutoff, from a 2 × 2 × 2 supercell."""
    primitive = Structure.from_ase(ase.build.bulk("Si", a=TARGETS["a0"]))
    found = phonons(StillingerWeber(), primitive, [[0, 0, 0], [0.5, 0, 0.5], [0.5, 0.5, 0.5]])
    np.testing.assert_allclose(found, [TARGETS["phonons_THz"][k] for k in "GXL"], atol=2e-3)


def test_vacancy_of_silicon():
    """A rattled cell with a vacancy relaxes to the exact formation energy."""
    atoms = ase.build.bulk("Si", cubic=True, a=TARGETS["a0"]) * (2, 2, 2)
    del atoms[0]
    atoms.rattle(0.05, seed=1)
    relaxed = relax(StillingerWeber(), Structure.from_ase(atoms), fmax=1e-5)
    assert relaxed.largest_force < 1e-5
    np.testing.assert_allclose(relaxed.energy - 63 * TARGETS["e_per_atom"], TARGETS["vacancy_eV_63atoms"], atol=1e-6)


def test_frequencies_are_those_of_finite_differences(tmp_path, monkeypatch):
    """A tetrahedron of Morse bonds: the same nine modes as ASE's Vibrations, imaginary ones negative."""
    relaxed = relax(BOND, Structure.from_ase(ase.build.molecule("CH4")), fmax=1e-8)
    waves, modes = frequencies(BOND, relaxed.structure)
    monkeypatch.chdir(tmp_path)
    atoms = relaxed.structure.to_ase()
    atoms.calc = Calculator(BOND)
    reference = Vibrations(atoms, delta=1e-3)
    reference.run()
    theirs = reference.get_frequencies()
    theirs = np.sort(theirs.real - theirs.imag)
    theirs = theirs[np.abs(theirs) > 10]
    np.testing.assert_allclose(waves, theirs, rtol=1e-4, atol=0.1)
    masses = np.asarray(relaxed.structure.masses())
    np.testing.assert_allclose(np.sum(masses * modes, axis=1), 0.0, atol=1e-10)  # no mode moves the centre of mass


@pytest.mark.parametrize(
    ("positions", "modes"),
    [([[0.0, 0, 0], [0, 0, 1.1]], 1), ([[0.0, 0, 0], [0, 0, 1.1], [0, 0, 2.2]], 4), ([[0.0, 0, 0]], 0)],
)
def test_modes_are_counted(positions, modes):
    """3n − 5 for a linear molecule, none for an atom; a diatomic's is √(2Da²/μ)."""
    structure = Structure(jnp.array(positions), jnp.full(len(positions), 7))
    waves, vectors = frequencies(BOND, structure)
    assert len(waves) == modes and vectors.shape == (modes, len(positions), 3)
    if modes == 1:
        omega = np.sqrt(2 * 4.0 * 2.0**2 / (14.007 / 2))  # √(eV/Å²/amu)
        np.testing.assert_allclose(waves[0], omega * 521.4709, rtol=1e-5)


def test_a_crystal_has_three_modes_less():
    structure = Structure.from_ase(ase.build.bulk("Si", a=TARGETS["a0"]))
    waves, _ = frequencies(StillingerWeber(), structure)
    np.testing.assert_allclose(waves, 3 * [TARGETS["phonons_THz"]["G"][-1] * 33.35641], rtol=1e-4)


class Counted(Morse):
    """A Morse potential that counts how often it is traced."""

    traces = 0

    def energy_per_atom(self, structure, neighbours):
        Counted.traces += 1
        return super().energy_per_atom(structure, neighbours)


def test_relaxation_compiles_once():
    """Rows built again and again, those of a cluster with other bounds each time: nothing is compiled again."""
    atoms = ase.build.bulk("Ar", a=5.6, cubic=True) * (2, 2, 3)
    atoms.pbc = False
    atoms.rattle(0.3, seed=0)
    structure = Structure.from_ase(atoms)
    potential = Counted(0.0123, 1.7, 3.8, 6.0, 5.0)
    first = relax(potential, structure, fmax=0.02, skin=1.0)
    once = Counted.traces
    again = relax(potential, structure, fmax=0.02, skin=0.2)  # another skin: one program more
    assert Counted.traces == 2 * once
    np.testing.assert_allclose(again.energy, first.energy, atol=0.02)


def test_relaxation_says_when_it_fails():
    atoms = ase.build.bulk("Si", cubic=True)
    atoms.rattle(0.1, seed=1)
    with pytest.raises(ValueError, match="not relaxed: the largest force is .* after 3 steps"):
        relax(StillingerWeber(), Structure.from_ase(atoms), fmax=1e-6, steps=3)
