"""Stage 1 of 3: draw geometries by GFN2-xTB Langevin dynamics (ASE + tblite, both from PyPI).

    python sample.py malonaldehyde malonaldehyde_geometries.npz
    python sample.py ethanol       ethanol_geometries.npz

GFN2-xTB only proposes geometries; the labels come from `label.py`. Every chain has a seed of its own and belongs to
one split, so no two frames of one trajectory are ever in different splits. Malonaldehyde has umbrella chains on the
proton-transfer coordinate δ = |O1 H| − |O2 H|, because at 300 K a chain never crosses the barrier by itself.
Frames are 20 fs apart. Units: Å, eV, eV/Å, K.
"""

import argparse
import os
from concurrent.futures import ProcessPoolExecutor

os.environ.setdefault("OMP_NUM_THREADS", "1")
import numpy as np
from ase import Atoms, units
from ase.build import molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution, Stationary
from ase.optimize import BFGS
from tblite.ase import TBLite

O1, O2, PROTON = 3, 4, 8
MALONALDEHYDE = Atoms(
    "CCCOOHHHH",
    [[-1.20, 0.10, 0], [0, -0.65, 0], [1.20, 0, 0], [-1.35, 1.33, 0], [1.28, 1.33, 0]]
    + [[-2.10, -0.54, 0], [0, -1.73, 0], [2.16, -0.53, 0], [0.35, 1.65, 0]],
)
UMBRELLA = 4.0  # eV/Å², strong enough to hold a chain on the barrier (GFN2: 0.1 eV) at 400 K

# (split, temperature K, umbrella centre Å or None, frames)
PLAN = {
    "malonaldehyde": [
        ("train", T, None, n) for T, n in ((300, 125), (300, 125), (500, 125), (500, 125), (800, 100), (800, 100))
    ]
    + [("train", 400, d, 80) for d in (-0.6, -0.3, 0.0, 0.3, 0.6)]
    + [("valid", T, None, n) for T, n in ((300, 50), (500, 50), (800, 40))]
    + [("valid", 400, d, 20) for d in (-0.4, 0.0, 0.4)]
    + [("test", T, None, n) for T, n in ((300, 50), (500, 100), (800, 50))]
    + [("test_barrier", 400, 0.0, 100)],
    "ethanol": [("train", T, None, 140) for T in (300, 500, 800)]
    + [("valid", T, None, 20) for T in (300, 500, 800)]
    + [("test", T, None, 40) for T in (300, 500, 800)],
}


class Umbrella(Calculator):
    """GFN2-xTB plus k/2 (δ − δ₀)²; `unbiased` keeps the xTB energy and forces of the last call."""

    implemented_properties = ["energy", "forces"]

    def __init__(self, base, centre):
        super().__init__()
        self.base, self.centre = base, centre

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        energy = self.base.get_property("energy", atoms)
        forces = self.base.get_property("forces", atoms).copy()
        self.unbiased = energy, forces.copy()
        a, b = (atoms.positions[PROTON] - atoms.positions[o] for o in (O1, O2))
        slope = UMBRELLA * (np.linalg.norm(a) - np.linalg.norm(b) - self.centre)
        a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
        forces[PROTON] -= slope * (a - b)
        forces[O1] += slope * a
        forces[O2] -= slope * b
        self.results = {"energy": energy + slope**2 / (2 * UMBRELLA), "forces": forces}


def relaxed(name):
    atoms = molecule("CH3CH2OH") if name == "ethanol" else MALONALDEHYDE.copy()
    atoms.calc = TBLite(method="GFN2-xTB", verbosity=0)
    BFGS(atoms, logfile=None).run(fmax=1e-3, steps=500)
    return atoms


def chain(name, index):
    """One Langevin chain of the plan: positions, energies, forces (unbiased), [frames, ...]."""
    _, temperature, centre, frames = PLAN[name][index]
    seed = 10_000 * (1 + list(PLAN).index(name)) + index
    rng = np.random.default_rng(seed)
    atoms = relaxed(name)
    base = TBLite(method="GFN2-xTB", verbosity=0)
    atoms.calc = base if centre is None else Umbrella(base, centre)
    MaxwellBoltzmannDistribution(atoms, temperature_K=temperature, rng=rng)
    Stationary(atoms)
    motion = Langevin(atoms, 0.5 * units.fs, temperature_K=temperature, friction=0.02 / units.fs, rng=rng, fixcm=False)
    motion.run(1200)
    kept = []
    for _ in range(frames):
        motion.run(40)
        forces = atoms.get_forces()
        energy = atoms.get_potential_energy()
        if centre is not None:
            energy, forces = atoms.calc.unbiased
        kept.append((atoms.positions - atoms.positions.mean(0), energy, forces.copy()))
    print(f"{name} {PLAN[name][index]} seed {seed} done", flush=True)
    return [np.array(column) for column in zip(*kept, strict=True)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=sorted(PLAN))
    parser.add_argument("out")
    parser.add_argument("--workers", type=int, default=2)
    a = parser.parse_args()
    plan = PLAN[a.name]
    with ProcessPoolExecutor(a.workers) as pool:
        chains = list(pool.map(chain, [a.name] * len(plan), range(len(plan))))
    frames = [n for *_, n in plan]
    columns = {
        "positions": np.concatenate([c[0] for c in chains]),
        "energy_gfn2": np.concatenate([c[1] for c in chains]),
        "forces_gfn2": np.concatenate([c[2] for c in chains]),
        "split": np.repeat([split for split, *_ in plan], frames),
        "temperature": np.repeat([t for _, t, *_ in plan], frames),
        "umbrella": np.repeat([np.nan if d is None else d for _, _, d, _ in plan], frames),
        "chain": np.repeat(range(len(plan)), frames),
    }
    order = np.random.default_rng(7).permutation(len(columns["split"]))  # any prefix of the labels is a fair sample
    start = relaxed(a.name)
    np.savez_compressed(a.out, numbers=start.numbers, **{k: v[order] for k, v in columns.items()})
    print(f"{a.out}: {len(order)} geometries", flush=True)


if __name__ == "__main__":
    main()
