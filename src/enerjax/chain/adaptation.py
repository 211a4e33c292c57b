"""Metrics from draws *and* gradients: the Gaussian whose score is nearest to the target's on the draws.

Minimising the Fisher divergence E|∇log p(x) − ∇log q(x)|² over Gaussians q of covariance Σ gives, for a diagonal Σ,
σᵢ² = √(Var xᵢ / Var gᵢ), and in general the geometric mean Σ = Cov(x) # Cov(g)⁻¹, the solution of Σ Cov(g) Σ = Cov(x).
On a Gaussian target it is exact as soon as the draws span the space, wherever they were drawn from; so a window of
a few draws, still far from the typical set, is worth learning from.

P. Seyboldt et al., Preconditioning Hamiltonian Monte Carlo by minimizing Fisher divergence, arXiv:2603.18845
(2026). The algebra runs on the host in float64: matrices of a few hundred rows, a few times per chain.
"""

import abc
from dataclasses import dataclass

import numpy as np

from .metric import AbstractMetric, DenseMetric, DiagonalMetric, LowRankMetric


@dataclass(frozen=True)
class AbstractAdaptation(abc.ABC):
    """How a window of draws and their forces becomes a metric.

    A plain class: it works on the host, some twenty times per chain, and every method call of an equinox module makes
    another module, which costs as much as the arithmetic of a small metric.
    """

    @abc.abstractmethod
    def first(self, force: np.ndarray, scale: np.ndarray | None = None) -> AbstractMetric:
        """The metric before there are draws: standard deviations `scale`, or σᵢ² = 1/|Fᵢ| of the force at the start."""

    @abc.abstractmethod
    def fit(self, draws: np.ndarray, forces: np.ndarray) -> AbstractMetric:
        """The metric of a window, draws and forces [n, d]."""


def _scales(draws, forces):
    """σ = (Var x / Var g)^{1/4}; a coordinate that did not move, or feels nothing, is left at its bound."""
    spread = np.maximum(draws.std(0), 1e-20)
    pull = np.maximum(forces.std(0), 1e-20)
    return np.clip(np.sqrt(spread / pull), 1e-10, 1e10)


def _first_scales(force, scale):
    if scale is None:
        scale = 1 / np.sqrt(np.clip(np.abs(force), 1e-20, 1e20))
    return np.clip(scale, 1e-10, 1e10)


@dataclass(frozen=True)
class Diagonal(AbstractAdaptation):
    """Σ = diag(σ²)."""

    def first(self, force, scale=None):
        return DiagonalMetric(np.asarray(_first_scales(force, scale), force.dtype))

    def fit(self, draws, forces):
        return DiagonalMetric(np.asarray(_scales(draws, forces), forces.dtype))


@dataclass(frozen=True)
class LowRank(AbstractAdaptation):
    """Σ = S (1 + V(λ−1)Vᵀ) S: the diagonal estimate, corrected in the directions where it is wrong by a factor.

    Up to `dense_below` dimensions the same matrix is stored densely, which is then the cheaper product.

    Attributes:
        rank: number of directions kept, those with the most extreme λ.
        cutoff: λ in [1/cutoff, cutoff] are left at 1; they are mostly noise.
        gamma: regularisation of the two covariances, relative to the window's length.
        dense_below: dimension up to which the metric is dense.
    """

    rank: int = 24
    cutoff: float = 2.0
    gamma: float = 1e-5
    dense_below: int = 128

    def first(self, force, scale=None):
        d = force.shape[0]
        return self._metric(_first_scales(force, scale), np.zeros((d, 0)), np.ones(0), force.dtype)

    def fit(self, draws, forces):
        dtype = forces.dtype
        draws, forces = draws.astype(np.float64), forces.astype(np.float64)
        scale = _scales(draws, forces)
        x = (draws - draws.mean(0)) / scale  # [n, d]
        g = (forces - forces.mean(0)) * scale
        values, vectors = self._directions(x, g)
        return self._metric(scale, vectors, values, dtype)

    def _directions(self, x, g):
        """λ and V of Cov(x) # Cov(g)⁻¹ in the space that draws and forces span."""
        n, d = x.shape
        basis = None
        if 2 * n < d:  # of both row spaces
            basis = np.linalg.qr(np.concatenate([x, g]).T)[0]
            x, g = x @ basis, g @ basis
        # the scales made both traces equal, and dividing both by one number changes nothing but the damping: in a
        # transient, draws and forces spread over orders of magnitude more than at rest, where the trace is d
        size = n * max(float(np.mean(x**2)), 1e-300)
        # a long window of two draws per coordinate determines both covariances: no damping but that of rounding
        damp = (n * self.gamma if n < max(100, 2 * d) else 1e-9) * np.eye(x.shape[1])
        spread, pull = x.T @ x / size + damp, g.T @ g / size + damp
        # with B = RRᵀ:  A # B⁻¹ = R⁻ᵀ (RᵀAR)^{1/2} R⁻¹; a Cholesky factor costs a twentieth of a symmetric root
        r = np.linalg.cholesky(pull)
        m, w = np.linalg.eigh(r.T @ spread @ r)
        half = np.linalg.solve(r.T, w * np.sqrt(np.sqrt(np.maximum(m, 1e-300))))
        values, vectors = np.linalg.eigh(half @ half.T)
        values = np.maximum(values, 1e-14 * values[-1])  # of a product A Aᵀ: negative by rounding at most
        keep = (values > self.cutoff) | (values < 1 / self.cutoff)
        values, vectors = values[keep], vectors[:, keep]
        return values, vectors if basis is None else basis @ vectors

    def _metric(self, scale, vectors, values, dtype):
        d = scale.shape[0]
        if d <= self.dense_below:
            root = scale[:, None] * (np.eye(d) + (vectors * (np.sqrt(values) - 1)) @ vectors.T)
            inverse = (np.eye(d) + (vectors * (1 / np.sqrt(values) - 1)) @ vectors.T) / scale
            return DenseMetric(*(np.asarray(a, dtype) for a in (root @ root.T, root, inverse)))
        rank = min(self.rank, d)
        order = np.argsort(-np.abs(np.log(values)))[:rank]
        padded_values, padded = np.ones(rank), np.zeros((d, rank))
        padded_values[: len(order)], padded[:, : len(order)] = values[order], vectors[:, order]
        return LowRankMetric(*(np.asarray(a, dtype) for a in (scale, padded, padded_values)))


@dataclass(frozen=True)
class Dense(AbstractAdaptation):
    """Σ = Cov(x) # Cov(g)⁻¹ in full, shrunk towards its diagonal while the window is short."""

    def first(self, force, scale=None):
        return LowRank(dense_below=force.shape[0]).first(force, scale)

    def fit(self, draws, forces):
        return LowRank(cutoff=1.0, dense_below=draws.shape[1]).fit(draws, forces)


@dataclass(frozen=True)
class Fixed(AbstractAdaptation):
    """A metric that does not adapt."""

    metric: AbstractMetric

    def first(self, force, scale=None):
        return self.metric

    def fit(self, draws, forces):
        return self.metric
