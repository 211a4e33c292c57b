"""A domain is a set of smooth patches, a boundary of named parts, and a test of what lies inside.

A patch maps the unit cube onto a piece of the domain, so Gauss quadrature of any order comes from the map and its
Jacobian; a part does the same for a piece of the boundary and adds the outward normal and a `level`: a smooth
function that vanishes on the part and is positive inside, which is what builds boundary values into a field. `a - b`,
`a & b`, `a | b` combine domains.
"""

import abc
import dataclasses
import functools
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float

from ..._array import Key, Scalar

Point = Float[Array, " D"]


class Points(eqx.Module):
    """Quadrature points: ∫ f ≈ Σ w_p f(x_p).

    Attributes:
        x: positions, [n, D].
        w: weights, [n].
        normal: outward unit normals on a boundary, zeros inside, [n, D].
    """

    x: Float[Array, "n D"]
    w: Float[Array, " n"]
    normal: Float[Array, "n D"]

    def __len__(self) -> int:
        return self.x.shape[0]

    def __getitem__(self, index) -> "Points":
        return jax.tree.map(lambda a: a[index], self)


def join(points: list[Points]) -> Points:
    """Several sets of points as one."""
    return jax.tree.map(lambda *a: jnp.concatenate(a), *points)


@functools.cache
def gauss(n: int, grade: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Gauss–Legendre points and weights on [0, 1]; s → s^grade gathers them at 0 for `grade` > 1. Read-only."""
    t, w = np.polynomial.legendre.leggauss(n)
    t, w = (t + 1) / 2, w / 2
    t, w = t**grade, w * grade * t ** (grade - 1)
    t.flags.writeable = w.flags.writeable = False
    return t, w


@dataclasses.dataclass(frozen=True)
class Patch:
    """x(s), s in the unit cube of `dimension`: a piece of a domain, or of its boundary.

    Attributes:
        map: s [dimension] ↦ x [D].
        dimension: of the cube.
        shares: how many of `n` points fall along each direction, as multiples of n.
        grades: exponent that gathers points at s = 0 in each direction.
    """

    map: Callable
    dimension: int
    shares: tuple[float, ...] = ()
    grades: tuple[float, ...] = ()

    def rule(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Tensor Gauss points [q, dimension] and weights on the cube, with n × share points along each direction."""
        k = self.dimension
        shares, grades = self.shares or (1.0,) * k, self.grades or (1.0,) * k
        rules = [gauss(max(1, round(n * share)), grade) for share, grade in zip(shares, grades, strict=True)]
        s, w = np.zeros((1, 0)), np.ones(1)
        for t, v in rules:
            s = np.concatenate([np.repeat(s, len(t), axis=0), np.tile(t, len(s))[:, None]], axis=1)
            w = np.outer(w, v).ravel()
        return s, w

    def place(self, s, w) -> Points:
        """A rule of the cube carried over by the map."""
        x, measure, normal = jax.vmap(self._frame)(jnp.asarray(s, float))
        return Points(x, jnp.asarray(w, x.dtype) * measure, normal)

    def points(self, n: int) -> Points:
        """Gauss points of the patch."""
        return self.place(*self.rule(n))

    def _frame(self, s):
        """x, √det(JᵀJ) and a unit normal (of a boundary patch; its sign is the domain's business)."""
        x, J = self.map(s), jax.jacfwd(self.map)(s)
        D, k = J.shape
        if k == D:
            return x, jnp.abs(jnp.linalg.det(J)), jnp.zeros_like(x)
        if D == 1:
            return x, jnp.ones((), x.dtype), jnp.ones_like(x)
        n = jnp.stack([J[1, 0], -J[0, 0]]) if D == 2 else jnp.cross(J[:, 0], J[:, 1])
        length = jnp.linalg.norm(n)
        return x, length, n / length


@dataclasses.dataclass(frozen=True)
class Part:
    """A named piece of a boundary.

    Attributes:
        patches: maps from the unit cube of one dimension less.
        level: ℓ(x), smooth, zero on the part, positive inside the domain, about the distance near the part.
        project: the nearest point of the part's line, plane or circle: carries prescribed values inside.
    """

    patches: tuple[Patch, ...]
    level: Callable
    project: Callable

    def points(self, n: int) -> Points:
        """Gauss points with outward normals: along −∇ℓ."""
        return self.place([patch.rule(n) for patch in self.patches])

    def place(self, rules) -> Points:
        """One rule per patch, carried over, with outward normals."""
        points = join([patch.place(*rule) for patch, rule in zip(self.patches, rules, strict=True)])
        # the level falls outwards; its sign is right even where a patch runs the other way
        slope = jax.vmap(jax.grad(lambda x: jnp.asarray(self.level(x))))(points.x)
        sign = -jnp.sign(jnp.sum(slope * points.normal, axis=1, keepdims=True))
        return Points(points.x, points.w, points.normal * sign)


def plane(origin, inward) -> tuple[Callable, Callable]:
    """Level and projection of the plane (line, point) through `origin` with a unit inward normal."""
    origin, inward = np.asarray(origin, float), np.asarray(inward, float)
    inward = inward / np.linalg.norm(inward)
    level = lambda x: (x - origin) @ inward
    return level, lambda x: x - ((x - origin) @ inward) * inward


def trimmed(ends: list[tuple]) -> tuple[Callable, Callable]:
    """Level and projection of line segments in the plane, body on the left: zero on them and not on their lines beyond.

    The distance f to a segment's line joined with the disc t ≥ 0 around the segment, φ² = f² + ((√(t² + f⁴) − t)/2)²
    (Rvachev & Sheiko, Appl. Mech. Rev. 48 (1995) 151), has the slope 1 on the segment and is analytic off it; two
    segments are joined by φ₁φ₂/√(φ₁² + φ₂²).
    """
    ends = [(np.asarray(a, float), np.asarray(b, float)) for a, b in ends]

    def one(x, a, b):
        length = float(np.linalg.norm(b - a))
        t = (length**2 / 4 - jnp.sum((x - (a + b) / 2) ** 2)) / length
        f = (x - a) @ (np.array([a[1] - b[1], b[0] - a[0]]) / length)
        root = jnp.sqrt(t * t + f**4 + 1e-300)
        over = t > 0  # where φ is f times a smooth function; elsewhere f may be zero and φ is not
        near = f * jnp.sqrt(1 + jnp.where(over, f**3 / (2 * (root + jnp.abs(t))), 0.0) ** 2)
        far = jnp.sqrt(jnp.where(over, 1.0, f * f + ((root - t) / 2) ** 2))
        return jnp.where(over, near, far)

    def level(x):
        first, *rest = (one(x, a, b) for a, b in ends)
        for other in rest:
            size = jnp.sqrt(first * first + other * other + 1e-300)
            first = first * other / size
        return first

    def project(x):
        v, w = (jnp.asarray(np.stack(side)) for side in zip(*ends, strict=True))
        edge = w - v
        along = jnp.clip(jnp.sum((x - v) * edge, 1) / jnp.sum(edge * edge, 1), 0.0, 1.0)
        feet = v + along[:, None] * edge
        return feet[jnp.argmin(jnp.sum((feet - x) ** 2, 1))]

    return level, project


def sphere(centre, radius: float, outer: bool, axes: slice = slice(None)) -> tuple[Callable, Callable]:
    """Level ±(R² − r²)/2R and radial projection of a circle, sphere, or cylinder (`axes` across it)."""
    centre, sign = np.asarray(centre, float), 1.0 if outer else -1.0

    def level(x):
        d = x[axes] - centre
        return sign * (radius**2 - d @ d) / (2 * radius)

    def project(x):
        d = x[axes] - centre
        return x.at[axes].set(centre + d * (radius / jnp.sqrt(d @ d)))

    return level, project


class AbstractDomain(abc.ABC):
    """A region of ℝ^D. Positions are in whatever length unit the problem states."""

    lower: np.ndarray  # [D] of the bounding box
    upper: np.ndarray  # [D]

    @property
    @abc.abstractmethod
    def patches(self) -> tuple[Patch, ...]:
        """Smooth pieces whose union is the domain."""

    @property
    @abc.abstractmethod
    def parts(self) -> dict[str, Part]:
        """The boundary by name."""

    @abc.abstractmethod
    def distance(self, x: Point) -> Scalar:
        """A continuous function, negative inside, positive outside, about the distance near the boundary."""

    def coordinates(self, x: Point) -> Float[Array, " K"]:
        """Where features live: x scaled to [−1, 1]; curved domains straighten themselves here (polar, log-polar)."""
        lower, upper = jnp.asarray(self.lower), jnp.asarray(self.upper)
        return (2 * x - lower - upper) / (upper - lower)

    @property
    def dimension(self) -> int:
        """D."""
        return len(self.lower)

    @property
    def size(self) -> float:
        """The longest side of the bounding box: the length residuals are made dimensionless by."""
        return float(np.max(self.upper - self.lower))

    def interior(self, n: int) -> Points:
        """Gauss points, n along each direction of each patch."""
        patches = self.patches
        place = lambda rules: join([patch.place(*rule) for patch, rule in zip(patches, rules, strict=True)])
        return jax.jit(place)([patch.rule(n) for patch in patches])

    def boundary(self, name: str, n: int) -> Points:
        """Gauss points of one part, with outward normals.

        Raises:
            ValueError: no part has this name.
        """
        if name not in self.parts:
            raise ValueError(
                f"{type(self).__name__} has no boundary part {name!r}; its parts are {', '.join(self.parts)}"
            )
        part = self.parts[name]
        return jax.jit(part.place)([patch.rule(n) for patch in part.patches])

    def contains(self, x: Float[Array, "n D"], tolerance: float = 1e-9) -> Array:
        """Which points lie inside or within tolerance × size of the boundary, [n]."""
        return jax.vmap(self.distance)(x) <= tolerance * self.size

    def sample(self, key: Key, n: int) -> Float[Array, "n D"]:
        """n points, uniform in the domain, by rejection from the bounding box."""
        found, count = [], 0
        for k in jr.split(key, 200):
            x = jr.uniform(k, (4 * n, self.dimension), minval=jnp.asarray(self.lower), maxval=jnp.asarray(self.upper))
            x = x[np.asarray(jax.vmap(self.distance)(x) <= 0)]
            found.append(x)
            count += len(x)
            if count >= n:
                return jnp.concatenate(found)[:n]
        raise ValueError(f"{type(self).__name__} fills too little of its bounding box to sample it")

    def volume(self, n: int = 40) -> float:
        """∫ 1, by Gauss quadrature."""
        return float(jnp.sum(self.interior(n).w))

    def __sub__(self, other: "AbstractDomain") -> "AbstractDomain":
        from .combine import Difference

        return Difference(self, other)

    def __and__(self, other: "AbstractDomain") -> "AbstractDomain":
        from .combine import Intersection

        return Intersection(self, other)

    def __or__(self, other: "AbstractDomain") -> "AbstractDomain":
        from .combine import Union

        return Union(self, other)
