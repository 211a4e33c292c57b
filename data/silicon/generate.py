"""Exact Stillinger–Weber silicon: 130 labelled configurations and the targets that a fit is judged by.

    python data/silicon/generate.py OUT      (needs matscipy and phonopy beside ase, numpy, scipy; not enerjax)

64-atom diamond cells, rattled and strained, from Langevin dynamics at 300, 900 and 1500 K, and with a vacancy. Energies
in eV, forces in eV/Å, stress in eV/Å³ with ASE's sign. The potential is matscipy's implementation, so that
`enerjax.atoms.StillingerWeber` is checked against a program that is not ours. The shipped files are one run of this.
"""

import json
import pathlib
import sys

import numpy as np
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from ase.optimize import BFGS
from matscipy.calculators.manybody import Manybody
from matscipy.calculators.manybody.explicit_forms import StillingerWeber
from matscipy.calculators.manybody.explicit_forms.stillinger_weber import Stillinger_Weber_PRB_31_5262_Si as SILICON
from phonopy import Phonopy
from phonopy.structure.atoms import PhonopyAtoms
from scipy.optimize import minimize_scalar


def exact():
    """A fresh calculator of the exact potential."""
    return Manybody(**StillingerWeber(SILICON))


def energy_per_atom(a):
    atoms = bulk("Si", a=a)
    atoms.calc = exact()
    return atoms.get_potential_energy() / 2


def stress(crystal, strain, relax=True):
    """Stress of the strained cell in GPa, Voigt order."""
    atoms = crystal.copy()
    atoms.set_cell(crystal.cell @ (np.eye(3) + strain), scale_atoms=True)
    atoms.calc = exact()
    if relax:
        BFGS(atoms, logfile=None).run(fmax=1e-7, steps=200)
    return atoms.get_stress() / units.GPa


def phonons(a0):
    """Frequencies [THz] at Γ, X and L by finite displacements in a 4 × 4 × 4 supercell."""
    cell = bulk("Si", a=a0)
    unit = PhonopyAtoms(symbols=["Si"] * 2, cell=cell.cell[:], scaled_positions=cell.get_scaled_positions())
    phonon = Phonopy(unit, 4 * np.eye(3, dtype=int), primitive_matrix=np.eye(3))
    phonon.generate_displacements(distance=0.005)
    forces = []
    for large in phonon.supercells_with_displacements:
        atoms = Atoms(large.symbols, scaled_positions=large.scaled_positions, cell=large.cell, pbc=True)
        atoms.calc = exact()
        forces.append(atoms.get_forces())
    phonon.forces = forces
    phonon.produce_force_constants()
    points = {"G": (0, 0, 0), "X": (0.5, 0, 0.5), "L": (0.5, 0.5, 0.5)}
    return {name: np.round(phonon.get_frequencies(q), 4).tolist() for name, q in points.items()}


def targets(a0, cohesive, large):
    """Lattice, elastic constants [GPa], phonons and the vacancy's formation energy [eV]."""
    crystal, d = bulk("Si", a=a0, cubic=True), 1e-4
    tension, shear = np.zeros((3, 3)), np.zeros((3, 3))
    tension[0, 0], shear[1, 2], shear[2, 1] = d, d / 2, d / 2
    slope = lambda E, relax=True: (stress(crystal, E, relax) - stress(crystal, -E, relax)) / (2 * d)
    C = slope(tension)
    found = {"a0": a0, "e_per_atom": cohesive, "C11": C[0], "C12": C[1], "C44": slope(shear)[3]}
    found |= {"C44_unrelaxed": slope(shear, False)[3], "B": (C[0] + 2 * C[1]) / 3, "phonons_THz": phonons(a0)}
    vacancy = large.copy()
    del vacancy[0]
    vacancy.calc = exact()
    BFGS(vacancy, logfile=None).run(fmax=1e-5, steps=300)
    return found | {"vacancy_eV_63atoms": vacancy.get_potential_energy() - 63 * cohesive}, vacancy


def labelled(atoms, kind):
    atoms.calc = exact()
    copy = atoms.copy()
    copy.info = {"config_type": kind}
    energy, forces, pull = atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()
    copy.calc = SinglePointCalculator(copy, energy=energy, forces=forces, stress=pull)
    return copy


def configurations(large, vacancy):
    rng = np.random.default_rng(0)
    for _ in range(30):
        atoms, strain = large.copy(), rng.uniform(-0.05, 0.05, (3, 3))
        atoms.set_cell(atoms.cell @ (np.eye(3) + (strain + strain.T) / 2), scale_atoms=True)
        atoms.rattle(rng.uniform(0.02, 0.2), rng=rng)
        yield labelled(atoms, "rattle_strain")
    for temperature in (300, 900, 1500):
        atoms, noise = large.copy(), np.random.default_rng(temperature)
        atoms.calc = exact()
        MaxwellBoltzmannDistribution(atoms, temperature_K=2 * temperature, rng=noise)
        motion = Langevin(
            atoms, 2 * units.fs, temperature_K=temperature, friction=0.01 / units.fs, rng=noise, fixcm=False
        )
        motion.run(75)
        for _ in range(30):
            motion.run(12)
            yield labelled(atoms.copy(), f"md_{temperature}K")
    for _ in range(10):
        atoms = vacancy.copy()
        atoms.rattle(0.12, rng=rng)
        yield labelled(atoms, "vacancy_rattle")


if __name__ == "__main__":
    out = pathlib.Path(sys.argv[1])
    lattice = minimize_scalar(energy_per_atom, bracket=(5.3, 5.43, 5.5), tol=1e-12)
    crystal = bulk("Si", a=lattice.x, cubic=True) * (2, 2, 2)
    numbers, hole = targets(lattice.x, lattice.fun, crystal)
    (out / "targets.json").write_text(json.dumps(numbers, indent=1) + "\n")
    write(out / "silicon.xyz", list(configurations(crystal, hole)), format="extxyz")
