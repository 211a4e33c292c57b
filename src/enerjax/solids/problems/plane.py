"""Plane problems with exact solutions: manufactured, Lamé's cylinder, Kirsch's hole, Timoshenko's cantilever."""

import math

import jax
import jax.numpy as jnp

from ..condition import Displacement, Free, Pressure, Symmetry, Traction
from ..domain import Annulus, PerforatedQuarter, Rectangle
from ..material import IsotropicElastic, divergence, stress
from ..method import Collocation
from ..problem import Problem


def minus_divergence(material, exact):
    """b = −Div P(∇u): the body force that makes `exact` the solution."""

    def body(x):
        G = jax.jacfwd(exact)(x)
        return -divergence(material, G, jax.jacfwd(jax.jacfwd(exact))(x))

    return body


def manufactured() -> Problem:
    """The plane-strain plate of Haghighat et al. (2021), CMAME 379, 113741, sec. 3: λ = 1, μ = 1/2, Q = 4."""
    lam, mu, Q, pi = 1.0, 0.5, 4.0, jnp.pi
    material = IsotropicElastic(lam, mu, lam / (2 * (lam + mu)))
    exact = lambda x: jnp.stack([jnp.cos(2 * pi * x[0]) * jnp.sin(pi * x[1]), jnp.sin(pi * x[0]) * Q * x[1] ** 4 / 4])
    side = Displacement(0.0, (1,))  # u_y = 0, σ_xx = 0
    top = Displacement(0.0, (0,), {1: lambda x: (lam + 2 * mu) * Q * jnp.sin(pi * x[0])})
    return Problem(
        Rectangle((0, 0), (1, 1)),
        material,
        {"left": side, "right": side, "bottom": Displacement(0.0), "top": top},
        name="manufactured",
        title="Plane-strain plate of Haghighat et al. 2021",
        body=minus_divergence(material, exact),
        exact=exact,
    )


def thick_cylinder(inner=1.0, outer=4.0, young=1.0, poisson=0.3, pressure=1.0) -> Problem:
    """Lamé's thick cylinder under inner pressure, a quarter in plane strain: u_r = (1+ν)/E A((1−2ν) r + b²/r)."""
    A = pressure * inner**2 / (outer**2 - inner**2)
    exact = lambda x: (1 + poisson) / young * A * ((1 - 2 * poisson) + outer**2 / (x @ x)) * x
    return Problem(
        Annulus(inner, outer, 0.0, math.pi / 2),
        IsotropicElastic.from_young(young, poisson),
        {"inner": Pressure(pressure), "outer": Free(), "start": Symmetry(), "end": Symmetry()},
        name="thick_cylinder",
        title="Lamé's thick cylinder under inner pressure",
        exact=exact,
    )


def kirsch_field(radius, young, poisson, tension, plane_stress=False):
    """u(x) around a hole in an infinite plate under σ_xx = T far away. Timoshenko & Goodier, §35."""
    mu = young / (2 * (1 + poisson))
    kappa = (3 - poisson) / (1 + poisson) if plane_stress else 3 - 4 * poisson

    def exact(x):
        r = jnp.sqrt(x @ x)
        c, s = x[0] / r, x[1] / r
        c2, s2, q = c * c - s * s, 2 * c * s, radius / r
        ur = r * ((kappa - 1) / 2 + c2) + radius * q * (1 + (1 + kappa) * c2) - radius * q**3 * c2
        ut = ((1 - kappa) * radius * q - r - radius * q**3) * s2
        return tension / (4 * mu) * jnp.stack([ur * c - ut * s, ur * s + ut * c])

    return exact


def kirsch(radius=1.0, size=4.0, young=1.0, poisson=0.3, tension=1.0) -> Problem:
    """Kirsch's plate with a hole: a quarter in plane strain, with the infinite plate's tractions on the outer sides."""
    material = IsotropicElastic.from_young(young, poisson)
    exact = kirsch_field(radius, young, poisson, tension)
    far = Traction(lambda x, n: stress(material, jax.jacfwd(exact)(x)) @ n)
    return Problem(
        PerforatedQuarter(radius, size, size),
        material,
        {"hole": Free(), "right": far, "top": far, "left": Symmetry(), "bottom": Symmetry()},
        name="kirsch",
        title="Kirsch's hole in an infinite plate",
        exact=exact,
        quantities={"stress_concentration": lambda s: s.stress(jnp.array([[0.0, radius]]))[0, 0, 0] / tension},
    )


def cantilever(length=8.0, height=2.0, young=1.0, poisson=0.3, load=1.0) -> Problem:
    """Timoshenko's cantilever under an end load, plane stress. Timoshenko & Goodier, §21; x from the clamped end, y
    from the axis.

    The exact displacement is prescribed at the clamped end, the parabolic shear at the loaded one.
    """
    inertia = height**3 / 12
    c = load / (6 * young * inertia)

    def exact(x):
        L, D, nu = length, height, poisson
        u = c * x[1] * ((6 * L - 3 * x[0]) * x[0] + (2 + nu) * (x[1] ** 2 - D**2 / 4))
        v = -c * (3 * nu * x[1] ** 2 * (L - x[0]) + (4 + 5 * nu) * D**2 * x[0] / 4 + (3 * L - x[0]) * x[0] ** 2)
        return jnp.stack([u, v])

    shear = lambda x, n: jnp.stack([jnp.zeros_like(x[1]), -load / (2 * inertia) * (height**2 / 4 - x[1] ** 2)])
    return Problem(
        Rectangle((0.0, -height / 2), (length, height / 2)),
        IsotropicElastic.plane_stress(young, poisson),
        {"left": Displacement(exact), "right": Traction(shear), "bottom": Free(), "top": Free()},
        name="cantilever",
        title="Timoshenko's cantilever under an end load",
        exact=exact,
        quantities={"tip_deflection": lambda s: s.displacement(jnp.array([[length, 0.0]]))[0, 1]},
        method=Collocation(widths=(0.35, 0.5, 0.7, 1.0, 1.4)),
    )
