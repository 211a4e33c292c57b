"""Many vectorised chains that learn one step size and one metric from the draws of all.

A metric of its own for each of a thousand chains costs a thousand eigenvalue problems per segment of the warm-up, on
the host, and three matrices per chain in the program. The draws of all chains together determine the metric after a few
steps of each; so a crowd warms up in tens of draws, and multiplies one matrix with the momenta of all.

The price: a chain depends on those beside it. The chains are independent given the metric and the step size, which are
fixed once the warm-up is over.
"""

import time
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from .compiled import Program
from .driver import Draws, serve_evaluations
from .life import Run, fill, pack
from .metric import AbstractMetric
from .pathfinder import Pool
from .program import Chain, Plan, Point, Tuning
from .warmup import change, find_step_size, finite, teaches


@dataclass
class Crowd:
    """A run whose chains have what they learned in common.

    Attributes:
        run: what it is about.
        compiled: the program, with `shared` among its options.
        chains: how many.
    """

    run: Run
    compiled: Program
    chains: int

    # energies of two successive segments agree if they differ by less than this part of their spread over the chains
    drift = 0.05
    # change of the metric between two segments (`warmup.change`) below which the warm-up may end
    same = 0.1
    # the fewest draws before it may
    least = 15

    def live(self, pool: Pool | None) -> list[AbstractMetric]:
        """Warm-up and draws of all chains into the store; the metric, once per chain."""
        run, store = self.run, self.run.store
        state = store.load(0)
        if state is None:
            chains, metric = self._warm(pool)
        else:
            like = Chain(Point(0, 0), Tuning(*[0] * len(Tuning._fields)), 0, 0)
            chains, metric = fill(like, state, "chain"), fill(run.guess, state, "metric")
            store.count = store.count[:1] * self.chains
            self._remember(state)
        since, count = time.monotonic(), store.count[0]
        try:
            while count < store.draws.shape[1]:
                most = max(self.compiled.options.rows // run.thin, 1)
                kept = min(most, store.draws.shape[1] - count)
                after, block = self._advance(chains, metric, kept * run.thin, run.max_depth)
                stats = run.thinned(block.stats)
                for c, i in zip(*np.nonzero(block.why), strict=True):
                    run.told.failed(int(c), count + int(i) // run.thin, int(block.why[c, i]), block.ends[c, i])
                for c in range(self.chains):
                    store.append(c, block.draws[c, run.thin - 1 :: run.thin], stats[c])
                    run.report.tell(c, True, kept, stats[c])
                run.report.refresh()
                chains, count = after, count + kept  # in one line: Ctrl-C may come between any two
                if time.monotonic() - since > store.interval:
                    self._save(chains, metric)
                    since = time.monotonic()
        finally:  # also when Ctrl-C comes, between two blocks or inside one
            store.count = [count] * self.chains
            run.told.forget(count)
            self._save(chains, metric)
        return [metric] * self.chains

    def _save(self, chains: Chain, metric: AbstractMetric) -> None:
        """All chains in the file of the first."""
        told, d = self.run.told, self.run.shape.size
        if self.run.store.directory is None:
            return
        each = [told.of(c, d) for c in range(self.chains)]
        state = {name: np.concatenate([np.atleast_1d(e[name]) for e in each]) for name in each[0]}
        state |= {f"lengths_{name}": np.array([len(e[name]) for e in each]) for name in each[0]}
        self.run.store.save(0, pack(chains, metric) | state)

    def _remember(self, state: dict[str, np.ndarray]) -> None:
        cut = lambda name: np.split(state[name], np.cumsum(state[f"lengths_{name}"])[:-1])
        parts = {name: cut(name) for name in ("told", "refused", "why", "places")}
        for c in range(self.chains):
            self.run.told.again(c, {name: part[c] for name, part in parts.items()})

    def _warm(self, pool: Pool | None) -> tuple[Chain, AbstractMetric]:
        run, told = self.run, self.run.told
        chains, scale, force, ceiling = self._begin(range(self.chains), pool)
        metric = run.adaptation.first(force, scale)
        if run.schedule.length == 0:
            return self._tuned(chains, 0.1), metric

        def attempt(step):
            yield from ()
            _, block = self._advance(self._tuned(chains, step), metric, 1, 1, adapt=True, count=False)
            return float(block.acceptance.mean())

        chains = self._tuned(chains, _value(find_step_size(attempt)))
        window: list[tuple[np.ndarray, np.ndarray]] = []
        before, again = None, False
        for length in run.schedule.segments(0):  # the draws of all chains suffice at once
            early = told.warmup_draws[0] < self.least  # long trajectories are not worth their gradients yet
            depth = min(run.max_depth, 6) if early else run.max_depth
            chains, block = self._advance(chains, metric, length, depth, adapt=True)
            window = [*window[-1:], self._usable(block)]
            draws, forces = (np.concatenate(part) for part in zip(*window, strict=True))
            energies = block.potential.mean(1)
            moved, before = None if before is None else energies - before, energies
            if len(draws) < 3:
                continue
            new = run.adaptation.fit(draws, forces)
            if not finite(new):
                continue
            fitted, metric = metric, new
            if moved is None or early:
                continue
            error = 3 * moved.std() / np.sqrt(self.chains)
            if abs(moved.mean()) > max(error, self.drift * block.potential.std()):
                continue
            high = np.nonzero(energies > ceiling)[0]
            if len(high) and pool is not None and not again:
                # at rest far above what the paths saw: these begin again from another path
                again, before, window = True, None, []
                others, *_ = self._begin(high.tolist(), pool, other=True)
                rows, energies = np.array(chains.point.rows), np.array(chains.point.energy)
                rows[high], energies[high] = others.point
                chains = chains._replace(point=Point(rows, energies))
            elif run.schedule.early and change(fitted, metric, draws.shape[1]) < self.same:
                break
        tail = run.schedule.rest(told.warmup_draws[0])
        if tail > 0:
            chains, _ = self._advance(chains, metric, tail, run.max_depth, adapt=True, symmetric=True)
        return chains, metric

    def _begin(self, numbers, pool: Pool | None, other: bool = False):
        """Start points of some chains, evaluated; a common scale, the size of the forces, the ceiling of the energy."""
        lives = [self.run.begin(c, pool, other=other) for c in numbers]
        found = serve_evaluations(self.compiled, self.run.together(lives))
        firsts, scales, ceilings = zip(*found, strict=True)
        rows = np.stack([np.stack([f.draws[0], f.forces[0]]) for f in firsts])
        point = Point(rows, np.array([f.potential[0] for f in firsts], rows.dtype))
        mean = lambda x: np.exp(np.mean(np.log(np.maximum(np.abs(np.stack(x)), 1e-20)), axis=0))
        whole = np.zeros(len(rows), np.int32)
        chains = Chain(point, Tuning(*np.zeros((len(Tuning._fields), len(rows)))), whole, whole)
        known = [s for s in scales if s is not None]  # a chain that began at its mode has learned none
        scale = mean(known) if known else None
        return chains, scale, mean(rows[:, 1]).astype(rows.dtype), ceilings[0]

    def _tuned(self, chains: Chain, step: float) -> Chain:
        fresh = Tuning.at(step, chains.point.rows.dtype)
        return chains._replace(tuning=Tuning(*(np.full(self.chains, x, x.dtype) for x in fresh)))

    def _usable(self, block: Draws) -> tuple[np.ndarray, np.ndarray]:
        """Draws and forces of a segment that teach something, a few thousand of them."""
        d = block.draws.shape[-1]
        good = teaches(block)
        draws, forces = block.draws[good], block.forces[good]
        some = slice(None, None, max(1, len(draws) // (2000 + 10 * d)))
        return draws[some], forces[some]

    def _advance(self, chains: Chain, metric, draws: int, depth: int, adapt=False, symmetric=False, count=True):
        """`draws` draws of every chain; while the step size adapts, its state is averaged over the chains.

        Every state of dual averaging is linear in the acceptance: the mean state is that of the mean acceptance.
        """
        run, compiled, parts, left = self.run, self.compiled, [], draws
        whole = lambda x: np.full(self.chains, x, np.int32)
        number = lambda x: np.full(self.chains, x, run.shape.dtype)
        while left > 0:
            n = min(left, compiled.options.rows)
            plan = Plan(
                whole(n), whole(depth), number(adapt), number(symmetric), number(run.target), number(0),
                np.zeros((self.chains, 1, run.shape.size), run.shape.dtype),
            )  # fmt: skip
            chains, block = compiled.call(chains, metric, plan, np.stack(run.keys[: self.chains]), together=True)
            chains = jax.tree.map(np.asarray, chains)
            if adapt:
                chains = chains._replace(tuning=Tuning(*(np.full_like(x, x.mean()) for x in chains.tuning)))
            parts.append((np.array(np.asarray(block.rows)[:, :n]), np.array(np.asarray(block.stats)[:, :n])))
            left -= n
        rows, stats = (np.concatenate(part, axis=1) for part in zip(*parts, strict=True))
        result = Draws(chains, rows[:, :, 0], rows[:, :, 1], rows[:, :, 2], stats)
        if adapt:
            self._tell(result, draws if count else 0)
        return chains, result

    def _tell(self, block: Draws, draws: int) -> None:
        """Count a segment of the warm-up."""
        told = self.run.told
        for c, steps in enumerate(block.steps.sum(1)):
            told.warmup_draws[c] += draws
            told.warmup_gradients[c] += int(steps)
            if draws:
                self.run.report.tell(c, False, draws, block.stats[c])
        for c, i in zip(*np.nonzero(block.why), strict=True):
            if draws:
                told.failed(int(c), -1, int(block.why[c, i]), block.ends[c, i])
        self.run.report.refresh()


def _value(generator) -> Any:
    """What a generator returns that never yields."""
    try:
        next(generator)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it yielded")
