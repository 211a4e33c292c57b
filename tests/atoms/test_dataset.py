"""Reading labels: both places where ASE keeps them, and one clear line for every kind of bad input."""

import ase
import ase.build
import numpy as np
import pytest
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from enerjax.atoms.dataset import (
    atomic_energies,
    check_neighbours,
    default_cutoff,
    isolated_energies,
    read,
    read_structure,
    split,
    statistics,
)

RNG = np.random.default_rng(0)


def molecule(name="H2O", energy=-10.0, keys=("energy", "forces"), forces=None):
    """A labelled molecule; `energy` and `forces` go where ASE puts them, any other key into info and arrays."""
    atoms = ase.build.molecule(name)
    forces = RNG.normal(size=(len(atoms), 3)) if forces is None else forces
    if keys == ("energy", "forces"):
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
    else:
        atoms.info[keys[0]] = energy
        atoms.arrays[keys[1]] = forces
    return atoms


def copper(n=1, **labels):
    atoms = ase.build.bulk("Cu", cubic=True) * (n, n, n)
    atoms.rattle(0.1, seed=3)
    atoms.calc = EMT()
    e, f, s = atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()
    atoms.calc = SinglePointCalculator(atoms, energy=e, forces=f, stress=s)
    return atoms


@pytest.mark.parametrize("keys", [("energy", "forces"), ("REF_energy", "REF_forces"), ("TotEnergy", "force")])
def test_labels_are_found_where_ase_keeps_them(tmp_path, keys):
    frames = [molecule(energy=-10.0 - k, keys=keys) for k in range(3)]
    forces = [f.get_forces() if keys[0] == "energy" else f.arrays[keys[1]] for f in frames]
    write(tmp_path / "a.xyz", frames, format="extxyz")
    data = read(tmp_path / "a.xyz")
    assert [f.energy for f in data] == [-10.0, -11.0, -12.0] and data.species == (1, 8)
    np.testing.assert_allclose([f.forces for f in data], forces, atol=1e-7)
    assert data[0].cell is None and data[0].info["weight"] == 1.0 and data[0].structure().atoms == 3


def test_reference_labels_win_over_the_calculator(tmp_path):
    atoms = molecule(energy=-1.0)
    atoms.info["REF_energy"] = -2.0
    write(tmp_path / "a.xyz", [atoms], format="extxyz")
    assert read(tmp_path / "a.xyz")[0].energy == -2.0
    assert read(tmp_path / "a.xyz", energy_key="energy")[0].energy == -1.0


def test_virial_is_minus_stress_times_volume(tmp_path):
    """Stress and the virial of the same frame are the same label."""
    atoms = copper()
    stress = atoms.get_stress(voigt=False)
    atoms.info["REF_virial"] = -stress * atoms.get_volume()
    write(tmp_path / "a.xyz", [atoms], format="extxyz")
    np.testing.assert_allclose(read(tmp_path / "a.xyz")[0].stress, stress, atol=1e-8)
    np.testing.assert_allclose(read(tmp_path / "a.xyz", stress_key="REF_virial")[0].stress, stress, atol=1e-8)


def test_atomic_energies_given_read_and_fitted(tmp_path):
    """E = −1 n(H) − 5 n(O) − 3 n(C) is recovered by the fit, and exactly where isolated atoms are in the file."""
    value = {"H": -1.0, "O": -5.0, "C": -3.0}
    frames = [
        molecule(m, sum(value[s] for s in ase.build.molecule(m).symbols))
        for m in ("H2O", "CH4", "CO2", "CH3OH", "C2H6")
    ]
    write(tmp_path / "a.xyz", frames, format="extxyz")
    fitted = atomic_energies(read(tmp_path / "a.xyz"))
    np.testing.assert_allclose([fitted[1], fitted[6], fitted[8]], [-1.0, -3.0, -5.0], atol=1e-5)

    atom = ase.Atoms("O", info={"config_type": "IsolatedAtom", "energy": -5.0})
    write(tmp_path / "b.xyz", [atom, *frames], format="extxyz")
    data = read(tmp_path / "b.xyz")
    assert len(data) == 5 and data.isolated == {8: -5.0}
    energies = atomic_energies(data, {6: -3.5})
    assert energies[8] == -5.0 and energies[6] == -3.5
    write(tmp_path / "c.xyz", [atom], format="extxyz")
    assert isolated_energies(tmp_path / "c.xyz") == {8: -5.0}


def test_one_composition_still_has_finite_energies(tmp_path):
    write(tmp_path / "a.xyz", [molecule(energy=-30.0), molecule(energy=-30.3)], format="extxyz")
    energies = atomic_energies(read(tmp_path / "a.xyz"))
    assert abs(2 * energies[1] + energies[8] + 30.15) < 1e-3 and abs(energies[1] - energies[8]) < 1e-3


def test_statistics_and_splits(tmp_path):
    frames = [copper(2) for _ in range(10)]
    write(tmp_path / "a.xyz", frames, format="extxyz")
    data = read(tmp_path / "a.xyz")
    numbers = statistics(data, 3.0)
    assert numbers["mean_neighbours"] == 12.0 and numbers["atoms"] == 32 and numbers["species"] == (29,)
    np.testing.assert_allclose(numbers["force_rms"], np.sqrt(np.mean(frames[0].get_forces() ** 2)), rtol=1e-6)
    train, valid, rest = split(data, 0.5, 2, seed=1)
    assert (len(train), len(valid), len(rest)) == (5, 2, 3)
    assert len({id(f) for part in (train, valid, rest) for f in part}) == 10
    assert [id(f) for f in split(data, 5, seed=1)[0]] == [id(f) for f in train]
    with pytest.raises(ValueError, match="do not fit"):
        split(data, 11)


def broken(case):
    good, bad = molecule(), molecule()
    nan = np.full((3, 3), 0.1)
    nan[1, 2] = np.nan
    return {
        "missing energy": [good, molecule(keys=("other", "forces"))],
        "missing forces": [good, molecule(keys=("energy", "other"))],
        "nan energy": [good, molecule(energy=np.nan, keys=("REF_energy", "REF_forces"))],
        "nan forces": [good, molecule(forces=nan)],
        "mixed periodicity": [good, copper()],
        "overlap": [good, ase.Atoms("HH", [[0, 0, 0], [0, 0, 0.1]], calculator=None)],
        "no labels": [ase.build.molecule("H2O")],
        "bad": [bad],
    }[case]


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("missing energy", r"x\.xyz, frame 1: no energy"),
        ("missing forces", r"x\.xyz, frame 1: no forces"),
        ("nan energy", r"x\.xyz, frame 1: 'REF_energy' is not finite"),
        ("nan forces", r"x\.xyz, frame 1: 'forces' of atom 1 is not finite"),
        ("mixed periodicity", r"x\.xyz, frame 1: mixed periodicity"),
        ("overlap", r"x\.xyz, frame 1: atoms 0 and 1 overlap, 0\.1 Å"),
        ("no labels", r"x\.xyz, frame 0: no energy under any of"),
    ],
)
def test_bad_frames_are_named(tmp_path, case, message):
    frames = broken(case)
    if case == "overlap":
        frames[1].calc = SinglePointCalculator(frames[1], energy=0.0, forces=np.zeros((2, 3)))
    if case == "nan energy":
        frames[0] = molecule(keys=("REF_energy", "REF_forces"))
    write(tmp_path / "x.xyz", frames, format="extxyz")
    with pytest.raises(ValueError, match=message) as caught:
        read(tmp_path / "x.xyz")
    assert "\n" not in str(caught.value)


def test_bad_files_are_named(tmp_path):
    (tmp_path / "empty.xyz").write_text("")
    with pytest.raises(ValueError, match=r"empty\.xyz: the file is empty"):
        read(tmp_path / "empty.xyz")
    with pytest.raises(FileNotFoundError, match=r"none\.xyz"):
        read(tmp_path / "none.xyz")
    (tmp_path / "text.xyz").write_text("this is\nnot a structure\n")
    with pytest.raises(ValueError, match=r"text\.xyz: not readable"):
        read(tmp_path / "text.xyz")
    write(tmp_path / "a.xyz", [molecule()], format="extxyz")
    with pytest.raises(ValueError, match=r"a\.xyz: no frame has 'my_energy'; the frames have .*energy"):
        read(tmp_path / "a.xyz", energy_key="my_energy")
    with pytest.raises(ValueError, match="has 1 frames, no frame 4"):
        read_structure(tmp_path / "a.xyz", 4)
    assert len(read_structure(tmp_path / "a.xyz")) == 3


def test_atom_without_neighbours_is_named(tmp_path):
    atoms = ase.Atoms("H3", [[0, 0, 0], [0, 0, 0.8], [9.0, 0, 0]])
    atoms.calc = SinglePointCalculator(atoms, energy=0.0, forces=np.zeros((3, 3)))
    write(tmp_path / "x.xyz", [molecule(), atoms], format="extxyz")
    data = read(tmp_path / "x.xyz")
    check_neighbours(data, 10.0)
    with pytest.raises(ValueError, match=r"x\.xyz, frame 1: atom 2 has no neighbour within the cutoff of 5 Å"):
        check_neighbours(data, 5.0)


def test_cutoff_by_kind_of_data(tmp_path):
    """Short for one piece, long where pieces would not see each other, and in matter."""
    apart = molecule() + molecule()
    apart.positions[3:, 0] += 4.5
    cases = {"water": (molecule(), 4.0), "dimer": (apart, 5.0), "copper": (copper(2), 5.0)}
    for name, (frame, cutoff) in cases.items():
        frame.calc = SinglePointCalculator(frame, energy=0.0, forces=np.zeros((len(frame), 3)))
        write(tmp_path / f"{name}.xyz", frame, format="extxyz")
        assert default_cutoff(read(tmp_path / f"{name}.xyz")) == cutoff, name
