"""A second opinion on the labels from PyPI alone: the same level of theory in PySCF (`pip install pyscf ase`).

    python check_pyscf.py ../malonaldehyde/test.xyz --frames 3

DF-RHF and frozen-core DF-MP2 with the auxiliary bases that Psi4 takes for def2-SVP. For each frame: difference of the
total energy, and of the force along one random direction (central difference of PySCF's energies). Ends with status 1
if an energy differs by more than 0.1 meV or a force by more than 1 meV/Å.
"""

import argparse
import sys

import numpy as np
from ase.io import read
from ase.units import Hartree
from pyscf import df, gto, scf
from pyscf.data import elements
from pyscf.mp.dfmp2 import DFMP2

STEP = 0.001  # Å


def energy(numbers, positions):
    """Total DF-MP2/def2-SVP energy [eV]."""
    atoms = list(zip((elements.ELEMENTS[z] for z in numbers), positions.tolist(), strict=True))
    molecule = gto.M(atom=atoms, basis="def2-svp", verbose=0)
    field = scf.RHF(molecule).density_fit(auxbasis="def2-universal-jkfit")
    field.conv_tol = 1e-11
    field.kernel()
    correction = DFMP2(field, frozen=elements.chemcore(molecule))
    correction.with_df = df.DF(molecule, auxbasis="def2-svp-ri")  # the SCF has its own
    correction.kernel()
    return correction.e_tot * Hartree


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("labels", help="extended XYZ with energies and forces")
    parser.add_argument("--frames", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    a = parser.parse_args()
    random = np.random.default_rng(a.seed)
    everything = read(a.labels, ":")
    worst = np.zeros(2)
    for k in sorted(random.choice(len(everything), a.frames, replace=False)):
        frame = everything[k]
        direction = random.normal(size=frame.positions.shape)
        direction /= np.linalg.norm(direction)
        here, ahead, behind = (energy(frame.numbers, frame.positions + s * STEP * direction) for s in (0, 1, -1))
        force = -(ahead - behind) / (2 * STEP)
        found = here - frame.get_potential_energy(), force - np.sum(frame.get_forces() * direction)
        print(f"frame {k}: energy {1e3 * found[0]:+.4f} meV, force {1e3 * found[1]:+.4f} meV/Å", flush=True)
        worst = np.maximum(worst, np.abs(found))
    if worst[0] > 1e-4 or worst[1] > 1e-3:
        sys.exit("the labels differ from PySCF's")


if __name__ == "__main__":
    main()
