"""The energy form over a linear field: Newton in a basis made orthonormal in the elastic energy at rest.

The strain energy at rest is ½‖√w L ∇(B c)‖² with LᵀL the tangent, so one pivoted QR of these rows gives a basis in
which the linear problem's Hessian is the identity: a linear problem is solved by its gradient, dependent directions
are dropped, and Newton's matrices for large strain stay well conditioned however redundant the random features are.
"""

import time
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from . import jets
from . import kinematics as kin
from ._clock import Clock
from .collocation import Jets, _prepare, basis_of
from .domain import Points
from .field import AbstractBasis, BuiltIn, LinearField
from .material import tangent
from .method import Ritz
from .solution import Solution, SolveError, stopped
from .survey import Survey, built_in


def energy_basis(look: Survey, key, method: Ritz) -> tuple[BuiltIn, AbstractBasis]:
    """How displacements are built into the field, and the random features beside them.

    Raises:
        ValueError: some cannot be built in; the energy alone would not see them.
    """
    problem = look.problem
    built, soft = built_in(look, problem.dimension)
    if soft:
        raise ValueError(
            f"{problem.name}: the energy form needs displacements built into the field, and those on "
            f"{', '.join(map(repr, soft))} cannot be: use Collocation"
        )
    return built, basis_of(look, key, method.features, method.width)


def directions(look: Survey, cut: float, clock: Clock, volume: Jets, surface: Jets) -> Float[Array, "n K"]:
    """The energy-orthonormal directions at rest among the features, those that `cut` leaves."""
    T = clock.call(partial(_orthonormal, look.problem, cut), look.inside, look.edges, volume, surface)
    return T[:, np.asarray(jnp.any(T != 0, axis=0))]


class System(eqx.Module):
    """A body in the basis that is orthonormal in its energy at rest: u = load · lift + B T a at the quadrature points.

    Attributes:
        inside, edges: the points.
        gradients, values: ∇(B T) inside, [n, d, D, K], and B T on the boundary, [n, d, K].
        base, factor, lift: φ [n, N] and what builds displacements in [n, d], inside: for the work of body forces.
        T: the directions, [d N, K].
        lift_G, lift_u: ∇lift inside and lift on the boundary.
    """

    inside: Points
    edges: dict[str, Points]
    gradients: Array
    values: Array
    base: Array
    factor: Array
    lift: Array
    T: Array
    lift_G: Array
    lift_u: Array


def discretise(look: Survey, key, method: Ritz, clock: Clock) -> tuple[BuiltIn, AbstractBasis, System]:
    """The field's ingredients and all that the energy form needs of them at the quadrature points."""
    built, basis = energy_basis(look, key, method)
    inside, edges = look.inside, look.edges
    points = jnp.concatenate([inside.x, *(p.x for p in edges.values())])
    found = clock.call(partial(_prepare, order=1), built, basis, points)
    volume, surface = found[: len(inside)], found[len(inside) :]
    T = directions(look, method.cut, clock, volume, surface)
    gradients, values = clock.call(_transform, volume, surface, T)
    base, factor, lift = volume.base[:, 0], volume.factor[:, :, 0], volume.lift[:, :, 0]
    return (
        built,
        basis,
        System(inside, edges, gradients, values, base, factor, lift, T, volume.lift[:, :, 1:], surface.lift[:, :, 0]),
    )


def solve_ritz(look: Survey, key, method: Ritz, clock: Clock, deadline, say) -> Solution:
    """Minimise the potential energy over random features, load step by load step."""
    problem = look.problem
    if problem.mixed:
        raise ValueError(
            f"{problem.name}: the energy of a material with pressure is a saddle and has no minimum: use Collocation"
        )
    built, basis, system = discretise(look, key, method, clock)
    m, T, kept = problem.dimension, system.T, system.T.shape[1]
    say(f"{kept} of {T.shape[0]} directions kept")
    energy, direct = partial(_energy, problem), partial(newton, problem)

    a, load, step, history = jnp.zeros(kept), 0.0, 1.0 / method.load_steps, []
    as_solution = lambda a: Solution(
        problem, LinearField(basis, built, (T @ a).reshape(m, -1)), history, clock.seconds, clock.compile
    )
    while load < 1.0:
        target = min(1.0, load + step)
        good, b, done = a, a, False
        E = float(clock.call(energy, system, b, jnp.asarray(target)))
        for iteration in range(method.iterations if np.isfinite(E) else 0):
            direction, decrement = clock.call(direct, system, b, jnp.asarray(target))
            decrement = float(decrement)
            length, after = 1.0, np.nan
            while length > 1e-4 and np.isfinite(decrement):
                after = float(clock.call(energy, system, b + length * direction, jnp.asarray(target)))
                # near the minimum the change of E is below rounding: a full step is then right
                if np.isfinite(after) and after <= E - 1e-4 * length * decrement + 1e-13 * abs(E):
                    break
                length /= 2
            else:
                break
            b, E = b + length * direction, after
            history.append(
                {
                    "load": target,
                    "iteration": iteration,
                    "seconds": clock.seconds,
                    "energy": E,
                    "energy_change": decrement / 2,
                }
            )
            say(f"load {target:g} iteration {iteration}: energy {E:.10g}, decrement {decrement:.2e} (step {length:g})")
            if length == 1.0 and decrement <= method.tolerance * (abs(E) + 1e-300) or not problem.finite:
                done = True
                break
            if time.process_time() > deadline:
                history[-1]["stopped"] = "max_seconds"
                done = True
                break
        if done:
            a, load = b, target
            continue
        a, step = good, step / 2
        say(f"load {target:g} failed (inverted or no decrease): step halved to {step:g}")
        if step < 1 / 1024:
            raise SolveError(
                f"{problem.name}: no equilibrium beyond load fraction {load:.4g}: the deformation inverts or buckles. "
                "Lower the load, add features or quadrature points, or use a material that resists inversion",
                as_solution(good),
                load,
            )
    solution = as_solution(a)
    solution.info = {"unknowns": kept, "energy": E, "method": "ritz"} | stopped(history)
    return solution


def _strain_rows(B, L):
    """L ∇(B c) as rows [d², m N] at one point: B [m, S, N], L [d², d, d]."""
    return jnp.einsum("qkl,klN->qkN", L, B[:, 1:]).reshape(L.shape[0], -1)


def _root(problem, x):
    """L with LᵀL the symmetric part of the tangent at rest, [d², d, d]."""
    d = problem.dimension
    A = tangent(problem.at(x), jnp.zeros((d, d), x.dtype)).reshape(d * d, d * d)
    s, V = jnp.linalg.eigh((A + A.T) / 2)
    return (jnp.sqrt(jnp.maximum(s, 0.0))[:, None] * V.T).reshape(d * d, d, d)


def _orthonormal(problem, cut, inside: Points, edges, volume: Jets, surface: Jets):
    """T [m N, m N]: B T is orthonormal in the energy at rest; columns beyond the numerical rank are zero."""
    D = problem.domain.dimension
    roots = jax.vmap(partial(_root, problem))(inside.x)
    rows = lambda w, j, L: jnp.sqrt(w) * _strain_rows(_rows_of(j, D), L)
    blocks = [jax.vmap(rows)(inside.w, volume, roots).reshape(-1, volume.base.shape[2] * problem.dimension)]
    R = jnp.linalg.qr(jnp.concatenate(blocks), mode="r")
    scale = jnp.linalg.norm(R, axis=0)
    scale = jnp.where(scale > 0, scale, 1.0)
    _, upper, order = jax.scipy.linalg.qr(R / scale[None, :], mode="economic", pivoting=True)
    n = upper.shape[0]
    diagonal = jnp.abs(jnp.diag(upper))
    keep = diagonal > cut * diagonal[0]
    upper = jnp.where(keep[:, None] & keep[None, :], upper, jnp.eye(n))
    inverse = jax.scipy.linalg.solve_triangular(upper, jnp.diag(keep.astype(upper.dtype)))
    return jnp.zeros((scale.shape[0], n)).at[order].set(inverse) / scale[:, None]


def _rows_of(j: Jets, D: int):
    S = jets.length(D, 1)
    return jax.vmap(lambda a: jets.product(a[:S], j.base[:S], D, 1))(j.factor)


def _transform(volume: Jets, surface: Jets, T):
    """∇(B T) [n, m, D, K] inside and B T [n, m, K] on the boundary."""
    D = volume.base.shape[1] - 1
    m = volume.factor.shape[1]
    t = T.reshape(m, -1, T.shape[1])

    def gradient(j):
        return jnp.einsum("msN,mNK->msK", _rows_of(j, D)[:, 1:], t)

    value = lambda j: jnp.einsum("mN,mNK->mK", _rows_of(j, D)[:, 0], t)
    return jax.lax.map(gradient, volume, batch_size=64), jax.lax.map(value, surface, batch_size=64)


def fields(problem, system: System, a, load):
    """∇u at the interior points, u there (None where no body force asks for it) and u at the boundary points."""
    G = load * system.lift_G + jnp.einsum("nkla,a->nkl", system.gradients, a)
    u = load * system.lift_u + jnp.einsum("nka,a->nk", system.values, a)
    if problem.body is None:
        return G, None, u
    c = (system.T @ a).reshape(system.factor.shape[1], -1)
    return G, load * system.lift + system.factor * (system.base @ c.T), u


def potential(problem, system: System, load, G, u_inside, u):
    """Π of fields given at the points; NaN where the deformation is inverted."""
    inside = system.inside
    W = jax.vmap(lambda x, G: problem.at(x)(G))(inside.x, G)
    if problem.finite:
        W = jnp.where(jax.vmap(kin.volume_change)(G) > -1, W, jnp.nan)
    total = jnp.sum(inside.w * W)
    if problem.body is not None:
        total -= load * jnp.sum(inside.w * jnp.sum(jax.vmap(problem.force)(inside.x) * u_inside, axis=1))
    return total + boundary_potential(problem, system, load, u)


def boundary_potential(problem, system: System, load, u):
    """Σ load w φ(x, n, u) over the conditions, u given at the boundary points."""
    total, start = 0.0, 0
    for name, points in system.edges.items():
        here = u[start : start + len(points)]
        start += len(points)
        condition = problem.conditions[name]
        total += load * jnp.sum(points.w * jax.vmap(condition.potential)(points.x, points.normal, here))
    return total


def _energy(problem, system: System, a, load):
    """Π(a); NaN where the deformation is inverted."""
    return potential(problem, system, load, *fields(problem, system, a, load))


def hessian(problem, system: System, a, load):
    """∂²Π/∂a² [K, K], assembled from the tangent at every point."""
    G, _, u = fields(problem, system, a, load)
    H = assembled(system, jax.vmap(lambda x, G: tangent(problem.at(x), G))(system.inside.x, G))
    start = 0
    for name, points in system.edges.items():
        here, B = u[start : start + len(points)], system.values[start : start + len(points)]
        start += len(points)
        condition = problem.conditions[name]
        second = jax.vmap(jax.hessian(condition.potential, 2))(points.x, points.normal, here)
        H += load * jnp.einsum("n,nka,nkl,nlb->ab", points.w, B, second, B)
    return (H + H.T) / 2


def assembled(system: System, A):
    """Σ_p w_p B_pᵀ A_p B_p [K, K] for tangents A [n, d, D, d, D] at the interior points."""
    gradients, K = system.gradients, system.gradients.shape[-1]
    left = jnp.einsum("n,nijkl,nkla->nija", system.inside.w, A, gradients).reshape(-1, K)
    return gradients.reshape(-1, K).T @ left


def newton(problem, system: System, a, load):
    """The Newton direction and its decrement gᵀH⁻¹g, H shifted until it is positive definite."""
    g = jax.grad(partial(_energy, problem), 1)(system, a, load)
    H, K = hessian(problem, system, a, load), a.shape[0]

    def attempt(shift):
        factor = jnp.linalg.cholesky(H + shift * jnp.eye(K))
        return jax.scipy.linalg.cho_solve((factor, True), -g)

    def harder(state):
        shift, _ = state
        shift = jnp.maximum(4 * shift, 1e-3)
        return shift, attempt(shift)

    undone = lambda state: jnp.any(jnp.isnan(state[1])) & (state[0] < 1e3) & jnp.all(jnp.isfinite(g))
    zero = jnp.zeros((), a.dtype)
    _, direction = jax.lax.while_loop(undone, harder, (zero, attempt(zero)))
    return direction, -g @ direction
