"""Patch tests: constant strain must be reproduced to rounding."""

import jax.numpy as jnp

from ..condition import Displacement, Traction
from ..domain import Rectangle
from ..material import IsotropicElastic, stress
from ..method import Collocation
from ..problem import Problem


def patch(gradient=((0.01, 0.003), (-0.002, 0.02)), young=1.0, poisson=0.3, name="patch") -> Problem:
    """u = G x on a unit square: clamped to it on the left, its traction elsewhere."""
    material = IsotropicElastic.from_young(young, poisson)
    exact = lambda x: jnp.asarray(gradient, x.dtype) @ x
    pull = Traction(lambda x, n: stress(material, jnp.asarray(gradient, x.dtype)) @ n)
    return Problem(
        Rectangle((0, 0), (1, 1)),
        material,
        {"left": Displacement(exact), "right": pull, "top": pull, "bottom": pull},
        name=name,
        title="Patch test: constant strain",
        exact=exact,
        method=Collocation(features=60, interior=10, boundary=12, widths=(0.3,)),
    )


def patch_tension() -> Problem:
    """Uniaxial patch test, plane strain: ε₁₁ = 0.01, ε₂₂ = −ν/(1−ν) ε₁₁."""
    return patch(((0.01, 0.0), (0.0, -0.01 * 0.3 / 0.7)), name="patch_tension")


def patch_shear() -> Problem:
    """Simple-shear patch test: u = (γ y, 0)."""
    return patch(((0.0, 0.01), (0.0, 0.0)), name="patch_shear")
