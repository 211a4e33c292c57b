"""The energy form over a linear field: Newton in a basis made orthonormal in the elastic energy at rest.

In that basis (`orthonormal`) the linear problem's Hessian is the identity: a linear problem is solved by its gradient,
and Newton's matrices for large strain stay well conditioned however redundant the random features are.
"""

import time
import warnings
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from . import kinematics as kin
from . import pressure
from ._clock import Clock
from .collocation import Jets
from .domain import Points
from .field import AbstractBasis, BuiltIn, LinearField
from .method import Ritz
from .orthonormal import along, directions, energy_basis, first_jets, rows_of, tangents
from .solution import Solution, SolveError, stopped
from .survey import Survey


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
    volume, surface = clock.call(first_jets, built, basis, inside.x, tuple(p.x for p in edges.values()))
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
    T = directions(look, method.cut, clock, built, volume, surface, pressures)
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
    seen = len(system.inside) * problem.dimension * (problem.dimension + 1) // 2
    if kept > seen / 2:
        warnings.warn(
            f"{problem.name}: {kept} unknowns, but the quadrature sees only {seen} strains and cannot tell them apart: "
            f"Ritz(interior={method.interior}) is too few points for features={method.features}",
            stacklevel=4,
        )
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


def _transform(volume: Jets, surface: Jets, T):
    """∇(B T) [n, m, D, K] inside and B T [n, m, K] on the boundary."""
    D = volume.base.shape[1] - 1
    m = volume.factor.shape[1]
    t = T.reshape(m, -1, T.shape[1])

    def gradient(j):
        return jnp.einsum("msN,mNK->msK", rows_of(j, D)[:, 1:], t)

    value = lambda j: jnp.einsum("mN,mNK->mK", rows_of(j, D)[:, 0], t)
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
    """Σ w φ(x, n, u) over the conditions, loads times the load factor, u given at the boundary points."""
    total = 0.0
    for name, points, here in along(system.edges, u):
        condition = problem.conditions[name]
        total += condition.factor(load) * jnp.sum(
            points.w * jax.vmap(condition.potential)(points.x, points.normal, here)
        )
    return total


def supports(problem, system: System, load, u):
    """∂²/∂a² [K, K] of `boundary_potential`: what springs add to the stiffness."""
    H = 0.0
    for name, points, (here, B) in along(system.edges, (u, system.values)):
        condition = problem.conditions[name]
        second = jax.vmap(jax.hessian(condition.potential, 2))(points.x, points.normal, here)
        H += condition.factor(load) * jnp.einsum("n,nka,nkl,nlb->ab", points.w, B, second, B)
    return H


def _energy(problem, system: System, a, load):
    """Π(a); NaN where the deformation is inverted."""
    return potential(problem, system, load, *fields(problem, system, a, load))


def hessian(problem, system: System, a, load):
    """∂²Π/∂a² [K, K], assembled from the tangent at every point."""
    G, _, u = fields(problem, system, a, load)
    p = _pressure(problem, system, G)
    H = assembled(system, tangents(problem, system.inside.x, G, p))
    if system.pressures is not None:
        cross = pressure.slopes(problem, system.inside.x, G, p)[1]
        rows = pressure.against(
            system.pressures, jnp.einsum("n,nij,nija->na", system.inside.w, cross, system.gradients)
        )
        H += rows.T @ rows
    H += supports(problem, system, load, u)
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
