"""Least squares: linear by QR; nonlinear by Gauss–Newton and Levenberg–Marquardt, dense, by kernel, or matrix-free.

Everything here consumes a misfit E(θ) = ½‖r(θ)‖² (`energy.Misfit`, or sums and multiples of such) over a pytree θ. QR of the
Jacobian and never its normal equations where digits matter: these keep half of them.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from .._array import Energy, PyTree, Scalar
from ..energy import linearise, residual


def reduce(A: Float[Array, "m n"], b: Float[Array, " m"], R: Float[Array, "k k"] | None = None) -> Float[Array, "k k"]:
    """The triangle of [A b] (below `R` of earlier rows, if any), k = n + 1: all that least squares needs of the rows.

    Rows may so come in batches, under any memory bound.
    """
    rows = jnp.concatenate([A, b[:, None]], axis=1)
    if R is not None:
        rows = jnp.concatenate([R, rows])
    k = rows.shape[1]
    if rows.shape[0] < k:
        rows = jnp.concatenate([rows, jnp.zeros((k - rows.shape[0], k), rows.dtype)])
    return jnp.linalg.qr(rows, mode="r")


def solve_reduced(R: Float[Array, "k k"], ridge: float | Array = 1e-14) -> tuple[Float[Array, " n"], Scalar]:
    """x and ‖A x − b‖ from the triangle of [A b].

    Columns are scaled to unit length, then ½‖A x − b‖² + ½ ridge² ‖x‖² is minimised by a second QR: the ridge at rounding level
    keeps the coefficients of a numerically dependent basis small, which is what evaluation needs.
    """
    n = R.shape[0] - 1
    scale = jnp.linalg.norm(R[:, :n], axis=0)
    scale = jnp.where(scale > 0, scale, 1.0)
    A = R[:n, :n] / scale[None, :]
    padded = jnp.concatenate([A, ridge * jnp.eye(n, dtype=R.dtype)])
    b = jnp.concatenate([R[:n, n], jnp.zeros(n, R.dtype)])
    T = jnp.linalg.qr(jnp.concatenate([padded, b[:, None]], axis=1), mode="r")
    x = jax.scipy.linalg.solve_triangular(T[:n, :n], T[:n, n])
    misfit = jnp.sqrt(jnp.sum((A @ x - R[:n, n]) ** 2) + R[n, n] ** 2)
    return x / scale, misfit


def lstsq(A: Float[Array, "m n"], b: Float[Array, " m"], ridge: float | Array = 1e-14) -> Float[Array, " n"]:
    """argmin ‖A x − b‖ by QR with column scaling; `ridge` relative to the unit columns."""
    return solve_reduced(reduce(A, b), ridge)[0]
