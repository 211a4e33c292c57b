"""A pressure beside the displacement in the energy form: nearly incompressible bodies without locking.

For a material Π(G, p), concave and quadratic in p, the pressure that is stationary is eliminated,

    Π(u) = max_b Σ_p w_p Π(∇u_p, q_p·b),    b = C⁻¹ ∫ q ∂Π/∂p(∇u, 0),    C = −∫ q qᵀ ∂²Π/∂p²

over functions q of its own, orthonormal in L², and a minimum over u remains. In the displacement form the pressure is
λ tr ε, and an error of tr ε that costs the energy as much as one of the deviator is √(λ/μ) times that error in stress
(70 at ν = 0.4999). Here only ∫ q tr ε is stiff, which displacement can follow while the pressure has fewer functions
(Malkus & Hughes (1978), CMAME 15, 63).
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .domain import Points
from .field import AbstractBasis
from .problem import Problem

CUT = 1e-8  # singular value, relative to the largest, below which a pressure function is dropped


class Space(eqx.Module):
    """The functions of the pressure.

    Attributes:
        q: at the interior points, ∫ q qᵀ = 1, zero where dropped, [n, K].
        T: q = φ T over all basis functions, [N, K].
        root: L with L Lᵀ = C, [K, K].
    """

    q: Float[Array, "n K"]
    T: Float[Array, "N K"]
    root: Float[Array, "K K"]


def displacing(problem: Problem, basis: AbstractBasis) -> int:
    """How many of the basis functions carry displacement: all but the pressure's own, which come last."""
    return basis.size - sum(b.size for b in problem.pressure_basis)


def space(problem: Problem, features: int, inside: Points, base: Float[Array, "n N"]) -> Space:
    """Half of the random features, the affine functions and the pressure's own basis, orthonormalised.

    Half: with as many as displacement has, the pair is not stable.

    Args:
        problem: with a mixed material.
        features: how many random features the basis starts with; the affine functions follow.
        inside: the quadrature points.
        base: all basis functions there.
    """
    N, affine = base.shape[1], 1 + problem.domain.dimension
    own = sum(b.size for b in problem.pressure_basis)
    used = np.array([*range(features // 2), *range(features, features + affine), *range(N - own, N)])
    phi = base[:, used]
    R = jnp.linalg.qr(jnp.sqrt(inside.w)[:, None] * phi, mode="r")
    scale = jnp.linalg.norm(R, axis=0)
    _, s, V = jnp.linalg.svd(R / scale[None, :], full_matrices=False)
    keep = s > CUT * s[0]
    T = jnp.where(keep[None, :], V.T / jnp.where(keep, s, 1.0)[None, :], 0.0) / scale[:, None]
    q, d = phi @ T, problem.dimension
    zero = jnp.zeros((len(inside), d, d), q.dtype)
    soft = -jax.vmap(lambda x, G: jax.grad(jax.grad(problem.at(x), 1), 1)(G, G[0, 0]))(inside.x, zero)
    C = jnp.einsum("n,nk,nl->kl", inside.w * soft, q, q) + jnp.diag(jnp.where(keep, 0.0, 1.0))
    return Space(q, jnp.zeros((N, len(used)), q.dtype).at[used].set(T), jnp.linalg.cholesky(C))


def slopes(problem: Problem, x, G, p):
    """∂Π/∂p [n] and ∂²Π/∂G∂p [n, d, d] at points."""
    by_p = lambda x, G, p: jax.grad(problem.at(x), 1)(G, p)
    return jax.vmap(lambda x, G, p: jax.value_and_grad(by_p, 1)(x, G, p))(x, G, p)


def coefficients(problem: Problem, pressures: Space, inside: Points, G: Float[Array, "n d d"]) -> Float[Array, " K"]:
    """b, the pressure that is stationary for ∇u = G."""
    first = slopes(problem, inside.x, G, jnp.zeros((len(inside),), G.dtype))[0]
    return jax.scipy.linalg.cho_solve((pressures.root, True), pressures.q.T @ (inside.w * first))


def against(pressures: Space, rows: Float[Array, "n a"]) -> Float[Array, "K a"]:
    """L⁻¹ Σ_p q_p rows_p: what the pressure adds to the rows whose squares are the stiffness."""
    return jax.scipy.linalg.solve_triangular(pressures.root, pressures.q.T @ rows, lower=True)
