"""What XLA's compilers are asked for: less optimisation where that gains nothing, the same bits where a run repeats."""

import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import numpy as np

# XLA's own matrix products instead of those of YNNPACK, whose graphs are built in a program's first call (0.1 to 0.3 ms
# for each product): for programs that run once. XLA takes no empty list, so a kind that nothing here has stands for it.
RUN_ONCE = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_CONVOLUTION"}


def quickly(**more: bool | str) -> dict[str, Any] | None:
    """`compiler_options` of `jax.jit` for programs of many small kernels on a CPU: LLVM's level 1 instead of 3.

    Changes no result. A training step of a potential compiles in 8.3 instead of 10.5 CPU-s, energy and forces in 2.6
    instead of 3.8, and run as fast; a sampler's program in half the time (benchmarks/potentials, benchmarks/samplers).

    Args:
        more: further options of XLA's CPU compiler.

    Returns:
        Those of the options that the installed XLA knows; None on another backend.
    """
    return _known(xla_backend_optimization_level=1, **more) if jax.default_backend() == "cpu" else None


def repeatably(**more: bool | str) -> dict[str, Any] | None:
    """`compiler_options` of `jax.jit` for programs that must give the same bits whenever they run again.

    XLA's programs for CPUs do; here they are compiled `quickly`. Those for GPUs add in the order in which threads
    arrive, and choose between algorithms by timing them, unless they are asked not to.
    """
    return _known(xla_gpu_deterministic_ops=True) if jax.default_backend() == "gpu" else quickly(**more)


def host_jit(function: Callable) -> Callable:
    """`equinox.filter_jit` for what only the host calls, compiled `quickly`.

    JAX takes compiler options at the outermost `jit` alone, and asking for the backend starts it: so not before the
    first call.
    """

    @functools.cache
    def compiled() -> Callable:
        return eqx.filter_jit(function, compiler_options=quickly())  # pyright: ignore[reportCallIssue]

    return functools.wraps(function)(lambda *args, **named: compiled()(*args, **named))


@functools.lru_cache
def _known(**options) -> dict[str, Any]:
    known = {}
    for name, value in options.items():
        try:
            jax.jit(lambda x: x, compiler_options={name: value}).lower(np.float32(0)).compile()
            known[name] = value
        except jax.errors.JaxRuntimeError:
            pass
    return known
