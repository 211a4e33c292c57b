"""Domains in space: box, spherical shell (whole or an octant), cylinder (solid or hollow)."""

import itertools
import math

import jax.numpy as jnp
import numpy as np

from .base import AbstractDomain, Part, Patch, plane, sphere
from .planar import _ordered


class Box(AbstractDomain):
    """[a₁, b₁] × [a₂, b₂] × [a₃, b₃]. Parts: left, right (x₁), front, back (x₂), bottom, top (x₃).

    With `grade` > 1 the body is eight patches in which points gather at the faces, for singular edges.
    """

    NAMES = (("left", "right"), ("front", "back"), ("bottom", "top"))

    def __init__(self, lower, upper, grade: float = 1.0):
        self.grade = float(grade)
        self.lower, self.upper = np.asarray(lower, float), np.asarray(upper, float)
        if self.lower.shape != (3,) or self.upper.shape != (3,):
            raise ValueError("Box needs three lower and three upper bounds")
        for a, b in zip(self.lower, self.upper, strict=True):
            _ordered(a, b, "Box")

    @property
    def _shares(self):
        side = self.upper - self.lower
        return np.sqrt(side / np.exp(np.mean(np.log(side))))

    @property
    def patches(self):
        """One, with points shared out by the square root of the aspect ratios, or one for each corner."""
        a, b = self.lower, self.upper
        if self.grade == 1.0:
            return (Patch(lambda s: a + s * (b - a), 3, tuple(self._shares)),)
        centre, shares = (a + b) / 2, tuple(self._shares / 2)
        corners = [np.where(np.array(c), b, a) for c in itertools.product((False, True), repeat=3)]
        octant = lambda corner: lambda s: corner + s * (centre - corner)
        return tuple(Patch(octant(corner), 3, shares, (self.grade,) * 3) for corner in corners)

    @property
    def parts(self):
        """left, right, front, back, bottom, top."""
        parts = {}
        a, b = self.lower, self.upper
        for k, names in enumerate(self.NAMES):
            others = [i for i in range(3) if i != k]
            for name, value, sign in zip(names, (a[k], b[k]), (1.0, -1.0), strict=True):

                def position(s, k=k, others=others, value=value):
                    x = jnp.asarray(a)
                    x = x.at[k].set(value)
                    for j, i in enumerate(others):
                        x = x.at[i].set(a[i] + s[j] * (b[i] - a[i]))
                    return x

                normal = sign * np.eye(3)[k]
                patch = Patch(position, 2, tuple(self._shares[others]))
                parts[name] = Part((patch,), *plane(np.where(np.eye(3)[k] > 0, value, 0.0), normal))
        return parts

    def distance(self, x):
        """The largest of the six signed distances to the faces."""
        return jnp.max(jnp.maximum(self.lower - x, x - self.upper))


class SphericalShell(AbstractDomain):
    """The octant x, y, z ≥ 0 of a ≤ r ≤ b. Parts: inner, outer, and the mirror planes x0, y0, z0.

    Features live in (log r, x/r, y/r, z/r).
    """

    def __init__(self, inner: float, outer: float):
        _ordered(inner, outer, "SphericalShell")
        if inner <= 0:
            raise ValueError("SphericalShell needs an inner radius above 0")
        self.inner, self.outer = float(inner), float(outer)
        self.lower, self.upper = np.zeros(3), np.full(3, float(outer))

    def _radius(self, s):
        return self.inner * (self.outer / self.inner) ** s

    @staticmethod
    def _direction(s, t):
        polar, azimuth = math.pi / 2 * s, math.pi / 2 * t
        return jnp.stack([jnp.sin(polar) * jnp.cos(azimuth), jnp.sin(polar) * jnp.sin(azimuth), jnp.cos(polar)])

    @property
    def patches(self):
        """One, in (log r, polar, azimuth)."""
        return (Patch(lambda s: self._radius(s[0]) * self._direction(s[1], s[2]), 3),)

    @property
    def parts(self):
        """inner, outer, x0, y0, z0."""
        shell = lambda r: (Patch(lambda s: r * self._direction(s[0], s[1]), 2),)
        o = np.zeros(3)
        parts = {
            "inner": Part(shell(self.inner), *sphere(o, self.inner, outer=False)),
            "outer": Part(shell(self.outer), *sphere(o, self.outer, outer=True)),
        }
        for k, name in enumerate(("x0", "y0", "z0")):

            def quarter(s, k=k):
                r, angle = self._radius(s[0]), math.pi / 2 * s[1]
                x = jnp.zeros(3, s.dtype).at[(k + 1) % 3].set(r * jnp.cos(angle))
                return x.at[(k + 2) % 3].set(r * jnp.sin(angle))

            parts[name] = Part((Patch(quarter, 2),), *plane(o, np.eye(3)[k]))
        return parts

    def coordinates(self, x):
        """(log r scaled to [−1, 1], 2x/r − 1, 2y/r − 1, 2z/r − 1)."""
        r = jnp.sqrt(x @ x)
        rho = jnp.log(r * r / (self.inner * self.outer)) / math.log(self.outer / self.inner)
        return jnp.concatenate([rho[None], 2 * x / r - 1])

    def distance(self, x):
        """The largest of the signed distances to the spheres and planes."""
        r = jnp.sqrt(x @ x)
        return jnp.maximum(jnp.maximum(self.inner - r, r - self.outer), jnp.max(-x))


class Cylinder(AbstractDomain):
    """r ≤ R about the third axis, 0 ≤ x₃ ≤ L. Parts: side, bottom, top."""

    def __init__(self, radius: float, length: float):
        _ordered(0.0, radius, "Cylinder")
        _ordered(0.0, length, "Cylinder")
        self.radius, self.length = float(radius), float(length)
        self.lower, self.upper = np.array([-radius, -radius, 0.0]), np.array([radius, radius, float(length)])

    def _map(self, r, t, z):
        angle = 2 * math.pi * t
        return jnp.stack([self.radius * r * jnp.cos(angle), self.radius * r * jnp.sin(angle), self.length * z])

    @property
    def patches(self):
        """One, in cylinder coordinates."""
        return (Patch(lambda s: self._map(s[0], s[1], s[2]), 3, (0.6, 1.4, 1.0)),)

    @property
    def parts(self):
        """side, bottom, top."""
        one = lambda s: jnp.ones_like(s[0])
        disc = lambda z: (Patch(lambda s: self._map(s[0], s[1], z * one(s)), 2, (0.6, 1.4)),)
        return {
            "side": Part(
                (Patch(lambda s: self._map(one(s), s[0], s[1]), 2, (1.4, 1.0)),),
                *sphere((0.0, 0.0), self.radius, outer=True, axes=slice(0, 2)),
            ),
            "bottom": Part(disc(0.0), *plane((0, 0, 0), (0, 0, 1))),
            "top": Part(disc(1.0), *plane((0, 0, self.length), (0, 0, -1))),
        }

    def distance(self, x):
        """The largest of the signed distances to side and ends."""
        r = jnp.sqrt(x[0] ** 2 + x[1] ** 2)
        return jnp.maximum(r - self.radius, jnp.maximum(-x[2], x[2] - self.length))
