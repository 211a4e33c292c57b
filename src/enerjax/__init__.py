"""enerjax: one scalar, and its gradient is the physics.

    energy   x ↦ ℝ                     potential energy surface, strain energy − work, −log posterior, loss
    flow     (E, z) ↦ z                MD step, relaxation, proposal, optimiser update
    path     (step or field, z₀) ↦ z(t)  trajectory, Neural ODE, back-propagation through time, 4D-Var
    chain    (E, key) ↦ draws          canonical ensemble, posterior
    fit      (E, data) ↦ leaves        train a potential, solve a PINN, identify a modulus

and on these five verbs four domains: `atoms`, `solids`, `ode`, `learning`. Imports point one way, from top to bottom.
Sub-packages load on first use, so `import enerjax` is cheap and sets no flags: dtype and device are yours to choose
(JAX's `jax_enable_x64` for float64).
"""

import importlib
from typing import TYPE_CHECKING

from ._memory import keep_freed_memory as keep_freed_memory

__version__ = "0.1.0"
__all__ = ["atoms", "chain", "energy", "fit", "flow", "learning", "ode", "path", "solids", "units"]

if TYPE_CHECKING:
    from . import atoms, chain, energy, fit, flow, learning, ode, path, solids, units


def __getattr__(name: str):
    if name in __all__:
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module 'enerjax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__", "keep_freed_memory"])
