"""A potential fitted to exact Stillinger–Weber silicon against the exact answer: lattice, elasticity, phonons.

    enerjax fit data/silicon/silicon.xyz --config benchmarks/potentials/silicon.toml --max-seconds 220 --out run/silicon
    python benchmarks/potentials/silicon.py run/silicon

The targets in data/silicon/targets.json were computed with matscipy and phonopy (data/silicon/generate.py). Within 5
per cent is wanted.
"""

import json
import pathlib
import sys

import ase.build
import jax
import numpy as np
from ase.filters import FrechetCellFilter
from ase.optimize import LBFGS
from ase.units import GPa

from enerjax.atoms import Calculator, Structure, load, phonons
from enerjax.atoms.vibrations import precise

TARGETS = pathlib.Path(__file__).parents[2] / "data" / "silicon" / "targets.json"


def relaxed_stress(crystal, strain):
    """Stress [GPa] of the strained cell after the atoms have relaxed."""
    atoms = crystal.copy()
    atoms.set_cell(crystal.cell @ (np.eye(3) + strain), scale_atoms=True)
    atoms.calc = crystal.calc
    LBFGS(atoms, logfile=None).run(fmax=1e-5, steps=100)
    return atoms.get_stress() / GPa


def main(directory):
    exact, potential = json.loads(TARGETS.read_text()), precise(load(directory))
    crystal = ase.build.bulk("Si", cubic=True, a=5.43)
    crystal.calc = Calculator(potential)
    LBFGS(FrechetCellFilter(crystal, hydrostatic_strain=True), logfile=None).run(fmax=1e-4, steps=100)
    found = {"a0": crystal.get_volume() ** (1 / 3), "e_per_atom": crystal.get_potential_energy() / 8}
    d = 2e-3
    slope = lambda E: (relaxed_stress(crystal, E) - relaxed_stress(crystal, -E)) / (2 * d)
    tension, shear = np.zeros((3, 3)), np.zeros((3, 3))
    tension[0, 0], shear[1, 2], shear[2, 1] = d, d / 2, d / 2
    found["C11"], found["C12"] = slope(tension)[:2]
    found["C44"] = slope(shear)[3]
    worst = 0.0
    for name, value in found.items():
        error = value / exact[name] - 1
        worst = max(worst, abs(error))
        print(f"{name:>12}  fitted {value:12.5f}  exact {exact[name]:12.5f}  {100 * error:+.3f} %")
    primitive = Structure.from_ase(ase.build.bulk("Si", a=found["a0"]))
    for name, row in zip(
        "GXL", phonons(potential, primitive, [[0, 0, 0], [0.5, 0, 0.5], [0.5, 0.5, 0.5]]), strict=True
    ):
        for value, target in sorted(set(zip(np.round(row, 3).tolist(), exact["phonons_THz"][name], strict=True))):
            if target > 0.1:
                worst = max(worst, abs(value / target - 1))
                print(f"{name:>8} THz  fitted {value:12.3f}  exact {target:12.3f}  {100 * (value / target - 1):+.3f} %")
    print(f"largest error {100 * worst:.2f} %")


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    main(sys.argv[1])
