"""Stationary point and harmonic frequencies at the labelling level, by differences of analytic gradients (Psi4).

    /usr/bin/python3 frequencies.py mal_min start.xyz cs opt      # minimum: optimise, then Hessian
    /usr/bin/python3 frequencies.py mal_ts  start.xyz c2v opt     # the symmetric transition state, by its symmetry

Environment as for `label.py`. Writes NAME_mp2_hessian.npz in hartree and bohr; `reference.py` converts it.
"""

import sys

import numpy as np
import psi4


def main():
    name, start, symmetry = sys.argv[1:4]
    psi4.core.set_output_file(f"{name}_freq.out", False)
    psi4.set_num_threads(1)
    psi4.set_memory("1500 MB")
    options = {"scf_type": "df", "mp2_type": "df", "freeze_core": True, "e_convergence": 1e-10, "d_convergence": 1e-9}
    psi4.set_options(options | {"guess": "sad", "g_convergence": "gau_tight", "geom_maxiter": 30})
    with open(start) as lines:
        rows = [" ".join(line.split()[:4]) for line in lines.read().splitlines()[2:]]
    molecule = psi4.geometry("0 1\n" + "\n".join(rows) + f"\nsymmetry {symmetry}\n")
    if "opt" in sys.argv:
        psi4.optimize("mp2/def2-svp", molecule=molecule)
    energy, wave = psi4.frequencies("mp2/def2-svp", molecule=molecule, return_wfn=True, dertype=1)
    hessian = np.asarray(wave.hessian())
    masses = np.repeat([molecule.mass(i) for i in range(molecule.natom())], 3)
    squares = np.linalg.eigvalsh(hessian / np.sqrt(np.outer(masses, masses)))
    np.savez(
        f"{name}_mp2_hessian.npz",
        e=energy,
        xyz=np.asarray(molecule.geometry()) * 0.529177210903,
        hess_au=hessian,
        freq=np.sign(squares) * np.sqrt(abs(squares)) * 5140.487,
        symbols=[molecule.symbol(i) for i in range(molecule.natom())],
        pg=molecule.schoenflies_symbol(),
    )


if __name__ == "__main__":
    main()
