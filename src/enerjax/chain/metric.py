"""Mass matrices of a sampler: M⁻¹ estimates the covariance of the target, as diagonal, dense or diagonal + low rank.

They are masses of `flow` with one more operation, `whiten`: in w = M^{-1/2} p the kinetic energy is ½|w|², and the
U-turn criterion of two phase points is a plain scalar product.
"""

import abc

import jax.numpy as jnp
import numpy as np

from .._array import Array, Float
from ..flow.phase import AbstractMass


class AbstractMetric(AbstractMass):
    """A mass on flat vectors with the inverse of its square root."""

    @abc.abstractmethod
    def whiten(self, p: Float[Array, " d"]) -> Float[Array, " d"]:
        """M^{-1/2} p, the inverse of `momentum`."""

    def kinetic(self, p):
        """½|M^{-1/2} p|²."""
        w = self.whiten(p)
        return 0.5 * jnp.vdot(w, w)


class DiagonalMetric(AbstractMetric):
    """M⁻¹ = diag(s²), s the scale of each coordinate."""

    scale: Float[Array | np.ndarray, " d"]

    def velocity(self, p):
        """s² p."""
        return self.scale * (self.scale * p)

    def momentum(self, noise):
        """ξ/s."""
        return noise / self.scale

    def whiten(self, p):
        """s p."""
        return self.scale * p


class DenseMetric(AbstractMetric):
    """M⁻¹ = L Lᵀ with any square root L of the covariance.

    Attributes:
        covariance: L Lᵀ, kept beside the root so that a velocity costs one product.
        root: L.
        inverse: L⁻¹.
    """

    covariance: Float[Array | np.ndarray, "d d"]
    root: Float[Array | np.ndarray, "d d"]
    inverse: Float[Array | np.ndarray, "d d"]

    def velocity(self, p):
        """L Lᵀ p."""
        return self.covariance @ p

    def momentum(self, noise):
        """L⁻ᵀ ξ."""
        return noise @ self.inverse

    def whiten(self, p):
        """Lᵀ p."""
        return p @ self.root


class LowRankMetric(AbstractMetric):
    """M⁻¹ = S (1 + V (λ−1) Vᵀ) S with S = diag(s) and orthonormal columns V: diagonal except in a few directions.

    Unused columns of V are zero and their λ is 1, so that the rank may change without compiling again.
    P. Seyboldt et al., Preconditioning Hamiltonian Monte Carlo by minimizing Fisher divergence, arXiv:2603.18845
    (2026).
    """

    scale: Float[Array | np.ndarray, " d"]
    vectors: Float[Array | np.ndarray, "d r"]
    values: Float[Array | np.ndarray, " r"]

    def _stretch(self, x, power: float):
        return x + ((self.values**power - 1) * (x @ self.vectors)) @ self.vectors.T

    def velocity(self, p):
        """S (1 + V(λ−1)Vᵀ) S p."""
        return self.scale * self._stretch(self.scale * p, 1.0)

    def momentum(self, noise):
        """S⁻¹ (1 + V(λ^{-1/2}−1)Vᵀ) ξ."""
        return self._stretch(noise, -0.5) / self.scale

    def whiten(self, p):
        """(1 + V(λ^{1/2}−1)Vᵀ) S p."""
        return self._stretch(self.scale * p, 0.5)
