"""Learning what belongs together: InfoNCE is a free energy over candidates, and a bound on mutual information.

    loss = ⟨(E_ii − Fᵢ)/T⟩,    Eᵢⱼ = −s(xᵢ, yⱼ),    Fᵢ = −T log Σⱼ e^(−Eᵢⱼ/T),    I(x; y) ≥ log N − loss

A. van den Oord, Y. Li and O. Vinyals, arXiv 1807.03748, eqs. (4) and (5).
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from .._array import Scalar
from ..energy.free import free_energy


def cosine_similarity(x: Float[Array, "n features"], y: Float[Array, "m features"]) -> Float[Array, "n m"]:
    """xᵢ·yⱼ/(|xᵢ||yⱼ|); a zero vector is similar to nothing, with a gradient of zero."""

    def unit(v):
        square = jnp.sum(v**2, -1, keepdims=True)
        nonzero = square > 0
        return jnp.where(nonzero, v / jnp.sqrt(jnp.where(nonzero, square, 1.0)), 0.0)

    return unit(x) @ unit(y).T


def infonce(similarity: Float[Array, "n n"], temperature: float | Scalar = 1.0, *, symmetric: bool = False) -> Scalar:
    """Mean of −log of the Gibbs probability of the right candidate, s_ii among s_i·, at temperature T.

    Args:
        similarity: s(xᵢ, yⱼ), pairs that belong together on the diagonal.
        temperature: T.
        symmetric: average with the reverse question, which x belongs to yⱼ.
    """
    energies = -similarity
    loss = jnp.mean((jnp.diag(energies) - free_energy(energies, temperature, axis=1)) / temperature)
    return (loss + infonce(similarity.T, temperature)) / 2 if symmetric else loss


def information_bound(similarity: Float[Array, "n n"], temperature: float | Scalar = 1.0) -> Scalar:
    """log N − InfoNCE ≤ I(x; y), in nats; it never exceeds log N."""
    return jnp.log(similarity.shape[0]) - infonce(similarity, temperature)


def retrieval(similarity: Float[Array, "n n"]) -> Scalar:
    """The fraction of rows whose largest entry is on the diagonal: retrieval at 1."""
    return jnp.mean(jnp.argmax(similarity, 1) == jnp.arange(similarity.shape[0]))
