"""Is it the solver or Monte Carlo that limits the answer? Some draws evaluated again at a much tighter tolerance.

For draws x of the posterior with energy E, and the same model solved a hundred times more accurately, E*, the ratios
e^(E−E*) re-weight the draws to the accurate posterior. Their Pareto shape k says whether that would change
anything, and max |ΔE| by how much log p is wrong.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._array import Energy, PyTree
from . import diagnostics as dg
from .diagnostics import pareto_k
from .failure import split
from .posterior import Posterior


class Certificate(NamedTuple):
    """Result of `certify`.

    Attributes:
        max_error: max |Δ log p|, the common constant of all draws removed.
        pareto_k: shape of the ratios' tail; below 0.7 the loose posterior may stand for the accurate one.
        shift: largest change of a mean under re-weighting, in posterior standard deviations.
        mcse: largest Monte Carlo error of a mean in the same unit, for comparison.
        draws: how many were evaluated.
    """

    max_error: float
    pareto_k: float
    shift: float
    mcse: float
    draws: int

    def __str__(self) -> str:
        limit = "Monte Carlo" if self.pareto_k < 0.7 and self.shift < self.mcse else "the solver's tolerance"
        return (
            f"max |Δ log p| {self.max_error:.2g}, Pareto-k {self.pareto_k:.2f}, means move by {self.shift:.2g} sd "
            f"against an error of {self.mcse:.2g}: {limit} limits the answer"
        )


def certify(posterior: Posterior, accurate: Energy, draws: int = 200) -> Certificate:
    """Evaluate `draws` draws, evenly spaced over all chains, with an accurate version of the energy.

    Args:
        posterior: from `sample`.
        accurate: the same energy, solved e.g. at a hundredth of the tolerance.
        draws: how many; a few hundred suffice.

    Raises:
        ValueError: if the posterior does not know its energy, or an accurate value is not finite.
    """
    if posterior.energy is None:
        raise ValueError("certify: this posterior was loaded without its energy; sample it again.")
    flat = posterior.unconstrained
    spread = flat.reshape(-1, flat.shape[-1])
    chosen = spread[np.linspace(0, len(spread) - 1, min(draws, len(spread))).astype(int)]
    one = lambda energy: jax.jit(lambda x: jax.lax.map(lambda v: split(energy(posterior.layout(v)))[0], x))
    loose, tight = (np.asarray(one(e)(jnp.asarray(chosen)), np.float64) for e in (posterior.energy, accurate))
    if not np.all(np.isfinite(tight)):
        raise ValueError(
            f"certify: {int(np.sum(~np.isfinite(tight)))} accurate evaluations failed; allow more solver steps."
        )
    log_ratio = loose - tight
    log_ratio -= log_ratio.mean()
    weights = np.exp(log_ratio - log_ratio.max())
    weights /= weights.sum()
    shift = np.abs(weights @ chosen - chosen.mean(0)) / spread.std(0)
    mcse = posterior.table["mcse_mean"][posterior.judged] / posterior.table["sd"][posterior.judged]
    k = pareto_k(log_ratio) if np.ptp(log_ratio) > 1e-12 else float("-inf")
    return Certificate(float(np.abs(log_ratio).max()), k, float(shift.max()), float(np.max(mcse)), len(chosen))


class Calibration(NamedTuple):
    """Result of `calibrate`, in posterior standard deviations of the exact draws.

    Attributes:
        shift: largest difference of a mean.
        scale: largest |log| of a ratio of standard deviations.
        error: largest Monte Carlo error of these differences, 2/√ESS of either.
        worst: name of the coordinate that differs most.
    """

    shift: float
    scale: float
    error: float
    worst: str

    def __str__(self) -> str:
        verdict = "within Monte Carlo error" if max(self.shift, self.scale) < 2 * self.error else "biased"
        return (
            f"means off by {self.shift:.2g} sd, spreads by a factor {np.exp(self.scale):.3g}, error {self.error:.2g}, "
            f"worst at {self.worst}: {verdict}"
        )


def calibrate(draws: PyTree, posterior: Posterior) -> Calibration:
    """How far draws of an approximate sampler (SGLD, Langevin, a variational Gaussian) are from those of `sample`.

    Args:
        draws: leaves [draws, …] or [chains, draws, …], in the structure of one `posterior.draws`.
        posterior: the exact one.

    Raises:
        ValueError: if the two differ in structure or shape.
    """
    exact, names = posterior.columns()
    like = jax.tree.map(lambda x: x.shape[2:], posterior.draws)
    if jax.tree.structure(draws) != jax.tree.structure(posterior.draws):
        raise ValueError("calibrate: the draws are another pytree than the posterior's.")
    leaves = []
    shapes = jax.tree.leaves(like, is_leaf=lambda s: isinstance(s, tuple))
    for x, inside in zip(jax.tree.leaves(draws), shapes, strict=True):
        x = np.asarray(x, np.float64)
        x = x[None] if x.ndim == len(inside) + 1 else x
        if x.ndim != len(inside) + 2 or x.shape[2:] != inside:
            raise ValueError(f"calibrate: draws of shape {x.shape} where [chains, draws, *{inside}] is needed.")
        leaves.append(x.reshape(*x.shape[:2], -1))
    mine = np.moveaxis(np.concatenate(leaves, axis=-1), -1, 0)[posterior.judged]
    exact, names = ([part[i] for i in posterior.judged] for part in (exact, names))
    sd = np.array([x.std() for x in exact])
    shift = np.abs([a.mean() - b.mean() for a, b in zip(mine, exact, strict=True)]) / sd
    scale = np.abs(np.log([a.std() / s for a, s in zip(mine, sd, strict=True)]))
    ess = [min(dg.ess_bulk(a), dg.ess_bulk(b)) for a, b in zip(mine, exact, strict=True)]
    worst = int(np.argmax(np.maximum(shift, scale)))
    return Calibration(float(shift.max()), float(scale.max()), float(2 / np.sqrt(np.min(ess))), names[worst])
