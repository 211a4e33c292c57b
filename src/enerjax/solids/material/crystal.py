"""Materials from elsewhere: the Cauchy–Born rule on any crystal energy, and a polyconvex network to be learned."""

from collections.abc import Callable
from typing import ClassVar

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from ..._array import Key, Scalar
from .. import kinematics as kin
from ..kinematics import Tensor
from .base import AbstractMaterial


class CauchyBorn(AbstractMaterial):
    """W(F) = min over shifts s of [E(R Fᵀ + s, h Fᵀ) − E(R, h)]/V: a crystal's energy as a continuum's.

    ∂E/∂strain per volume is the stress of the crystal and ∂W/∂F that of the continuum: one idea. A crystal whose unit
    cell holds several atoms also relaxes inside the cell; `relax` Newton steps on the shifts do that, unrolled for
    derivatives.

    Attributes:
        energy: `energy(positions, cell)`, such as one of `enerjax.atoms`.
        positions: of the reference cell, [atoms, 3].
        cell: lattice vectors as rows, [3, 3].
        relax: Newton steps on the positions inside the cell (0 for one atom per primitive cell).
    """

    energy: Callable
    positions: Float[Array, "atoms 3"]
    cell: Float[Array, "3 3"]
    relax: int = 0
    finite: ClassVar[bool] = True

    def __call__(self, G: Tensor) -> Scalar:
        """W(1 + G), energy per reference volume."""
        F = kin.deformation(kin.embed(G))
        R, h = self.positions @ F.T, self.cell @ F.T
        free = lambda s: jnp.concatenate([jnp.zeros((1, 3), s.dtype), s.reshape(-1, 3)])  # the first atom stays
        inner = lambda s: self.energy(R + free(s), h)
        s = jnp.zeros(3 * (self.positions.shape[0] - 1), R.dtype)
        for _ in range(self.relax):
            s = s - jnp.linalg.solve(jax.hessian(inner)(s), jax.grad(inner)(s))
        rest = self.energy(self.positions, self.cell)
        return (inner(s) - rest) / jnp.abs(jnp.linalg.det(self.cell))


class Polyconvex(AbstractMaterial):
    """W = N(I) with N convex and non-decreasing in I = (I₁ − 3 − 2 ln J, I₂ − 3 − 4 ln J, ln²J): a law to be learned.

        N(I) = a·I + Σ_k b_k [softplus(w_k·I) − ln 2],   a, b, w ≥ 0

    Each invariant is polyconvex, zero with zero slope at rest, and the network of them is convex and non-decreasing
    (weights kept positive by softplus), so W is polyconvex, objective, isotropic and stress-free at rest, whatever
    its weights. After Klein et al. (2022), JMPS 159, 104703.
    """

    first: Float[Array, "3 hidden"]
    last: Float[Array, " hidden"]
    linear: Float[Array, " 3"]
    scale: float | jax.Array
    finite: ClassVar[bool] = True

    @classmethod
    def create(cls, key: Key, hidden: int = 8, scale: float = 1.0) -> "Polyconvex":
        """Random weights; `scale` is a stress."""
        k1, k2 = jr.split(key)
        first, last = jr.normal(k1, (3, hidden), dtype=float) - 1, jr.normal(k2, (hidden,), dtype=float) - 2
        return cls(first, last, jnp.zeros(3), scale)

    def __call__(self, G: Tensor) -> Scalar:
        """W(C)."""
        G = kin.embed(G)
        E2 = 2 * kin.green_lagrange(G)
        log_J = kin.log_volume(G)
        one = 2 * kin.neo_hookean_distortion(G)
        two = 2 * jnp.trace(E2) + kin.second_invariant(E2) - 4 * log_J
        invariants = jnp.stack([one, two, log_J**2])
        argument = invariants @ jax.nn.softplus(self.first)
        ridge = jax.nn.softplus(argument) - jnp.log(2.0)
        return self.scale * (jax.nn.softplus(self.last) @ ridge + jax.nn.softplus(self.linear) @ invariants)


def linear_coefficients(material: Polyconvex) -> Array:
    """The stiffness of the three invariants at rest: c₁, c₂, λ/2 of the Mooney–Rivlin law it is tangent to."""
    slope = jax.nn.softplus(material.first) @ (jax.nn.softplus(material.last) / 2)
    return material.scale * (slope + jax.nn.softplus(material.linear))
