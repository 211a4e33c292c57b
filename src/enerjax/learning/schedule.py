"""Learning to learn: the final validation loss differentiated by every step's learning rate, through the whole run.

A run of an optimiser is a path; its last state judged on other data is a scalar, and the gradient of that scalar by the
inputs of the path, one rate per step, is the adjoint of the scan. Memory is that of √steps states (`stride`).

D. Maclaurin, D. Duvenaud and R. P. Adams, ICML 2015 (arXiv 1502.03492).
"""

from collections.abc import Callable

import jax
import optax
from jaxtyping import Array, Float

from .._array import PyTree, Scalar
from ..path.rollout import rollout


def run(
    loss: Callable[[PyTree, PyTree], Scalar],
    params: PyTree,
    rates: Float[Array, " steps"],
    batches: PyTree,
    *,
    direction: optax.GradientTransformation | None = None,
    stride: int = 1,
) -> PyTree:
    """The parameters after θ ← θ − ηₜ uₜ, one rate and one batch per step.

    Args:
        loss: `loss(params, batch)`.
        params: a pytree of arrays.
        rates: η₁ … η_steps.
        batches: a pytree with a leading axis of size steps, or None when the loss needs none.
        direction: what turns a gradient into u before the rate: `optax.trace(0.9)` for momentum,
            `optax.scale_by_adam()`; the gradient itself by default.
        stride: see `path.rollout`: about √steps saves memory when differentiating.
    """
    direction = optax.identity() if direction is None else direction

    def step(z, x):
        params, state = z
        rate, batch = x
        update, state = direction.update(jax.grad(loss)(params, batch), state, params)
        return jax.tree.map(lambda p, u: p - rate * u, params, update), state

    kept, _ = rollout(step, (params, direction.init(params)), (rates, batches), stride=stride)
    return jax.tree.map(lambda v: v[-1], kept)


def final_loss(
    loss: Callable[[PyTree, PyTree], Scalar], validation: Callable[[PyTree], Scalar], **options
) -> Callable[[Float[Array, " steps"], PyTree, PyTree], Scalar]:
    """(rates, params, batches) ↦ validation loss after the run: `jax.grad` of it is the hypergradient."""
    return lambda rates, params, batches: validation(run(loss, params, rates, batches, **options))
