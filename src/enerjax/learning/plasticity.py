"""What may learn: a gate on every parameter's rate, as methylation freezes a synapse.

A gate g multiplies an update: it is the mobility G of the flow θ̇ = −G∇E, or one over the mass in `flow.descend`.
Between 0 and 1 it slows, at 0 it freezes to the bit. Frozen sub-trees and transfer learning are gates of 0 and 1.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from .._array import PyTree


def gate(gates: PyTree) -> optax.GradientTransformation:
    """Multiply updates by gates; put it last in an `optax.chain`, after whatever rescales gradients.

    Args:
        gates: a pytree like the parameters, or a prefix of it, of numbers or arrays that broadcast against them. Where
            a gate is 0 the parameter stays the same to the bit, whatever the update, NaN included.
    """

    def through(g, u):
        g = jnp.asarray(g, u.dtype)
        # −0 and not 0: x + (−0) is x for every x, also for x = −0
        return jnp.where(g == 0, -jnp.zeros_like(u), g * u)

    def update(updates, state, params=None):
        del params
        spread = lambda g, tree: jax.tree.map(lambda u: through(g, u), tree)
        return jax.tree.map(spread, gates, updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def gates_of(
    model: PyTree, where: Callable[[PyTree], PyTree], inside: float | Array = 0.0, outside: float = 1.0
) -> PyTree:
    """Gates for the trainable arrays of `model`: `inside` on the sub-tree `where(model)` picks, `outside` elsewhere.

    `gates_of(model, lambda m: m.layers[:-1])` freezes all but the last layer: transfer learning.
    """
    params = eqx.filter(model, eqx.is_inexact_array)
    gates = jax.tree.map(lambda _: outside, params)
    picked = jax.tree.map(lambda _: inside, where(params))
    if not jax.tree.leaves(picked):
        raise ValueError("gates_of: `where` picks no trainable array of the model; check the path it returns.")
    return eqx.tree_at(where, gates, picked, is_leaf=lambda x: x is None)


def soft_bounds(bound: float | Array, noise: float | Array, key) -> optax.GradientTransformation:
    """The update of a memristor: u ← −(g + σξ), Δw = η u (1 − a w sign u), with read noise σξ on every gradient.

    Potentiation (u > 0) slows as the conductance nears its upper bound 1/a, depression as it nears the lower: what
    noise does to a weight depends on the weight. On average E[Δw] = −η (g + a E|g + σξ| w): descent on L + ½ λ w², with
    the Tikhonov coefficient λ = `tikhonov(bound, noise, g)`, which for small g is a σ √(2/π).

    S. Fusi and L. F. Abbott, Nature Neurosci. 10, 485 (2007) (soft bounds). It takes and returns gradients:
    chain it with `optax.scale_by_learning_rate`.

    Args:
        bound: a ≥ 0, one over the largest weight.
        noise: σ.
        key: random key of the noise; kept in the optimiser's state and advanced at each update.
    """

    def update(updates, state, params=None):
        if params is None:
            raise ValueError("soft_bounds: the step depends on the weights; call update(gradients, state, params).")
        key, use = jax.random.split(state)
        leaves, treedef = jax.tree.flatten(updates)
        keys = jax.tree.unflatten(treedef, list(jax.random.split(use, len(leaves))))
        noisy = jax.tree.map(lambda g, k: g + noise * jax.random.normal(k, g.shape, g.dtype), updates, keys)
        # for the direction g of an update −ηg: u = −g, u (1 − a w sign u) = −(g + a |g| w)
        return jax.tree.map(lambda g, w: g + bound * jnp.abs(g) * w, noisy, params), key

    return optax.GradientTransformation(lambda params: key, update)


def tikhonov(bound: float | Array, noise: float | Array, gradient: float | Array = 0.0) -> Array:
    """λ = a E|g + σξ| = a (σ √(2/π) e^(−g²/2σ²) + g erf(g/σ√2)): the mean of a folded normal distribution."""
    gradient = jnp.asarray(gradient, float)
    z = gradient / (noise * jnp.sqrt(2.0))
    return bound * (noise * jnp.sqrt(2 / jnp.pi) * jnp.exp(-(z**2)) + gradient * jax.lax.erf(z))
