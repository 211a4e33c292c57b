"""Where chains start: a point with finite energy and force, tried again when it is not, and reported by coordinate.

Everything here is a coroutine that asks the one compiled program for evaluations, so a start costs no compilation.
"""

from collections.abc import Callable, Generator

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from .._array import Key, PyTree
from . import failure
from .driver import Draws, Request, evaluate, fresh_chain
from .flat import Layout
from .metric import AbstractMetric


def uniform(like: PyTree, radius: float = 2.0) -> Callable[[Key], PyTree]:
    """Starts drawn from U(−radius, radius) in every coordinate, in the structure of `like`."""

    def initial(key: Key) -> PyTree:
        leaves, treedef = jax.tree.flatten(like)
        keys = jr.split(key, len(leaves))
        draws = [
            jr.uniform(k, jnp.shape(x), jnp.result_type(x, jnp.float32), -radius, radius)
            for k, x in zip(keys, leaves, strict=True)
        ]
        return jax.tree.unflatten(treedef, draws)

    return initial


def find(
    propose: Callable[[int], np.ndarray],
    flat: Layout,
    metric: AbstractMetric,
    chain: int,
    names: dict[int, str],
    tries: int = 100,
) -> Generator[Request, Draws, Draws]:
    """Try start points until energy and force are finite.

    Args:
        propose: attempt number -> flat position.
        flat: names the coordinates.
        metric: any of the kind that sampling will use.
        chain: number of the chain, for the message.
        names: the user's reasons for failures.
        tries: attempts.

    Raises:
        ValueError: if none is; says why and along which coordinates.
    """
    seen: dict[str, int] = {}
    broken = np.zeros(flat.size, int)
    for attempt in range(tries):
        position = propose(attempt)
        wrong = ~np.isfinite(position)
        if wrong.any():
            broken += wrong
            seen["the start point itself is not finite"] = seen.get("the start point itself is not finite", 0) + 1
            continue
        result = yield from evaluate(fresh_chain(position), position, metric)
        why = failure.decode_number(float(result.potential[0]))
        wrong = ~np.isfinite(result.forces[0])
        if not why and not wrong.any():
            return result
        said = failure.reason(why or failure.NO_FORCE, names)
        seen[said] = seen.get(said, 0) + 1
        broken += wrong
    causes = "; ".join(f"{said} ({n}×)" for said, n in seen.items())
    where = [flat.coordinate(int(i)) for i in np.argsort(-broken, kind="stable")[:5] if broken[i]]
    along = f"; gradient or start not finite along {', '.join(where)}" if where else ""
    raise ValueError(
        f"initial: chain {chain} found no usable start in {tries} tries: {causes}{along}. "
        "Check the energy there, or give starts nearer to the data."
    )


def climb(result: Draws, metric: AbstractMetric, steps: int, memory: int = 8) -> Generator[Request, Draws, Draws]:
    """L-BFGS towards the mode from a first evaluation, at most `steps` evaluations; returns the best one.

    D. C. Liu and J. Nocedal, Math. Program. 45, 503 (1989), with backtracking to sufficient decrease.
    """
    x, g, e = result.draws[0], -result.forces[0], float(result.potential[0])
    pairs: list[tuple[np.ndarray, np.ndarray]] = []
    spent = 0
    while spent < steps:
        v, back = g.copy(), []
        for s, y in reversed(pairs):
            a = (s @ v) / (s @ y)
            back.append(a)
            v -= a * y
        v *= (pairs[-1][0] @ pairs[-1][1]) / (pairs[-1][1] @ pairs[-1][1]) if pairs else 1 / max(np.linalg.norm(g), 1.0)
        for (s, y), a in zip(pairs, reversed(back), strict=True):
            v += s * (a - (y @ v) / (s @ y))
        length, slope = 1.0, float(g @ v)
        while spent < steps:
            trial = yield from evaluate(result.chain, x - length * v, metric)
            spent += 1
            value = float(trial.potential[0])
            if value <= e - 1e-4 * length * slope and np.all(np.isfinite(trial.forces[0])):
                break
            length /= 2
            if length < 1e-12:
                return result
        else:
            return result
        s, y = trial.draws[0] - x, -trial.forces[0] - g
        if s @ y > 1e-12 * np.sqrt((s @ s) * (y @ y)):
            pairs = [*pairs, (s, y)][-memory:]
        small = e - value < 1e-9 * max(abs(e), 1.0)
        x, g, e, result = trial.draws[0], -trial.forces[0], value, trial
        if small:
            break
    return result
