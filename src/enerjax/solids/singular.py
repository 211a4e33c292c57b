"""Corners: Williams's exponents, and basis functions r^λ that let a smooth basis converge in spite of them.

Near a corner of opening ω the displacement is Σ r^λ f_λ(θ), where λ solves (M. L. Williams, J. Appl. Mech. 19 (1952)
526)

    free–free        sin²λω = λ² sin²ω
    clamped–clamped  sin²λω = λ² sin²ω / κ²
    clamped–free     sin²λω = ((κ + 1)² − 4λ² sin²ω) / 4κ

with κ = 3 − 4ν in plane strain and (3 − ν)/(1 + ν) in plane stress. λ < 1 means infinite stress.
"""

import math

import jax.numpy as jnp
import numpy as np

from .field import Enrichment


def exponents(opening: float, clamped: int, kappa: float, below: float = 3.0) -> list[complex]:
    """The λ with 0 < Re λ < `below`, Im λ ≥ 0, by Newton from a grid of starts, sorted by real part.

    Args:
        opening: ω, in radians.
        clamped: how many of the two edges are clamped: 0, 1 or 2.
        kappa: Kolosov's constant κ.
        below: bound of the real part.
    """
    s2 = math.sin(opening) ** 2
    if clamped == 1:
        f = lambda z: np.sin(z * opening) ** 2 - ((kappa + 1) ** 2 - 4 * z * z * s2) / (4 * kappa)
        df = lambda z: opening * np.sin(2 * z * opening) + 2 * z * s2 / kappa
    else:
        c = s2 if clamped == 0 else s2 / kappa**2
        f = lambda z: np.sin(z * opening) ** 2 - z * z * c
        df = lambda z: opening * np.sin(2 * z * opening) - 2 * z * c
    found: list[complex] = []
    for start in (x + 1j * y for x in np.linspace(0.1, below, 40) for y in (0.0, 0.15, 0.4, 0.8, 1.5)):
        z = complex(start)
        for _ in range(60):
            slope = df(z)
            if abs(slope) < 1e-14:
                break
            z = z - f(z) / slope
            if not abs(z) < 50:
                break
        if abs(z) < 50 and abs(f(z)) < 1e-10 and 0.02 < z.real < below and abs(z - 1) > 1e-6:
            z = complex(z.real, abs(z.imag) if abs(z.imag) > 1e-9 else 0.0)
            if all(abs(z - other) > 1e-6 for other in found):
                found.append(z)
    return sorted(found, key=lambda z: (z.real, z.imag))


def corner(vertex, inward, powers, scale: float, degree: int = 6, logarithm: bool = False) -> Enrichment:
    """r^λ × cos kθ, sin kθ (k ≤ degree) about a vertex; r^ξ cos(η ln r), r^ξ sin(η ln r) for complex λ = ξ + iη.

    Args:
        vertex: the corner.
        inward: a direction into the body, where θ = 0, so that the cut of θ lies outside.
        powers: the λ (less 1 where the field's factor already vanishes like r at the corner).
        scale: length that makes r dimensionless.
        degree: of the angular functions.
        logarithm: whether r^λ ln r are there too, as under loads that do not fit the corner.
    """
    vertex, inward = np.asarray(vertex, float), np.asarray(inward, float)
    inward = inward / np.linalg.norm(inward)
    across = np.array([-inward[1], inward[0]])
    powers = [complex(p) for p in powers]
    radial = sum(1 if p.imag == 0 else 2 for p in powers) * (2 if logarithm else 1)

    def functions(x):
        d = (x - vertex) / scale
        a, b = d @ inward, d @ across
        r2 = a * a + b * b + 1e-28  # the vertex itself: finite, and multiplied by a factor that vanishes
        log_r, theta = jnp.log(r2) / 2, jnp.arctan2(b, a + 1e-30)
        rows = []
        for p in powers:
            size = jnp.exp(p.real * log_r)
            rows += [size] if p.imag == 0 else [size * jnp.cos(p.imag * log_r), size * jnp.sin(p.imag * log_r)]
        rows += [row * log_r for row in rows] if logarithm else []
        angular = [jnp.ones_like(theta)]
        for k in range(1, degree + 1):
            angular += [jnp.cos(k * theta / 2), jnp.sin(k * theta / 2)]
        return jnp.ravel(jnp.stack(rows)[:, None] * jnp.stack(angular)[None, :])

    return Enrichment(functions, radial * (1 + 2 * degree))


def edge(vertex, inward, powers, scale: float, degree: int, across: tuple[int, int], along: tuple, order: int = 2):
    """Functions of an edge in space: those of a corner in the plane across it, times 1, t, …, t^order along it.

    Args:
        vertex: where the edge meets the plane across it.
        inward: a direction into the body, in that plane.
        powers: the λ.
        scale: length that makes r dimensionless.
        degree: of the angular functions.
        across: the two coordinates of that plane.
        along: (coordinate, its least, its greatest value): t runs from −1 to 1.
        order: of the polynomial along the edge.
    """
    flat = corner(vertex, inward, powers, scale, degree)
    axis, low, high = along

    def functions(x):
        t = (2 * x[axis] - low - high) / (high - low)
        plane = flat(jnp.stack([x[k] for k in across]))
        return jnp.ravel(jnp.stack([t**k for k in range(order + 1)])[:, None] * plane[None])

    return Enrichment(functions, flat.size * (order + 1))
