"""Repeat a step, keep what it passes through. The one scan: back-propagation through time, 4D-Var and hypergradients
are its transpose, Lyapunov exponents its tangent."""

import jax
import jax.numpy as jnp

from .._array import PyTree
from .._precision import full_precision


@full_precision
def rollout(
    step, z: PyTree, xs: PyTree = None, *, length: int | None = None, stride: int = 1, levels: int = 1
) -> PyTree:
    """The states z₁, z₂, … of z ← step(z, x), every `stride`-th of them kept.

    Memory of the backward pass for n steps, in states, and the forward steps it repeats:

        stride=1                        n               0     nothing is recomputed
        stride=√n                       2√n             n     the kept states are the checkpoints
        stride=n, levels=L              L n^(1/L)       L n   nested checkpoints; L = log₂ n: 2 log₂ n states

    Forward mode (`jax.jvp`) needs no memory whatever the stride.

    Args:
        step: `step(z, x) -> z`; x is None when there are no inputs.
        z: the initial state, any pytree of arrays.
        xs: inputs with a leading time axis, or None.
        length: number of steps; needed only without `xs`.
        stride: keep every stride-th state. The backward pass stores the kept states and recomputes one stretch of
            `stride` steps at a time, so `stride ≈ √length` costs one more forward pass and √length memory.
        levels: nested checkpoints inside each stretch (see above): when few states are wanted of a long path.

    Returns:
        The kept states, stacked on a leading axis of size length // stride; the last one is the final state.

    Raises:
        ValueError: if the length is missing, disagrees with `xs`, or is not a multiple of `stride`.
    """
    leaves = jax.tree.leaves(xs)
    if leaves:
        if length is not None and length != len(leaves[0]):
            raise ValueError(f"rollout: length={length}, but xs has {len(leaves[0])} entries.")
        length = len(leaves[0])
    if length is None:
        raise ValueError("rollout: give inputs xs or the number of steps, length=….")
    if stride < 1 or length % stride:
        raise ValueError(f"rollout: {length} steps are not a multiple of stride={stride}.")
    if levels < 1:
        raise ValueError(f"rollout: levels must be at least 1, not {levels}.")
    xs = jax.tree.map(lambda x: jnp.reshape(x, (length // stride, stride, *x.shape[1:])), xs)

    def stretch(z, xs):
        return _repeat(step, z, xs, stride, levels)

    if stride > 1:
        stretch = jax.checkpoint(stretch)

    def kept(z, xs):
        z = stretch(z, xs)
        return z, z

    return jax.lax.scan(kept, z, xs, length=length // stride)[1]


def _repeat(step, z: PyTree, xs: PyTree, length: int, levels: int) -> PyTree:
    """The state after `length` steps, checkpointed at about length^(1/levels) places on each of `levels` levels."""
    if levels == 1 or length <= 2:
        return jax.lax.scan(lambda z, x: (step(z, x), None), z, xs, length=length)[0]
    pieces = max(2, round(length ** (1 / levels)))
    size = -(-length // pieces)
    whole = length // size
    head = jax.tree.map(lambda x: jnp.reshape(x[: whole * size], (whole, size, *x.shape[1:])), xs)
    piece = jax.checkpoint(lambda z, xs: _repeat(step, z, xs, size, levels - 1))
    z, _ = jax.lax.scan(lambda z, xs: (piece(z, xs), None), z, head, length=whole)
    if length > whole * size:
        tail = jax.tree.map(lambda x: x[whole * size :], xs)
        z = jax.checkpoint(lambda z, xs: _repeat(step, z, xs, length - whole * size, levels - 1))(z, tail)
    return z
