"""What a potential energy surface is to the rest of the library: structure and neighbours in, eV out.

    E(R, h) = Σᵢ Eᵢ,    F = −∂E/∂R,    σ = (1/V) ∂E/∂ε

Anything called as `potential(structure, neighbours)` that has a `cutoff` can be relaxed, run and fitted: the analytic
potentials of `pair.py`, a learned one, or their sum.
"""

import abc
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from ase.data import atomic_numbers
from jax.core import Tracer
from jaxtyping import Array, Float

from .._array import Scalar
from ..energy.base import AbstractEnergy
from ..energy.response import energy_and_force
from ..energy.response import energy_forces_stress as _energy_forces_stress
from .neighbours import Neighbours, neighbours_of
from .structure import Structure


class AbstractPotential(AbstractEnergy):
    """E(structure, neighbours) = Σᵢ Eᵢ [eV], each Eᵢ a function of the atoms within the cutoff of atom i.

    Attributes:
        cutoff: Å; static, because neighbour rows are built for it.
    """

    cutoff: eqx.AbstractVar[float]

    @abc.abstractmethod
    def energy_per_atom(self, structure: Structure, neighbours: Neighbours) -> Float[Array, " atoms"]:
        """Eᵢ [eV]; 0 for a padded atom."""

    @property
    def elements(self) -> tuple[int, ...] | None:
        """Atomic numbers that the potential knows; None where it takes any."""
        return None

    def reference(self, species) -> np.ndarray:
        """Energy of each isolated atom [eV], float64 on the host, [atoms]; zero unless a potential was fitted with it.

        Kept apart because it is large and constant: total energies of −10⁴ eV leave float32 no room for a meV. Dynamics
        use `interaction` and add the sum of this at output.
        """
        return np.zeros(np.shape(species))

    def interaction(self, x: Structure, neighbours: Neighbours) -> Scalar:
        """E − Σᵢ reference [eV]: what depends on the positions, to full precision."""
        return self.energy_per_atom(x, neighbours).sum()

    def __call__(self, x: Structure, neighbours: Neighbours | None = None) -> Scalar:
        """E [eV], isolated atoms included; neighbours are built on the host where they are not given."""
        neighbours = neighbours_of(x, self.cutoff) if neighbours is None else neighbours
        return self.interaction(x, neighbours) + self._reference_sum(x)

    def _reference_sum(self, x: Structure) -> Scalar:
        table = self.reference(np.arange(len(atomic_numbers)))
        return jnp.asarray(table, x.positions.dtype)[x.species].sum()

    def __add__(self, other) -> "SumPotential":
        return SumPotential(terms=(self, other), cutoff=max(self.cutoff, other.cutoff))

    def __mul__(self, scale) -> "ScaledPotential":
        return ScaledPotential(term=self, factor=scale, cutoff=self.cutoff)

    __rmul__ = __mul__

    def __neg__(self) -> "ScaledPotential":
        return self * -1.0

    def __sub__(self, other) -> "SumPotential":
        return self + ScaledPotential(term=other, factor=-1.0, cutoff=other.cutoff)


class SumPotential(AbstractPotential):
    """E = Σ of the terms, all on the rows of the widest cutoff: a learned potential plus its core repulsion."""

    terms: tuple
    cutoff: float = eqx.field(static=True)

    @property
    def elements(self) -> tuple[int, ...] | None:
        """Atomic numbers that every term knows."""
        known = [set(k) for term in self.terms if (k := getattr(term, "elements", None)) is not None]
        return tuple(sorted(set.intersection(*known))) if known else None

    def energy_per_atom(self, structure: Structure, neighbours: Neighbours) -> Float[Array, " atoms"]:
        """Σ of the terms' Eᵢ [eV]."""
        parts = [term.energy_per_atom(structure, neighbours) for term in self.terms]
        return sum(parts[1:], start=parts[0])

    def reference(self, species) -> np.ndarray | Array:
        """Σ of the terms' references [eV]."""
        parts = [term.reference(species) for term in self.terms]
        return sum(parts[1:], start=parts[0])


class ScaledPotential(AbstractPotential):
    """E = s E₀."""

    term: Any
    factor: float | Array
    cutoff: float = eqx.field(static=True)

    @property
    def elements(self) -> tuple[int, ...] | None:
        """Atomic numbers that the term knows."""
        return getattr(self.term, "elements", None)

    def energy_per_atom(self, structure: Structure, neighbours: Neighbours) -> Float[Array, " atoms"]:
        """s E₀ᵢ [eV]."""
        return self.factor * self.term.energy_per_atom(structure, neighbours)

    def reference(self, species) -> np.ndarray | Array:
        """s times the term's reference [eV]."""
        return self.factor * self.term.reference(species)  # traced where the factor is


def energy_forces(potential, structure: Structure, neighbours: Neighbours) -> tuple[Scalar, Float[Array, "atoms 3"]]:
    """E [eV] and F = −∂E/∂R [eV/Å] from one reverse pass; runs inside jit."""
    return energy_and_force(lambda R: potential(structure.at(R), neighbours), structure.positions)


def energy_forces_stress(
    potential, structure: Structure, neighbours: Neighbours
) -> tuple[Scalar, Float[Array, "atoms 3"], Float[Array, "3 3"]]:
    """E [eV], F [eV/Å] and the stress [eV/Å³, positive in tension] from one reverse pass; runs inside jit.

    Raises:
        ValueError: for a structure that is not periodic in three directions.
    """
    if structure.cell is None or not all(structure.pbc):
        raise ValueError("stress needs a structure that is periodic in three directions; use `energy_forces`.")
    return _energy_forces_stress(
        lambda R, h: potential(structure.at(R, h), neighbours), structure.positions, structure.cell
    )


def refuse_elements(potential, species) -> None:
    """Raise ValueError for an element that the potential does not know; 0, a padded atom, is none.

    Inside jit, where the elements are not known, nothing is refused.
    """
    known = None if isinstance(species, Tracer) else getattr(potential, "elements", None)
    if known is not None and (unknown := sorted(set(np.unique(np.asarray(species)).tolist()) - {0, *known})):
        raise ValueError(f"the potential knows the elements {known}, not Z={unknown[0]}.")


def reference_energy(potential, structure: Structure) -> float:
    """Σ energies of the isolated atoms [eV] on the host; what dynamics leave out because it is large and constant.

    Raises:
        ValueError: for an element that the potential does not know, before anything is compiled.
    """
    species = np.asarray(structure.species)
    refuse_elements(potential, species)
    return float(np.sum(potential.reference(species))) if hasattr(potential, "reference") else 0.0
