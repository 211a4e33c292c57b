"""A material is its stored energy W(G) [energy per reference volume]; stress and tangent are its derivatives.

G = ∇u is the displacement gradient, [d, d]. Any callable G ↦ W serves; the classes here add names and checks. A
material with an internal pressure is a saddle W(G, p), stationary in p: the mixed form, which does not lock at ν →
1/2.
"""

import abc
import functools
import operator
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..._array import Scalar
from .. import kinematics as kin
from ..kinematics import Tensor

Material = Callable[..., Scalar]


class AbstractMaterial(eqx.Module):
    """W(G). `finite` says whether P = ∂W/∂G distinguishes the deformed from the reference shape."""

    finite: eqx.AbstractClassVar[bool]

    @abc.abstractmethod
    def __call__(self, G: Tensor) -> Scalar:
        """W(G), energy per reference volume."""


class AbstractMixedMaterial(eqx.Module):
    """Π(G, p): a saddle whose stationarity in the pressure p [stress] is the volumetric law."""

    finite: eqx.AbstractClassVar[bool]

    @abc.abstractmethod
    def __call__(self, G: Tensor, p: Scalar) -> Scalar:
        """Π(G, p), energy per reference volume."""


def stress(material: Material, G: Tensor, *internal) -> Tensor:
    """P = ∂W/∂G: the first Piola–Kirchhoff stress; σ where strains are small."""
    return jax.grad(material)(G, *internal)


def cauchy_stress(material: Material, G: Tensor, *internal) -> Tensor:
    """σ: P for small strain, P Fᵀ/J for finite strain."""
    P = stress(material, G, *internal)
    return kin.cauchy(P, G) if getattr(material, "finite", True) else P


def tangent(material: Material, G: Tensor, *internal) -> Float[Array, "d d d d"]:
    """A_ijkl = ∂P_ij/∂G_kl."""
    return jax.hessian(material)(G, *internal)


def divergence(material: Material, G: Tensor, H: Float[Array, "d d d"]) -> Float[Array, " d"]:
    """Div P for a homogeneous material: A_ijkl H_klj, with H_klj = ∂²u_k/∂X_l∂X_j.

    One forward derivative of P per direction j: (Div P)_i = Σ_j (dP/dG · H_··j)_ij.
    """
    d = G.shape[0]
    directional = lambda j: jax.jvp(lambda G: stress(material, G), (G,), (H[:, :, j],))[1][:, j]
    return functools.reduce(operator.add, (directional(j) for j in range(d)))


def modulus(material: Material, d: int, dtype=jnp.float64) -> Scalar:
    """A stiffness scale: the largest entry of the tangent at rest. What residuals are made dimensionless by."""
    G = jnp.zeros((d, d), dtype)
    A = (
        tangent(material, G, jnp.zeros((), dtype))
        if isinstance(material, AbstractMixedMaterial)
        else tangent(material, G)
    )
    return jnp.max(jnp.abs(A))
