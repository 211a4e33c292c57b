"""A problem of solid mechanics: domain, material, loads, boundary conditions, and what is known of its solution."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from .condition import AbstractCondition, Periodic
from .domain import AbstractDomain
from .field import AbstractBasis
from .material import AbstractMixedMaterial, finite_strain


@dataclasses.dataclass(frozen=True, eq=False)
class Reference:
    """A solution by other means, at points: a finite-element array, or one integrated independently.

    Attributes:
        points: [n, d].
        displacement: [n, d].
        stress: Cauchy stress, [n, d, d], or None.
        weights: quadrature weights of the norms, [n]; equal by default.
        source: how it was made.
    """

    points: np.ndarray
    displacement: np.ndarray
    stress: np.ndarray | None = None
    weights: np.ndarray | None = None
    source: str = ""


@dataclasses.dataclass(frozen=True, eq=False)
class Problem:
    """Equilibrium Div P + b = 0 in a domain, P = ∂W/∂G, with conditions on its boundary.

    Attributes:
        domain: where.
        material: W(G), or Π(G, p) with a pressure; `material(x)` where `heterogeneous`.
        conditions: {part of the boundary: condition}; each part of the domain needs one.
        name: for messages and files.
        body: b(x) [force/volume], or None.
        density: ρ: makes the last coordinate of the domain time and the equation ρ ü = Div P + b.
        exact: u(x) if known; the exact stress follows through the material.
        exact_stress: σ(x), where it is not the material's response to `exact` (a pressure field).
        reference: a solution by other means, where no exact one is known.
        method: how to solve it by default (`Collocation`, `Ritz`, `Network`); chosen from the material if None.
        basis: extra basis functions known to be in the solution (`field.Enrichment`).
        pressure_basis: the same for the pressure of a mixed material in the energy form.
        coordinates: x ↦ ξ, where features live; the domain's own by default.
        heterogeneous: whether `material` is a function x ↦ material.
        out_of_plane: σ₃₃ of a planar stress, a function of (G, σ), for the von Mises figure.
        quantities: {name: f(solution) -> number}: what an engineer reads off, such as a stress concentration.
    """

    domain: AbstractDomain
    material: Any
    conditions: Mapping[str, AbstractCondition]
    name: str = "problem"
    body: Callable | None = None
    density: float | None = None
    exact: Callable | None = None
    exact_stress: Callable | None = None
    reference: Reference | None = None
    method: Any = None
    basis: tuple[AbstractBasis, ...] = ()
    pressure_basis: tuple[AbstractBasis, ...] = ()
    coordinates: Callable | None = None
    heterogeneous: bool = False
    out_of_plane: Callable | None = None
    quantities: Mapping[str, Callable] = dataclasses.field(default_factory=dict)
    title: str = ""

    def __post_init__(self):
        parts = self.domain.parts
        unknown = [name for name in self.conditions if name not in parts]
        if unknown:
            raise ValueError(f"{self.name}: no boundary part {unknown[0]!r}; the domain has {', '.join(parts)}")
        partners = {n for n, c in self.conditions.items() if isinstance(c, Periodic)}
        missing = [name for name in parts if name not in self.conditions]
        if self.density is not None:
            missing = [m for m in missing if m != "top"]  # the end of time asks for nothing
        if missing and not partners:
            raise ValueError(
                f"{self.name}: no condition on {', '.join(map(repr, missing))}; give Free() where nothing acts on it"
            )

    @property
    def dimension(self) -> int:
        """d: the dimension of space."""
        return self.domain.dimension - (self.density is not None)

    @property
    def mixed(self) -> bool:
        """Whether the material carries a pressure."""
        return isinstance(self.material, AbstractMixedMaterial)

    @functools.cached_property
    def finite(self) -> bool:
        """Whether the material is of finite strain."""
        patch = self.domain.patches[0]
        return finite_strain(self.at(patch.map(np.full(patch.dimension, 0.5))), self.dimension)

    def at(self, x):
        """The material at x."""
        return self.material(x) if self.heterogeneous else self.material

    def force(self, x):
        """b(x)."""
        zero = jnp.zeros((self.dimension,), x.dtype)
        return zero if self.body is None else zero + jnp.asarray(self.body(x))

    def xi(self, x):
        """ξ(x), the coordinates features live in."""
        return (self.coordinates or self.domain.coordinates)(x)
