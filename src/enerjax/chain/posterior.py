"""What sampling returns: draws in the user's space, statistics, a summary that says what to do, a door to ArviZ."""

import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .._array import Energy, PyTree
from . import diagnostics as dg
from . import failure
from .flat import Layout
from .program import STATS
from .summary import Summary, columns, judged, mixing, mixing_advice, tabulate


class Failure(NamedTuple):
    """A trajectory that was refused: where its last leaf was, and why."""

    chain: int
    draw: int
    why: int
    place: np.ndarray


@dataclass
class Posterior:
    """Draws of e^(−E) and all that is known about them.

    Attributes:
        draws: the user's pytree with leaves [chains, draws, …].
        stats: arrays [chains, draws]: energy (H), potential (E), acceptance, step_size, steps, depth, divergence, why.
        unconstrained: flat draws on the real line, [chains, draws, d].
        failures: refused trajectories after warm-up, with chain, draw, reason and place (unconstrained, flat).
        warmup: draws, gradients and restarts of each chain's warm-up, its failures by reason, and the gradients of the
            paths that found the starts.
        metrics: the metric of each chain.
        seconds: (wall, CPU) of the call, compilation included.
        layout: names, shapes and dtypes of the coordinates.
        names: the user's words for failures.
        energy: what was sampled.
        per_step: gradients that one step of the integrator takes.
        max_depth: the largest depth that a tree could have.
    """

    draws: PyTree
    stats: dict[str, np.ndarray]
    unconstrained: np.ndarray
    failures: list[Failure]
    warmup: dict[str, Any]
    metrics: list[Any]
    seconds: tuple[float, float]
    layout: Layout
    names: dict[int, str] = field(default_factory=dict)
    energy: Energy | None = None
    per_step: int = 1
    max_depth: int = 10

    @classmethod
    def of(
        cls, energy, shape: Layout, store, told, metrics, seconds, names, per_step: int = 1, max_depth: int = 10
    ) -> "Posterior":
        """Gather what the chains left; `told` counts steps of the integrator, of `per_step` gradients each."""
        flat = store.draws
        draws = constrain(energy, shape, flat)
        stats = {name: store.stats[..., i] for i, name in enumerate(STATS) if name != "symmetric"}
        stats["divergence"] = np.asarray(stats["why"] > 0)
        for name in ("steps", "depth", "why"):
            stats[name] = np.asarray(stats[name]).astype(np.int64)
        whys = sorted({why for one in told.warmup_failures for why in one})
        refused = {why: sum(one.get(why, 0) for one in told.warmup_failures) for why in whys}
        warm = {
            "draws": told.warmup_draws, "gradients": [per_step * n for n in told.warmup_gradients], "failures": refused,
            "path_gradients": per_step * told.path_gradients, "restarts": told.restarts,
        }  # fmt: skip
        return cls(
            draws, stats, flat, sorted(told.failures, key=lambda f: f[:2]), warm, metrics, seconds, shape, names,
            energy, per_step, max_depth,
        )  # fmt: skip

    @property
    def gradients(self) -> int:
        """Gradient evaluations, paths and warm-up included."""
        warm = sum(self.warmup["gradients"]) + self.warmup["path_gradients"]
        return self.per_step * int(self.stats["steps"].sum()) + warm

    def columns(self) -> tuple[list[np.ndarray], list[str]]:
        """Draws [chains, draws] of every coordinate in the user's space, and their names."""
        return columns(self.draws)

    @functools.cached_property
    def table(self) -> dict[str, np.ndarray]:
        """Statistics of every coordinate in the user's space, as columns; `name` holds their names."""
        return tabulate(*self.columns())

    @functools.cached_property
    def judged(self) -> np.ndarray:
        """The coordinates (rows of `table`) that say whether chains mix.

        A number that a transform makes the same in all draws, such as the ones and zeros of `CorrelationCholesky`, has
        no R-hat and is left out. A sampler that is stuck is not: there a free parameter does not move.
        """
        return judged(self.columns()[0], self.unconstrained)

    def diagnostics(self) -> dict[str, float]:
        """The worst of each diagnostic, over the coordinates that are `judged`."""
        energy = np.asarray(self.stats["energy"], np.float64)
        return mixing(self.table, self.judged) | {
            "min_ebfmi": float(np.min(dg.ebfmi(energy))),
            "divergences": int(self.stats["divergence"].sum()),
            "deepest": int(self.stats["depth"].max()),
            "acceptance": float(self.stats["acceptance"].mean()),
            "gradients": self.gradients,
        }

    def advice(self, max_depth: int | None = None) -> list[str]:
        """What is wrong and what to do about it; empty when nothing is.

        Args:
            max_depth: counts trees of this depth and more as cut off; that of the call by default.
        """
        worst = self.diagnostics()
        said = mixing_advice(self.table, self.judged, len(self.unconstrained))
        if worst["min_ebfmi"] < 0.3:
            said.append(
                f"E-BFMI is {worst['min_ebfmi']:.2f}, below 0.3: energies are explored slowly, as in funnels; "
                "use a non-centred parameterisation."
            )
        depth = self.max_depth if max_depth is None else max_depth
        if (cut := float(np.mean(self.stats["depth"] >= depth))) > 0.01:
            said.append(
                f"{100 * cut:.0f} % of the trajectories were cut off at max_depth={depth}: the draws are "
                "right but dear; raise max_depth, or re-parameterise."
            )
        for why in sorted({f.why for f in self.failures}):
            places = [f for f in self.failures if f.why == why]
            spread = self.unconstrained.reshape(-1, self.unconstrained.shape[-1])
            z = (np.median([f.place for f in places], axis=0) - spread.mean(0)) / spread.std(0)
            z = np.where(np.isfinite(z), z, 0.0)
            i = int(np.argmax(np.abs(z)))
            where = f"typically at {self.layout.coordinate(i)} {z[i]:+.1f} sd from its mean"
            remedy = (
                "raise target (0.9, 0.99) or re-parameterise" if why == failure.DIVERGED else "check the model there"
            )
            said.append(f"{len(places)} trajectories refused: {failure.reason(why, self.names)}, {where}; {remedy}.")
        if again := [c for c, n in enumerate(self.warmup["restarts"]) if n]:
            said.append(
                f"chains {again} came to rest in warm-up far above the energies of the paths and began again "
                "elsewhere: the posterior has modes without weight; compare with start=Pathfinder(paths=32)."
            )
        return said

    def summary(self) -> Summary:
        """Table of all coordinates, worst diagnostics and advice; prints well."""
        return Summary(self.table, self.diagnostics(), self.advice())

    def to_arviz(self, dims: dict[str, list[str]] | None = None, coords: dict[str, Any] | None = None):
        """The posterior for ArviZ: `InferenceData` (0.x) or an xarray `DataTree` (1.x), whichever ArviZ is installed.

        Args:
            dims: names of parameters' axes, `{"theta": ["school"]}`.
            coords: labels along them, `{"school": ["A", "B"]}`.

        Raises:
            ValueError: if names collide, or dims and coords do not fit the draws.
        """
        from .arviz import to_arviz

        return to_arviz(self, dims, coords)

    def save(self, path: str | Path) -> Path:
        """Write NetCDF (.nc) or Zarr (.zarr), whole or not at all."""
        from .arviz import save

        return save(self, path)


def constrain(energy: Energy, shape: Layout, flat: np.ndarray) -> PyTree:
    """Flat draws [chains, draws, d] -> pytree in the user's space; views of the same memory where nothing is
    transformed."""
    if not hasattr(energy, "constrain"):
        return shape(flat)
    blocks = [jax.tree.map(np.asarray, _constrain(energy, shape, c)) for chain in flat for c in _chunks(chain)]
    joined = jax.tree.map(lambda *b: np.concatenate(b), *blocks)
    return jax.tree.map(lambda x: x.reshape(*flat.shape[:2], *x.shape[1:]), joined)


@eqx.filter_jit
def _constrain(energy: Any, shape: Layout, flat) -> PyTree:
    return jax.vmap(lambda x: energy.constrain(shape(x)))(jnp.asarray(flat))


def _chunks(x: np.ndarray, size: int = 100_000):
    return [x[i : i + size] for i in range(0, len(x), size)]
