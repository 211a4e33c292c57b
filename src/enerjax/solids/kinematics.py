"""Kinematics of a continuum in terms of the displacement gradient G = ∇u, written to stay accurate near the identity.

F = 1 + G. Subtracting 1 from det F or d from tr FᵀF throws away half the digits of a small deformation, so every
invariant here is formed from G itself: J − 1, ln J = log1p(J − 1) and tr C − d are relatively accurate down to |G| ~
1e-300.
Letters: d dimension, G [d, d] with G_ij = ∂u_i/∂X_j, C = FᵀF, J = det F. After optimism (Sandia) and Bonet & Wood,
    ch. 4.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._array import Scalar

Tensor = Float[Array, "d d"]


def strain(G: Tensor) -> Tensor:
    """ε = (G + Gᵀ)/2, the small strain."""
    return (G + G.T) / 2


def green_lagrange(G: Tensor) -> Tensor:
    """E = (C − 1)/2 = (G + Gᵀ + GᵀG)/2."""
    return (G + G.T + G.T @ G) / 2


def deformation(G: Tensor) -> Tensor:
    """F = 1 + G."""
    return jnp.eye(G.shape[0], dtype=G.dtype) + G


def second_invariant(A: Tensor) -> Scalar:
    """I₂(A) = (tr²A − tr A²)/2: zero in 1-D, det A in 2-D."""
    d = A.shape[0]
    pairs = [(i, j) for i in range(d) for j in range(i + 1, d)]
    return sum((A[i, i] * A[j, j] - A[i, j] * A[j, i] for i, j in pairs), start=jnp.zeros((), A.dtype))


def third_invariant(A: Tensor) -> Scalar:
    """I₃(A) = det A in 3-D, 0 below."""
    if A.shape[0] < 3:
        return jnp.zeros((), A.dtype)
    return A[0] @ jnp.cross(A[1], A[2])


def volume_change(G: Tensor) -> Scalar:
    """J − 1 = tr G + I₂(G) + I₃(G)."""
    return jnp.trace(G) + second_invariant(G) + third_invariant(G)


def log_volume(G: Tensor) -> Scalar:
    """ln J. NaN where the deformation is inverted (J ≤ 0)."""
    return jnp.log1p(volume_change(G))


def squared_stretch(G: Tensor) -> Scalar:
    """tr C − d = 2 tr G + G:G."""
    return 2 * jnp.trace(G) + jnp.sum(G * G)


@jax.custom_jvp
def minus_log1p(x: Scalar) -> Scalar:
    """x − ln(1 + x), relatively accurate near 0, where it is x²/2 − x³/3 + …"""
    small = jnp.where(jnp.abs(x) < 0.05, x, 0.0)
    series = jnp.zeros_like(small)
    for n in range(15, 1, -1):  # Horner
        series = small * series + (-1) ** n / n
    return jnp.where(jnp.abs(x) < 0.05, small * small * series, x - jnp.log1p(x))


@minus_log1p.defjvp
def _minus_log1p_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    return minus_log1p(x), x / (1 + x) * dx


def neo_hookean_distortion(G: Tensor) -> Scalar:
    """½(tr C − d) − ln J ≥ 0, free of cancellation: ½ G:G − I₂ − I₃ + (x − ln(1 + x)), x = J − 1."""
    return 0.5 * jnp.sum(G * G) - second_invariant(G) - third_invariant(G) + minus_log1p(volume_change(G))


def cofactor(G: Tensor) -> Tensor:
    """cof F = J F⁻ᵀ = ∂J/∂F."""
    return jax.grad(volume_change)(G)


def cauchy(P: Tensor, G: Tensor) -> Tensor:
    """σ = P Fᵀ / J, the Cauchy stress of the first Piola–Kirchhoff stress P."""
    return (P + P @ G.T) / (1 + volume_change(G))


def embed(G: Tensor, out_of_plane=0.0) -> Float[Array, "3 3"]:
    """A planar gradient as a spatial one with G₃₃ given: plane strain at 0."""
    d = G.shape[0]
    full = jnp.zeros((3, 3), G.dtype).at[:d, :d].set(G)
    return full.at[2, 2].set(out_of_plane) if d < 3 else full


def von_mises(sigma: Tensor, out_of_plane=0.0) -> Scalar:
    """√(3/2 s:s), s = dev σ; σ₃₃ of a planar stress is given (0 in plane stress, ν(σ₁₁ + σ₂₂) in plane strain)."""
    full = embed(sigma, out_of_plane)
    s = full - jnp.trace(full) / 3 * jnp.eye(3, dtype=full.dtype)
    return jnp.sqrt(1.5 * jnp.sum(s * s))


def voigt(epsilon: Tensor) -> Float[Array, " voigt"]:
    """(ε₁₁, ε₂₂, ε₃₃, 2ε₂₃, 2ε₁₃, 2ε₁₂), or (ε₁₁, ε₂₂, 2ε₁₂) in the plane."""
    if epsilon.shape[0] == 1:
        return epsilon[0]
    pairs = ((0, 1),) if epsilon.shape[0] == 2 else ((1, 2), (0, 2), (0, 1))
    return jnp.concatenate([jnp.diag(epsilon), jnp.stack([2 * epsilon[i, j] for i, j in pairs])])


def log_spd(C: Tensor, roots: int = 4, steps: int = 8) -> Tensor:
    """ln C of a symmetric positive definite matrix, smooth to any order even where eigenvalues meet.

    Repeated square roots (Denman–Beavers), then ln A = 2 artanh((A − 1)(A + 1)⁻¹) by its series: rational operations
    only, so forward mode of any order works where the eigenvectors of `eigh` are undefined. Relative accuracy 1e-13
    for eigenvalues in [0.02, 50].
    """
    eye = jnp.eye(C.shape[0], dtype=C.dtype)
    A = C
    for _ in range(roots):
        Y, Z = A, eye
        for _ in range(steps):
            Y, Z = (Y + jnp.linalg.inv(Z)) / 2, (Z + jnp.linalg.inv(Y)) / 2
        A = Y
    Q = jnp.linalg.solve(A + eye, A - eye)
    Q2, series, power = Q @ Q, jnp.zeros_like(Q), Q
    for n in range(12):
        series, power = series + power / (2 * n + 1), power @ Q2
    return 2 * 2**roots * series


def exp_symmetric(L: Tensor, squarings: int = 6) -> Tensor:
    """e^L by a scaled Taylor series: smooth to any order."""
    eye = jnp.eye(L.shape[0], dtype=L.dtype)
    A = L / 2**squarings
    total = eye
    for n in range(10, 0, -1):
        total = eye + A @ total / n
    for _ in range(squarings):
        total = total @ total
    return total
