"""The life of a chain as a coroutine, and the two ways to run many: in threads, or vectorised.

`life` yields requests ("so many draws with this metric") and is sent blocks of draws. It does not know who serves it:
one thread per chain on a CPU, where a chain never waits for another; one vectorised program on an accelerator. Random
numbers depend on the key, the chain's number and the draw's number only.
"""

import functools
import os
import threading
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from .._array import Energy, Key
from . import program
from .failure import Guarded
from .flat import Layout
from .metric import AbstractMetric
from .program import STATS, Chain, Plan, Tuning


@dataclass(frozen=True)
class Options:
    """What is compiled in.

    Attributes:
        integrator: a step of `flow`: `verlet`, `minimum_norm`, `yoshida4`, ….
        depth: largest depth of a tree.
        max_error: energy error above which a trajectory has diverged.
        rows: draws per call at most.
        chunk: draws whose random numbers are made together.
    """

    integrator: Callable
    depth: int = 10
    max_error: float = 1000.0
    rows: int = 100
    chunk: int = 16


@dataclass
class Request:
    """Please advance this chain."""

    chain: Chain
    metric: AbstractMetric
    draws: int
    max_depth: int
    adapt: bool = False
    symmetric: bool = False
    target: float = 0.8
    fresh: bool = False

    def plan(self, dtype) -> Plan:
        """The arguments of the program."""
        numbers = (self.adapt, self.symmetric, self.target, self.fresh)
        whole = (np.asarray(x, np.int32) for x in (self.draws, self.max_depth))
        return Plan(*whole, *(np.asarray(x, dtype) for x in numbers))


@dataclass
class Draws:
    """What came back: arrays [draws, …] on the host."""

    chain: Chain
    draws: np.ndarray
    forces: np.ndarray
    ends: np.ndarray
    stats: np.ndarray

    def __getattr__(self, name: str) -> np.ndarray:
        if name in STATS:
            return self.stats[:, STATS.index(name)]
        raise AttributeError(name)

    @classmethod
    def of(cls, chain: Chain, block, n: int) -> "Draws":
        """The first n rows, copied: the buffers belong to the device."""
        rows = np.array(np.asarray(block.rows)[:n])
        return cls(chain, rows[:, 0], rows[:, 1], rows[:, 2], np.array(np.asarray(block.stats)[:n]))


class Program:
    """The compiled program of an energy, shared by all its chains, calls and resumed runs."""

    def __init__(self, energy: Energy, flat: Layout, options: Options):
        self.dynamic, static = eqx.partition(energy, eqx.is_array)
        leaves, treedef = jax.tree.flatten(static)
        self.flat, self.options = flat, options
        self._static = (tuple(leaves), treedef)
        self._lock, self._called = threading.Lock(), False

    def call(self, chain: Chain, metric: AbstractMetric, plan: Plan, key: np.ndarray, together: bool):
        """Run it; `together` with a leading axis of chains on every argument but the energy."""
        function = _jitted(*self._static, self.flat, self.options, together)
        if not self._called:  # threads that arrive together would compile it twice
            with self._lock:
                result = jax.block_until_ready(function(self.dynamic, chain, metric, plan, key))
                self._called = True
                return result
        return function(self.dynamic, chain, metric, plan, key)


@functools.lru_cache(maxsize=64)
def _jitted(leaves: tuple, treedef: Any, flat: Layout, options: Options, together: bool):
    static = jax.tree.unflatten(treedef, leaves)
    driver = program.together if together else program.alone

    def run(dynamic, chain, metric, plan, key):
        energy = Guarded(eqx.combine(dynamic, static), flat)
        return driver(
            energy, chain, metric, plan, key, integrator=options.integrator, rows=options.rows, depth=options.depth,
            max_error=options.max_error, chunk=options.chunk,
        )  # fmt: skip

    # small matrices: handing them to a pool of threads costs more than it saves, and chains fill the cores
    small = {"xla_cpu_multi_thread_eigen": False} if jax.default_backend() == "cpu" and not together else None
    return jax.jit(run, compiler_options=small)


def fresh_chain(position: np.ndarray) -> Chain:
    """A chain at a position whose energy is not known yet."""
    dtype = position.dtype
    rows = jnp.asarray(np.stack([position, np.zeros_like(position)]))
    point = program.Point(rows, jnp.asarray(np.zeros((), dtype)))
    return Chain(point, Tuning.at(0.1, dtype), jnp.asarray(np.int32(0)))


def evaluate(chain: Chain, position: np.ndarray, metric: AbstractMetric) -> Generator[Request, Draws, Draws]:
    """Energy and force at a position, by the same program."""
    moved = Chain(fresh_chain(position).point, chain.tuning, chain.index)
    return (yield Request(moved, metric, 1, 1, fresh=True))


def serve_alone(
    compiled: Program, key: np.ndarray, life: Generator[Request, Draws, Any], on_block: Callable[[], bool]
) -> Any:
    """Run one chain to its end; `on_block` says whether to go on."""
    try:
        request = next(life)
        while True:
            plan = request.plan(compiled.flat.dtype)
            chain, block = compiled.call(request.chain, request.metric, plan, key, together=False)
            result = Draws.of(chain, block, request.draws)
            if not on_block():
                life.close()
                return None
            request = life.send(result)
    except StopIteration as stop:
        return stop.value


def serve_in_threads(
    compiled: Program, keys: list[np.ndarray], lives: list[Generator[Request, Draws, Any]], watch: Callable[[], None]
) -> list[Any]:
    """One chain per core at a time, spread over the devices; Ctrl-C stops all at their next block."""
    devices = jax.local_devices()
    going = True
    # flags set by a context manager do not reach other threads by themselves
    wide = bool(jax.config.read("jax_enable_x64"))

    def work(c: int):
        with jax.enable_x64(wide), jax.default_device(devices[c % len(devices)]):
            return serve_alone(compiled, keys[c], lives[c], lambda: going)

    workers = min(
        len(lives), max(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1, len(devices))
    )
    with ThreadPoolExecutor(workers) as pool:
        futures = [pool.submit(work, c) for c in range(len(lives))]
        try:
            while wait(futures, timeout=0.1, return_when="FIRST_EXCEPTION").not_done:
                watch()
                if any(f.done() and f.exception() for f in futures):
                    going = False
        except KeyboardInterrupt:
            going = False
            raise
    return [f.result() for f in futures]


def serve_together(
    compiled: Program, keys: list[np.ndarray], lives: list[Generator[Request, Draws, Any]], watch: Callable[[], None]
) -> list[Any]:
    """All chains in one vectorised program, each advancing its own tree."""
    results: list[Any] = [None] * len(lives)
    requests: list[Request | None] = [next(life) for life in lives]
    last: list[Request] = [r for r in requests if r is not None]
    stacked_keys = np.stack(keys)
    stack = lambda items: jax.tree.map(lambda *leaves: np.stack([np.asarray(x) for x in leaves]), *items)
    while any(r is not None for r in requests):
        served = [r if r is not None else l for r, l in zip(requests, last, strict=True)]
        plans = [s.plan(compiled.flat.dtype) for s in served]
        plans = [
            p if r else eqx.tree_at(lambda p: p.draws, p, np.asarray(0, np.int32))
            for p, r in zip(plans, requests, strict=True)
        ]
        chains, blocks = compiled.call(
            stack([s.chain for s in served]),
            stack([s.metric for s in served]),
            stack(plans),
            stacked_keys,
            together=True,
        )
        chains, blocks = jax.tree.map(np.asarray, (chains, blocks))
        of = lambda x, c: jax.tree.map(lambda leaf: leaf[c], x)
        parts = [(jax.tree.map(jnp.asarray, of(chains, c)), of(blocks, c)) for c in range(len(lives))]
        for c, request in enumerate(requests):
            if request is None:
                continue
            try:
                last[c] = lives[c].send(Draws.of(*parts[c], request.draws))
                requests[c] = last[c]
            except StopIteration as stop:
                requests[c], results[c] = None, stop.value
        watch()
    return results


@jax.jit
def _split(key, numbers):
    return jax.vmap(lambda c: jr.key_data(jr.split(jr.fold_in(key, c))))(numbers)


def chain_keys(key: Key, chains: int) -> tuple[list[Key], list[np.ndarray]]:
    """(keys of the starts, key data of the runs): those of chain c do not depend on how many chains there are."""
    data = np.asarray(_split(key, np.arange(chains, dtype=np.uint32)))
    return [jr.wrap_key_data(x) for x in data[:, 0]], list(data[:, 1])
