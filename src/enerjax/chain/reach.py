"""Do longer trajectories pay? A trial at the end of the warm-up, where the chain turned out to be slow.

The no-U-turn criterion sums over all directions. Where the target is curved and long in a few of them, the many short
ones turn first, and the trajectory ends long before it has crossed the long ones: the draws are a random walk there,
whose length costs more gradients than a long way straight on. A criterion in the long directions alone is no remedy,
since the momentum wiggles along a curved way. So trees of fewer than 2^floor leaves are not asked whether they turn,
and the floor is found by trial: one above the usual depth, kept if the slowest coordinate gains more effective draws
per gradient, or nearly, and raised again while it is slow.

Slowness is measured by the lag-1 autocorrelation r of ranks within the window; (1 − r)/(1 + r) is the number of
effective draws per draw if the autocorrelations fall geometrically. The floor depends on draws of the warm-up alone,
and the criterion with a floor is a function of the tree alone, whatever leaf it grew from: detailed balance holds.
"""

from collections.abc import Callable, Generator
from typing import Any

import numpy as np

# 1 − r of the slowest coordinate above which nothing is tried: trajectories half as long would still cross the target
SLOW = 0.45
# draws of a trial: 1 − r is then known within about a seventh
TRIAL = 100
# share of its effective draws per gradient that a longer trajectory may lose: as many gradients then say the same in
# fewer draws, and those are what a user keeps
ALLOWED = 0.7


def _jump(ranks: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """1 − r [k]: half the mean squared difference of successive ranks [n, k], over their variance [k]."""
    return np.mean(np.diff(ranks, axis=0) ** 2, axis=0) / (2 * np.maximum(variance, 1e-12))


def _worth(jump: float, steps: float) -> float:
    """Effective draws per gradient; an anticorrelated draw counts no more than an independent one."""
    jump = min(jump, 1.0)
    return jump / (2 - jump) / steps


def lengthen(
    window: np.ndarray, draws: np.ndarray, steps: np.ndarray, room: int, deepest: int, attempt: Callable
) -> Generator[Any, Any, tuple[int, int]]:
    """Find the floor of a chain by trial; returns it (0 where the chain is not slow) and the draws that were spent.

    Args:
        window: draws of the warm-up [n, d] that stand for the target.
        draws: the last ones [m, d], in their order, with the metric that stays; more are made if these are few.
        steps: gradients of each of these.
        room: draws that the trials may take.
        deepest: depth of a tree that the floor never exceeds.
        attempt: generator function `attempt(floor, draws)` that advances the chain and returns its block of draws.
    """
    ordered = np.sort(window, axis=0)

    def ranks(x: np.ndarray, columns: list[int]) -> np.ndarray:
        """Ranks [n, columns] within the window, between 0 and 1."""
        return np.stack([np.searchsorted(ordered[:, i], x[:, i]) / len(ordered) for i in columns], axis=1)

    every = list(range(window.shape[1]))
    variance = ranks(window, every).var(0)
    jumps = _jump(ranks(draws, every), variance)
    spent, few = 0, max(80, draws.shape[1]) - len(draws)  # of more coordinates than draws one seems slow by chance
    if few > 0:
        if jumps.min() > SLOW or few > min(room, TRIAL):  # to learn whether a trial is due costs no more than one
            return 0, 0
        block = yield from attempt(0, few)
        spent, draws, steps = few, np.concatenate([draws, block.draws]), np.concatenate([steps, block.steps])
        jumps = _jump(ranks(draws, every), variance)
    i = int(np.argmin(jumps))
    jump, cost = float(jumps[i]), float(steps.mean())
    floor, usual = 0, round(float(np.median(np.log2(steps + 1))))
    while jump < SLOW and usual < deepest and room - spent >= TRIAL:
        block = yield from attempt(usual + 1, TRIAL)
        spent += TRIAL
        new, price = float(_jump(ranks(block.draws, [i]), variance[[i]])[0]), float(block.steps.mean())
        if _worth(new, price) < ALLOWED * _worth(jump, cost):
            break
        floor = usual = usual + 1
        jump, cost = new, price
    return floor, spent
