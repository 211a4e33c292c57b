"""Self-scaled quasi-Newton: Broyden's family over a dense inverse Hessian, rescaled before every update.

    H⁺ = [H − Hy yᵀH/(yᵀHy) + φ v vᵀ]/τ + s sᵀ/(yᵀs),    v = √(yᵀHy) [s/(yᵀs) − Hy/(yᵀHy)]

for a step s that changed the gradient by y. φ = 1, τ = 1 is BFGS; τ < 1 enlarges what the last update says nothing of,
which ill-conditioned losses such as those of PINNs need: with a = bh − 1, b = sᵀH⁻¹s/yᵀs, h = yᵀHy/yᵀs,

    SSBFGS      φ = 1,  τ = min(1, 1/b)
    SSBroyden   φ = (1 − θ)/(1 + aθ),  θ = max(θ₋, min(1/ρ, (1 − b)/b)),  θ₋ = (ρ − 1)/a,
                ρ = min(1, h(1 − √(a/(1 + a)))),  σ = |1 + aθ|^(1/(1−n)),
                τ = min(1, 1/b) min(σ, 1/θ) where θ > 0, else min(min(1, 1/b) σ, 1 + aθ)

M. Al-Baali, E. Spedicato & F. Maggioni, Optim. Methods Softw. 29 (2014) 937; J. F. Urbán, P. Stefanou & J. A. Pons, J.
Comput. Phys. 523 (2025) 113656; E. Kiyani et al., CMAME 446 (2025) 118308. For up to a few thousand parameters in
float64; the memory is n².
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int

from .._array import Energy, PyTree, Scalar


class State(NamedTuple):
    """Where a run stands, so that it can go on: parameters, E, ∇E (flat), H, steps and energies evaluated so far."""

    x: PyTree
    energy: Scalar
    gradient: Float[Array, " n"]
    inverse: Float[Array, "n n"]
    steps: Int[Array, ""]
    evaluations: Int[Array, ""]
    stuck: Bool[Array, ""]


def start(energy: Energy, x: PyTree) -> State:
    """The state before the first step, H = 1."""
    flat, unravel = ravel_pytree(x)
    value, gradient = jax.value_and_grad(lambda v: energy(unravel(v)))(flat)
    zero = jnp.zeros((), jnp.int32)
    return State(x, value, gradient, jnp.eye(flat.size, dtype=flat.dtype), zero, zero + 1, jnp.array(False))


def quasi_newton(
    energy: Energy,
    x: PyTree | State,
    *,
    iterations: int = 1000,
    tolerance: float = 1e-10,
    update: str = "ssbroyden",
    trials: int = 25,
) -> State:
    """Minimise E by quasi-Newton steps with a line search for the weak Wolfe conditions; jit and vmap go through it.

    Args:
        energy: E.
        x: where to start, any pytree of floats of one dtype, or the `State` of an earlier run to go on with.
        iterations: most steps of this call.
        tolerance: stop at |∇E| ≤ tolerance.
        update: which member of the family.
        trials: most points a line search looks at.

    Returns:
        The last state; `stuck` where no step along −H∇E, nor along −∇E, lowered E any more (rounding).

    Raises:
        ValueError: an unknown update.
    """
    if update not in ("ssbroyden", "ssbfgs", "bfgs"):
        raise ValueError(f"update must be 'ssbroyden', 'ssbfgs' or 'bfgs', not {update!r}")
    first = x if isinstance(x, State) else start(energy, x)
    flat, unravel = ravel_pytree(first.x)
    value_and_grad = jax.value_and_grad(lambda v: energy(unravel(v)))
    last = first.steps + iterations

    def going(state: State):
        return (state.steps < last) & (jnp.linalg.norm(state.gradient) > tolerance) & ~state.stuck

    def advance(state: State):
        v, g = state.x, state.gradient
        direction = -state.inverse @ g
        # H = 1 knows nothing of the scale: the first step has unit length at most
        fresh = jnp.all(state.inverse == jnp.eye(g.size, dtype=g.dtype))
        direction = jnp.where(fresh, direction / jnp.maximum(jnp.linalg.norm(g), 1.0), direction)
        length, value, gradient, looked = _line_search(value_and_grad, v, state.energy, g, direction, trials)
        s, y = length * direction, gradient - g
        fine = (length > 0) & (y @ s > 0)
        H = jnp.where(fine, _updated(state.inverse, s, y, length * (-g @ s), update), jnp.eye(g.size, dtype=g.dtype))
        H = jnp.where(jnp.all(jnp.isfinite(H)), H, jnp.eye(g.size, dtype=g.dtype))
        stuck = (length == 0) & fresh  # else the search goes on from −∇E
        return State(v + s, value, gradient, H, state.steps + 1, state.evaluations + looked, stuck)

    done = jax.lax.while_loop(going, advance, first._replace(x=flat))
    return done._replace(x=unravel(done.x))


def _updated(H, s, y, curvature, update: str):
    """H⁺; `curvature` is sᵀH⁻¹s = −length gᵀs."""
    n = s.size
    Hy, ys = H @ y, y @ s
    yHy = y @ Hy
    b, h = curvature / ys, yHy / ys
    tau, phi = jnp.ones_like(b), jnp.ones_like(b)
    if update != "bfgs":
        tau = jnp.minimum(1.0, 1 / b)
    if update == "ssbroyden":
        a = jnp.maximum(b * h - 1, jnp.finfo(b.dtype).eps)  # ≥ 0 by Cauchy and Schwarz
        rho = jnp.minimum(1.0, h * (1 - jnp.sqrt(a / (1 + a))))
        theta = jnp.maximum((rho - 1) / a, jnp.minimum(1 / rho, (1 - b) / b))
        spread = 1 + a * theta
        sigma = jnp.abs(spread) ** (1 / (1 - max(n, 2)))
        positive = theta > 0
        safe = jnp.where(positive, theta, 1.0)
        tau = jnp.where(positive, tau * jnp.minimum(sigma, 1 / safe), jnp.minimum(tau * sigma, spread))
        phi = (1 - theta) / spread
    v = jnp.sqrt(yHy) * (s / ys - Hy / yHy)
    rest = H - jnp.outer(Hy, Hy) / yHy + phi * jnp.outer(v, v)
    return rest / tau + jnp.outer(s, s) / ys


def _line_search(value_and_grad, x, value, g, d, trials: int):
    """Length, E and ∇E there, and the points looked at: bisection between bounds until both Wolfe conditions hold.

    A. S. Lewis & M. L. Overton, Math. Program. 141 (2013) 135, algorithm 2.6. Length 0 where nothing lowers E.
    """
    slope = g @ d
    downhill = slope < 0

    def look(length):
        after, gradient = value_and_grad(x + length * d)
        high = ~(after <= value + 1e-4 * length * slope)  # NaN is too far
        return after, gradient, high, gradient @ d < 0.9 * slope

    def going(carry):
        *_, high, low, k = carry
        return downhill & (high | low) & (k < trials)

    def advance(carry):
        length, below, above, _, _, high, low, k = carry
        below, above = jnp.where(high, below, length), jnp.where(high, length, above)
        length = jnp.where(jnp.isfinite(above), (below + above) / 2, 2 * length)
        return length, below, above, *look(length), k + 1

    one = jnp.ones((), x.dtype)
    first = (one, 0 * one, jnp.inf * one, *look(one), jnp.asarray(1))
    length, _, _, after, gradient, high, _, k = jax.lax.while_loop(going, advance, first)
    found = downhill & ~high & (after < value)
    return jnp.where(found, length, 0.0), jnp.where(found, after, value), jnp.where(found, gradient, g), k
