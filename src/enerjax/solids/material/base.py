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
import numpy as np
from jax.core import Tracer
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


def finite_strain(material: Material, d: int) -> bool:
    """Whether a law is of finite strain: as it says by `finite`, else whether 1 % of strain changes its tangent in d
    dimensions.
    """
    if hasattr(material, "finite"):
        return bool(material.finite)  # pyright: ignore[reportFunctionMemberAccess]
    G = 0.01 * np.sin(1.0 + np.arange(d * d)).reshape(d, d)
    with jax.ensure_compile_time_eval():
        rest, strained = (tangent(material, jnp.asarray(g, float)) for g in (0 * G, G))
        changes = jnp.max(jnp.abs(strained - rest)) > 1e-4 * jnp.max(jnp.abs(rest))
    # parameters that are being differentiated cannot be looked at: Newton is right for either
    return True if isinstance(changes, Tracer) else bool(changes)


def cauchy_stress(material: Material, G: Tensor, *internal) -> Tensor:
    """σ: P for small strain, P Fᵀ/J for finite strain."""
    P = stress(material, G, *internal)
    return kin.cauchy(P, G) if finite_strain(material, G.shape[0]) else P


def across(material: Material, G: Float[Array, "2 2"], *internal) -> Scalar:
    """σ₃₃ of a planar gradient: (σ₁₁ + σ₂₂) times the law's `out_of_plane` if it has one (0: plane stress), else that
    of the law in space, which is then in plane strain.
    """
    ratio = getattr(material, "out_of_plane", None)
    if ratio is not None:
        return ratio * jnp.trace(cauchy_stress(material, G, *internal))
    return cauchy_stress(material, kin.embed(G), *internal)[2, 2]


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
    return jnp.max(jnp.abs(_tangent_at_rest(material, d, dtype)))


def least_stiffness(material: Material, d: int, dtype=jnp.float64) -> Scalar:
    """The least stiffness at rest against a strain of norm 1: above zero for a solid, not below with a pressure."""
    pairs = [(i, j) for i in range(d) for j in range(i, d)]
    strains = np.zeros((len(pairs), d, d))
    for k, (i, j) in enumerate(pairs):
        strains[k, i, j] = strains[k, j, i] = 1.0 if i == j else 0.5**0.5
    A = _tangent_at_rest(material, d, dtype)
    return jnp.linalg.eigvalsh(jnp.einsum("aij,ijkl,bkl->ab", strains, A, strains))[0]


def _tangent_at_rest(material: Material, d: int, dtype) -> Float[Array, "d d d d"]:
    G = jnp.zeros((d, d), dtype)
    internal = (jnp.zeros((), dtype),) if isinstance(material, AbstractMixedMaterial) else ()
    return tangent(material, G, *internal)
