"""Stage 3 of 3: raw labels (hartree, bohr) to extended XYZ (eV, Å), one file per split.

python assemble.py malonaldehyde malonaldehyde_geometries.npz malonaldehyde_labels.jsonl ../malonaldehyde
"""

import argparse
import glob
import json
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from ase.units import Bohr, Hartree

LEVEL = "frozen-core DF-MP2/def2-SVP (DF-RHF; def2-universal-jkfit, def2-svp-ri), Psi4 1.3.2"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name")
    parser.add_argument("geometries")
    parser.add_argument("labels")
    parser.add_argument("out", type=Path)
    a = parser.parse_args()
    data, records = np.load(a.geometries), {}
    for name in sorted(glob.glob(a.labels + "*")):
        with open(name) as lines:
            for line in lines:
                try:
                    record = json.loads(line)
                except json.JSONDecodeError:  # the last line of a killed run
                    continue
                records[record["i"]] = record
    splits: dict[str, list[Atoms]] = {}
    for i, record in sorted(records.items()):
        forces = -np.array(record["g"]) * Hartree / Bohr
        if np.abs(forces.sum(0)).max() > 2e-3:
            raise SystemExit(f"frame {i}: net force {forces.sum(0)} eV/Å; the label is not converged")
        atoms = Atoms(data["numbers"], data["positions"][i])
        atoms.calc = SinglePointCalculator(atoms, energy=record["e"] * Hartree, forces=forces)
        split = str(data["split"][i])
        atoms.info = {
            "config_type": split,
            "temperature": float(data["temperature"][i]),
            "chain": int(data["chain"][i]),
        }
        splits.setdefault(split, []).append(atoms)
    a.out.mkdir(parents=True, exist_ok=True)
    for split, frames in splits.items():
        frames[0].info["level"] = LEVEL
        write(a.out / f"{split}.xyz", frames, format="extxyz")
        rms = np.sqrt(np.mean([f.get_forces() ** 2 for f in frames]))
        print(f"{a.name}/{split}.xyz: {len(frames)} frames, RMS force {rms:.3f} eV/Å")


if __name__ == "__main__":
    main()
