"""Where chains start: a point with finite energy and force, tried again when it is not, and reported by coordinate.

Everything here is a coroutine that asks the one compiled program for evaluations, so a start costs no compilation.
What becomes of such a point is said by one of `Given`, `Mode` and `pathfinder.Pathfinder`.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from .._array import Key, PyTree
from . import failure
from .driver import Draws, Request, evaluate, fresh_chain
from .flat import Layout
from .metric import AbstractMetric


@dataclass(frozen=True)
class AbstractStart:
    """What happens between the start point that the user gave and the first draw of the warm-up."""


@dataclass(frozen=True)
class Given(AbstractStart):
    """Nothing: the chain starts where the user said."""


@dataclass(frozen=True)
class Mode(AbstractStart):
    """L-BFGS towards the mode.

    Attributes:
        steps: evaluations at most.
    """

    steps: int = 100


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
        result = yield from evaluate(fresh_chain(position), position[None], metric)
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
