"""Linear elasticity: isotropic, orthotropic and general, in space, plane strain and plane stress; and the mixed
form.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Float

from ..._array import Scalar
from .. import kinematics as kin
from ..kinematics import Tensor
from .base import AbstractMaterial, AbstractMixedMaterial


def _concrete(value) -> float | None:
    return None if isinstance(value, Tracer) else float(value)


def lame(young, poisson):
    """λ = Eν/((1+ν)(1−2ν)), μ = E/(2(1+ν)).

    Raises:
        ValueError: E ≤ 0, ν outside (−1, 1/2), or ν = 1/2, where λ is infinite.
    """
    E, nu = _concrete(young), _concrete(poisson)
    if E is not None and not E > 0:
        raise ValueError(f"Young's modulus must be positive, not {E:g}")
    if nu is not None and not -1 < nu < 0.5:
        if nu == 0.5:
            raise ValueError(
                "Poisson's ratio 0.5 makes λ infinite: a displacement form cannot hold it. "
                "Use MixedElastic.from_young(E, 0.5), which carries the pressure as a field"
            )
        raise ValueError(f"Poisson's ratio must lie in (-1, 0.5), not {nu:g}")
    return young * poisson / ((1 + poisson) * (1 - 2 * poisson)), young / (2 * (1 + poisson))


class IsotropicElastic(AbstractMaterial):
    """W = λ/2 (tr ε)² + μ ε:ε. In the plane this is plane strain; `plane_stress` puts the reduced λ in.

    Attributes:
        lam: λ [stress].
        mu: μ [stress].
        out_of_plane: σ₃₃/(σ₁₁ + σ₂₂), for the von Mises stress of a planar problem: 0 in plane stress, None (what
            follows from the law) in plane strain.
    """

    lam: float | jax.Array
    mu: float | jax.Array
    out_of_plane: float | jax.Array | None = None
    finite: ClassVar[bool] = False

    @classmethod
    def from_young(cls, young, poisson) -> "IsotropicElastic":
        """From E and ν: in space, or in plane strain."""
        return cls(*lame(young, poisson))

    @classmethod
    def plane_stress(cls, young, poisson) -> "IsotropicElastic":
        """From E and ν with σ₃₃ = 0: λ* = 2λμ/(λ + 2μ)."""
        lam, mu = lame(young, poisson)
        return cls(2 * lam * mu / (lam + 2 * mu), mu, 0.0)

    def __call__(self, G: Tensor) -> Scalar:
        """λ/2 (tr ε)² + μ ε:ε."""
        e = kin.strain(G)
        return self.lam / 2 * jnp.trace(G) ** 2 + self.mu * jnp.sum(e * e)


class AnisotropicElastic(AbstractMaterial):
    """W = ½ ε·C ε in Voigt's notation (γ = 2ε in the shear components)."""

    stiffness: Float[Array, "v v"]  # 6×6 in space, 3×3 in the plane [stress]
    finite: ClassVar[bool] = False

    @property
    def out_of_plane(self) -> float | None:
        """0: a 3×3 stiffness is taken as that of plane stress."""
        return 0.0 if len(self.stiffness) == 3 else None

    def __call__(self, G: Tensor) -> Scalar:
        """½ ε·C ε."""
        e = kin.voigt(kin.strain(G))
        return 0.5 * e @ self.stiffness @ e


def orthotropic(young, poisson, shear, plane: bool = False) -> AnisotropicElastic:
    """An orthotropic material with its axes along the coordinates.

    Args:
        young: E₁, E₂, E₃.
        poisson: ν₂₃, ν₁₃, ν₁₂, with ν_ij = −ε_j/ε_i under stress along i.
        shear: G₂₃, G₁₃, G₁₂.
        plane: whether to reduce to plane stress in the 1–2 plane.

    Raises:
        ValueError: the compliance is not positive definite.
    """
    E1, E2, E3 = young
    n23, n13, n12 = poisson
    S = jnp.diag(jnp.stack([1.0 / jnp.asarray(v) for v in (*young, *shear)]))
    S = S.at[0, 1].set(-n12 / E1).at[1, 0].set(-n12 / E1).at[0, 2].set(-n13 / E1).at[2, 0].set(-n13 / E1)
    S = S.at[1, 2].set(-n23 / E2).at[2, 1].set(-n23 / E2)
    if not isinstance(S, Tracer) and not bool(jnp.all(jnp.linalg.eigvalsh(S) > 0)):
        raise ValueError(
            "these orthotropic constants give a compliance that is not positive definite: check ν_ij against E"
        )
    if plane:
        keep = jnp.array([0, 1, 5])
        S = S[keep][:, keep]
    return AnisotropicElastic(jnp.linalg.inv(S))


class MixedElastic(AbstractMixedMaterial):
    """Π = μ ε:ε + p tr ε − p²/(2λ): linear elasticity with pressure p = λ tr ε, up to and including ν = 1/2 (1/λ =
    0).
    """

    mu: float | jax.Array
    compliance: float | jax.Array  # 1/λ
    finite: ClassVar[bool] = False

    @classmethod
    def from_young(cls, young, poisson) -> "MixedElastic":
        """From E and ν ≤ 1/2, in space or plane strain."""
        if not -1 < float(poisson) <= 0.5 or float(poisson) == 0:
            raise ValueError(
                f"Poisson's ratio of the mixed form must lie in (-1, 0.5] without 0, not {float(poisson):g}"
            )
        mu = young / (2 * (1 + poisson))
        return cls(mu, (1 + poisson) * (1 - 2 * poisson) / (young * poisson))

    def __call__(self, G: Tensor, p: Scalar) -> Scalar:
        """μ ε:ε + p tr ε − p²/(2λ)."""
        e = kin.strain(G)
        return self.mu * jnp.sum(e * e) + p * jnp.trace(G) - 0.5 * self.compliance * p**2
