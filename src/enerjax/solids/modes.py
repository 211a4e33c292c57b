"""Mode shapes: free vibration K c = ω² M c of a held body, in the basis of the energy form.

That basis is orthonormal in the elastic energy at rest, so K is the identity and the spectrum is that of the mass
matrix alone: ω² = 1/μ. By Rayleigh and Ritz every frequency is an upper bound and is twice as accurate as its shape.
"""

import dataclasses
from numbers import Integral

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float

from .._array import Key
from ._clock import Clock
from .collocation import Jets
from .field import LinearField
from .method import Ritz
from .orthonormal import directions, energy_basis, first_jets
from .problem import Problem
from .solution import Solution
from .survey import check_support, survey


@dataclasses.dataclass
class Modes:
    """What `modes` returns.

    Attributes:
        angular: ω [radians/time], ascending.
        shapes: one solution per mode, ∫ ρ|u|² = 1: `shapes[k].displacement(points)`.
    """

    angular: Float[Array, " count"]
    shapes: list[Solution]

    @property
    def frequencies(self) -> Float[Array, " count"]:
        """ω/2π [cycles/time]."""
        return self.angular / (2 * jnp.pi)


def modes(
    problem: Problem, count: int = 6, key: Key | int = 0, *, density: float = 1.0, method: Ritz | None = None
) -> Modes:
    """The lowest frequencies and mode shapes of a problem's body, held as its conditions say; loads do not matter.

    Args:
        problem: domain, material (its tangent at rest) and conditions.
        count: how many modes.
        key: of the random features, or an integer seed.
        density: ρ.
        method: features and quadrature.

    Raises:
        ValueError: a rigid motion is free, displacement cannot be built in, or the basis has fewer than `count`
            functions.
    """
    method = method or Ritz(features=150, interior=24, boundary=8, cut=1e-9)
    if problem.mixed or problem.density is not None:
        raise ValueError(f"{problem.name}: modes need a material without pressure, over space alone")
    with jax.enable_x64(True):
        clock = Clock()
        look = survey(problem, method.interior, method.boundary, clock)
        check_support(look)
        built, basis = energy_basis(look, jr.key(int(key)) if isinstance(key, Integral) else key, method)
        edges = tuple(p.x for p in look.edges.values())
        found, surface = clock.call(first_jets, built, basis, look.inside.x, edges)
        T = directions(look, method.cut, clock, built, found, surface)
        if T.shape[1] < count:
            raise ValueError(f"{problem.name}: {T.shape[1]} basis functions cannot give {count} modes: more features")
        mass = clock.call(_mass, look.inside.w, found, T, jnp.asarray(density))
        mu, Y = np.linalg.eigh(np.asarray(mass))
        mu, Y = mu[::-1][:count], Y[:, ::-1][:, :count]
        c = np.asarray(T) @ (Y / np.sqrt(mu))
        rest = dataclasses.replace(built, lift=lambda x: jnp.zeros((problem.dimension,), x.dtype))
        fields = [LinearField(basis, rest, jnp.asarray(c[:, k].reshape(problem.dimension, -1))) for k in range(count)]
        shapes = [Solution(problem, field, [], clock.seconds, clock.compile) for field in fields]
        return Modes(jnp.asarray(1 / np.sqrt(mu)), shapes)


def _mass(w, found: Jets, T, density):
    """Tᵀ M T: each component's mass matrix alone, since components do not mix in |u|²."""
    d = found.factor.shape[1]
    blocks = T.reshape(d, -1, T.shape[1])
    total = jnp.zeros((T.shape[1], T.shape[1]), T.dtype)
    for i in range(d):
        value = (found.factor[:, i, 0] * jnp.sqrt(density * w))[:, None] * (found.base[:, 0] @ blocks[i])
        total += value.T @ value
    return (total + total.T) / 2
