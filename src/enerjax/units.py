"""eV, Å, amu: ASE's units, used inside without conversion. Convert only at input and output.

In this system time has the unit Å √(amu/eV) = 10.18 fs, so a time step of 0.5 fs enters as `0.5 * fs`, exactly as in
`ase.units`. CODATA 2018, as in ASE's current table.
"""

import ase.units as _ase

eV = 1.0
angstrom = 1.0
amu = 1.0
fs: float = _ase.fs
ps: float = 1000.0 * fs
kB: float = _ase.kB  # eV/K
GPa: float = _ase.GPa  # eV/Å³
bar: float = 1e-4 * GPa
hartree: float = _ase.Hartree
bohr: float = _ase.Bohr
meV = 1e-3
invcm: float = _ase.invcm  # 1 cm⁻¹ as an energy (eV)

__all__ = ["GPa", "amu", "angstrom", "bar", "bohr", "eV", "fs", "hartree", "invcm", "kB", "meV", "ps"]
