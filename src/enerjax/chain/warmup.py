"""Warm-up of one chain: find a step size, learn a metric from a growing window, stop when both are good.

The chain is driven in short segments. After segments ending at draws 4, 6, 10, 16, … 79, 99, 124, … (growing first by
six tenths, then by a quarter) the metric is fitted to the later part of all draws so far, so that the transient is
forgotten at the same pace as the window grows. The step size follows by dual averaging throughout, is never restarted,
and in the last segment, where the metric stays, is averaged.

Where the chain is slow, longer trajectories are tried at the end (`reach`).

It ends before `length` draws when the window is long enough and says the same as the one before: the energies of
its two halves agree within their error, and the new metric differs from the old one by no more than sampling noise.
"""

import functools
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import numpy as np

from .adaptation import AbstractAdaptation
from .metric import AbstractMetric
from .reach import TRIAL, lengthen


@dataclass
class Window:
    """Draws, forces and energies of the warm-up so far."""

    parts: list[tuple[np.ndarray, ...]] = field(default_factory=list)

    def add(self, block, good) -> None:
        """Add the draws of a segment; those that did not move, or came from a failed trajectory, teach nothing."""
        self.parts.append(tuple(x[good] for x in (block.draws, block.forces, block.potential)))

    def latest(self, part: float) -> tuple[np.ndarray, ...]:
        """The last `part` of all draws, with their forces and energies."""
        every = [np.concatenate(x) for x in zip(*self.parts, strict=True)]
        first = int((1 - part) * len(every[0]))
        return tuple(x[first:] for x in every)


@dataclass(frozen=True)
class Schedule:
    """When the metric is learned.

    Attributes:
        length: number of warm-up draws at most.
        early: whether warm-up may end sooner.
        rush: factor between the ends of the first segments: more fits cost more than they teach.
        growth: the same towards the end of the warm-up and beyond.
        part: share of the draws so far that the window keeps.
        final: share of the warm-up in which only the step size adapts.
        enough: draws in the window before warm-up may end, and never fewer than two per coordinate.
        same: change of the metric (see `change`) below which warm-up may end.
    """

    length: int
    early: bool = True
    rush: float = 1.6
    growth: float = 1.25
    part: float = 0.65
    final: float = 0.15
    enough: int = 120
    same: float = 0.35

    def needed(self, d: int) -> int:
        """Length of the window of d coordinates before warm-up may end."""
        return max(self.enough, 2 * d)

    def ends(self, needed: int) -> Iterator[float]:
        """Where the segments end if the window needs so many draws: one of them just where the warm-up may end."""
        # a few draws did not move, and are none of the window
        end = first = max(1.05 * needed / self.part, 3.0)
        before = []
        while end >= 3:
            before.append(end)
            end /= self.growth if end > 0.25 * first else self.rush
        yield from reversed(before)
        end = first
        while True:
            end *= self.growth
            yield end

    def segments(self, needed: int) -> Iterator[int]:
        """Lengths of the segments after each of which the metric is fitted, for a window that needs so many draws."""
        last, done = self.length - self.tail(self.length), 0
        for end in self.ends(needed):
            if done >= last:
                return
            upto = min(last, max(done + 1, round(end)))
            if last - upto < (self.growth - 1) * upto / 2:
                upto = last
            yield upto - done
            done = upto

    def of(self, length: int) -> "Schedule":
        """The same within another length."""
        return replace(self, length=length)

    def tail(self, length: int) -> int:
        """Length of the final segment."""
        return min(length, max(int(self.final * length), min(50, length // 2)))

    def rest(self, done: int) -> int:
        """Length of the final segment after `done` draws, within what is left."""
        return min(self.tail(max(done, 1)), self.length - done)


def teaches(block) -> np.ndarray:
    """Which draws of a block say something of the metric: from trajectories that went somewhere, forces finite."""
    return ((block.why == 0) | (block.steps > 4)) & np.all(np.isfinite(block.forces), axis=-1)


def finite(metric: AbstractMetric) -> bool:
    """Whether a fit gave a metric: a window of too few or too wild draws does not, the next one is longer."""
    return all(np.all(np.isfinite(np.asarray(x))) for x in jax.tree.leaves(metric))


def settled(energies: np.ndarray, enough: int) -> bool:
    """Whether the energies of a window have lost their drift: halves agree within three standard errors."""
    n = len(energies)
    if n < enough:
        return False
    a, b = energies[: n // 2], energies[n // 2 :]
    # errors from the means of batches of ten, which are nearly independent
    error = lambda x: (
        np.std([c.mean() for c in np.array_split(x, max(len(x) // 10, 2))], ddof=1) / np.sqrt(len(x) // 10)
    )
    return bool(abs(a.mean() - b.mean()) < 3 * np.hypot(error(a), error(b)) + 1e-12 * abs(a.mean()))


@functools.lru_cache(maxsize=8)
def _probes(d: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((16, d))


def change(old: AbstractMetric, new: AbstractMetric, d: int) -> float:
    """Root mean square of log λ, λ the eigenvalues of Σ_old⁻¹ Σ_new, by their action on the axes of the old metric."""
    if old is new:
        return 0.0
    probes = _probes(d)
    # of p = momentum(v), pᵀ Σ_old p = |v|². Methods of the class: bound to a module, they would cost as much as they do
    p = np.asarray(type(old).momentum(old, probes))
    w = np.asarray(type(new).whiten(new, p), np.float64)
    return float(np.sqrt(np.mean(np.log((w**2).sum(1) / (probes**2).sum(1)) ** 2)))


def find_step_size(attempt: Callable, start: float = 0.1, target: float = 0.8) -> Generator[Any, Any, float]:
    """Double or halve until the acceptance of a single step crosses the target.

    Args:
        attempt: generator function `attempt(step_size)` that returns the acceptance.
        start: the first guess; a fair one, since the first metric is scaled by the force.
        target: the acceptance to cross.
    """
    step = start
    up = (yield from attempt(step)) > target
    for _ in range(60):
        following = step * 2 if up else step / 2
        if ((yield from attempt(following)) > target) != up or not 1e-10 < following < 1e5:
            return step if up else following
        step = following
    return step


def adapt(
    adaptation: AbstractAdaptation,
    schedule: Schedule,
    metric: AbstractMetric,
    size: int,
    run: Callable,
    ceiling: float = np.inf,
    deepest: int = 10,
) -> Generator[Any, Any, tuple[AbstractMetric, bool, int]]:
    """Run the warm-up of a chain; the generator returns its metric, whether it gave up, and its floor (`reach`).

    Args:
        adaptation: how a window becomes a metric.
        schedule: when.
        metric: the first metric.
        size: number of coordinates.
        run: generator function `run(metric, draws, last, floor)` that advances the chain and returns its block of
            draws, with `draws`, `forces`, `potential`, `steps` and `why`; `floor` as in `reach`, 0 by default.
        ceiling: a chain at rest above this energy is not where the weight is: the warm-up gives up.
        deepest: the largest depth of a tree.
    """
    window, done, at_rest = Window(), 0, False
    steady: list = []  # the segments since the metric has stayed nearly the same
    for length in schedule.segments(schedule.needed(size)):
        block = yield from run(metric, length, False)
        done += length
        elsewhere = np.any(np.diff(block.draws, axis=0, prepend=np.nan) != 0, axis=1)
        window.add(block, elsewhere & teaches(block))
        draws, forces, energies = window.latest(schedule.part)
        if len(draws) < 3:
            continue
        new = adaptation.fit(draws, forces)
        if not finite(new):
            continue
        moved, metric = change(metric, new, size), new
        steady = [*steady, block] if moved < schedule.same / 2 else []
        at_rest = settled(energies, schedule.needed(size))
        if at_rest:
            if energies.mean() > ceiling:
                return metric, True, 0
            if schedule.early and moved < schedule.same:
                break
    whole = schedule.rest(done)
    if whole <= 0:
        return metric, False, 0
    tail = min(whole, max(50, schedule.length - done - TRIAL))  # without `early` a trial needs some of the last segment
    last = yield from run(metric, tail, True)
    floor, spent = 0, 0
    if at_rest:
        # not the draws of earlier metrics: a chain with a poor one is slow for that reason
        recent, prices = (np.concatenate([getattr(x, name) for x in (*steady, last)]) for name in ("draws", "steps"))
        attempt = lambda floor, n: run(metric, n, True, floor)
        floor, spent = yield from lengthen(draws, recent, prices, schedule.length - done - tail, deepest, attempt)
    if whole > tail + spent:
        yield from run(metric, whole - tail - spent, True, floor)
    return metric, False, floor
