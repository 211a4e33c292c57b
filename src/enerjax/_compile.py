"""How much XLA's CPU compiler optimises: less where that costs the user waiting and the program nothing."""

import functools
from typing import Any

import jax
import numpy as np


def quickly(**more: bool) -> dict[str, Any] | None:
    """`compiler_options` of `jax.jit` for programs of many small kernels on a CPU: LLVM's level 1 instead of 3.

    Changes no result. A training step of a potential compiles in 8.3 instead of 10.6 CPU-s and runs as fast
    (benchmarks/potentials).

    Args:
        more: further options of XLA's CPU compiler.

    Returns:
        The options, or None on another backend or where the installed XLA does not know them.
    """
    options = {"xla_backend_optimization_level": 1} | more
    return options if jax.default_backend() == "cpu" and _known(tuple(options.items())) else None


@functools.lru_cache
def _known(options: tuple[tuple[str, Any], ...]) -> bool:
    try:
        jax.jit(lambda x: x, compiler_options=dict(options))(np.float32(0))
    except Exception:  # what XLA raises for an unknown option is its own affair
        return False
    return True
