"""Motions that come to rest: FIRE, and any optax transformation as a step.

FIRE is kick and drift as in `splitting`, with the velocity turned towards the force and a stop whenever it points
uphill. With `optax_step` a first-order optimiser, or L-BFGS with its line search, is a flow like the others:
(E, state) ↦ state.

E. Bitzek et al., Phys. Rev. Lett. 97, 170201 (2006).
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from .. import _tree as tree
from .._array import Energy, PyTree, Scalar
from .phase import Phase, drift, feel, kick


class FireState(eqx.Module):
    """A phase point, the adapted time step and mixing α, and the number of steps downhill."""

    phase: Phase
    dt: Scalar
    mixing: Scalar
    downhill: Int[Array, ""]


class Fire(eqx.Module):
    """Fast inertial relaxation engine, unit mass; the parameters are the paper's, times in units of the problem.

    Attributes:
        dt: first time step.
        dt_max: longest time step.
        max_move: longest displacement of one step, in the norm of the whole state.
        mixing: α at the start and after every stop.
        patience: steps downhill before dt grows.
    """

    dt: float = 0.1
    dt_max: float = 1.0
    max_move: float = 0.5
    mixing: float = 0.1
    patience: int = 5

    def start(self, energy: Energy, x: PyTree) -> FireState:
        """At rest at x."""
        z = Phase.at(energy, x)
        real = z.energy.dtype
        return FireState(z, jnp.asarray(self.dt, real), jnp.asarray(self.mixing, real), jnp.array(0))

    def __call__(self, energy: Energy, state: FireState) -> FireState:
        """One step: mix, kick, drift, feel; one gradient."""
        z = state.phase
        up = tree.dot(z.momentum, z.force) <= 0
        count = jnp.where(up, 0, state.downhill + 1)
        late = count > self.patience
        dt = jnp.where(up, 0.5 * state.dt, jnp.where(late, jnp.minimum(1.1 * state.dt, self.dt_max), state.dt))
        mixing = jnp.where(up, self.mixing, jnp.where(late, 0.99 * state.mixing, state.mixing))
        towards = tree.norm(z.momentum) / jnp.maximum(tree.norm(z.force), jnp.finfo(dt.dtype).tiny)
        turned = tree.axpy(state.mixing * towards, z.force, tree.scale(1.0 - state.mixing, z.momentum))
        z = Phase(z.position, tree.where(up, tree.zeros_like(z.momentum), turned), z.force, z.energy)
        z = kick(z, dt)
        step = jnp.minimum(dt, self.max_move / jnp.maximum(tree.norm(z.momentum), jnp.finfo(dt.dtype).tiny))
        return FireState(feel(energy, drift(z, step)), dt, mixing, count)


def optax_step(
    energy: Energy, x: PyTree, memory: PyTree, optimizer: optax.GradientTransformation
) -> tuple[PyTree, PyTree]:
    """x ← x + optimizer(∇E): one update of any optax transformation; start from `optimizer.init(x)`.

    Value and gradient are handed on, so that transformations with a line search (`optax.lbfgs()`) work as they are.
    """
    value, gradient = jax.value_and_grad(energy)(x)
    optimizer = optax.with_extra_args_support(optimizer)
    updates, memory = optimizer.update(gradient, memory, x, value=value, grad=gradient, value_fn=energy)
    return optax.apply_updates(x, updates), memory
