"""Inelastic bodies through time: each step minimises the incremental potential, then the internal variables move on.

Over one step the material with its state is a potential W(ε; state) (`material.J2`, `material.Viscoelastic`), so the
body is Π = Σ_p w_p W_p(∇u) − work, with a state of its own at every quadrature point. Newton in the
energy-orthonormal basis of the Ritz form; the virgin material, whose stiffness makes it orthonormal, is never softer.
"""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from numbers import Integral

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from .._array import Key
from ._clock import Clock
from .field import LinearField
from .material import stress, tangent
from .method import Ritz
from .problem import Problem
from .ritz import assembled, boundary_potential, discretise, fields, supports
from .solution import Solution, SolveError
from .survey import check_support, survey

LARGEST = 0.5  # ∇u beyond which a small-strain law says nothing


@dataclasses.dataclass
class March:
    """What `march` returns.

    Attributes:
        loads: the load factors.
        solutions: one per step; their `stress` uses the material without history: take `stresses`.
        materials: the material with its state at every quadrature point at the end, a module with leading axis [n].
        points: the quadrature points.
        stresses: at the quadrature points, [steps, n, 3, 3] (out-of-plane components included).
    """

    loads: list[float]
    solutions: list[Solution]
    materials: eqx.Module
    points: jax.Array
    weights: jax.Array
    stresses: jax.Array


def march(
    problem: Problem,
    loads: Sequence[float],
    key: Key | int = 0,
    *,
    method: Ritz | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> March:
    """Carry a body of a material with memory through a history of loads.

    Args:
        problem: its material has `update(G)`, which returns the material at the end of a step; prescribed displacements
            and tractions are multiplied by each load in turn.
        loads: factors, one per step. For a viscoelastic material each step is its `dt` long.
        key: of the random features, or an integer seed.
        method: features, quadrature, Newton's limits.
        say: receives lines of progress.

    Raises:
        ValueError: the material has no memory, a rigid motion is free, or displacement cannot be built in.
        SolveError: a step finds no equilibrium with displacement gradients below 1/2, where these small-strain laws
            end: the load is beyond what the body carries. `state` is the solution of the last step, `load` its load.
    """
    method = method or Ritz(features=120, interior=16, boundary=24, cut=1e-7)
    if not hasattr(problem.material, "update"):
        raise ValueError(f"{problem.name}: its material has no memory (no `update`): use solve")
    with jax.enable_x64(True):
        clock = Clock()
        look = survey(problem, method.interior, method.boundary, clock)
        check_support(look)
        built, basis, system = discretise(look, jr.key(int(key)) if isinstance(key, Integral) else key, method, clock)
        inside, T = system.inside, system.T
        force = jax.vmap(problem.force)(inside.x)
        body = jnp.einsum("p,pi,pi,pN->iN", inside.w, force, system.factor, system.base).ravel() @ T
        materials = jax.tree.map(lambda a: jnp.broadcast_to(a, (len(inside), *jnp.shape(a))), problem.material)
        newton, advance, largest = (partial(f, problem) for f in (_newton, _advance, _largest))
        a, solutions, stresses = jnp.zeros(T.shape[1]), [], []
        scale = None
        for number, load in enumerate(loads):
            energy = np.inf
            for _ in range(method.iterations):
                step, decrement, energy, length = clock.call(
                    newton, system, body, materials, a, jnp.asarray(float(load))
                )
                decrement, energy = float(decrement), float(energy)
                scale = max(scale or 0.0, abs(energy), decrement)
                if np.isfinite(decrement) and float(length) == 0.0 and decrement < 1e-9 * scale:
                    break
                a = a + step
                strained = float(clock.call(largest, system, a, jnp.asarray(float(load))))
                if not np.isfinite(decrement) or float(length) == 0.0 or not strained < LARGEST:
                    raise _refused(problem, load, loads[:number], solutions, strained)
                if decrement <= method.tolerance * scale:
                    break
            else:
                raise _refused(problem, load, loads[:number], solutions, strained)
            say(f"step {number}, load {load:g}: potential {energy:.8g}, last decrement {decrement:.1e}")
            sigma, materials = clock.call(advance, system, materials, a, jnp.asarray(float(load)))
            stresses.append(sigma)
            lift = dataclasses.replace(built, lift=partial(_scaled, built.lift, float(load)))
            field = LinearField(basis, lift, (T @ a).reshape(problem.dimension, -1))
            solutions.append(Solution(problem, field, [], clock.seconds, clock.compile))
        return March(list(map(float, loads)), solutions, materials, inside.x, inside.w, jnp.stack(stresses))


def _refused(problem, load, done, solutions, strained: float) -> SolveError:
    """What is said of a load that finds no equilibrium, with the last state that did."""
    last = f"the last equilibrium is at load {done[-1]:g}" if done else "not even the first load has one"
    return SolveError(
        f"{problem.name}: no equilibrium at load {load:g} ({last}; Newton stands at ∇u up to {strained:.1e}): beyond "
        "the limit load of the body, or too far for one step. Lower the load, take smaller steps, or give the "
        "material hardening",
        solutions[-1] if solutions else None,
        float(done[-1]) if done else 0.0,
    )


def _largest(problem, system, a, load):
    """The largest entry of ∇u at the quadrature points."""
    return jnp.max(jnp.abs(fields(problem, system, a, load)[0]))


def _scaled(lift, load, x):
    return load * lift(x)


def _energy(problem, system, body, materials, a, load):
    """Π(a) of one step, but for the constant work of body forces on the lift."""
    G, _, u = fields(problem, system, a, load)
    total = jnp.sum(system.inside.w * jax.vmap(lambda W, G: W(G))(materials, G)) - load * body @ a
    return total + boundary_potential(problem, system, load, u)


def _newton(problem, system, body, materials, a, load):
    """The Newton step with a halving line search: step, decrement, energy after it, and the length (0: none found)."""
    energy = lambda a: _energy(problem, system, body, materials, a, load)
    value, g = jax.value_and_grad(energy)(a)
    G, _, u = fields(problem, system, a, load)
    H = assembled(system, jax.vmap(tangent)(materials, G)) + supports(problem, system, load, u)
    # the tangent of perfect plasticity is only semidefinite
    H = (H + H.T) / 2 + 1e-9 * jnp.eye(a.shape[0])
    direction = -jax.scipy.linalg.cho_solve(jax.scipy.linalg.cho_factor(H), g)
    decrement = -g @ direction

    def shorter(state):
        length, _ = state
        return length / 2, energy(a + length / 2 * direction)

    tolerance = 1e-13 * (jnp.abs(value) + decrement)
    poor = lambda state: (state[0] > 1e-4) & ~(state[1] <= value - 1e-4 * state[0] * decrement + tolerance)
    first = (jnp.ones(()), energy(a + direction))
    length, after = jax.lax.while_loop(poor, shorter, first)
    length = jnp.where(length > 1e-4, length, 0.0)
    return length * direction, decrement, after, length


def _advance(problem, system, materials, a, load):
    """Stresses at the end of the step [n, 3, 3], and the materials with their state moved on."""
    G, d = fields(problem, system, a, load)[0], problem.dimension
    full = jnp.zeros((len(G), 3, 3)).at[:, :d, :d].set(G)
    return jax.vmap(stress)(materials, full), jax.vmap(lambda m, G: m.update(G))(materials, G)
