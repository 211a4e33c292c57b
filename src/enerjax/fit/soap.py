"""SOAP: Adam in the eigenbasis of Shampoo's preconditioner. For small networks of matrices it halves the steps of Adam.

For a gradient G of shape [m, n], with running means L of GGᵀ and R of GᵀG and their eigenvectors Q_L, Q_R, Adam's
second moment is kept in the rotated coordinates Q_Lᵀ G Q_R; the eigenvectors follow by one step of orthogonal iteration
every `every` steps. N. Vyas et al., SOAP: Improving and stabilizing Shampoo using Adam (2024), algorithm 3.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from .._array import Array, PyTree


class SoapState(NamedTuple):
    """Step count, first moment, second moment (rotated), the two covariances and their eigenvectors."""

    count: Array
    mean: PyTree
    square: PyTree
    left: PyTree
    right: PyTree
    left_basis: PyTree
    right_basis: PyTree


def soap(
    learning_rate: float,
    *,
    b1: float = 0.95,
    b2: float = 0.95,
    epsilon: float = 1e-8,
    every: int = 10,
    largest: int = 512,
) -> optax.GradientTransformation:
    """The optimiser as an optax transformation; composes with `optax.chain`.

    Args:
        learning_rate: step length; about half of what Adam likes.
        b1: decay of the first moment.
        b2: decay of the second moment and of the covariances.
        epsilon: added to the root of the second moment.
        every: steps between updates of the eigenvectors.
        largest: matrices with a longer side are left to Adam, as are vectors. Leading axes of a leaf are a batch of
            matrices.
    """
    return optax.chain(scale_by_soap(b1, b2, epsilon, every, largest), optax.scale(-learning_rate))


def scale_by_soap(
    b1: float = 0.95, b2: float = 0.95, epsilon: float = 1e-8, every: int = 10, largest: int = 512
) -> optax.GradientTransformation:
    """`soap` without the learning rate and its sign."""
    is_matrix = lambda x: x.ndim >= 2 and 1 < max(x.shape[-2:]) <= largest
    on_matrices = lambda f, *trees: jax.tree.map(lambda x, *r: f(x, *r) if is_matrix(x) else x, *trees)

    def square_of(params, axis, value):
        make = lambda x: jnp.broadcast_to(value(x.shape[axis], dtype=x.dtype), (*x.shape[:-2], *2 * (x.shape[axis],)))
        return jax.tree.map(lambda x: make(x) if is_matrix(x) else jnp.zeros((), x.dtype), params)

    def init(params):
        empty = lambda n, dtype: jnp.zeros((n, n), dtype)
        zeros = jax.tree.map(jnp.zeros_like, params)
        covariances = [square_of(params, axis, empty) for axis in (-2, -1)]
        bases = [square_of(params, axis, jnp.eye) for axis in (-2, -1)]
        return SoapState(jnp.zeros((), jnp.int32), zeros, zeros, *covariances, *bases)

    def update(gradients, state, params=None):
        del params
        count = state.count + 1
        blend = lambda old, new: b2 * old + (1 - b2) * new
        mean = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state.mean, gradients)
        covary = lambda g, old, product: blend(old, product(g)) if is_matrix(g) else old
        left = jax.tree.map(lambda g, old: covary(g, old, lambda g: g @ _t(g)), gradients, state.left)
        right = jax.tree.map(lambda g, old: covary(g, old, lambda g: _t(g) @ g), gradients, state.right)
        rotate = lambda x, q, r: _t(q) @ x @ r
        rotated = on_matrices(rotate, gradients, state.left_basis, state.right_basis)
        square = jax.tree.map(lambda v, g: blend(v, g * g), state.square, rotated)
        step = on_matrices(rotate, mean, state.left_basis, state.right_basis)
        mean_scale, square_scale = 1 - b1**count, 1 - b2**count
        step = jax.tree.map(
            lambda m, v: (m / mean_scale.astype(m.dtype)) / (jnp.sqrt(v / square_scale.astype(v.dtype)) + epsilon),
            step,
            square,
        )
        step = on_matrices(lambda x, q, r: q @ x @ _t(r), step, state.left_basis, state.right_basis)
        bases = jax.lax.cond(
            count % every == 0,
            lambda: _follow((left, right), (state.left_basis, state.right_basis)),
            lambda: (state.left_basis, state.right_basis),
        )
        return step, SoapState(count, mean, square, left, right, *bases)

    return optax.GradientTransformation(init, update)


def _t(x: Array) -> Array:
    return jnp.swapaxes(x, -1, -2)


def _follow(covariances: PyTree, bases: PyTree) -> PyTree:
    """All eigenvector bases after one step of orthogonal iteration, matrices of one size in one batch."""
    covariance, structure = jax.tree.flatten(covariances)
    basis = jax.tree.leaves(bases)
    out = list(basis)
    for n in sorted({q.shape[-1] for q in basis if q.ndim >= 2}):
        members = [k for k, q in enumerate(basis) if q.ndim >= 2 and q.shape[-1] == n]
        stack = lambda leaves, n=n, members=members: jnp.concatenate([leaves[k].reshape(-1, n, n) for k in members])
        new = _iterated(stack(covariance), stack(basis))
        ends = np.cumsum([basis[k].size // (n * n) for k in members])[:-1]
        for k, q in zip(members, jnp.split(new, ends), strict=True):
            out[k] = q.reshape(basis[k].shape)
    return jax.tree.unflatten(structure, out)


def _iterated(a: Array, q: Array) -> Array:
    """One step of orthogonal iteration for the eigenvectors of a ≥ 0, [..., n, n]; where a is zero, q stays."""
    n = a.shape[-1]
    trace = jnp.trace(a, axis1=-2, axis2=-1)[..., None, None]
    return orthonormalised(n * (a / (trace + jnp.finfo(a.dtype).tiny)) @ q + 1e-5 * q)


def orthonormalised(x: Array) -> Array:
    """Q of x = QR for non-singular x, [..., n, n], by Gram–Schmidt done twice.

    Matrix products only: the LAPACK calls wait for XLA's thread pool and can block for ever on a pool of one thread.
    """

    def one(x):
        def column(j, q):
            v = x[:, j]
            for _ in range(2):
                v = v - q @ (q.T @ v)
                v = v / (jnp.sqrt(jnp.sum(v * v)) + jnp.finfo(x.dtype).tiny)
            return q.at[:, j].set(v)

        return jax.lax.fori_loop(0, x.shape[0], column, jnp.zeros_like(x))

    return jax.vmap(one)(x.reshape(-1, *x.shape[-2:])).reshape(x.shape)
