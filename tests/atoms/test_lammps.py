"""LAMMPS on a potential of ours: its energies, forces and pressure are the calculator's, and its errors are ours."""

import ctypes
import sys
from pathlib import Path

import ase
import numpy as np
import pytest
from ase import units

from enerjax.atoms import Calculator, StillingerWeber
from enerjax.atoms import lammps as bridge

mpi = Path(sys.prefix) / "lib" / "libmpi.so.12"  # where the wheel of mpich puts it; not on the loader's path
if mpi.exists():
    ctypes.CDLL(str(mpi), ctypes.RTLD_GLOBAL)
lammps = pytest.importorskip("lammps")

SETUP = """
units {units}
lattice diamond 5.43095
region box block 0 2 0 2 0 2
create_box 1 box
create_atoms 1 box
mass 1 28.085
change_box all triclinic
change_box all xy final 0.4 xz final -0.3 yz final 0.2 remap units box
displace_atoms all random 0.05 0.05 0.05 42 units box
velocity all create 300 1
"""


def start(style="metal", setup=SETUP):
    lmp = lammps.lammps(cmdargs=["-log", "none", "-screen", "none"])
    lmp.commands_string(setup.format(units=style))
    return lmp


@pytest.mark.parametrize("style", ["metal", "real"])
def test_a_run_of_lammps_is_one_of_ours(style):
    """Energy, forces and pressure of a sheared crystal after 20 steps, and the total energy on the way."""
    lmp = start(style)
    driven = bridge.attach(lmp, StillingerWeber(), ["Si"])
    driven.commands(f"timestep {0.001 if style == 'metal' else 1.0}\nfix 1 all nve\nrun 0")
    before = lmp.get_thermo("etotal")
    driven.commands("run 20")
    x, count = lmp.numpy.extract_atom("x"), lmp.get_natoms()
    atoms = ase.Atoms(f"Si{count}", x[:count], cell=bridge._cell(lmp), pbc=True)
    atoms.calc = Calculator(StillingerWeber())
    eV = 1.0 if style == "metal" else units.kcal / units.mol
    np.testing.assert_allclose(lmp.get_thermo("pe") * eV, atoms.get_potential_energy(), rtol=1e-9)
    np.testing.assert_allclose(lmp.numpy.extract_atom("f")[:count] * eV, atoms.get_forces(), atol=1e-7)
    kinetic = 2 / 3 * lmp.get_thermo("ke") * eV / atoms.get_volume()
    bar = 1e-4 * units.GPa if style == "metal" else 1.01325e-4 * units.GPa
    pressure = kinetic - atoms.get_stress()[:3].mean()
    np.testing.assert_allclose(lmp.get_thermo("press") * bar, pressure, atol=2e-6)
    np.testing.assert_allclose(lmp.get_thermo("pxy") * bar, _pxy(lmp, atoms, eV), atol=2e-6)
    assert abs(lmp.get_thermo("etotal") - before) * eV < 0.02
    assert driven.calls >= 21
    lmp.close()


def _pxy(lmp, atoms, eV):
    v = lmp.numpy.extract_atom("v")[: len(atoms)] * (0.001 if eV == 1.0 else 1.0)  # Å/fs
    kinetic = 28.085 * (v[:, 0] * v[:, 1]).sum() / units.fs**2
    return kinetic / atoms.get_volume() - atoms.get_stress()[5]


def test_refusals():
    lmp = start()
    with pytest.raises(ValueError, match="1 atom types but 2 elements"):
        bridge.attach(lmp, StillingerWeber(), ["Si", "O"])
    with pytest.raises(ValueError, match="'Xy' is no element"):
        bridge.attach(lmp, StillingerWeber(), ["Xy"])
    driven = bridge.attach(lmp, StillingerWeber(), ["Si"])
    with pytest.raises(ValueError, match="atoms 0 and 1 overlap, 0.1 Å apart"):
        driven.commands("set atom 2 x 0 y 0 z 0\nset atom 1 x 0.1 y 0 z 0\nfix 1 all nve\nrun 5")
    lmp.close()
    lmp = start("lj", SETUP.replace("lattice diamond 5.43095", "lattice diamond 1.0"))
    with pytest.raises(ValueError, match="units are 'lj'"):
        bridge.attach(lmp, StillingerWeber(), ["Si"])
    lmp.close()
