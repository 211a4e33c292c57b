"""The life of a chain: a start, the warm-up, the draws; a coroutine that asks `driver` to advance it.

A life is a function of the key, the chain's number and the pool of paths, which is a function of the key alone: it does
not know how many chains there are, who serves it, or whether it was interrupted. Until its warm-up is over, what it was
answered is kept in the store; a resumed life hears the same answers again and goes on.
"""

import functools
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from . import start as starts
from .adaptation import AbstractAdaptation
from .driver import Draws, Request, evaluate, fresh_chain
from .flat import Layout
from .metric import AbstractMetric
from .pathfinder import Path, Pathfinder, Pool, chorus, descend, explore, learned_scale
from .posterior import Failure
from .program import STATS, Chain, Point, Tuning
from .progress import Silent
from .store import Store
from .warmup import Schedule, adapt, find_step_size


class Told:
    """What chains tell beside their draws."""

    def __init__(self, chains: int):
        self.lock = threading.Lock()
        self.failures: list[Failure] = []
        self.warmup_failures: list[dict[int, int]] = [{} for _ in range(chains)]
        self.warmup_draws = [0] * chains
        self.warmup_gradients = [0] * chains
        self.restarts = [0] * chains
        self.path_gradients = 0

    def failed(self, chain: int, draw: int, why: int, place: np.ndarray) -> None:
        """Record a refused trajectory; those of the warm-up (draw < 0) are only counted."""
        with self.lock:
            if draw < 0:
                self.warmup_failures[chain][why] = self.warmup_failures[chain].get(why, 0) + 1
            else:
                self.failures.append(Failure(chain, draw, why, place))

    def of(self, chain: int, d: int) -> dict[str, np.ndarray]:
        """What a chain told, as arrays."""
        mine = [f for f in self.failures if f.chain == chain]
        warm = (self.warmup_draws[chain], self.warmup_gradients[chain], self.restarts[chain])
        return {
            "told": np.array(warm), "refused": np.array(list(self.warmup_failures[chain].items()), int).reshape(-1, 2),
            "why": np.array([(f.draw, f.why) for f in mine], int).reshape(-1, 2),
            "places": np.array([f.place for f in mine], float).reshape(-1, d),
        }  # fmt: skip

    def forget(self, draws: int, chain: int | None = None) -> None:
        """What was told after so many draws, by one chain or by any."""
        with self.lock:
            self.failures = [f for f in self.failures if f.draw < draws or chain not in (None, f.chain)]

    def only(self, chains: list[int], draws: int) -> None:
        """Forget all but some chains, and what came after some draws."""
        failures = [f for f in self.failures if f.chain in chains and f.draw < draws]
        self.failures = [f._replace(chain=chains.index(f.chain)) for f in failures]
        for name in ("warmup_draws", "warmup_gradients", "warmup_failures", "restarts"):
            setattr(self, name, [getattr(self, name)[c] for c in chains])

    def again(self, chain: int, state: dict[str, np.ndarray]) -> None:
        """The reverse."""
        self.warmup_draws[chain], self.warmup_gradients[chain], self.restarts[chain] = map(int, state["told"])
        self.warmup_failures[chain] = {int(why): int(n) for why, n in state["refused"]}
        rows = zip(state["why"], state["places"], strict=True)
        with self.lock:
            self.failures += [Failure(chain, int(draw), int(why), place) for (draw, why), place in rows]


@dataclass(frozen=True)
class Run:
    """What the chains of a call have in common.

    Attributes:
        position: (chain, attempt) -> proposed start, flat.
        keys: key data of the chains.
        shape: names the coordinates.
        start: what becomes of the proposed start.
        adaptation, schedule: how and when the metric is learned.
        store, report, told: where draws, progress and the rest go.
        target: acceptance that the step size is tuned for.
        max_depth: of the trees.
        thin: every so many-th draw is kept.
        rows: draws per call at most.
        reasons: the user's words for failures.
    """

    position: Callable[[int, int], np.ndarray]
    keys: list[np.ndarray]
    shape: Layout
    start: starts.AbstractStart
    adaptation: AbstractAdaptation
    schedule: Schedule
    store: Store
    report: Silent
    told: Told
    target: float
    max_depth: int
    thin: int
    rows: int
    reasons: dict[int, str]

    def thinned(self, stats: np.ndarray) -> np.ndarray:
        """Statistics [..., draws, k] of the kept draws; the gradients of the dropped are counted with the next kept."""
        if self.thin == 1:
            return stats
        kept = stats[..., self.thin - 1 :: self.thin, :].copy()
        for name, join in (("steps", np.sum), ("why", np.max)):
            column = STATS.index(name)
            kept[..., column] = join(stats[..., column].reshape(*stats.shape[:-2], -1, self.thin), axis=-1)
        return kept

    @functools.cached_property
    def guess(self) -> AbstractMetric:
        """A metric of the kind that sampling will use, for evaluations: it moves nothing."""
        return self.adaptation.first(np.ones(self.shape.size, self.shape.dtype))

    def _random(self, c: int, purpose: int) -> np.random.Generator:
        """Random numbers on the host for chain c."""
        return np.random.default_rng([*np.ravel(self.keys[c]).tolist(), purpose])

    def _first(self, c: int) -> Generator[Request, Draws, Draws]:
        propose = lambda attempt: self.position(c, attempt)
        found = yield from starts.find(propose, self.shape, self.guess, c, self.reasons)
        return found

    def _path(self, c: int) -> Generator[Request, Draws, Path]:
        assert isinstance(self.start, Pathfinder)
        first = yield from self._first(c)
        guess = self.adaptation.first(first.forces[0])
        path = yield from explore(self.start, first, guess, self._random(c, 1), self.rows)
        return path

    def paths(self, numbers: range) -> Generator[Request, Draws, list[Path]]:
        """The paths from the starts of some chains."""
        found = yield from self.together([self._path(c) for c in numbers])
        return found

    def together(self, parts: list[Generator[Request, Draws, Any]]) -> Generator[Request, Draws, list[Any]]:
        """Several coroutines that ask for evaluations only, as one."""
        anywhere = fresh_chain(np.zeros(self.shape.size, self.shape.dtype))
        found = yield from chorus(parts, self.guess, self.rows, anywhere)
        return found

    def chain(self, c: int, pool: Pool | None) -> Generator[Request, Draws, AbstractMetric]:
        """Start, warm-up and sampling of chain c; returns its metric."""
        store, told = self.store, self.told
        state = store.load(c)
        if state is None:
            chain, metric = yield from self._recorded(c, self._warm(c, pool))
            store.save(c, pack(chain, metric) | told.of(c, self.shape.size))
            store.forget(c)
        else:
            chain, metric = unpack(state, self.guess)
            told.again(c, state)
        count = store.count[c]
        try:
            since = time.monotonic()
            while count < store.draws.shape[1]:
                wanted = min(
                    self.rows // self.thin * self.thin or self.thin, (store.draws.shape[1] - count) * self.thin
                )
                now, blocks = chain, []
                while wanted > 0:
                    result = yield Request(now, metric, min(wanted, self.rows), self.max_depth)
                    now = result.chain
                    blocks.append(result)
                    wanted -= len(result.draws)
                stats = np.concatenate([b.stats for b in blocks])
                kept = np.concatenate([b.draws for b in blocks])[self.thin - 1 :: self.thin]
                for i in np.nonzero(stats[:, STATS.index("why")])[0]:
                    place = np.concatenate([b.ends for b in blocks])[i]
                    told.failed(c, count + int(i) // self.thin, int(stats[i, STATS.index("why")]), place)
                store.append(c, kept, self.thinned(stats))
                chain, count = now, store.count[c]  # in one line: Ctrl-C may come between any two
                if time.monotonic() - since > store.interval:
                    store.save(c, pack(chain, metric) | told.of(c, self.shape.size))
                    since = time.monotonic()
                self.report.tell(c, True, len(kept), stats)
        finally:  # also when Ctrl-C closes the chain, between two blocks or inside one
            store.count[c] = count
            told.forget(count, c)
            store.save(c, pack(chain, metric) | told.of(c, self.shape.size))
        return metric

    def _recorded(self, c: int, life: Generator[Request, Draws, Any]) -> Generator[Request, Draws, Any]:
        """The life, its answers kept in the store at intervals; those kept by a run before are given again."""
        kept, structure = self.store.recall(c), jax.tree.structure(fresh_chain(np.zeros(1)))
        durable, since = self.store.directory is not None, time.monotonic()
        try:
            request = next(life)
            for draws, forces, ends, stats, *leaves in kept:
                chain = jax.tree.unflatten(structure, [x[0] for x in leaves])
                request = life.send(Draws(chain, draws, forces, ends, stats))
            while True:
                answer = yield request
                if durable:
                    leaves = [np.asarray(x)[None] for x in jax.tree.leaves(answer.chain)]
                    kept.append([answer.draws, answer.forces, answer.ends, answer.stats, *leaves])
                    if time.monotonic() - since > self.store.interval:
                        self.store.remember(c, kept)
                        since = time.monotonic()
                request = life.send(answer)
        except StopIteration as stop:
            return stop.value
        except GeneratorExit:  # Ctrl-C
            if durable and kept:
                self.store.remember(c, kept)
            raise

    def begin(
        self, c: int, pool: Pool | None, *, other: bool = False
    ) -> Generator[Request, Draws, tuple[Draws, np.ndarray | None, float]]:
        """Where chain c begins, evaluated; the scale known there, or None; the energy above which it has no weight.

        Args:
            c: its number.
            pool: the paths; without them it begins where the user said, or at the mode below.
            other: it was far above what the paths saw, and begins again from another.
        """
        if pool is None:
            first = yield from self._first(c)
            if isinstance(self.start, starts.Mode):
                path, spent = yield from descend(first, self.guess, self.start.steps, enough=1e-6)
                self.told.warmup_gradients[c] += spent
                first = yield from self._at(first.chain, path[-1].x)
                # at a mode the force says nothing of the scale, the curvature along the path does
                return first, learned_scale(path), np.inf
            return first, None, np.inf
        self.told.restarts[c] += other
        x, scale = pool.start(c, self._random(c, 3 if other else 2), other=other)
        first = yield from self._at(fresh_chain(x.astype(self.shape.dtype)), x)
        return first, scale, np.inf if other else pool.ceiling

    def _warm(self, c: int, pool: Pool | None) -> Generator[Request, Draws, tuple[Chain, AbstractMetric]]:
        first, scale, ceiling = yield from self.begin(c, pool)
        chain, metric, high = yield from self._adapt(c, first, scale, ceiling, self.schedule)
        left = self.schedule.length - self.told.warmup_draws[c]
        if high and pool is not None and left > 0:
            # it has come to rest far above what the paths saw: begin again from another
            first, scale, ceiling = yield from self.begin(c, pool, other=True)
            first.chain = first.chain._replace(index=chain.index)
            chain, metric, _ = yield from self._adapt(c, first, scale, ceiling, self.schedule.of(left))
        return chain, metric

    def _at(self, chain: Chain, x: np.ndarray) -> Generator[Request, Draws, Draws]:
        """The chain moved to x, evaluated there."""
        found = yield from evaluate(chain, x[None].astype(self.shape.dtype), self.guess)
        return found

    def _adapt(self, c, first: Draws, scale, ceiling: float, schedule: Schedule):
        """Warm up from an evaluated point: the chain, its metric, whether it rests above the ceiling."""
        chain = first.chain
        metric = self.adaptation.first(first.forces[0], scale)
        if schedule.length == 0:
            return chain, metric, False
        before = self.told.warmup_draws[c]

        def attempt(step):
            nonlocal chain
            tuned = chain._replace(tuning=Tuning.at(step, chain.point.rows.dtype))
            result = yield Request(tuned, metric, 1, 1, adapt=True)
            self.told.warmup_gradients[c] += 1
            return float(result.acceptance[0])

        step = yield from find_step_size(attempt)
        chain = chain._replace(tuning=Tuning.at(step, chain.point.rows.dtype))

        tunings = {}

        def run(metric, n, last, floor=0):
            nonlocal chain
            chain, parts = chain._replace(floor=np.int32(floor)), []
            while n > 0:
                # while the metric is a guess, long trajectories are not worth their gradients
                early = self.told.warmup_draws[c] - before <= 25 and not last
                depth = min(self.max_depth, 6) if early else self.max_depth
                request = Request(chain, metric, min(n, self.rows), depth, adapt=True, symmetric=last,
                                  target=self.target)  # fmt: skip
                result = yield request
                chain = result.chain
                parts.append(result)
                n -= len(result.draws)
                self.told.warmup_draws[c] += len(result.draws)
                self.told.warmup_gradients[c] += int(result.steps.sum())
                for why in result.why[result.why > 0]:
                    self.told.failed(c, -1, int(why), result.ends[0])
                self.report.tell(c, False, len(result.draws), result.stats)
            tunings[floor] = chain.tuning
            join = lambda name: np.concatenate([getattr(p, name) for p in parts])
            return Draws(chain, join("draws"), join("forces"), join("ends"), join("stats"))

        size, deepest = self.shape.size, self.max_depth
        metric, high, floor = yield from adapt(self.adaptation, schedule, metric, size, run, ceiling, deepest)
        # a floor that was tried and left has tuned its own step size
        return chain._replace(floor=np.int32(floor), tuning=tunings.get(floor, chain.tuning)), metric, high


def pack(chain: Chain, metric) -> dict[str, np.ndarray]:
    """All that a chain needs to go on, as plain arrays."""
    state = {f"chain{i}": np.asarray(x) for i, x in enumerate(jax.tree.leaves(chain))}
    return state | {f"metric{i}": np.asarray(x) for i, x in enumerate(jax.tree.leaves(metric))}


def fill(like, state: dict[str, np.ndarray], name: str):
    """The pytree `like` with the leaves that `pack` wrote."""
    return jax.tree.unflatten(
        jax.tree.structure(like), [np.asarray(state[f"{name}{i}"]) for i in range(len(jax.tree.leaves(like)))]
    )


def unpack(state: dict[str, np.ndarray], template) -> tuple[Chain, AbstractMetric]:
    """The chain and the metric, of the template's kind."""
    rows = np.asarray(state["chain0"])
    chain = Chain(Point(rows, rows[0, 0]), Tuning.at(1.0, rows.dtype), *np.zeros(2, np.int32))
    return fill(chain, state, "chain"), fill(template, state, "metric")
