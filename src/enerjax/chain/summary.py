"""Draws as a table of coordinates: means, errors, whether the chains agree, and what to do where they do not."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import jax
import numpy as np

from .._array import PyTree
from . import diagnostics as dg
from .flat import layout


def columns(draws: PyTree) -> tuple[list[np.ndarray], list[str]]:
    """Draws [chains, draws] of every coordinate of a pytree with leaves [chains, draws, …], and their names."""
    # one point's layout names the coordinates; constrained leaves may differ in shape from free ones
    shape = layout(jax.tree.map(lambda x: np.zeros(x.shape[2:], x.dtype), draws))
    leaves = [np.asarray(x).reshape(*x.shape[:2], -1) for x in jax.tree.leaves(draws)]
    found = [np.asarray(x, np.float64) for x in itertools.chain(*(np.moveaxis(x, -1, 0) for x in leaves))]
    return found, [shape.coordinate(i) for i in range(len(found))]


def tabulate(columns: list[np.ndarray], names: list[str]) -> dict[str, np.ndarray]:
    """Statistics of every coordinate, as columns; `name` holds their names."""
    of = lambda f: np.array([f(x) for x in columns])
    return {
        "name": np.array(names),
        "mean": of(np.mean),
        "sd": of(lambda x: x.std(ddof=1)),
        "q5": of(lambda x: np.quantile(x, 0.05)),
        "q95": of(lambda x: np.quantile(x, 0.95)),
        "mcse_mean": of(dg.mcse_mean),
        "mcse_sd": of(dg.mcse_sd),
        "ess_bulk": of(dg.ess_bulk),
        "ess_tail": of(dg.ess_tail),
        "rhat": of(dg.rhat),
    }


def judged(columns: list[np.ndarray], unconstrained: np.ndarray) -> np.ndarray:
    """The coordinates that say whether chains mix: all but those that a transform makes constant.

    Args:
        columns: draws of every coordinate in the user's space, [chains, draws] each.
        unconstrained: those of the free parameters, [chains, draws, d]; where one of them does not move, the sampler is
            stuck, and nothing is left out.
    """
    moves = np.array([np.ptp(x) != 0 for x in columns])  # what is not a number counts as moving
    stuck = np.any(np.ptp(unconstrained, axis=(0, 1)) == 0) or not moves.any()
    return np.nonzero(moves | stuck)[0]


def worst(table: dict[str, np.ndarray], judged: np.ndarray, name: str, at: Callable) -> tuple[float, str]:
    """The worst value of a column among some coordinates, and where it is; `at` is `argmin` or `argmax`."""
    column = table[name][judged]
    i = int(at(column))
    return float(column[i]), str(table["name"][judged[i]])


def mixing(table: dict[str, np.ndarray], judged: np.ndarray) -> dict[str, float]:
    """The worst R-hat and ESS."""
    return {
        "max_rhat": worst(table, judged, "rhat", np.argmax)[0],
        "min_ess_bulk": worst(table, judged, "ess_bulk", np.argmin)[0],
        "min_ess_tail": worst(table, judged, "ess_tail", np.argmin)[0],
    }


def mixing_advice(table: dict[str, np.ndarray], judged: np.ndarray, chains: int) -> list[str]:
    """What to do where chains disagree or crawl."""
    said = []
    rhat, name = worst(table, judged, "rhat", np.argmax)
    if not rhat < 1.01:
        said.append(
            f"R-hat of {name} is {rhat:.3f}, over 1.01: the chains disagree. Run longer; if it stays, look for several "
            "modes or an unidentified parameter."
        )
    ess, name = worst(table, judged, "ess_bulk", np.argmin)
    if not ess > 100 * min(chains, 4):
        said.append(f"bulk ESS of {name} is {ess:.0f}: draw more, or re-parameterise {name}.")
    return said


@dataclass
class Summary:
    """A table with its verdict."""

    table: dict[str, np.ndarray]
    diagnostics: dict[str, float]
    advice: list[str]

    def __str__(self) -> str:
        columns = [c for c in self.table if c not in ("name", "mcse_sd")]
        width = max(9, *(len(n) for n in self.table["name"]))
        lines = [" " * width + "".join(f"{c:>11}" for c in columns)]
        for i, name in enumerate(self.table["name"]):
            shown = (
                f"{self.table[c][i]:11.0f}" if c.startswith("ess") else f"{self.table[c][i]:11.4g}" for c in columns
            )
            lines.append(f"{name:<{width}}" + "".join(shown))
        worst = ", ".join(f"{k} {v:.4g}" for k, v in self.diagnostics.items())
        return "\n".join([*lines, worst, *(f"! {a}" for a in self.advice)])

    __repr__ = __str__
