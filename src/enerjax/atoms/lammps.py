"""LAMMPS moves the atoms, a potential of this library says the energy: `fix external` of a running LAMMPS.

    lmp = lammps.lammps()
    lmp.commands_string("units metal\nread_data start.data")
    silicon = enerjax.atoms.lammps.attach(lmp, "run/model", ["Si"])
    silicon.commands("fix 1 all npt temp 300 300 0.1 iso 0 0 1\nrun 1000")

Everything of LAMMPS (ensembles, minimisers, computes, dumps) then works on the learned surface: energy, forces and
virial of every step come from here. One process; `simulation` is faster where its ensembles are enough, since it stays
in one jit.
"""

from collections.abc import Sequence
from pathlib import Path

import ase
import numpy as np
from ase import units
from ase.data import atomic_numbers, chemical_symbols
from ase.stress import voigt_6_to_full_3x3_stress

from .calculator import Calculator
from .potential import AbstractPotential

_ENERGY = {"metal": 1.0, "real": units.kcal / units.mol}  # eV; both measure lengths in Å


class Attached:
    """A LAMMPS instance that a potential drives.

    Attributes:
        lmp: the instance.
        calculator: evaluates the potential; its `traces` and `builds` count.
        calls: how often LAMMPS asked for forces.
        error: what went wrong inside the last run, if anything did.
    """

    def __init__(self, lmp, calculator: Calculator, numbers: np.ndarray, unit: float):
        self.lmp, self.calculator, self.numbers, self.unit = lmp, calculator, numbers, unit
        self.calls = 0
        self.error: Exception | None = None

    def commands(self, text: str) -> None:
        """`lmp.commands_string(text)`, and the error that stopped a run, if one did: it cannot cross LAMMPS itself."""
        self.error = None
        self.lmp.commands_string(text)
        if self.error is not None:
            raise self.error


def attach(
    lmp, potential: AbstractPotential | str | Path, elements: Sequence[str], *, skin: float = 0.5, fix: str = "enerjax"
) -> Attached:
    """Add a potential's energy, forces and virial to a LAMMPS instance.

    Adds the fix `external pf/callback 1 1` over all atoms, counted in LAMMPS's energy and pressure, and `pair_style
    zero` where no pair style is set, so that LAMMPS has a cutoff to list ghosts for.

    Args:
        lmp: a `lammps.lammps` instance whose box and atoms exist, in units `metal` or `real`, on one process.
        potential: any potential, or the directory of a fitted one.
        elements: chemical symbol of each LAMMPS atom type, in order.
        skin: Å, of the neighbour rows.
        fix: ID of the fix.

    Returns:
        The driven instance. Run through its `commands`: an error in the potential then stops the run and is raised.

    Raises:
        ValueError: for other units, several processes, an unknown element, or not one element per atom type.
    """
    style = lmp.extract_global("units")
    if style not in _ENERGY:
        raise ValueError(f"lammps.attach: units are '{style}'; use metal (eV, Å) or real (kcal/mol, Å).")
    if lmp.extract_setting("world_size") != 1:
        raise ValueError("lammps.attach: LAMMPS runs on several processes; the potential needs all atoms in one.")
    types = lmp.extract_setting("ntypes")
    if len(elements) != types:
        raise ValueError(f"lammps.attach: {types} atom types but {len(elements)} elements: {list(elements)}.")
    if unknown := [e for e in elements if e not in chemical_symbols[1:]]:
        raise ValueError(f"lammps.attach: '{unknown[0]}' is no element.")
    numbers = np.array([0, *(atomic_numbers[e] for e in elements)])
    attached = Attached(lmp, Calculator(potential, skin=skin), numbers, _ENERGY[style])
    if lmp.extract_global("pair_style") in (None, "none"):
        reach = attached.calculator.potential.cutoff
        lmp.commands_string(f"pair_style zero {reach:.6g}\npair_coeff * *")
    lmp.command(f"fix {fix} all external pf/callback 1 1")
    lmp.command(f"fix_modify {fix} energy yes virial yes")
    lmp.set_fix_external_callback(fix, _callback(fix, attached), None)
    return attached


def _callback(fix: str, attached: Attached):
    lmp = attached.lmp

    def forces_of(_, step, count, tag, x, f):
        """LAMMPS asks: positions x in its own order come in, forces f go out in place."""
        try:
            order = np.argsort(tag[:count])  # LAMMPS sorts atoms in space; rows of neighbours want them to stay
            kinds = lmp.numpy.extract_atom("type")[:count]
            atoms = ase.Atoms(attached.numbers[kinds[order]], x[:count][order], cell=_cell(lmp), pbc=_periodic(lmp))
            attached.calls += 1
            attached.calculator.calculate(atoms, ("energy", "forces"))
        except Exception as error:  # lost if it crossed C: kept, and LAMMPS is told that its time is up
            attached.error = error
            lmp.force_timeout()
            f[:count] = 0.0
            return
        results = attached.calculator.results
        f[:count][order] = results["forces"] / attached.unit
        lmp.fix_external_set_energy_global(fix, results["energy"] / attached.unit)
        if "stress" in results:
            virial = -voigt_6_to_full_3x3_stress(results["stress"]) * atoms.get_volume() / attached.unit
            lmp.fix_external_set_virial_global(fix, virial[(0, 1, 2, 0, 0, 1), (0, 1, 2, 1, 2, 2)].tolist())

    return forces_of


def _cell(lmp) -> np.ndarray:
    """LAMMPS's box as lattice vectors in rows, Å."""
    low, high, xy, yz, xz, *_ = lmp.extract_box()
    a, b, c = np.subtract(high, low)
    return np.array([[a, 0.0, 0.0], [xy, b, 0.0], [xz, yz, c]])


def _periodic(lmp) -> list[bool]:
    return [bool(p) for p in lmp.extract_box()[5]]
