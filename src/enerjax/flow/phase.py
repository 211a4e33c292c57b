"""A point of phase space, its mass, and the three sub-steps that can each be solved exactly.

    dq = p/m dt,    dp = F(q) dt − γ p dt + √(2γ m kT) dW,    F = −∇E

`drift` moves q, `kick` changes p by the force, `Bath` couples p to a friction γ and a temperature kT. Every motion of
this library is a composition of the three (`splitting.py`).

B. Leimkuhler and C. Matthews, Molecular Dynamics, Springer (2015), ch. 7.
"""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp

from .. import _tree as tree
from .._array import Array, Energy, Key, PyTree, Scalar
from ..energy.response import energy_and_force


class AbstractMass(eqx.Module):
    """A symmetric positive definite M: kinetic energy ½ pᵀM⁻¹p, momenta drawn from N(0, kT M).

    MD has one mass per atom, a sampler a diagonal, dense or low-rank metric; the sub-steps ask for no more than this.
    """

    @abc.abstractmethod
    def velocity(self, p: PyTree) -> PyTree:
        """M⁻¹ p."""

    @abc.abstractmethod
    def momentum(self, noise: PyTree) -> PyTree:
        """M^½ ξ, any square root: standard normal ξ becomes a momentum of the Maxwell distribution at kT = 1."""

    def kinetic(self, p: PyTree) -> Scalar:
        """½ pᵀ M⁻¹ p."""
        return 0.5 * tree.dot(p, self.velocity(p))


class DiagonalMass(AbstractMass):
    """M = diag(m): a number, or a pytree of arrays that broadcast against the position's leaves.

    For atoms pass masses of shape [atoms, 1].
    """

    mass: PyTree

    def _like(self, x):
        if len(jax.tree.leaves(self.mass)) == 1:
            only = jax.tree.leaves(self.mass)[0]
            return jax.tree.map(lambda _: only, x)
        return self.mass

    def velocity(self, p: PyTree) -> PyTree:
        """p/m."""
        return jax.tree.map(lambda p, m: p / m, p, self._like(p))

    def momentum(self, noise: PyTree) -> PyTree:
        """√m ξ."""
        return jax.tree.map(lambda n, m: jnp.sqrt(m) * n, noise, self._like(noise))


def as_mass(mass) -> AbstractMass:
    """A mass object from a number, an array, a pytree of arrays, or a mass object."""
    return mass if isinstance(mass, AbstractMass) else DiagonalMass(mass)


class Phase(eqx.Module):
    """A point z = (q, p) of phase space, with the energy and the force felt at q."""

    position: PyTree
    momentum: PyTree
    force: PyTree
    energy: Array

    @classmethod
    def at(cls, energy: Energy, position: PyTree, momentum: PyTree = None) -> "Phase":
        """The phase point at `position`, at rest unless a momentum is given."""
        value, force = energy_and_force(energy, position)
        return cls(position, tree.zeros_like(position) if momentum is None else momentum, force, value)

    @classmethod
    def thermal(cls, energy: Energy, position: PyTree, kT, key: Key, mass=1.0) -> "Phase":
        """The phase point at `position` with a momentum drawn from the Maxwell distribution at kT."""
        noise = as_mass(mass).momentum(tree.normal_like(key, position))
        return cls.at(energy, position, tree.scale(jnp.sqrt(kT), noise))

    def hamiltonian(self, mass=1.0) -> Scalar:
        """H = E(q) + ½ pᵀM⁻¹p, conserved by Newton's equation."""
        return self.energy + as_mass(mass).kinetic(self.momentum)


def kick(z: Phase, dt) -> Phase:
    """p ← p + F dt."""
    return Phase(z.position, tree.axpy(dt, z.force, z.momentum), z.force, z.energy)


def drift(z: Phase, dt, mass=1.0) -> Phase:
    """q ← q + M⁻¹p dt. The force is that of the old place until `feel`."""
    return Phase(tree.axpy(dt, as_mass(mass).velocity(z.momentum), z.position), z.momentum, z.force, z.energy)


def feel(energy: Energy, z: Phase) -> Phase:
    """Evaluate energy and force at the present position: the one gradient of a step."""
    return Phase.at(energy, z.position, z.momentum)


class Bath(eqx.Module):
    """Friction γ [1/time] towards the Maxwell distribution at kT [energy], solved exactly (Ornstein–Uhlenbeck).

    p ← e^(−γdt) p + √((1 − e^(−2γdt)) kT) M^½ ξ. γ = ∞ forgets the momentum; kT = 0 only slows it down.
    """

    friction: float | Array
    kT: float | Array

    def __call__(self, z: Phase, dt, key: Key, mass=1.0) -> Phase:
        """One exact step of length dt."""
        decay = -jnp.asarray(self.friction) * dt
        keep = jnp.exp(decay)
        spread = jnp.sqrt(-jnp.expm1(2 * decay) * self.kT)
        noise = as_mass(mass).momentum(tree.normal_like(key, z.momentum))
        cast = lambda s, p: s.astype(p.dtype)  # a float64 friction must not promote float32 momenta
        momentum = jax.tree.map(lambda p, n: cast(keep, p) * p + cast(spread, p) * n, z.momentum, noise)
        return Phase(z.position, momentum, z.force, z.energy)


def damp(z: Phase, dt, friction) -> Phase:
    """p ← e^(−γdt) p: the bath at kT = 0, without noise to draw."""
    keep = jnp.exp(-jnp.asarray(friction) * dt)
    momentum = jax.tree.map(lambda p: keep.astype(p.dtype) * p, z.momentum)
    return Phase(z.position, momentum, z.force, z.energy)
