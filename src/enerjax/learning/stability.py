"""The learner as a dynamical system: x ← step(η, x), its fixed points, their loss of stability, and chaos.

Gradient descent with rate η near a minimum of curvature λ multiplies a perturbation by 1 − ηλ: it is stable until
η = 2/λ_max, where the multiplier passes −1 and the period doubles. On ½θ² − ⅓θ³ descent *is* the logistic map
(r = 1 + η), so everything known of that map is known of a learner: doubling at η = 2, accumulation at 2.5699, chaos
with exponent log 2 at η = 3.

Everything is the scan's tangent (`path.rollout` under jvp) or Newton's method on its last state.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from .. import _tree as tree
from .._array import Key, PyTree, Scalar
from ..path.rollout import rollout

Family = Callable[[Scalar, PyTree], PyTree]  # step(parameter, x) -> x


def descent(energy) -> Family:
    """x ← x − η ∇E(x), as a family of maps with parameter η."""
    return lambda rate, x: jax.tree.map(lambda x, g: x - rate * g, x, jax.grad(energy)(x))


def bifurcation(
    family: Family, x: PyTree, parameters: Float[Array, " p"], *, transient: int, keep: int
) -> Float[Array, "p keep ..."]:
    """The last `keep` states of orbits from x after `transient` steps, for every parameter: the bifurcation diagram."""

    def orbit(parameter):
        settle = rollout(lambda x, _: family(parameter, x), x, length=transient, stride=transient)
        return rollout(lambda x, _: family(parameter, x), jax.tree.map(lambda v: v[-1], settle), length=keep)

    return jax.vmap(orbit)(parameters)


def lyapunov(step: Callable[[PyTree], PyTree], x: PyTree, key: Key, *, length: int, transient: int = 0) -> Scalar:
    """The largest Lyapunov exponent, lim (1/n) log |D stepⁿ v|, per step.

    The tangent map is carried beside the state and renormalised at every step (G. Benettin et al., Meccanica 15, 9
    (1980)). Positive: chaos. At a fixed point: log of the largest multiplier.
    """
    v = tree.normal_like(key, x)
    v = tree.scale(1 / tree.norm(v), v)

    def along(z, _):
        x, v, _ = z
        x, v = jax.jvp(step, (x,), (v,))
        size = tree.norm(v)
        # a superstable orbit maps the tangent to zero: keep a direction, record the contraction
        growth = jnp.log(jnp.maximum(size, jnp.finfo(size.dtype).tiny))
        return x, tree.where(size > 0, tree.scale(1 / jnp.where(size > 0, size, 1.0), v), z[1]), growth

    growth = rollout(along, (x, v, jnp.zeros_like(tree.norm(v))), length=transient + length)[2]
    return jnp.mean(growth[transient:])


def _iterate(family: Family, period: int):
    def power(parameter, x):
        end = rollout(lambda x, _: family(parameter, x), x, length=period, stride=period)
        return jax.tree.map(lambda v: v[-1], end)

    return power


def _newton(residual, unknowns, iterations: int):
    def improve(u, _):
        jacobian = jax.jacfwd(residual)(u)
        return u - jnp.linalg.solve(jacobian, residual(u)), None

    return jax.lax.scan(improve, unknowns, None, length=iterations)[0]


def periodic_point(family: Family, parameter, x: PyTree, period: int = 1, *, iterations: int = 12) -> PyTree:
    """x with stepᵖ(x) = x, by Newton's method from a guess: stable or not."""
    flat, unravel = ravel_pytree(x)
    power = _iterate(family, period)
    return unravel(_newton(lambda u: ravel_pytree(power(parameter, unravel(u)))[0] - u, flat, iterations))


def multipliers(family: Family, parameter, x: PyTree, period: int = 1) -> Array:
    """Eigenvalues of D stepᵖ at a point of the orbit: stable while all are inside the unit circle."""
    flat, unravel = ravel_pytree(x)
    power = _iterate(family, period)
    return jnp.linalg.eigvals(jax.jacfwd(lambda u: ravel_pytree(power(parameter, unravel(u)))[0])(flat))


class Doubling(NamedTuple):
    """Where an orbit's multiplier passes −1: the parameter and a point of the orbit."""

    parameter: Scalar
    point: PyTree


def period_doubling(family: Family, parameter, x: PyTree, period: int = 1, *, iterations: int = 12) -> Doubling:
    """The parameter at which the orbit of this period through (a guess) x doubles its period.

    Newton's method on stepᵖ(x) = x, (D stepᵖ + 1) v = 0, |v| = 1, in x, v and the parameter together (Y. A. Kuznetsov,
    Elements of Applied Bifurcation Theory, sec. 10.2); quadratic convergence, any dimension.
    """
    flat, unravel = ravel_pytree(x)
    n = flat.size
    power = _iterate(family, period)
    image = lambda parameter, u: ravel_pytree(power(parameter, unravel(u)))[0]
    parameter = jnp.asarray(parameter, flat.dtype)

    def residual(u):
        x, v, eta = u[:n], u[n : 2 * n], u[-1]
        fixed, moved = jax.jvp(lambda x: image(eta, x), (x,), (v,))
        return jnp.concatenate([fixed - x, moved + v, (v @ v - 1)[None]])

    # the start of v: the eigenvector whose multiplier is nearest −1
    J = jax.jacfwd(lambda x: image(parameter, x))(flat)
    v = jnp.linalg.svd(J + jnp.eye(n, dtype=flat.dtype))[2][-1]
    u = _newton(residual, jnp.concatenate([flat, v, parameter[None]]), iterations)
    return Doubling(u[-1], unravel(u[:n]))


def superstable(family: Family, critical: Callable, parameter, period: int, *, iterations: int = 30) -> Scalar:
    """The parameter at which the critical point c (where the derivative of the map vanishes) has this period.

    Args:
        family: one-dimensional maps.
        critical: c(η).
        parameter: a guess.
        period: p with stepᵖ(c) = c.
        iterations: of Newton's method.
    """
    power = _iterate(family, period)
    residual = lambda u: (power(u[0], critical(u[0])) - critical(u[0]))[None]
    return _newton(residual, jnp.asarray(parameter, float)[None], iterations)[0]


def feigenbaum(family: Family, critical: Callable, first, second, count: int) -> tuple[Array, Array]:
    """Superstable parameters of periods 1, 2, 4, … 2^(count−1) and the ratios of their distances, → δ = 4.6692016…

    M. J. Feigenbaum, J. Stat. Phys. 19, 25 (1978). Each guess extrapolates the two before it with the last ratio.

    Args:
        family: one-dimensional maps.
        critical: their critical point c(η).
        first: guess for period 1.
        second: guess for period 2.
        count: periods computed.
    """
    found = [superstable(family, critical, first, 1), superstable(family, critical, second, 2)]
    ratio = 4.5
    for k in range(2, count):
        guess = found[-1] + (found[-1] - found[-2]) / ratio
        found.append(superstable(family, critical, guess, 2**k))
        ratio = (found[-2] - found[-3]) / (found[-1] - found[-2])
    found = jnp.stack(found)
    gaps = jnp.diff(found)
    return found, gaps[:-1] / gaps[1:]
