"""Finite strain: St. Venant–Kirchhoff, neo-Hookean, Mooney–Rivlin, Ogden; incompressible; plane sections of spatial
laws.

Every law is zero, with zero stress, at G = 0, and depends on G through C = FᵀF only: both are tested over all of them.
"""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from ..._array import Scalar
from .. import kinematics as kin
from ..kinematics import Tensor
from .base import AbstractMaterial, AbstractMixedMaterial, finite_strain
from .linear import lame


class StVenantKirchhoff(AbstractMaterial):
    """W = λ/2 (tr E)² + μ E:E, E Green–Lagrange. For large rotation and small strain; softens in compression."""

    lam: float | jax.Array
    mu: float | jax.Array
    finite: ClassVar[bool] = True

    def __call__(self, G: Tensor) -> Scalar:
        """λ/2 (tr E)² + μ E:E."""
        E = kin.green_lagrange(G)
        return self.lam / 2 * jnp.trace(E) ** 2 + self.mu * jnp.sum(E * E)


class NeoHookean(AbstractMaterial):
    """W = μ/2 (tr C − d) − μ ln J + λ/2 (ln J)². Bonet & Wood, eq. 6.27. In the plane: plane strain."""

    lam: float | jax.Array
    mu: float | jax.Array
    finite: ClassVar[bool] = True

    @classmethod
    def from_young(cls, young, poisson) -> "NeoHookean":
        """From the E and ν of small strains."""
        return cls(*lame(young, poisson))

    def __call__(self, G: Tensor) -> Scalar:
        """μ/2 (tr C − d) − μ ln J + λ/2 (ln J)²."""
        return self.mu * kin.neo_hookean_distortion(G) + self.lam / 2 * kin.log_volume(G) ** 2


class MooneyRivlin(AbstractMaterial):
    """W = c₁(I₁ − 3 − 2 ln J) + c₂(I₂ − 3 − 4 ln J) + λ/2 (ln J)², I₁ = tr C, I₂ = (tr²C − tr C²)/2, in space.

    Small strains have μ = 2(c₁ + c₂), and Lamé's first constant λ + 4c₂.
    """

    c1: float | jax.Array
    c2: float | jax.Array
    lam: float | jax.Array
    finite: ClassVar[bool] = True

    def __call__(self, G: Tensor) -> Scalar:
        """c₁(I₁ − 3 − 2 ln J) + c₂(I₂ − 3 − 4 ln J) + λ/2 (ln J)²."""
        G = kin.embed(G)  # a planar gradient is plane strain
        E2 = 2 * kin.green_lagrange(G)  # C − 1
        log_J = kin.log_volume(G)
        second = 2 * jnp.trace(E2) + kin.second_invariant(E2)  # I₂ − 3
        distortion = 2 * self.c1 * kin.neo_hookean_distortion(G)
        return distortion + self.c2 * (second - 4 * log_J) + self.lam / 2 * log_J**2


class Ogden(AbstractMaterial):
    """W = Σ_p μ_p/α_p (λ₁^α_p + λ₂^α_p + λ₃^α_p − 3 − α_p ln J) + λ/2 (ln J)², λ_i the principal stretches.

    Formed from ln C by rational operations (`kinematics.log_spd`), so it is smooth where stretches coincide.
    """

    mu: jax.Array = eqx.field(converter=jnp.asarray)  # [terms]
    alpha: jax.Array = eqx.field(converter=jnp.asarray)  # [terms]
    lam: float | jax.Array
    finite: ClassVar[bool] = True

    def __call__(self, G: Tensor) -> Scalar:
        """Σ_p μ_p/α_p (Σ_i λ_i^α_p − 3 − α_p ln J) + λ/2 (ln J)²."""
        G = kin.embed(G)
        C = jnp.eye(3, dtype=G.dtype) + 2 * kin.green_lagrange(G)
        log_U, log_J = kin.log_spd(C) / 2, kin.log_volume(G)
        total = self.lam / 2 * log_J**2
        for p in range(self.mu.shape[0]):
            a = self.alpha[p]
            total += self.mu[p] / a * (jnp.trace(kin.exp_symmetric(a * log_U)) - 3 - a * log_J)
        return total


class MixedNeoHookean(AbstractMixedMaterial):
    """Π = μ/2 (tr C − d) − μ ln J + p ln J − p²/(2λ): incompressible at 1/λ = 0. In the plane: plane strain."""

    mu: float | jax.Array
    compliance: float | jax.Array = 0.0  # 1/λ
    finite: ClassVar[bool] = True

    def __call__(self, G: Tensor, p: Scalar) -> Scalar:
        """μ/2 (tr C − d) − μ ln J + p ln J − p²/(2λ)."""
        return self.mu * kin.neo_hookean_distortion(G) + p * kin.log_volume(G) - 0.5 * self.compliance * p**2


class PlaneStrain(AbstractMaterial):
    """W(G₂) = W₃(G₂ ⊕ 0) of any spatial law."""

    spatial: AbstractMaterial

    @property
    def finite(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """As the spatial law is."""
        return finite_strain(self.spatial, 3)

    def __call__(self, G: Tensor) -> Scalar:
        """W₃(G₂ ⊕ 0)."""
        return self.spatial(kin.embed(G))


class PlaneStress(AbstractMaterial):
    """W(G₂) = min over G₃₃ of W₃(G₂ ⊕ G₃₃): zero stress across the plane, exact for isotropic laws.

    Newton's steps on the scalar ∂W₃/∂G₃₃ = 0 in a loop without derivatives, at most `steps` of them, then one with
    them, which makes stress and tangent exact (the stress needs none: W is stationary there). Third derivatives are not
    exact. NaN where the loop finds no minimum. For finite strain the unknown is ln λ₃, in which λ₃ ∂W₃/∂λ₃ of the usual
    laws grows throughout, where ∂W₃/∂λ₃ itself turns back under large stretch.
    """

    spatial: AbstractMaterial
    steps: int = 40
    out_of_plane: ClassVar[float] = 0.0

    @property
    def finite(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """As the spatial law is."""
        return finite_strain(self.spatial, 3)

    def __call__(self, G: Tensor) -> Scalar:
        """min over G₃₃ of W₃(G₂ ⊕ G₃₃)."""

        def slopes(spatial, G, thickness):
            slope = jax.grad(lambda g: spatial(kin.embed(G, g)))
            return jax.jvp(slope, (thickness,), (jnp.ones_like(thickness),))

        spatial, at = jax.lax.stop_gradient((self.spatial, G))
        tolerance = jnp.finfo(G.dtype).eps ** 0.5

        def newton(state):
            g, _, k = state
            value, curvature = slopes(spatial, at, g)
            if not self.finite:
                return g - value / curvature, jnp.zeros_like(g), k + 1
            stretch = 1 + g
            first, second = stretch * value, stretch * (value + stretch * curvature)
            step = jnp.where(second > 0, -first / second, -jnp.sign(first))
            step = jnp.clip(step, -1.0, 1.0)
            return stretch * jnp.exp(step) - 1, jnp.abs(step), k + 1

        # volume kept to first order is the exact minimiser of an incompressible law, and near it of the others
        trace = jnp.trace(at)
        start = -trace / (1 + jnp.abs(trace)) / 2
        going = lambda s: (s[1] > tolerance) & (s[2] < self.steps)
        g, last, _ = jax.lax.while_loop(going, newton, (start, jnp.full_like(start, jnp.inf), 0))
        g = jnp.where(last <= tolerance, g, jnp.nan)
        value, curvature = slopes(self.spatial, G, g)
        return self.spatial(kin.embed(G, g - value / curvature))
