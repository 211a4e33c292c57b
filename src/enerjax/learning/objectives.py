"""Objectives that are only formulas: overlap of masks, direction of returns, and rewards without a derivative."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from .._array import Key, PyTree, Scalar


def soft_iou(probability: Float[Array, "..."], mask: Float[Array, "..."]) -> Scalar:
    """Σ p y / Σ (p + y − p y): the intersection over union of a soft mask p; exactly the hard one when p is 0 or 1.

    Two empty masks overlap fully: 1. M. A. Rahman and Y. Wang, ISVC 2016.
    """
    overlap, union = jnp.sum(probability * mask), jnp.sum(probability + mask - probability * mask)
    return jnp.where(union > 0, overlap / jnp.where(union > 0, union, 1.0), 1.0)


def soft_iou_loss(probability: Float[Array, "..."], mask: Float[Array, "..."]) -> Scalar:
    """1 − soft IoU. ∂/∂p = −(y U − I (1 − y))/U²: pixels of the mask pull by 1/U, all others push by I/U²."""
    return 1.0 - soft_iou(probability, mask)


def directional_loss(
    predicted: Float[Array, "..."], observed: Float[Array, "..."], penalty: float | Scalar = 1.0
) -> Scalar:
    """⟨(r̂ − r)² + κ max(0, −r̂ sign r)⟩: squared error while the sign is right, and a price on the wrong direction.

    Continuous and convex in r̂. The price grows with the bet against the move, not with the move: a heavy tail of r,
    which makes squared errors inefficient, does not reach it.

    Args:
        predicted: r̂.
        observed: r.
        penalty: κ; 0 is the mean squared error.
    """
    return jnp.mean((predicted - observed) ** 2 + penalty * jnp.maximum(0.0, -jnp.sign(observed) * predicted))


def reinforce(
    log_probability: Callable[[PyTree, PyTree], Scalar],
    sample: Callable[[PyTree, Key], PyTree],
    cost: Callable[[PyTree], Scalar],
    params: PyTree,
    keys: Shaped[Array, "n ..."],
    *,
    baseline: bool = True,
) -> Scalar:
    """⟨cost⟩ of samples, with the score-function gradient ⟨(cost − b) ∂ log p⟩: the cost needs no derivative.

    R. J. Williams, Machine Learning 8, 229 (1992). The baseline b of each sample is the mean cost of the others, which
    leaves the gradient unbiased and shrinks its variance.

    Args:
        log_probability: `log_probability(params, x)`.
        sample: `sample(params, key) -> x`.
        cost: any function of x, differentiable or not.
        params: what is learned.
        keys: one key per sample, [n].
        baseline: whether to subtract b; needs two samples or more.
    """
    fixed = jax.lax.stop_gradient
    xs = fixed(jax.vmap(lambda key: sample(fixed(params), key))(keys))
    costs = fixed(jax.vmap(cost)(xs))
    n = costs.shape[0]
    if baseline and n < 2:
        raise ValueError("reinforce: a baseline needs at least two keys; pass more, or baseline=False.")
    b = (jnp.sum(costs) - costs) / (n - 1) if baseline else jnp.zeros_like(costs)
    scores = jax.vmap(lambda x: log_probability(params, x))(xs)
    surrogate = jnp.mean((costs - b) * scores)
    return jnp.mean(costs) + surrogate - fixed(surrogate)  # the value of the first, the gradient of the second
