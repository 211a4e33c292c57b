"""CPU seconds, compilation apart from running, so that an answer's price can be stated honestly."""

import time
from collections.abc import Callable

import equinox as eqx
import jax

from .._compile import RUN_ONCE, quickly


class Clock:
    """Compiles functions ahead of time and counts what each part costs.

    Attributes:
        compile: CPU seconds spent compiling.
        started: CPU time at creation.
    """

    def __init__(self):
        self.compile = 0.0
        self.started = time.process_time()
        self._compiled = {}

    @property
    def seconds(self) -> float:
        """CPU seconds since creation, less compilation."""
        return time.process_time() - self.started - self.compile

    def call(self, function: Callable, *args):
        """function(*args), compiled once per shape; waits for the result. Arrays may be numpy's: they move to the
        device all at once.
        """
        arrays, static = eqx.partition(args, eqx.is_array)
        leaves, tree = jax.tree.flatten(arrays)
        others, other_tree = jax.tree.flatten(static)
        key = (function, tuple((v.shape, str(v.dtype)) for v in leaves), tree, tuple(map(id, others)), other_tree)
        if key not in self._compiled:
            begin = time.process_time()
            # `others` is kept: ids stay unique only while their objects live
            jitted = eqx.filter_jit(function, compiler_options=quickly(**RUN_ONCE))  # pyright: ignore[reportCallIssue]
            self._compiled[key] = (jitted.lower(*args).compile(), others)
            self.compile += time.process_time() - begin
        return jax.block_until_ready(self._compiled[key][0](*args))


def run(function: Callable, *args):
    """function(*args): where no `Clock.call` counts compilation apart."""
    return function(*args)
