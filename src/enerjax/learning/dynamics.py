"""Training in continuous time: the fields whose discrete steps are the optimisers of `flow`.

    gradient flow   θ̇ = −G ∇L                          Euler's step is gradient descent (`flow.descend`, friction ∞)
    heavy ball      m θ̈ + mγ θ̇ + ∇L = 0               the splitting is momentum descent (`flow.descend`)

Along both the scalar that does not grow is known: L itself, and H = L + ½ m|θ̇|² with dH/dt = −mγ|θ̇|².
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .. import _tree as tree
from .._array import Energy, PyTree, Scalar
from ..energy.response import force
from ..path.solve import solve


def gradient_flow(
    energy: Energy, x: PyTree, ts: Float[Array, " times"], *, mobility: PyTree = 1.0, **options
) -> PyTree:
    """θ̇ = −G ∇E(θ), θ(t₀) = x, at the times ts (first of them t₀).

    Args:
        energy: E.
        x: where the flow starts.
        ts: increasing times.
        mobility: G ≥ 0, a number or a pytree of arrays like x; zero freezes a coordinate.
        **options: of `path.solve`: tolerances, solver, max_steps.
    """
    alike = jax.tree.structure(mobility) == jax.tree.structure(x)

    def field(t, x, energy):
        F = force(energy, x)
        return jax.tree.map(lambda g, f: g * f, mobility, F) if alike else tree.scale(mobility, F)

    return solve(field, x, ts, energy, **options)


def heavy_ball(
    energy: Energy, x: PyTree, v: PyTree, ts: Float[Array, " times"], *, friction, mass=1.0, **options
) -> tuple[PyTree, PyTree]:
    """m θ̈ + mγ θ̇ + ∇E(θ) = 0: positions and velocities at the times ts.

    Args:
        energy: E.
        x: θ(t₀).
        v: θ̇(t₀).
        ts: increasing times.
        friction: γ, per time.
        mass: m, a number.
        **options: of `path.solve`.
    """

    def field(t, z, energy):
        x, v = z
        return v, jax.tree.map(lambda f, v: f / mass - friction * v, force(energy, x), v)

    return solve(field, (x, v), ts, energy, **options)


def critical_friction(curvature: float | Scalar, mass: float | Scalar = 1.0) -> Scalar:
    """γ = 2√(k/m): where the heavy ball in ½kθ² stops oscillating, and forgets fastest, as (1 + ωt) e^(−ωt)."""
    return 2 * jnp.sqrt(curvature / mass)


def critical_momentum(rate: float | Scalar, curvature: float | Scalar) -> Scalar:
    """β = (1 − √(ηk))²: where both eigenvalues of the discrete step θ ← θ + v, v ← βv − ηkθ meet, at √β.

    B. T. Polyak, USSR Comput. Math. Math. Phys. 4, 1 (1964).
    """
    return (1 - jnp.sqrt(rate * curvature)) ** 2
