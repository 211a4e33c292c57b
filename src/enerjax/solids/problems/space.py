"""Problems in space with exact solutions: manufactured, thick sphere, Boussinesq's point load."""

import jax
import jax.numpy as jnp

from ..condition import Displacement, Free, Pressure, Symmetry, Traction
from ..domain import Box, SphericalShell
from ..material import IsotropicElastic, stress
from ..method import Collocation
from ..problem import Problem
from .plane import minus_divergence


def manufactured_3d() -> Problem:
    """A cube with a smooth manufactured solution: clamped to it on one face, its tractions on five."""
    material = IsotropicElastic(1.0, 0.5)
    exact = lambda x: (
        0.3
        * jnp.stack(
            [
                jnp.sin(2 * x[0] + x[1]) * jnp.cos(2 * x[2]),
                jnp.exp(x[0] * x[2]) * jnp.sin(2 * x[1]),
                jnp.cos(x[0] + 2 * x[1] - x[2]),
            ]
        )
    )
    pull = Traction(lambda x, n: stress(material, jax.jacfwd(exact)(x)) @ n)
    return Problem(
        Box((0, 0, 0), (1, 1, 1)),
        material,
        {"left": Displacement(exact)} | dict.fromkeys(("right", "front", "back", "bottom", "top"), pull),
        name="manufactured_3d",
        title="Manufactured three-dimensional elasticity",
        body=minus_divergence(material, exact),
        exact=exact,
        method=Collocation(features=600, interior=10, boundary=10, widths=(0.6, 0.8, 1.1), pilot=0.4),
    )


def thick_sphere(inner=1.0, outer=2.0, young=1.0, poisson=0.3, pressure=1.0) -> Problem:
    """Lamé's thick sphere under inner pressure, an octant. Timoshenko & Goodier, §136."""
    k = pressure * inner**3 / (outer**3 - inner**3) / young
    exact = lambda x: k * ((1 - 2 * poisson) + (1 + poisson) * outer**3 / (2 * (x @ x) ** 1.5)) * x
    mirrors = dict.fromkeys(("x0", "y0", "z0"), Symmetry())
    return Problem(
        SphericalShell(inner, outer),
        IsotropicElastic.from_young(young, poisson),
        {"inner": Pressure(pressure), "outer": Free(), **mirrors},
        name="thick_sphere",
        title="Lamé's thick sphere under inner pressure",
        exact=exact,
        method=Collocation(features=400, interior=11, boundary=11, widths=(0.1, 0.15, 0.25), pilot=0.5),
    )


def boussinesq(depth=1.0, size=2.0, young=1.0, poisson=0.3, force=1.0) -> Problem:
    """Boussinesq's point load on a half space, in a box from `depth` below the load. Timoshenko & Goodier, §138.

    z points into the body; the load acts at the origin, above the box. Features live in (x/r, 1/r), in which the field
    is nearly polynomial. The displacement of the far face is left to the residual: built in, it would be carried
    along z, and what is left for the features (the field less that, over the distance to the face) is not smooth in
    those coordinates: thousands of times the error.
    """
    material = IsotropicElastic.from_young(young, poisson)
    mu = young / (2 * (1 + poisson))

    def exact(x):
        r = jnp.sqrt(x @ x)
        lateral = (x[2] / r**3 - (1 - 2 * poisson) / (r * (r + x[2]))) * x[:2]
        return force / (4 * jnp.pi * mu) * jnp.append(lateral, x[2] ** 2 / r**3 + 2 * (1 - poisson) / r)

    def rays(x):
        r = jnp.sqrt(x @ x)
        span = jnp.append(jnp.array([size, size]) / jnp.hypot(depth, size), jnp.ones(2))
        return 2 * jnp.append(x / r, depth / r) / span - 1

    pull = Traction(lambda x, n: stress(material, jax.jacfwd(exact)(x)) @ n)
    faces = dict.fromkeys(("left", "right", "front", "back", "bottom"), pull)
    return Problem(
        Box((0.0, 0.0, depth), (size, size, depth + size)),
        material,
        {"top": Displacement(exact, soft=True), **faces},
        name="boussinesq",
        title="Boussinesq's point load, away from the point",
        exact=exact,
        coordinates=rays,
        method=Collocation(features=400, interior=11, boundary=11, widths=(0.1, 0.2, 0.4), pilot=0.5),
    )
