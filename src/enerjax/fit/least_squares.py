"""Least squares: linear by QR; nonlinear by Gauss–Newton and Levenberg–Marquardt, dense, by kernel, or matrix-free.

Everything here consumes a misfit E(θ) = ½‖r(θ)‖² (`energy.Misfit`, or sums and multiples of such) over a pytree θ. QR
of the Jacobian and never its normal equations where digits matter: these keep half of them.
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

    Columns are scaled to unit length, then ½‖A x − b‖² + ½ ridge² ‖x‖² is minimised by a second QR: the ridge at
    rounding level keeps the coefficients of a numerically dependent basis small, which is what evaluation needs.
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


class Fit(NamedTuple):
    """What a nonlinear least-squares solver returns: parameters, ½‖r‖² there, and the history of ½‖r‖²."""

    value: PyTree
    energy: float
    history: list[float]
    converged: bool


def jacobian(energy: Energy, x: PyTree, *, forward: bool | None = None) -> tuple[Array, Array]:
    """r(x) [m] and ∂r/∂x [m, n] over the flattened x: by columns (forward mode) when n ≤ m, else by rows."""
    flat, unravel = ravel_pytree(x)
    f = lambda v: residual(energy, unravel(v))
    r = f(flat)
    by_columns = flat.size <= r.size if forward is None else forward
    return r, (jax.jacfwd if by_columns else jax.jacrev)(f)(flat)


def _direction(r: Array, J: Array, damping: Array, scale: Array) -> Array:
    """argmin ‖J s + r‖² + damping ‖D s‖², D = diag(scale); by the kernel J D⁻² Jᵀ where residuals are fewer than
    parameters.
    """
    m, n = J.shape
    Js = J / scale[None, :]
    if m < n:
        K = Js @ Js.T + damping * jnp.eye(m, dtype=J.dtype)
        return -(Js.T @ jax.scipy.linalg.cho_solve(jax.scipy.linalg.cho_factor(K), r)) / scale
    rows = jnp.concatenate([Js, jnp.sqrt(damping) * jnp.eye(n, dtype=J.dtype)])
    right = jnp.concatenate([-r, jnp.zeros(n, J.dtype)])
    R = jnp.linalg.qr(jnp.concatenate([rows, right[:, None]], axis=1), mode="r")
    return jax.scipy.linalg.solve_triangular(R[:n, :n], R[:n, n]) / scale


def _conjugate_gradient(energy: Energy, x: PyTree, damping: Array, iterations: int) -> tuple[Array, Array]:
    """r and the Levenberg–Marquardt step by CG on (JᵀJ + damping) s = −Jᵀr, J never formed."""
    r, forward, transpose = linearise(energy, x)
    flat, unravel = ravel_pytree(x)
    apply = lambda v: ravel_pytree(transpose(forward(unravel(v))))[0] + damping * v
    right = -ravel_pytree(transpose(r))[0]
    return r, jax.scipy.sparse.linalg.cg(apply, right, maxiter=iterations)[0]


@jax.jit
def _square(r: Array) -> Array:
    return 0.5 * r @ r


class Steps(NamedTuple):
    """The compiled steps of `levenberg_marquardt` for unknowns of one structure; hand the same to repeated calls."""

    value: Callable
    look: Callable
    propose: Callable
    propose_free: Callable


def compiled(x: PyTree, cg_iterations: int = 200) -> Steps:
    """Steps for unknowns like x, compiled when first used with a kind of energy; they go when the caller lets go."""
    import equinox as eqx

    unravel = ravel_pytree(x)[1]

    def look(energy, flat):
        r, J = jacobian(energy, unravel(flat))
        return r, J, jnp.maximum(jnp.linalg.norm(J, axis=0), 1e-12 * jnp.linalg.norm(J) + 1e-300)

    def propose(energy, flat, r, J, scale, damping):
        new = flat + _direction(r, J, damping, scale)
        return new, _square(residual(energy, unravel(new)))

    def propose_free(energy, flat, damping):
        r, step = _conjugate_gradient(energy, unravel(flat), damping, cg_iterations)
        return flat + step, _square(residual(energy, unravel(flat + step))), _square(r)

    value = lambda energy, flat: _square(residual(energy, unravel(flat)))
    jit = eqx.filter_jit
    return Steps(jit(value), jit(look), jit(propose), jit(propose_free))


def levenberg_marquardt(
    energy: Energy,
    x: PyTree,
    *,
    iterations: int = 100,
    damping: float = 1e-3,
    tolerance: float = 1e-14,
    matrix_free: bool = False,
    cg_iterations: int = 200,
    should_stop: Callable[[float], bool] = lambda value: False,
    steps: Steps | None = None,
) -> Fit:
    """Minimise ½‖r(x)‖² with damped Gauss–Newton steps: the damping falls by 3–10 at success and rises tenfold at
    failure.

    Args:
        energy: a misfit, or sums and positive multiples of misfits (arrays are its data; it is never recompiled for
            new ones).
        x: where to start, any pytree of arrays.
        iterations: most accepted steps.
        damping: initial, relative to the squared column norms of J (absolute where matrix-free). 0 is Gauss–Newton.
        tolerance: relative decrease of the energy at which to stop.
        matrix_free: solve by conjugate gradients, J never formed: for more than a few thousand parameters.
        cg_iterations: most CG iterations per step.
        should_stop: called with the energy after each step; true ends the fit (time, patience).
        steps: `compiled(x)`, to compile once for several calls.

    Raises:
        ValueError: the energy is not of the form ½‖r‖².
        FloatingPointError: the residual is not finite at the start.
    """
    flat, unravel = ravel_pytree(x)
    steps = compiled(x, cg_iterations) if steps is None else steps
    value = float(steps.value(energy, flat))
    if not jnp.isfinite(value):
        raise FloatingPointError("Levenberg–Marquardt: the residual is not finite at the start")
    history, factor, converged = [value], float(damping), False
    for _ in range(iterations):
        parts = None if matrix_free else steps.look(energy, flat)
        for _attempt in range(22):
            if parts is None:
                new, after, _ = steps.propose_free(energy, flat, jnp.asarray(factor))
            else:
                r, J, scale = parts
                new, after = steps.propose(energy, flat, r, J, scale, jnp.asarray(factor))
            after = float(after)
            if after < value:
                break
            factor = max(10 * factor, 1e-15)
        else:
            converged = True
            break
        gain, flat, value = (value - after) / value, new, after
        factor = max(factor / (10 if gain > 0.5 else 3), 1e-18)
        history.append(value)
        if gain < tolerance or value == 0.0:
            converged = True
            break
        if should_stop(value):
            break
    return Fit(unravel(flat), value, history, converged)


def gauss_newton(energy: Energy, x: PyTree, **options) -> Fit:
    """Minimise ½‖r(x)‖² by undamped steps, damped only after one fails."""
    return levenberg_marquardt(energy, x, damping=0.0, **options)


def natural_gradient(metric: Energy, energy: Energy, x: PyTree, damping: float | Array = 1e-8) -> PyTree:
    """The energy natural gradient step −(JᵀJ + damping D²)⁻¹ ∇E: J of `metric`, a misfit such as the strain energy's.

    Müller & Zeinhofer (2023), ICML: with the Hessian of a quadratic energy in function space as metric, the step
    follows the Newton direction of the function, projected on the tangent space of the network.
    """
    _, J = jacobian(metric, x)
    gradient, unravel = ravel_pytree(jax.grad(energy)(x))
    scale = jnp.maximum(jnp.linalg.norm(J, axis=0), 1e-300)
    R = jnp.linalg.qr(
        jnp.concatenate([J / scale[None, :], jnp.sqrt(damping) * jnp.eye(J.shape[1], dtype=J.dtype)]), mode="r"
    )
    half = jax.scipy.linalg.solve_triangular(R, gradient / scale, trans="T")
    return unravel(-jax.scipy.linalg.solve_triangular(R, half) / scale)
