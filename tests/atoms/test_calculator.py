"""The ASE calculator: same numbers as the potential itself, nothing compiled or built twice without need."""

import copy
import gc
import pickle
import weakref

import ase
import ase.build
import numpy as np
import pytest
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress
from ase.calculators.lj import LennardJones as AseLennardJones
from ase.constraints import FixAtoms
from ase.filters import FrechetCellFilter
from ase.optimize import LBFGS

from enerjax.atoms.calculator import Calculator
from enerjax.atoms.neighbours import neighbour_list
from enerjax.atoms.pair import LennardJones, Morse, StillingerWeber, argon
from enerjax.atoms.predict import predict
from enerjax.atoms.structure import Structure


@pytest.fixture(scope="module")
def silicon():
    """A rattled, sheared cell of eight atoms with its calculator."""
    atoms = ase.build.bulk("Si", cubic=True)
    atoms.set_cell(atoms.cell @ (np.eye(3) + np.random.default_rng(0).uniform(-0.03, 0.03, (3, 3))), scale_atoms=True)
    atoms.rattle(0.1, seed=0)
    atoms.calc = Calculator(StillingerWeber())
    return atoms


def test_forces_and_stress_are_derivatives(silicon):
    """Against ASE's finite differences; stress with ASE's sign and order, positive in tension."""
    np.testing.assert_allclose(silicon.get_forces()[:2], calculate_numerical_forces(silicon, 1e-4, [0, 1]), atol=1e-6)
    np.testing.assert_allclose(silicon.get_stress(), calculate_numerical_stress(silicon, 1e-5), atol=1e-7)
    tense = silicon.copy()
    tense.set_cell(silicon.cell * 1.05, scale_atoms=True)
    tense.calc = silicon.calc
    assert tense.get_stress()[:3].mean() > 0


def test_same_energy_as_the_potential(silicon):
    structure = Structure.from_ase(silicon)
    direct = StillingerWeber()(structure, neighbour_list(structure, StillingerWeber().cutoff))
    np.testing.assert_allclose(silicon.get_potential_energy(), direct, rtol=1e-12)


def test_one_trace_and_few_builds(silicon):
    """Fifty moves of 0.01 Å: one compilation, and rows built only when the skin is used up."""
    atoms = silicon.copy()
    atoms.calc = Calculator(StillingerWeber(), skin=0.6)
    fresh = Calculator(StillingerWeber(), skin=0.0)
    rng = np.random.default_rng(1)
    for k in range(50):
        atoms.positions += 0.01 * rng.normal(size=(8, 3)) + 0.3  # a common shift does not use up the skin
        energy = atoms.get_potential_energy()
        if k % 10 == 0:
            np.testing.assert_allclose(energy, fresh.get_property("energy", atoms), rtol=1e-12)
    assert atoms.calc.traces == 1
    assert atoms.calc.builds <= 3


def test_ase_relaxes_the_cell(silicon):
    """LBFGS with a cell filter finds the exact lattice constant and cohesive energy of silicon."""
    atoms = silicon.copy()
    atoms.calc = Calculator(StillingerWeber())
    LBFGS(FrechetCellFilter(atoms), logfile=None).run(fmax=1e-5, steps=200)
    np.testing.assert_allclose(atoms.get_potential_energy() / 8, -4.3366, atol=1e-6)
    np.testing.assert_allclose(atoms.get_volume() ** (1 / 3), 5.430949778, rtol=1e-5)
    assert atoms.calc.traces <= 2


def test_molecules_have_no_stress_and_may_change():
    atoms = ase.build.molecule("CH4")
    atoms.calc = Calculator(Morse(4.0, 2.0, 1.1, 8.0, 6.0))
    assert np.abs(atoms.get_forces().sum(0)).max() < 1e-12
    with pytest.raises(PropertyNotImplementedError, match="periodic in three directions"):
        atoms.get_stress()
    other = ase.build.molecule("C2H6")
    other.calc = atoms.calc
    assert other.get_forces().shape == (8, 3)
    other.positions[3] = other.positions[5] + [0.1, 0.0, 0.0]
    with pytest.raises(ValueError, match="atoms 3 and 5 overlap, 0.1 Å apart"):
        other.get_forces()


def test_directory_without_model_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no model"):
        Calculator(tmp_path)


@pytest.mark.parametrize("name", ["slab", "molecule in a box"])
def test_stress_where_the_cell_has_a_volume(name):
    """A slab's stress, and that of a molecule in its box, are ASE's finite differences; without a volume there is none.

    ASE's own Lennard-Jones gives the molecule's too.
    """
    if name == "slab":
        atoms = ase.build.fcc111("Ar", (1, 1, 2), a=5.3, vacuum=6.0, orthogonal=False)
        atoms.cell[2] += [0.4, -0.2, 0.0]
        atoms.calc = Calculator(argon(7.0))
    else:
        atoms = ase.Atoms("Ar3", [[0, 0, 0], [3.9, 0, 0], [1.0, 3.7, 0.5]], cell=np.diag([9.0, 8.0, 7.0]))
        atoms.calc = Calculator(LennardJones(0.0103, 3.4, 20.0, 15.0))
    atoms.rattle(0.1, seed=2)
    energy, forces = atoms.get_potential_energy(), atoms.get_forces()
    stress = atoms.get_stress()
    np.testing.assert_allclose(stress, calculate_numerical_stress(atoms, 1e-5), atol=1e-8)
    assert np.abs(stress).max() > 1e-5
    np.testing.assert_allclose(atoms.get_forces(), forces, atol=1e-12)
    assert atoms.get_potential_energy() == pytest.approx(energy, rel=1e-12)
    assert atoms.calc.traces <= 3
    if name != "slab":
        theirs = atoms.copy()
        theirs.calc = AseLennardJones(sigma=3.4, epsilon=0.0103, rc=50.0, ro=49.0, smooth=True)
        np.testing.assert_allclose(stress, theirs.get_stress(), rtol=1e-9, atol=1e-14)
    atoms.set_cell([atoms.cell[0], atoms.cell[1], [0, 0, 0]])
    with pytest.raises(PropertyNotImplementedError, match="a cell with a volume"):
        atoms.get_stress()
    np.testing.assert_allclose(atoms.get_forces(), forces, atol=1e-12)


def test_images_of_a_path_share_one_program_which_dies_with_the_potential():
    """Calculators of one potential compile once; of another with the same numbers, anew; nothing is kept for ever."""
    atoms = ase.Atoms("N2", [[0, 0, 0], [0, 0, 1.2]])
    potential = Morse(4.0, 2.0, 1.1, 8.0, 6.0)
    images = [Calculator(potential) for _ in range(3)]
    energies = [c.get_potential_energy(atoms) for c in images]
    assert [c.traces for c in images] == [1, 0, 0] and len(set(energies)) == 1
    again = Calculator(Morse(4.0, 2.0, 1.1, 8.0, 6.0))
    assert again.get_potential_energy(atoms) == energies[0] and again.traces == 1
    gone, program = weakref.ref(potential), weakref.ref(images[0]._bound[1])
    del potential, images
    for _ in range(2):  # JAX's own handle on the program falls in the first
        gc.collect()
    assert gone() is None and program() is None


def test_a_used_calculator_travels():
    """Pickled and copied after use, with what it knows and without what it compiled."""
    atoms = ase.Atoms("N2", [[0, 0, 0], [0, 0, 1.2]])
    atoms.calc = Calculator(Morse(4.0, 2.0, 1.1, 8.0, 6.0))
    forces = atoms.get_forces()
    for other in (pickle.loads(pickle.dumps(atoms)), copy.deepcopy(atoms)):
        assert np.array_equal(other.get_forces(), forces)
        other.positions[1, 2] += 0.1
        assert not np.allclose(other.get_forces(), forces)
    assert np.array_equal(atoms.get_forces(), forces)


def test_slab_matches_its_padded_box():
    """Two open-direction treatments of the same slab agree: pbc (1, 1, 0) and a tall periodic box."""
    slab = ase.build.fcc111("Ar", (2, 2, 3), a=5.3, vacuum=12.0)
    slab.rattle(0.1, seed=2)
    potential = argon(7.0)
    energy = []
    for pbc in ((True, True, False), (True, True, True)):
        slab.pbc = pbc
        slab.calc = Calculator(potential)
        energy.append(slab.get_potential_energy())
    np.testing.assert_allclose(energy[0], energy[1], rtol=1e-12)


def test_another_potential_is_another_surface():
    """A calculator whose potential is replaced answers for the new one, with rows of its cutoff."""
    atoms = ase.build.bulk("Ar", "fcc", a=5.3, cubic=True)
    calculator = Calculator(argon())
    atoms.calc = calculator
    first = atoms.get_potential_energy()
    calculator.potential = Morse(0.0123, 1.7, 3.8, 7.0, 6.0)
    calculator.reset()
    fresh = Calculator(Morse(0.0123, 1.7, 3.8, 7.0, 6.0)).get_property("energy", atoms)
    assert atoms.get_potential_energy() == pytest.approx(fresh, rel=1e-12) != pytest.approx(first)


def test_constraints_are_kept_by_ase_and_refused_elsewhere():
    """The calculator and `predict` leave constraints to ASE; what would move held atoms names the constraint."""
    atoms = ase.build.bulk("Ar", "fcc", a=5.2, cubic=True)
    atoms.rattle(0.05, seed=0)
    atoms.set_constraint(FixAtoms([0]))
    atoms.calc = Calculator(argon())
    assert np.all(atoms.get_forces()[0] == 0)
    free = predict(argon(), atoms).forces
    np.testing.assert_allclose(atoms.get_forces(apply_constraint=False), free, atol=1e-12)
    with pytest.raises(ValueError, match="Ar4: carries the constraint FixAtoms"):
        Structure.from_ase(atoms)


@pytest.mark.parametrize("name", ["H2O", "bulk"])
def test_bad_positions_are_named(name):
    atoms = ase.build.molecule(name) if name == "H2O" else ase.build.bulk("Ar", "fcc", a=5.3, cubic=True)
    atoms.calc = Calculator(LennardJones(0.0103235, 3.405, 8.5, 6.8))
    atoms.get_forces()
    atoms.positions[1] = np.nan
    with pytest.raises(ValueError, match="atom 1 has a position that is not finite"):
        atoms.get_forces()
    atoms.positions[1] = atoms.positions[0] + 1e-3
    with pytest.raises(ValueError, match="atoms 0 and 1 overlap"):
        atoms.get_forces()


def test_a_refused_cell_is_not_replaced_by_the_last_good_one():
    atoms = ase.build.bulk("Ar", "fcc", a=5.3, cubic=True)
    atoms.calc = Calculator(argon())
    atoms.get_forces()
    good = atoms.cell.copy()
    atoms.set_cell([good[0], good[0], good[2]])
    for _ in range(2):
        with pytest.raises(ValueError, match="one plane"):
            atoms.get_forces()
        atoms.rattle(0.01)
