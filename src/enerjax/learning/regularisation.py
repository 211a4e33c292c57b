"""Ridge regression as physics: a spring on every weight cures what the data leave undetermined.

    E(w) = ½ |Xw − y|² + ½ λ |w|²         (XᵀX + λ) w = Xᵀy

In the basis of the data's singular vectors every direction is damped by s²/(s² + λ): λ is a volume term, as the
reaction in −Δu + λu = f (whose response decays as e^(−√λ r)), not a condition at the boundary. Noise whose size depends
on the weight is the same term (`plasticity.soft_bounds`).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._array import Scalar


class Ridge(NamedTuple):
    """A ridge regression: weights, offset, filter factors s²/(s² + λ) and the condition number it was solved with."""

    weights: Float[Array, " features"]
    offset: Scalar
    factors: Float[Array, " k"]
    condition: Scalar

    def __call__(self, X: Float[Array, "samples features"]) -> Float[Array, " samples"]:
        """Predictions."""
        return X @ self.weights + self.offset

    @property
    def degrees_of_freedom(self) -> Scalar:
        """tr X(XᵀX + λ)⁻¹Xᵀ = Σ s²/(s² + λ): the parameters the data still determine."""
        return jnp.sum(self.factors)


def ridge(
    X: Float[Array, "samples features"], y: Float[Array, " samples"], penalty: float | Scalar, *, offset: bool = True
) -> Ridge:
    """The minimiser of ½|Xw + b − y|² + ½λ|w|² by singular values: no normal equations, no squared condition number.

    Args:
        X: one sample per row.
        y: targets.
        penalty: λ ≥ 0; at 0 the least-squares solution of smallest norm.
        offset: whether to fit b, which is not penalised.
    """
    center_x = jnp.mean(X, 0) if offset else jnp.zeros(X.shape[1], X.dtype)
    center_y = jnp.mean(y) if offset else jnp.zeros((), y.dtype)
    U, s, Vt = jnp.linalg.svd(X - center_x[None], full_matrices=False)
    negligible = s <= s[0] * max(X.shape) * jnp.finfo(s.dtype).eps
    s2 = jnp.where(negligible, 0.0, s**2)
    factors = jnp.where(s2 + penalty > 0, s2 / jnp.where(s2 + penalty > 0, s2 + penalty, 1.0), 0.0)
    weights = Vt.T @ (factors / jnp.where(negligible, 1.0, s) * (U.T @ (y - center_y)))
    condition = (s[0] ** 2 + penalty) / (s[-1] ** 2 + penalty)
    return Ridge(weights, center_y - center_x @ weights, factors, condition)


def normal_equations(X: Float[Array, "samples features"], y: Float[Array, " samples"], penalty) -> Array:
    """w = (XᵀX + λ)⁻¹ Xᵀy by Cholesky: half the digits of `ridge` where X is ill-conditioned."""
    A = X.T @ X + penalty * jnp.eye(X.shape[1], dtype=X.dtype)
    return jax.scipy.linalg.cho_solve(jax.scipy.linalg.cho_factor(A), X.T @ y)


def screened_poisson(source: Float[Array, " sites"], reaction: float | Scalar, spacing: float | Scalar) -> Array:
    """u with −u'' + λu = f on a ring, by the discrete Fourier transform of the three-point Laplacian.

    Its response to a point source is e^(−√λ r)/(2√λ): λ screens everywhere in the volume.
    """
    n = source.shape[0]
    k = 2 * jnp.pi * jnp.fft.fftfreq(n)
    symbol = (2 - 2 * jnp.cos(k)) / spacing**2 + reaction
    return jnp.fft.ifft(jnp.fft.fft(source) / symbol).real
