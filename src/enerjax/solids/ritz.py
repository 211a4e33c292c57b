"""The energy form over a linear field: Newton in a basis made orthonormal in the elastic energy at rest.

The strain energy at rest is ½‖√w L ∇(B c)‖² with LᵀL the tangent, so one pivoted QR of these rows gives a basis in
which the linear problem's Hessian is the identity: a linear problem is solved by its gradient, dependent directions
are dropped, and Newton's matrices for large strain stay well conditioned however redundant the random features are.
"""

import time
from collections.abc import Callable
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from . import jets, pressure
from . import kinematics as kin
from ._clock import Clock, run
from .collocation import Jets, _prepare, basis_of
from .domain import Points
from .field import AbstractBasis, BuiltIn, LinearField, Stacked
from .material import tangent
from .method import Ritz
from .solution import Solution, SolveError, stopped
from .survey import Survey, built_in


def energy_basis(look: Survey, key, method: Ritz, call: Callable = run) -> tuple[BuiltIn, AbstractBasis]:
    """How displacements are built into the field, and the random features beside them.

    Raises:
        ValueError: some cannot be built in; the energy alone would not see them.
    """
    problem = look.problem
    built, soft = built_in(look, problem.dimension + problem.mixed)
    if soft:
        raise ValueError(
            f"{problem.name}: the energy form needs displacements built into the field, and those on "
            f"{', '.join(map(repr, soft))} cannot be: use Collocation"
        )
    random = basis_of(look, key, method.features, method.width, call)
    return built, Stacked((*random.bases, *problem.pressure_basis))


def _jets(built, basis, inside, edges) -> tuple[Jets, Jets]:
    """Jets of the first order inside and on the boundary."""
    found = _prepare(built, basis, (inside, *edges), 1)
    return found[: len(inside)], found[len(inside) :]


def directions(
    look: Survey, cut: float, clock: Clock, volume: Jets, pressures: pressure.Space | None = None
) -> Float[Array, "n K"]:
    """The energy-orthonormal directions at rest among the features, those that `cut` leaves."""
    T = clock.call(partial(_orthonormal, look.problem, cut), look.inside, volume, pressures)
    T = np.asarray(T)
    return jax.device_put(T[:, np.any(T != 0, axis=0)])


class System(eqx.Module):
    """A body in the basis that is orthonormal in its energy at rest: u = load · lift + B T a at the quadrature points.

    Attributes:
        inside, edges: the points.
        gradients, values: ∇(B T) inside, [n, d, D, K], and B T on the boundary, [n, d, K].
        base, factor, lift: φ [n, N] and what builds displacements in [n, d], inside: for the work of body forces.
        T: the directions, [d N, K].
        lift_G, lift_u: ∇lift inside and lift on the boundary.
        pressures: the functions of a pressure, where the material has one.
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
    pressures: pressure.Space | None = None


def discretise(look: Survey, key, method: Ritz, clock: Clock) -> tuple[BuiltIn, AbstractBasis, System]:
    """The field's ingredients and all that the energy form needs of them at the quadrature points.

    Raises:
        ValueError: displacement that cannot be built in, or a material that is incompressible.
    """
    problem, (built, basis) = look.problem, energy_basis(look, key, method, clock.call)
    inside, edges = look.inside, look.edges
    volume, surface = clock.call(_jets, built, basis, inside.x, tuple(p.x for p in edges.values()))
    pressures = None
    if problem.mixed:
        pressures = clock.call(partial(pressure.space, problem, method.features), inside, volume.base[:, 0])
        if not np.all(np.isfinite(pressures.root)):
            raise ValueError(
                f"{problem.name}: the energy form eliminates the pressure, which needs some compressibility (1/λ > 0): "
                "use Collocation"
            )
        d, used = problem.dimension, pressure.displacing(problem, basis)
        only = lambda j: Jets(j.base[:, :, :used], j.factor[:, :d], j.lift[:, :d])
        volume, surface = only(volume), only(surface)
    T = directions(look, method.cut, clock, volume, pressures)
    gradients, values = clock.call(_transform, volume, surface, T)
    base, factor, lift = volume.base[:, 0], volume.factor[:, :, 0], volume.lift[:, :, 0]
    lift_G, lift_u = volume.lift[:, :, 1:], surface.lift[:, :, 0]
    return built, basis, System(inside, edges, gradients, values, base, factor, lift, T, lift_G, lift_u, pressures)


def solve_ritz(look: Survey, key, method: Ritz, clock: Clock, deadline, say) -> Solution:
    """Minimise the potential energy over random features, load step by load step."""
    problem = look.problem
    built, basis, system = discretise(look, key, method, clock)
    T, kept = system.T, system.T.shape[1]
    say(f"{kept} of {T.shape[0]} directions kept")
    energy, direct = partial(_energy, problem), partial(newton, problem)

    a, load, step, history = jnp.zeros(kept), 0.0, 1.0 / method.load_steps, []

    def as_solution(a, load):
        c = clock.call(partial(_coefficients, problem), system, a, jnp.asarray(load))
        return Solution(problem, LinearField(basis, built, c), history, clock.seconds, clock.compile)

    while load < 1.0:
        target = min(1.0, load + step)
        good, b, done = a, a, False
        E = float(clock.call(energy, system, b, jnp.asarray(target)))
        for iteration in range(method.iterations if np.isfinite(E) else 0):
            direction, decrement = clock.call(direct, system, b, jnp.asarray(target))
            decrement = float(decrement)
            # near the minimum the change of E is below rounding: a full step is then right
            last = decrement <= method.tolerance * (abs(E) + 1e-300)
            length, after = 1.0, np.nan
            while length > 1e-4 and np.isfinite(decrement):
                after = float(clock.call(energy, system, b + length * direction, jnp.asarray(target)))
                if np.isfinite(after) and (last or after <= E - 1e-4 * length * decrement + 1e-13 * abs(E)):
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
            if length == 1.0 and last or not problem.finite:
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
                as_solution(good, load),
                load,
            )
    solution = as_solution(a, load)
    solution.info = {"unknowns": kept, "energy": E, "method": "ritz"} | stopped(history)
    return solution


def _strain_rows(B, L):
    """L ∇(B c) as rows [d², m N] at one point: B [m, S, N], L [d², d, d]."""
    return jnp.einsum("qkl,klN->qkN", L, B[:, 1:]).reshape(L.shape[0], -1)


def _root(problem, x):
    """L with LᵀL the symmetric part of the tangent at rest (without pressure), [d², d, d]."""
    d = problem.dimension
    p = jnp.zeros((1,), x.dtype) if problem.mixed else None
    A = _tangents(problem, x[None], jnp.zeros((1, d, d), x.dtype), p)[0].reshape(d * d, d * d)
    s, V = jnp.linalg.eigh((A + A.T) / 2)
    return (jnp.sqrt(jnp.maximum(s, 0.0))[:, None] * V.T).reshape(d * d, d, d)


def _orthonormal(problem, cut, inside: Points, volume: Jets, pressures):
    """T [m N, m N]: B T is orthonormal in the energy at rest; columns beyond the numerical rank are zero."""
    D = problem.domain.dimension
    roots = jax.vmap(partial(_root, problem))(inside.x)
    rows = lambda w, j, L: jnp.sqrt(w) * _strain_rows(_rows_of(j, D), L)
    blocks = [jax.vmap(rows)(inside.w, volume, roots).reshape(-1, volume.base.shape[2] * problem.dimension)]
    if pressures is not None:
        d = problem.dimension
        zero = jnp.zeros((len(inside), d, d), inside.x.dtype)
        cross = pressure.slopes(problem, inside.x, zero, zero[:, 0, 0])[1]
        strains = jax.vmap(lambda j, D_: _strain_rows(_rows_of(j, D), D_[None])[0])(volume, cross)
        blocks.append(pressure.against(pressures, inside.w[:, None] * strains))
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


def _pressure(problem, system: System, G):
    """p at the interior points, stationary for ∇u = G; None where the material has none."""
    if system.pressures is None:
        return None
    return system.pressures.q @ pressure.coefficients(problem, system.pressures, system.inside, G)


def _tangents(problem, x, G, p):
    """∂²W/∂G² at points, [n, d, d, d, d]; at fixed pressure where the material has one."""
    if p is not None:
        return jax.vmap(lambda x, G, p: tangent(problem.at(x), G, p))(x, G, p)
    return jax.vmap(lambda x, G: tangent(problem.at(x), G))(x, G)


def _coefficients(problem, system: System, a, load):
    """c [m, N] of the field: displacement, and pressure where the material has one."""
    c = (system.T @ a).reshape(system.factor.shape[1], -1)
    if system.pressures is None:
        return c
    b = pressure.coefficients(problem, system.pressures, system.inside, fields(problem, system, a, load)[0])
    own = system.pressures.T @ b
    return jnp.concatenate([jnp.pad(c, ((0, 0), (0, len(own) - c.shape[1]))), own[None]])


def potential(problem, system: System, load, G, u_inside, u):
    """Π of fields given at the points; NaN where the deformation is inverted."""
    inside = system.inside
    p = _pressure(problem, system, G)
    if p is not None:
        W = jax.vmap(lambda x, G, p: problem.at(x)(G, p))(inside.x, G, p)
    else:
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
    p = _pressure(problem, system, G)
    H = assembled(system, _tangents(problem, system.inside.x, G, p))
    if system.pressures is not None:
        cross = pressure.slopes(problem, system.inside.x, G, p)[1]
        rows = pressure.against(
            system.pressures, jnp.einsum("n,nij,nija->na", system.inside.w, cross, system.gradients)
        )
        H += rows.T @ rows
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
