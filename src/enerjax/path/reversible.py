"""The adjoint of a reversible motion without storing it: run the motion backwards while the cotangent runs back.

    z₀ → z₁ → … → zₙ            a symplectic, palindromic step: step(−dt) undoes step(dt)
    z₀ ← z₁ ← … ← zₙ,  λₙ₋₁ = (∂zₙ/∂zₙ₋₁)ᵀ λₙ

Memory does not depend on the number of steps. Rounding is undone only to the accuracy of the arithmetic, times the
growth of errors e^(λt) of a chaotic motion over one stretch between kept states, which are used as anchors.
"""

import equinox as eqx
import jax
import jax.numpy as jnp

from .. import _tree as tree
from .._array import Energy, PyTree
from ..flow.phase import Phase
from ..flow.splitting import verlet
from .rollout import rollout


def reversible(energy: Energy, z: Phase, dt, *, length: int, stride: int = 1, step=verlet, mass=1.0) -> Phase:
    """The states of z ← step(energy, z, dt, mass), every `stride`-th kept, with a backward pass of constant memory.

    The same values as `rollout(lambda z, _: step(energy, z, dt, mass), z, length=length, stride=stride)`, the same
    gradient by energy, z, dt and mass to rounding. For jvp and second derivatives use `rollout`.

    Args:
        energy: E(q), a pytree whose arrays can be differentiated by (an `eqx.Module`, not a closure over them).
        z: initial phase point, `Phase.at(energy, q, p)`.
        dt: time step.
        length: number of steps.
        stride: keep every stride-th state; `stride=length` keeps the last only.
        step: a reversible step of the signature of `flow.verlet`: verlet, minimum_norm, yoshida4, blanes_moan4, ….
        mass: a number, an array, or a mass object.

    Returns:
        Phase points stacked on a leading axis of size length // stride.

    Raises:
        ValueError: if length is not a multiple of stride.
    """
    if stride < 1 or length % stride:
        raise ValueError(f"reversible: {length} steps are not a multiple of stride={stride}.")
    z = jax.tree.map(jnp.asarray, z)
    dt = jnp.asarray(dt, jnp.result_type(*jax.tree.leaves(z.position)))
    return _reversible((energy, z, dt, mass), step, length, stride)


@eqx.filter_custom_vjp
def _reversible(inputs, step, length, stride):
    energy, z, dt, mass = inputs
    return rollout(lambda z, _: step(energy, z, dt, mass), z, length=length, stride=stride)


@_reversible.def_fwd
def _forward(perturbed, inputs, step, length, stride):
    del perturbed
    kept = _reversible(inputs, step, length, stride)
    return kept, kept


@_reversible.def_bwd
def _backward(kept, cotangents, perturbed, inputs, step, length, stride):
    del perturbed
    energy, z0, dt, mass = inputs
    laws, static = eqx.partition((energy, dt, mass), eqx.is_inexact_array)
    dense = lambda ct, like: jax.tree.map(
        lambda c, v: jnp.zeros_like(v) if c is None else c, ct, like, is_leaf=lambda c: c is None
    )
    cotangents = dense(cotangents, kept)

    def forth(laws, z):
        energy, dt, mass = eqx.combine(laws, static)
        return step(energy, z, dt, mass)

    def one(_, state):
        z, λ, grad = state
        z = step(energy, z, -dt, mass)
        _, pull = jax.vjp(forth, laws, z)
        dlaws, λ = pull(λ)
        return z, λ, tree.add(grad, dlaws)

    def stretch(state, k):
        λ, grad = state
        pick = lambda rows: jax.tree.map(lambda v: v[k], rows)
        λ = tree.add(λ, pick(cotangents))
        _, λ, grad = jax.lax.fori_loop(0, stride, one, (pick(kept), λ, grad))
        return (λ, grad), None

    start = (tree.zeros_like(z0), tree.zeros_like(laws))
    (λ, grad), _ = jax.lax.scan(stretch, start, jnp.arange(length // stride), reverse=True)
    energy_bar, dt_bar, mass_bar = grad
    return energy_bar, λ, dt_bar, mass_bar


def anchored_growth(energy: Energy, z: Phase, dt, *, length: int, step=verlet, mass=1.0) -> PyTree:
    """How far there-and-back misses: |q₀ − q̃₀| after `length` steps forward and as many back.

    The relative error of the reversible adjoint is of this size; choose `stride` so that it is small over one stretch.
    """
    there = jax.lax.fori_loop(0, length, lambda _, z: step(energy, z, dt, mass), z)
    back = jax.lax.fori_loop(0, length, lambda _, z: step(energy, z, -dt, mass), there)
    return tree.norm(tree.sub(back.position, z.position))
