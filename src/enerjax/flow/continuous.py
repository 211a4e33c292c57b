"""The motions of `splitting.py` before they are cut into steps: vector fields (t, y, args) ↦ dy/dt for diffrax.

    dq = M⁻¹p dt,    dp = (F(q) − γ p) dt + √(2γ kT) M^½ dW,    F = −∇E         `Langevin`; γ = 0 is Newton
    dq = −μ ∇E dt + √(2 μ kT) dW                                                `Descent`; kT = 0 is the gradient flow

Without noise they serve `path.solve` as any field does; `field.noise` is the diffusion for `noise=(field.noise, W)`.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx

from .. import _tree as tree
from .._array import Array, Energy, PyTree
from ..energy.response import force
from .phase import as_mass


class Langevin(eqx.Module):
    """Newton's equation with friction γ [1/time] and temperature kT; y = (q, p)."""

    energy: Energy
    mass: PyTree = 1.0
    friction: float | Array = 0.0
    kT: float | Array = 0.0

    def __call__(self, t, y: tuple[PyTree, PyTree], args=None) -> tuple[PyTree, PyTree]:
        """(M⁻¹p, F − γp)."""
        del t, args
        q, p = y
        return as_mass(self.mass).velocity(p), tree.axpy(-self.friction, p, force(self.energy, q))

    def noise(self, t, y: tuple[PyTree, PyTree], args=None) -> lx.AbstractLinearOperator:
        """diag(0, √(2γ kT) M^½), for a Brownian motion of the structure of y."""
        del t, args
        q, p = y
        ones = jax.tree.map(jnp.ones_like, p)
        spread = tree.scale(jnp.sqrt(2 * self.friction * self.kT), as_mass(self.mass).momentum(ones))
        return lx.DiagonalLinearOperator((tree.zeros_like(q), spread))


class Descent(eqx.Module):
    """The overdamped limit: mobility μ, temperature kT; y = q."""

    energy: Energy
    mobility: float | Array = 1.0
    kT: float | Array = 0.0

    def __call__(self, t, y: PyTree, args=None) -> PyTree:
        """−μ ∇E."""
        del t, args
        return tree.scale(self.mobility, force(self.energy, y))

    def noise(self, t, y: PyTree, args=None) -> lx.AbstractLinearOperator:
        """√(2 μ kT) times the identity."""
        del t, args
        return lx.DiagonalLinearOperator(
            tree.scale(jnp.sqrt(2 * self.mobility * self.kT), jax.tree.map(jnp.ones_like, y))
        )
