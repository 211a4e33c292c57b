"""Independent component analysis: maximum likelihood for x = A s, moved along the group of matrices.

    E(W) = −log |det W| − ⟨Σᵢ log pᵢ(yᵢ)⟩,   y = W x            ∇E Wᵀ W = (⟨φ(y) yᵀ⟩ − 1) W,   φ = −∂ log p

The ordinary gradient needs W⁻¹ᵀ and stalls on ill-conditioned mixtures. The natural gradient ∇E WᵀW is equivariant: the
separation W A evolves the same whatever the mixture A was. S. Amari, A. Cichocki and H. H. Yang, NIPS 1995;
J.-F. Cardoso and B. H. Laheld, IEEE Trans. Signal Process. 44, 3017 (1996). As an optax transformation it
trains in `fit.train` like anything else.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from .._array import Scalar
from ..energy.base import AbstractEnergy


def log_cosh(y: Float[Array, "..."]) -> Float[Array, "..."]:
    """−log p up to a constant, p = 1/(π cosh y): sources peaked at zero with long tails, such as speech; φ = tanh."""
    return jnp.logaddexp(y, -y) - jnp.log(2.0)


def sub_gaussian(y: Float[Array, "..."]) -> Float[Array, "..."]:
    """−log p up to a constant of flat or two-peaked sources, such as periodic signals: φ = y − tanh y."""
    return 0.5 * y**2 - log_cosh(y)


class Unmixing(AbstractEnergy):
    """E(W) = −log |det W| + ⟨Σᵢ −log pᵢ((W x)ᵢ)⟩.

    Attributes:
        x: mixtures, [samples, channels], of zero mean.
        surprise: −log p of a source, elementwise; `log_cosh` for speech, `sub_gaussian` for tones.
    """

    x: Float[Array, "samples channels"]
    surprise: Callable = log_cosh

    def __call__(self, x: Float[Array, "channels channels"]) -> Scalar:
        """E(W)."""
        return -jnp.linalg.slogdet(x)[1] + jnp.mean(jnp.sum(self.surprise(self.x @ x.T), 1))


def natural_gradient() -> optax.GradientTransformation:
    """G ↦ G WᵀW for every square matrix W among the parameters: steepest descent in the metric of the matrix group.

    Raises:
        ValueError: if called without the parameters.
    """

    def update(updates, state, params=None):
        if params is None:
            raise ValueError(
                "natural_gradient: the metric is that of the matrices; call update(gradients, state, params)."
            )
        return jax.tree.map(lambda g, w: g @ w.T @ w, updates, params), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def whitening(x: Float[Array, "samples channels"]) -> Float[Array, "channels channels"]:
    """Symmetric V with V Cov(x) Vᵀ = 1: a start from which the steps of all channels are of one size."""
    values, vectors = jnp.linalg.eigh(jnp.cov(x.T))
    return vectors @ jnp.diag(1 / jnp.sqrt(values)) @ vectors.T


def amari_index(separation: Float[Array, "n n"]) -> Scalar:
    """0 when W A is a permutation with scales, 1 at worst.

    ½ [mean over rows of (Σⱼ|pᵢⱼ|/maxⱼ|pᵢⱼ| − 1) + the same over columns]/(n − 1). Amari, Cichocki and Yang (1995),
    eq. (23), normalised.
    """
    p = jnp.abs(separation)
    n = p.shape[0]
    rows = jnp.sum(p, 1) / jnp.max(p, 1) - 1
    columns = jnp.sum(p, 0) / jnp.max(p, 0) - 1
    return (jnp.mean(rows) + jnp.mean(columns)) / (2 * (n - 1))
