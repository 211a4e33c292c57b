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
    points: np.ndarray | None = None  # evaluate the energy here, and do nothing else

    def plan(self, compiled: "Program", *, idle: bool = False) -> Plan:
        """The arguments of the program; an idle one makes no draw."""
        whole, number = (lambda x: np.asarray(x, np.int32)), (lambda x: np.asarray(x, compiled.flat.dtype))
        points = compiled.no_points
        if self.points is not None:
            points = np.zeros(points.shape, points.dtype)
            points[: len(self.points)] = self.points
        return Plan(
            whole(0 if idle else self.draws), whole(self.max_depth), number(self.adapt), number(self.symmetric),
            number(self.target), number(self.points is not None), points,
        )  # fmt: skip


@dataclass
class Draws:
    """What came back: arrays [draws, …] on the host, or [chains, draws, …] of a crowd."""

    chain: Chain
    draws: np.ndarray
    forces: np.ndarray
    ends: np.ndarray
    stats: np.ndarray

    def __getattr__(self, name: str) -> np.ndarray:
        if name in STATS:
            return self.stats[..., STATS.index(name)]
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
        self.no_points = jnp.zeros((options.rows, flat.size), flat.dtype)

    def call(self, chain: Chain, metric: AbstractMetric, plan: Plan, key: np.ndarray, together: bool):
        """Run it; `together` with a leading axis of chains on every argument but the energy and a shared metric."""
        function = _jitted(*self._static, self.flat, self.options, together)
        if not self._called:  # threads that arrive together would compile it twice
            with self._lock:
                result = jax.block_until_ready(function(self.dynamic, chain, metric, plan, key))
                self._called = True
                return result
        return function(self.dynamic, chain, metric, plan, key)

    def evaluate(self, chain: Chain, points: np.ndarray) -> Draws:
        """Energies and forces at points [n, d], n at most `options.rows`, as one batch."""
        padded = np.broadcast_to(points[:1], self.no_points.shape).copy()
        padded[: len(points)] = points
        energies, gradients = _evaluator(*self._static, self.flat)(self.dynamic, padded)
        energies, forces = np.asarray(energies)[: len(points)], -np.asarray(gradients)[: len(points)]
        stats = np.zeros((len(points), len(STATS)), padded.dtype)
        stats[:, STATS.index("potential")], stats[:, STATS.index("steps")] = energies, 1
        return Draws(chain, points.astype(padded.dtype), forces, points, stats)


@functools.lru_cache(maxsize=64)
def _evaluator(leaves: tuple, treedef: Any, flat: Layout):
    static = jax.tree.unflatten(treedef, leaves)
    of = lambda dynamic: jax.value_and_grad(Guarded(eqx.combine(dynamic, static), flat))
    return jax.jit(lambda dynamic, points: jax.vmap(of(dynamic))(points))


@functools.lru_cache(maxsize=64)
def _jitted(leaves: tuple, treedef: Any, flat: Layout, options: Options, together: bool):
    static = jax.tree.unflatten(treedef, leaves)
    driver = program.together if together else program.alone

    def run(dynamic, chain, metric, plan, key):
        energy = Guarded(eqx.combine(dynamic, static), flat)
        several = {"shared": options.shared} if together else {}
        return driver(
            energy, chain, metric, plan, key, integrator=options.integrator, rows=options.rows, depth=options.depth,
            max_error=options.max_error, chunk=options.chunk, **several,
        )  # fmt: skip

    return jax.jit(run, compiler_options=_compiler_options(together, options.small))


@functools.lru_cache
def _compiler_options(together: bool, small: bool) -> dict[str, Any] | None:
    """What makes XLA's CPU programs of this kind compile faster, and run as fast (benchmarks/samplers/README.md)."""
    if jax.default_backend() != "cpu":
        return None
    options: dict[str, Any] = {"xla_backend_optimization_level": 1}
    if not together:  # small matrices: handing them to a pool of threads costs more than it saves
        options["xla_cpu_multi_thread_eigen"] = False
    if small:  # the older emitters: half the compile time, but slower on long arrays of exponentials
        options["xla_cpu_use_fusion_emitters"] = False
    try:
        jax.jit(lambda x: x, compiler_options=options)(np.float32(0))
    except Exception:  # another XLA may not know them; they change no result
        return None
    return options


def fresh_chain(position: np.ndarray) -> Chain:
    """A chain at a position whose energy is not known yet."""
    dtype = position.dtype
    point = program.Point(np.stack([position, np.zeros_like(position)]), np.zeros((), dtype))
    return Chain(point, Tuning.at(0.1, dtype), np.int32(0))


def evaluate(chain: Chain, points: np.ndarray, metric: AbstractMetric) -> Generator[Request, Draws, Draws]:
    """Energies and forces at points [n, d], by the same program; the chain ends at the last of them.

    n is at most the number of rows that a call of the program returns.
    """
    return (yield Request(chain, metric, len(points), 1, points=points))


def serve_alone(
    compiled: Program, key: np.ndarray, life: Generator[Request, Draws, Any], on_block: Callable[[], bool]
) -> Any:
    """Run one chain to its end; `on_block` says whether to go on."""
    try:
        request = next(life)
        while True:
            plan = request.plan(compiled)
            chain, block = compiled.call(request.chain, request.metric, plan, key, together=False)
            result = Draws.of(chain, block, request.draws)
            if not on_block():
                life.close()
                return None
            request = life.send(result)
    except StopIteration as stop:
        return stop.value


def serve_evaluations(compiled: Program, life: Generator[Request, Draws, Any]) -> Any:
    """Run a life that asks for evaluations only, each request as one batch: idle lanes of a crowd would cost."""
    try:
        request = next(life)
        while True:
            assert request.points is not None
            request = life.send(compiled.evaluate(request.chain, request.points))
    except StopIteration as stop:
        return stop.value


def cores() -> int:
    """How many chains can run at once in threads."""
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    return max(here, len(jax.local_devices()))


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

    with ThreadPoolExecutor(min(len(lives), cores())) as pool:
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
    compiled: Program,
    keys: list[np.ndarray],
    lives: list[Generator[Request, Draws, Any]],
    watch: Callable[[], None],
    lanes: int | None = None,
) -> list[Any]:
    """All chains in one vectorised program, each advancing its own tree.

    The program has `lanes` lanes; those without a life, or whose life is over, repeat a request and make no draw.
    """
    results: list[Any] = [None] * len(lives)
    requests: dict[int, Request] = {}

    def go_on(c: int, result: Draws | None) -> None:
        try:
            requests[c] = next(lives[c]) if result is None else lives[c].send(result)
        except StopIteration as stop:
            requests.pop(c, None)
            results[c] = stop.value

    for c in range(len(lives)):
        go_on(c, None)
    width = lanes or len(lives)
    served = [requests.get(c) for c in range(width)]
    stack = lambda items: jax.tree.map(lambda *leaves: np.stack([np.asarray(x) for x in leaves]), *items)
    no_points = jnp.zeros((width, *compiled.no_points.shape), compiled.no_points.dtype)
    of = lambda x, c: jax.tree.map(lambda leaf: leaf[c], x)
    while requests:
        spare = next(iter(requests.values()))
        served = [requests.get(c) or old or spare for c, old in enumerate(served)]
        plans = [s.plan(compiled, idle=c not in requests) for c, s in enumerate(served)]
        many = no_points if all(s.points is None for s in served) else np.stack([p.points for p in plans])
        plan = stack([p._replace(points=None) for p in plans])._replace(points=many)
        chains, blocks = compiled.call(
            stack([s.chain for s in served]), stack([s.metric for s in served]), plan,
            np.stack([keys[min(c, len(keys) - 1)] for c in range(width)]), together=True,
        )  # fmt: skip
        chains, blocks = jax.tree.map(np.asarray, (chains, blocks))
        for c, request in list(requests.items()):
            go_on(c, Draws.of(of(chains, c), of(blocks, c), request.draws))
        watch()
    return results


@jax.jit
def _split(key, numbers):
    return jax.vmap(lambda c: jr.key_data(jr.split(jr.fold_in(key, c))))(numbers)


def chain_keys(key: Key, chains: int) -> tuple[list[Key], list[np.ndarray]]:
    """(keys of the starts, key data of the runs): those of chain c do not depend on how many chains there are."""
    data = np.asarray(_split(key, np.arange(chains, dtype=np.uint32)))
    return [jr.wrap_key_data(x) for x in data[:, 0]], list(data[:, 1])
