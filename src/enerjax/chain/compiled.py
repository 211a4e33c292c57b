"""The compiled programs of an energy: on a CPU one kernel if it can be, a kernel per operation if not.

XLA's CPU runtime starts a kernel for every fused operation, which costs more than the arithmetic of a small model: a
leapfrog step of ten coordinates is a dozen kernels. A call that is marked as small is instead translated into one
function, loops and the user's gradient included, and runs several times faster; it also compiles sooner. XLA marks
loops over a few hundred bytes by itself; here the whole program is marked. Sorts, Fourier transforms and calls to other
libraries (LAPACK, callbacks) have no place inside such a function: those programs run kernel by kernel.
"""

import functools
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jax.experimental.xla_metadata import set_xla_metadata

from .._array import Energy
from .._compile import quickly, repeatably
from .._precision import full_precision
from . import program
from .failure import Guarded
from .flat import Layout
from .metric import AbstractMetric
from .program import Chain, Plan


@dataclass(frozen=True)
class Options:
    """What is compiled in.

    Attributes:
        integrator: a step of `flow`: `verlet`, `minimum_norm`, `yoshida4`, ….
        depth: largest depth of a tree.
        max_error: energy error above which a trajectory has diverged.
        rows: draws per call at most.
        chunk: draws whose random numbers are made together.
        small: whether the energy works on short arrays only.
        shared: whether vectorised chains have one metric.
    """

    integrator: Callable
    depth: int = 10
    max_error: float = 1000.0
    rows: int = 100
    chunk: int = 16
    small: bool = False
    shared: bool = False


class Program:
    """The compiled program of an energy, shared by all its chains, calls and resumed runs."""

    def __init__(self, energy: Energy, flat: Layout, options: Options):
        self.dynamic, static = eqx.partition(energy, eqx.is_array)
        leaves, treedef = jax.tree.flatten(static)
        self.flat, self.options = flat, options
        self._static = (tuple(leaves), treedef)
        self.no_points = jax.device_put(np.zeros((options.rows, flat.size), flat.dtype))

    def call(self, chain: Chain, metric: AbstractMetric, plan: Plan, key: np.ndarray, together: bool):
        """Run it; `together` with a leading axis of chains on every argument but the energy and a shared metric."""
        return _compiled(*self._static, self.flat, self.options, together)(self.dynamic, chain, metric, plan, key)

    def evaluate(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Energies [n] and forces [n, d] at points [n, d], n at most `options.rows`, as one batch."""
        padded = np.broadcast_to(points[:1], self.no_points.shape).copy()
        padded[: len(points)] = points
        energies, gradients = _evaluator(*self._static, self.flat)(self.dynamic, padded)
        return np.asarray(energies)[: len(points)], -np.asarray(gradients)[: len(points)]

    def energies(self, points: np.ndarray) -> np.ndarray:
        """Energies [n] at points [n, d], one by one and without forces: for a few."""
        return np.asarray(_measure(*self._static, self.flat)(self.dynamic, points))


@functools.lru_cache(maxsize=64)
def _measure(leaves: tuple, treedef: Any, flat: Layout):
    static = jax.tree.unflatten(treedef, leaves)
    of = lambda dynamic: Guarded(eqx.combine(dynamic, static), flat)
    measure = full_precision(lambda dynamic, points: jax.lax.map(of(dynamic), points))
    return jax.jit(measure, compiler_options=repeatably())


@functools.lru_cache(maxsize=64)
def _evaluator(leaves: tuple, treedef: Any, flat: Layout):
    static = jax.tree.unflatten(treedef, leaves)
    of = lambda dynamic: jax.value_and_grad(Guarded(eqx.combine(dynamic, static), flat))
    evaluate = full_precision(lambda dynamic, points: jax.vmap(of(dynamic))(points))
    return jax.jit(evaluate, compiler_options=repeatably())


@functools.lru_cache(maxsize=64)
def _compiled(leaves: tuple, treedef: Any, flat: Layout, options: Options, together: bool) -> "Compiled":
    static = jax.tree.unflatten(treedef, leaves)
    driver = program.together if together else program.alone

    @full_precision
    def run(dynamic, chain, metric, plan, key):
        energy = Guarded(eqx.combine(dynamic, static), flat)
        several = {"shared": options.shared} if together else {}
        return driver(
            energy, chain, metric, plan, key, integrator=options.integrator, rows=options.rows, depth=options.depth,
            max_error=options.max_error, chunk=options.chunk, **several,
        )  # fmt: skip

    return Compiled(run, whole=not together, small=options.small, pool=together)


class Compiled:
    """A function, compiled at its first call: in one kernel if it can be, else in many.

    Args:
        function: of arrays and pytrees of arrays.
        whole: whether one kernel is worth a try; vectorised chains have work enough in each.
        small: whether all its arrays are short.
        pool: whether its matrix products may use XLA's threads.
    """

    def __init__(self, function: Callable, *, whole: bool = True, small: bool = True, pool: bool = False):
        self._function, self._small, self._pool = function, small, pool
        self._whole = whole and jax.default_backend() == "cpu"
        self._chosen: Callable | None = None
        self._lock = threading.Lock()

    def __call__(self, *arguments):
        """The function's value."""
        if self._chosen is None:
            with self._lock:  # threads that arrive together would compile it twice
                if self._chosen is None:
                    chosen = self._choose(arguments)
                    result = jax.block_until_ready(chosen(*arguments))
                    self._chosen = chosen
                    return result
        return self._chosen(*arguments)

    def _choose(self, arguments) -> Callable:
        if self._whole and _fits_one_kernel(whole := _marked(self._function), arguments):
            return whole
        return jax.jit(self._function, compiler_options=_many_kernels(self._small, self._pool))


def _marked(function: Callable) -> Callable:
    """The function as one call that XLA translates into one kernel."""
    inner = jax.jit(function)
    outer = lambda *arguments: set_xla_metadata(inner(*arguments), xla_cpu_small_call="true", inlineable="false")
    options = quickly(
        xla_cpu_multi_thread_eigen=False,  # there is no pool of threads inside a kernel
        xla_cpu_use_fusion_emitters=False,  # they would keep a scatter, which the others expand into a loop
    )
    return jax.jit(outer, compiler_options=options)


# no place inside a kernel; a callback is not among them, since XLA drops those of which nothing comes
_OUTSIDE = re.compile(r"stablehlo\.(sort|fft|infeed|outfeed)\b|chlo\.top_k|custom_call @(lapack|blas|mhlo\.topk)")


def _fits_one_kernel(marked: Callable, arguments) -> bool:
    lowered = marked.lower(*arguments)  # type: ignore[attr-defined]
    if _OUTSIDE.search(lowered.compiler_ir().operation.get_asm(large_elements_limit=16)):
        return False
    try:
        lowered.compile()  # kept by JAX for the call that follows
    except jax.errors.JaxRuntimeError:  # XLA found another operation that it cannot place, or does not know an option
        return False
    return True


def _many_kernels(small: bool, pool: bool) -> dict[str, Any] | None:
    """What makes XLA's CPU programs of this kind compile faster, and run as fast (benchmarks/samplers/README.md)."""
    options = {}
    if not pool:  # small matrices: handing them to a pool of threads costs more than it saves
        options["xla_cpu_multi_thread_eigen"] = False
    if small:  # the older emitters: half the compile time, but slower on long arrays of exponentials
        options["xla_cpu_use_fusion_emitters"] = False
    return repeatably(**options)
