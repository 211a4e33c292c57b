"""What a body does when it is pushed: first and second derivatives of an energy.

One idea gives the stress of a crystal and of a continuum: the derivative of the energy by strain, per volume.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .. import _tree as tree
from .._array import Energy, PyTree, Scalar
from .._precision import full_precision


@full_precision
def energy_and_force(energy: Energy, x: PyTree) -> tuple[Scalar, PyTree]:
    """E(x) and F(x) = −∇E(x), from one reverse pass."""
    value, gradient = jax.value_and_grad(energy)(x)
    return value, jax.tree.map(jnp.negative, gradient)


def force(energy: Energy, x: PyTree) -> PyTree:
    """F(x) = −∇E(x)."""
    return energy_and_force(energy, x)[1]


@full_precision
def hessian_vector_product(energy: Energy, x: PyTree, v: PyTree) -> PyTree:
    """∇²E(x) v, forward over reverse: about four evaluations of E, whatever the size of x."""
    return jax.jvp(jax.grad(energy), (x,), (v,))[1]


def hessian(energy: Energy, x: Float[Array, "..."], *, batch: int = 64) -> Float[Array, "n n"]:
    """∇²E(x) as a symmetric matrix over the flattened array x, [n, n].

    Rows are formed `batch` at a time by forward over reverse, so memory stays bounded for large molecules.
    """
    flat = lambda v: jnp.ravel(hessian_vector_product(energy, x, jnp.reshape(v, x.shape)))
    rows = jax.lax.map(flat, jnp.eye(x.size, dtype=x.dtype), batch_size=min(batch, x.size))
    return (rows + rows.T) / 2


@full_precision
def energy_forces_stress(
    energy, positions: Float[Array, "atoms 3"], cell: Float[Array, "3 3"]
) -> tuple[Scalar, Float[Array, "atoms 3"], Float[Array, "3 3"]]:
    """E, F = −∂E/∂R and σ = (∂E/∂ε)/V of a periodic crystal, from one reverse pass.

    Args:
        energy: `energy(positions, cell)`, a scalar [eV].
        positions: Cartesian coordinates, [atoms, 3] in Å.
        cell: lattice vectors as rows, [3, 3] in Å; right-handed or not.

    Returns:
        The energy [eV], forces [eV/Å] and the symmetric Cauchy stress [eV/Å³], positive in tension (ASE's sign). ε is a
        homogeneous strain of positions and cell: R → R(1+ε), h → h(1+ε).
    """

    def strained(R, strain):
        deformation = jnp.eye(3, dtype=R.dtype) + (strain + strain.T) / 2
        return energy(R @ deformation, cell @ deformation)

    value, (gradient, virial) = jax.value_and_grad(strained, argnums=(0, 1))(positions, jnp.zeros_like(cell))
    return value, -gradient, virial / jnp.abs(jnp.linalg.det(cell))


@full_precision
def directional(energy: Energy, x: PyTree, v: PyTree) -> Scalar:
    """⟨∇E(x), v⟩ by forward mode: the rate at which E grows along v."""
    return jax.jvp(energy, (x,), (v,))[1]


def rayleigh(energy: Energy, x: PyTree, v: PyTree) -> Scalar:
    """⟨v, ∇²E v⟩ / ⟨v, v⟩: the curvature along v."""
    return tree.dot(v, hessian_vector_product(energy, x, v)) / tree.dot(v, v)
