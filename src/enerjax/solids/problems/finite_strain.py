"""Finite strain with exact solutions: manufactured neo-Hookean, homogeneous stretch, Rivlin's torsion."""

import math

import jax
import jax.numpy as jnp

from ..condition import Displacement, Free, Symmetry, Traction
from ..domain import Box, Cylinder, Rectangle
from ..material import MixedNeoHookean, NeoHookean, stress
from ..method import Collocation
from ..problem import Problem
from .plane import minus_divergence


def neo_hookean() -> Problem:
    """A compressible neo-Hookean square stretched by up to 40 %: manufactured, clamped to the solution on the left."""
    material = NeoHookean(1.0, 0.5)
    exact = lambda x: jnp.stack(
        [
            0.3 * jnp.sin(jnp.pi * x[0] / 2) * jnp.cos(x[1]) + 0.1 * x[0] * x[1],
            0.25 * x[0] ** 2 * jnp.sin(2 * x[1] + 0.5),
        ]
    )
    pull = Traction(lambda x, n: stress(material, jax.jacfwd(exact)(x)) @ n)
    return Problem(
        Rectangle((0, 0), (1, 1)),
        material,
        {"left": Displacement(exact), "right": pull, "top": pull, "bottom": pull},
        name="neo_hookean",
        title="Manufactured neo-Hookean plate, finite strain",
        body=minus_divergence(material, exact),
        exact=exact,
        method=Collocation(features=300, interior=22, boundary=34, widths=(1.0,)),
    )


def stretch(ratio=1.5, young=1.0, poisson=0.3) -> Problem:
    """A neo-Hookean cube pulled to `ratio` times its length, free at the sides: homogeneous, transverse stretch
    from P₂₂ = 0.
    """
    material = NeoHookean.from_young(young, poisson)
    lam, mu = material.lam, material.mu
    a = 1.0
    for _ in range(60):  # Newton on μ(a − 1/a) + λ ln(a² ratio)/a = 0
        J = a * a * ratio
        f = mu * (a * a - 1) + lam * math.log(J)
        a = a - f / (2 * mu * a + 2 * lam / a)
    exact = lambda x: jnp.array([ratio - 1, a - 1, a - 1], x.dtype) * x
    return Problem(
        Box((0, 0, 0), (1, 1, 1)),
        material,
        {
            "left": Symmetry(),
            "right": Displacement((ratio - 1, 0.0, 0.0), (0,)),
            "front": Symmetry(),
            "bottom": Symmetry(),
            "back": Free(),
            "top": Free(),
        },
        name="stretch",
        title="Uniaxial stretch of a neo-Hookean cube",
        exact=exact,
        method=Collocation(features=60, interior=5, boundary=5, widths=(0.3,), load_steps=2),
    )


def torsion(radius=1.0, length=2.0, twist=0.5, mu=1.0) -> Problem:
    """Rivlin's torsion of an incompressible neo-Hookean cylinder by `twist` radians per length; torque π μ τ R⁴/2.

    x = (r cos(θ + τz), r sin(θ + τz), z) for any law; the pressure follows from the free side: σ_rr = −μτ²(R² − r²)/2.
    Rivlin (1949), Phil. Trans. A 242, 173; Ogden (1984), Non-Linear Elastic Deformations, §5.2.
    """

    def exact(x):
        c, s = jnp.cos(twist * x[2]), jnp.sin(twist * x[2])
        return jnp.stack([x[0] * c - x[1] * s - x[0], x[0] * s + x[1] * c - x[1], jnp.zeros_like(c)])

    def cauchy(x):
        F = jnp.eye(3, dtype=x.dtype) + jax.jacfwd(exact)(x)
        r2 = x[0] ** 2 + x[1] ** 2
        return mu * (F @ F.T - jnp.eye(3, dtype=x.dtype)) - mu * twist**2 * (radius**2 - r2) / 2 * jnp.eye(
            3, dtype=x.dtype
        )

    def torque(solution):
        points = solution.problem.domain.boundary("top", 12)
        P = solution.piola(points.x, check=False)
        y = points.x + solution.displacement(points.x, check=False)
        return jnp.sum(points.w * (y[:, 0] * P[:, 1, 2] - y[:, 1] * P[:, 0, 2]))

    return Problem(
        Cylinder(radius, length),
        MixedNeoHookean(mu),
        {"bottom": Displacement(0.0), "top": Displacement(exact), "side": Free()},
        name="torsion",
        title="Rivlin's torsion of an incompressible cylinder",
        exact=exact,
        exact_stress=cauchy,
        quantities={"torque": torque},
        # by the residual: 5.8e-11, against 1.6e-8 at 0.7
        method=Collocation(features=400, interior=10, boundary=11, widths=(0.35,), load_steps=1),
    )
