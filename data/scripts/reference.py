"""Raw stationary points and Hessians of `frequencies.py` (hartree, bohr) to reference.npz (eV, Å, cm⁻¹).

python reference.py ../malonaldehyde minimum=mal_min_mp2_hessian.npz transition_state=mal_ts_mp2_hessian.npz
"""

import sys
from pathlib import Path

import numpy as np
from ase.data import atomic_numbers
from ase.units import Bohr, Hartree


def main():
    out, arrays = Path(sys.argv[1]), {}
    for argument in sys.argv[2:]:
        name, path = argument.split("=")
        raw = np.load(path)
        arrays["numbers"] = np.array([atomic_numbers[s.capitalize()] for s in raw["symbols"]])
        arrays[f"{name}_positions"] = raw["xyz"]
        arrays[f"{name}_energy"] = raw["e"] * Hartree
        arrays[f"{name}_hessian"] = raw["hess_au"] * Hartree / Bohr**2
        arrays[f"{name}_frequencies_cm1"] = np.sort(raw["freq"])
        print(f"{name}: {float(raw['e']) * Hartree:.6f} eV, {np.round(arrays[f'{name}_frequencies_cm1'], 1)}")
    np.savez_compressed(out / "reference.npz", **arrays)


if __name__ == "__main__":
    main()
