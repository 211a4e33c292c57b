"""The life of a chain as a coroutine, and the two ways to run many: in threads, or vectorised.

`life` yields requests ("so many draws with this metric") and is sent blocks of draws. It does not know who serves it:
one thread per chain on a CPU, where a chain never waits for another; one vectorised program on an accelerator. Random
numbers depend on the key, the chain's number and the draw's number only.
"""

import contextlib
import os
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from .._array import Key
from . import program
from .compiled import Program
from .metric import AbstractMetric
from .program import STATS, Chain, Plan, Tuning


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

    def plan(self, compiled: Program, *, idle: bool = False) -> Plan:
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


def fresh_chain(position: np.ndarray) -> Chain:
    """A chain at a position whose energy is not known yet."""
    dtype = position.dtype
    point = program.Point(np.stack([position, np.zeros_like(position)]), np.zeros((), dtype))
    return Chain(point, Tuning.at(0.1, dtype), np.int32(0), np.int32(0))


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
            energies, forces = compiled.evaluate(request.points)
            points, stats = request.points.astype(forces.dtype), np.zeros((len(forces), len(STATS)), forces.dtype)
            stats[:, STATS.index("potential")], stats[:, STATS.index("steps")] = energies, 1
            request = life.send(Draws(request.chain, points, forces, points, stats))
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
        # a default device is part of what a function is compiled for: where there is one only, none is named
        place = jax.default_device(devices[c % len(devices)]) if len(devices) > 1 else contextlib.nullcontext()
        with jax.enable_x64(wide), place:
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
    try:
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
    finally:
        for life in lives:  # at Ctrl-C: each makes durable what it has
            life.close()
    return results


def chain_keys(key: Key, chains: int) -> tuple[list[Key], list[np.ndarray]]:
    """(keys of the starts, key data of the runs): those of chain c do not depend on how many chains there are.

    They are hashed on the host, which needs no compilation. M. E. O'Neill's `seed_seq`, as in NumPy's `SeedSequence`.
    """
    words = np.asarray(jr.key_data(key))
    n = words.size
    found = [np.random.SeedSequence([*words.tolist(), c]).generate_state(n + 2) for c in range(chains)]
    return [jr.wrap_key_data(x[:n], impl=jr.key_impl(key)) for x in found], [x[n:] for x in found]
