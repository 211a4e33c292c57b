"""How strong a prior the data ask for, and how well a kind of law explains them, without held-out data.

    p(y | α) = ∫ p(y | θ, z₀) Π_g N(θ_g; 0, 1/α_g) dθ dz₀      ln p ≈ −E − ½ ln det H + ½ Σ_g n_g ln α_g
    E = ½ Σ ‖(h(y(tₖ)) − yₖ)/σ‖² + ½ Σ_g α_g ‖θ_g‖²            H = JᵀJ + diag(α)

at the minimum of E. Its stationary α_g = γ_g/‖θ_g‖², γ_g = n_g − α_g tr (H⁻¹)_gg the number of parameters of the group
that the data determine. D. J. C. MacKay, Neural Computation 4, 415 (1992).
"""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from .._array import PyTree
from ..energy import Misfit
from ..fit.least_squares import compiled, levenberg_marquardt
from ..path import Observations, solve
from ..path.assimilate import refuse_nan
from .training import Learned


class Weighed(NamedTuple):
    """A law at the prior that the data ask for.

    Attributes:
        learned: the law and its starts at the minimum of E.
        log_evidence: ln p(y | α) up to a constant that is the same for all laws of the same data and noise.
        strength: α, one number for each array of the field.
        determined: Σ γ, how many of the field's parameters the data determine.
    """

    learned: Learned
    log_evidence: float
    strength: PyTree
    determined: float


def weigh(
    learned: Learned,
    ts: Float[ArrayLike, " times"],
    ys: Float[ArrayLike, "paths times d"],
    *,
    noise: float | Array,
    strength: float = 1.0,
    observe: Callable = lambda y: y,
    args: Callable | None = None,
    missing: bool = False,
    rounds: int = 10,
    steps: int = 10,
    tolerance: float = 0.1,
    solver: dict | None = None,
) -> Weighed:
    """Fit the law with Gaussian priors around zero whose strengths are themselves fitted, one per array of the field.

    Compare kinds of laws (widths, depths, symmetries) by `log_evidence`: what a law could fit but did not need counts
    against it. The starts are free, with a flat prior. Float64 is advised: H is inverted.

    Args:
        learned: what `learn` returned.
        ts: common times, [times].
        ys: readings, [paths, times, d].
        noise: σ, the known standard deviation of the readings: the scale of the evidence.
        strength: the first α, of all arrays.
        observe: state ↦ reading.
        args: row ↦ args of the field.
        missing: NaN readings are allowed and left out.
        rounds: of fit and new strengths, at most.
        steps: of Levenberg–Marquardt in each round, at most.
        tolerance: change of the log-evidence below which to stop.
        solver: options of `path.solve`.
    """
    refuse_nan(ys, missing)
    ys, ts, rows = jnp.asarray(ys), jnp.asarray(ts), jnp.arange(len(ys))
    params, static = eqx.partition(learned, eqx.is_inexact_array)
    sizes = np.array([v.size for v in jax.tree.leaves(params.field)])
    group = np.repeat(np.arange(len(sizes)), sizes)
    alphas = np.full(len(sizes), float(strength))
    structure = jax.tree.structure(params.field)

    def residual(params, alphas):
        model = eqx.combine(params, static)

        def one(row, start, y):
            run = solve(model.field, start, ts, None if args is None else args(row), **(solver or {}))
            return Observations(lambda s: s, y, noise, observe).residual(run)

        prior = [jnp.sqrt(a) * v for a, v in zip(alphas, jax.tree.leaves(params.field), strict=True)]
        return jax.vmap(one)(rows, model.starts, ys), prior

    lm = compiled(params)
    evidence, gamma = -np.inf, sizes.astype(float)
    for turn in range(rounds):
        energy = Misfit(residual, (jnp.asarray(alphas),))
        damping = 1e-3 if turn == 0 else 1e-6
        fitted = levenberg_marquardt(energy, params, iterations=steps, tolerance=1e-6, damping=damping, steps=lm)
        params, J = fitted.value, np.asarray(lm.look(energy, ravel_pytree(fitted.value)[0])[1])
        H = J.T @ J
        before = evidence
        evidence = -fitted.energy + 0.5 * float(np.sum(sizes * np.log(alphas)) - np.linalg.slogdet(H)[1])
        covariance = np.linalg.inv(H)
        squares = np.array([float(jnp.sum(v**2)) for v in jax.tree.leaves(params.field)])
        # the field's parameters come first in H, as in the tree
        gamma = sizes - alphas * np.bincount(group, np.diag(covariance)[: len(group)], minlength=len(sizes))
        if abs(evidence - before) < tolerance or turn == rounds - 1:
            break
        alphas = np.clip(gamma, 1e-3, None) / (squares + 1e-8)
    strengths = jax.tree.unflatten(structure, [float(a) for a in alphas])
    return Weighed(eqx.combine(params, static), evidence, strengths, float(gamma.sum()))
