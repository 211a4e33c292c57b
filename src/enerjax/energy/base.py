"""A scalar of the state. Its gradient is the physics.

Two slots of the same scalar do everything: ∂E/∂x is force, stress, residual, score; ∂E/∂(leaves of E) is learning. So
an energy is a pytree *argument* of whatever consumes it, never a closure: a minibatch, a neighbour list, a load and the
weights of a network are its leaves, and changing them never compiles anything again.
"""

import abc

import equinox as eqx
import jax

from .._array import Energy, PyTree, Scalar


class AbstractEnergy(eqx.Module):
    """A scalar E(x), in units of energy, with `+`, `-` and multiplication by a number.

    Every consumer in this library takes any callable x ↦ ℝ; this class is here for the algebra:
    `strain - work`, `prior + likelihood`, `pair + 0.1 * net`.
    """

    @abc.abstractmethod
    def __call__(self, x: PyTree) -> Scalar:
        """E(x)."""

    def __hash__(self) -> int:
        """By value where all leaves are hashable, else by identity: `jax.jit(energy)` works with arrays inside."""
        try:
            return super().__hash__()
        except TypeError:
            return object.__hash__(self)

    def __add__(self, other: Energy) -> "Sum":
        mine = self.terms if isinstance(self, Sum) else (self,)
        theirs = other.terms if isinstance(other, Sum) else (other,)
        return Sum(mine + theirs)

    def __mul__(self, scale) -> "Scaled":
        return Scaled(self, scale)

    __rmul__ = __mul__

    def __neg__(self) -> "Scaled":
        return Scaled(self, -1.0)

    def __sub__(self, other: Energy) -> "Sum":
        return self + Scaled(other, -1.0)

    def __radd__(self, other):
        if isinstance(other, int | float) and other == 0:  # so that sum([...]) works
            return self
        return Sum((other, self))


class Sum(AbstractEnergy):
    """E(x) = Σᵢ Eᵢ(x)."""

    terms: tuple[Energy, ...]

    def __call__(self, x: PyTree) -> Scalar:
        """Σᵢ Eᵢ(x)."""
        return sum((term(x) for term in self.terms[1:]), start=self.terms[0](x))


class Scaled(AbstractEnergy):
    """E(x) = s E₀(x)."""

    term: Energy
    factor: float | int | jax.Array

    def __call__(self, x: PyTree) -> Scalar:
        """s E₀(x)."""
        return self.factor * self.term(x)
