"""Planar domains: interval, rectangle, polygon, disc, annulus (and sectors), quarter plate with a hole."""

import math

import jax.numpy as jnp
import numpy as np

from .base import AbstractDomain, Part, Patch, plane, sphere, trimmed


def _segment(a, b) -> Patch:
    a, b = np.asarray(a, float), np.asarray(b, float)
    return Patch(lambda s: a + s[0] * (b - a), 1)


class Interval(AbstractDomain):
    """[a, b] on the line. Parts: left, right. `breaks` split the quadrature, at the interfaces of materials."""

    def __init__(self, a: float, b: float, breaks: tuple[float, ...] = ()):
        self.knots = np.array([a, *breaks, b], float)
        for low, high in zip(self.knots[:-1], self.knots[1:], strict=True):
            _ordered(low, high, "Interval")
        self.lower, self.upper = np.array([a]), np.array([b])

    @property
    def patches(self):
        """One between each two breaks."""
        pieces = zip(self.knots[:-1], self.knots[1:], strict=True)
        return tuple(Patch(lambda s, a=a, b=b: a + s * (b - a), 1) for a, b in pieces)

    @property
    def parts(self):
        """left, right."""
        ends = {"left": (self.lower, np.array([1.0])), "right": (self.upper, np.array([-1.0]))}
        point = lambda x: Patch(lambda s: jnp.asarray(x) + 0.0 * jnp.sum(s), 0)
        return {k: Part((point(x),), *plane(x, n)) for k, (x, n) in ends.items()}

    def distance(self, x):
        """max(a − x, x − b)."""
        return jnp.maximum(self.lower - x, x - self.upper)[0]


class Rectangle(AbstractDomain):
    """[a₁, b₁] × [a₂, b₂]. Parts: left, right, bottom, top."""

    def __init__(self, lower, upper):
        self.lower, self.upper = np.asarray(lower, float), np.asarray(upper, float)
        for a, b in zip(self.lower, self.upper, strict=True):
            _ordered(a, b, "Rectangle")

    @property
    def patches(self):
        """One, with points shared out by the square root of the aspect ratio."""
        a, b = self.lower, self.upper
        aspect = math.sqrt((b[0] - a[0]) / (b[1] - a[1]))
        return (Patch(lambda s: a + s * (b - a), 2, (max(aspect, 1.0), max(1 / aspect, 1.0))),)

    @property
    def parts(self):
        """left, right, bottom, top."""
        (a, c), (b, d) = self.lower, self.upper
        return {
            "left": Part((_segment((a, c), (a, d)),), *plane((a, c), (1, 0))),
            "right": Part((_segment((b, c), (b, d)),), *plane((b, c), (-1, 0))),
            "bottom": Part((_segment((a, c), (b, c)),), *plane((a, c), (0, 1))),
            "top": Part((_segment((a, d), (b, d)),), *plane((a, d), (0, -1))),
        }

    def distance(self, x):
        """The largest of the four signed distances to the sides."""
        return jnp.max(jnp.maximum(self.lower - x, x - self.upper))


class Polygon(AbstractDomain):
    """A simple polygon, vertices anticlockwise. Parts: the names given, else edge0, edge1, … from vertex k to k + 1.

    Quadrature: a convex quadrilateral is one bilinear patch; others are cut into triangles by clipping ears. A convex
        polygon with singular corners is best cut into two triangles per vertex, in which points gather at it:
        `graded`.
    """

    def __init__(self, vertices, names=None, graded: bool = False, grade: float = 3.0):
        self.vertices = np.asarray(vertices, float)
        v = self.vertices
        if v.ndim != 2 or v.shape[1] != 2 or len(v) < 3:
            raise ValueError("Polygon needs at least three vertices, an array [n, 2]")
        area = 0.5 * np.sum(v[:, 0] * np.roll(v[:, 1], -1) - v[:, 1] * np.roll(v[:, 0], -1))
        if not area > 0:
            raise ValueError("Polygon's vertices must run anticlockwise and enclose an area")
        self.names = tuple(names) if names else tuple(f"edge{k}" for k in range(len(v)))
        if len(self.names) != len(v):
            raise ValueError(f"Polygon has {len(v)} edges but {len(self.names)} names")
        self.lower, self.upper = v.min(0), v.max(0)
        self.graded, self.grade = graded, grade
        if graded and not _convex(v):
            raise ValueError("Polygon: points gather at the corners of convex polygons only")

    @property
    def patches(self):
        """One bilinear patch for a convex quadrilateral, else one collapsed patch per triangle."""
        v = self.vertices
        if self.graded:
            centre, after = v.mean(axis=0), (v + np.roll(v, -1, axis=0)) / 2
            halves = [((v[k], after[k], centre), (v[k], centre, after[k - 1])) for k in range(len(v))]
            return tuple(_triangle(*t, self.grade) for pair in halves for t in pair)
        if len(v) == 4 and _convex(v):
            a, b, c, d = v
            return (Patch(lambda s: (1 - s[1]) * (a + s[0] * (b - a)) + s[1] * (d + s[0] * (c - d)), 2),)
        return tuple(_triangle(*v[list(t)]) for t in _clip_ears(v))

    @property
    def parts(self):
        """One per name; edges of one name are one part."""
        v = self.vertices
        edges = [(name, v[k], v[(k + 1) % len(v)]) for k, name in enumerate(self.names)]
        parts: dict[str, Part] = {}
        for name in dict.fromkeys(self.names):
            mine = [(a, b) for other, a, b in edges if other == name]
            on_line = lambda a, b, c: abs(_cross(a, b, c)) < 1e-9 * self.size * np.linalg.norm(b - a)
            shared = any(on_line(*mine[0], a) and on_line(*mine[0], b) for other, a, b in edges if other != name)
            if shared or len(mine) > 1:
                level = trimmed(mine)
            else:
                ((a, b),) = mine
                level = plane(a, (a[1] - b[1], b[0] - a[0]))
            parts[name] = Part(tuple(_segment(a, b) for a, b in mine), *level)
        return parts

    def distance(self, x):
        """The distance to the nearest edge, negative inside (even–odd rule)."""
        v, w = jnp.asarray(self.vertices), jnp.asarray(np.roll(self.vertices, -1, 0))
        edge, to = w - v, x[None] - v
        along = jnp.clip(jnp.sum(to * edge, 1) / jnp.sum(edge * edge, 1), 0.0, 1.0)
        nearest = jnp.min(jnp.linalg.norm(to - along[:, None] * edge, axis=1))
        up, down = v[:, 1] <= x[1], w[:, 1] <= x[1]
        side = edge[:, 0] * to[:, 1] - edge[:, 1] * to[:, 0]
        winding = jnp.sum(jnp.where(up & ~down & (side > 0), 1, 0)) - jnp.sum(jnp.where(~up & down & (side < 0), 1, 0))
        return jnp.where(winding != 0, -nearest, nearest)


class Annulus(AbstractDomain):
    """a ≤ r ≤ b, start ≤ θ ≤ end (a full ring by default) about the origin. Parts: inner, outer, and of a sector
    start, end.

    Features live in (log r, θ), where Lamé's and Kirsch's fields are entire functions; a full ring uses (log r, cos
    θ, sin θ).
    """

    def __init__(self, inner: float, outer: float, start: float = 0.0, end: float = 2 * math.pi):
        _ordered(inner, outer, "Annulus")
        _ordered(start, end, "Annulus")
        if inner <= 0:
            raise ValueError("Annulus needs an inner radius above 0; use Disc")
        self.inner, self.outer, self.start, self.end = float(inner), float(outer), float(start), float(end)
        self.full = abs(end - start - 2 * math.pi) < 1e-12
        corners = self.interior(24).x if not self.full else None
        b = self.outer
        self.lower = np.array([-b, -b]) if corners is None else np.asarray(corners.min(0))
        self.upper = np.array([b, b]) if corners is None else np.asarray(corners.max(0))

    def _map(self, s):
        r = self.inner * (self.outer / self.inner) ** s[0]
        th = self.start + s[1] * (self.end - self.start)
        return jnp.stack([r * jnp.cos(th), r * jnp.sin(th)])

    @property
    def patches(self):
        """One, log-polar: points gather at the inner radius."""
        return (Patch(self._map, 2, (1.0, 2.0 if self.full else 1.0)),)

    @property
    def parts(self):
        """inner, outer (start, end)."""
        o = (0.0, 0.0)
        arc = lambda s1: (Patch(lambda s: self._map(jnp.stack([jnp.full_like(s[0], s1), s[0]])), 1),)
        parts = {
            "inner": Part(arc(0.0), *sphere(o, self.inner, outer=False)),
            "outer": Part(arc(1.0), *sphere(o, self.outer, outer=True)),
        }
        if not self.full:
            ray = lambda s2: (Patch(lambda s: self._map(jnp.stack([s[0], jnp.full_like(s[0], s2)])), 1),)
            parts["start"] = Part(ray(0.0), *plane(o, _unit(self.start + math.pi / 2)))
            parts["end"] = Part(ray(1.0), *plane(o, _unit(self.end - math.pi / 2)))
        return parts

    def coordinates(self, x):
        """(log r, θ) scaled to [−1, 1], or (log r, cos θ, sin θ)."""
        r2 = x @ x
        rho = jnp.log(r2 / (self.inner * self.outer)) / math.log(self.outer / self.inner)
        if self.full:
            return jnp.stack([rho, x[0] / jnp.sqrt(r2), x[1] / jnp.sqrt(r2)])
        middle, half = (self.start + self.end) / 2, (self.end - self.start) / 2
        c, s = math.cos(middle), math.sin(middle)
        return jnp.stack([rho, jnp.arctan2(c * x[1] - s * x[0], c * x[0] + s * x[1]) / half])

    def distance(self, x):
        """The largest of the signed distances to the circles and rays."""
        r = jnp.sqrt(x @ x)
        ring = jnp.maximum(self.inner - r, r - self.outer)
        if self.full:
            return ring
        middle, half = (self.start + self.end) / 2, (self.end - self.start) / 2
        c, s = math.cos(middle), math.sin(middle)
        angle = jnp.abs(jnp.arctan2(c * x[1] - s * x[0], c * x[0] + s * x[1]))
        return jnp.maximum(ring, r * jnp.sin(jnp.clip(angle - half, -1.5, 1.5)))


class Disc(AbstractDomain):
    """|x − c| ≤ R. Part: edge."""

    def __init__(self, radius: float, centre=(0.0, 0.0)):
        _ordered(0.0, radius, "Disc")
        self.radius, self.centre = float(radius), np.asarray(centre, float)
        self.lower, self.upper = self.centre - radius, self.centre + radius

    def _map(self, r, th):
        return jnp.asarray(self.centre) + self.radius * r * jnp.stack([jnp.cos(th), jnp.sin(th)])

    @property
    def patches(self):
        """One, polar."""
        return (Patch(lambda s: self._map(s[0], 2 * math.pi * s[1]), 2, (0.7, 1.4)),)

    @property
    def parts(self):
        """edge."""
        arc = Patch(lambda s: self._map(1.0, 2 * math.pi * s[0]), 1, (2.0,))
        return {"edge": Part((arc,), *sphere(self.centre, self.radius, outer=True))}

    def distance(self, x):
        """|x − c| − R."""
        return jnp.linalg.norm(x - self.centre) - self.radius


class PerforatedQuarter(AbstractDomain):
    """The quarter x, y ≥ 0 of a plate [−W, W] × [−H, H] with a hole of radius a. Parts: hole, right, top, left, bottom.

    Features live in (1/r, θ) scaled: the fields around a hole decay as powers of 1/r.
    """

    def __init__(self, radius: float, width: float, height: float):
        _ordered(radius, min(width, height), "PerforatedQuarter")
        self.radius, self.width, self.height = float(radius), float(width), float(height)
        self.lower, self.upper = np.zeros(2), np.array([width, height], float)

    def _block(self, lo: float, hi: float, outer):
        def position(s):
            th = lo + s[1] * (hi - lo)
            # points gather at the hole, where the stress is
            r = self.radius * (outer(th) / self.radius) ** s[0]
            return jnp.stack([r * jnp.cos(th), r * jnp.sin(th)])

        return Patch(position, 2, (1.0, 0.6))

    @property
    def patches(self):
        """Two sectors, one up to each outer side."""
        corner = math.atan2(self.height, self.width)
        right, top = lambda th: self.width / jnp.cos(th), lambda th: self.height / jnp.sin(th)
        return (self._block(0.0, corner, right), self._block(corner, math.pi / 2, top))

    @property
    def parts(self):
        """hole, right, top, left, bottom."""
        a, W, H = self.radius, self.width, self.height
        arc = Patch(lambda s: a * jnp.stack([jnp.cos(math.pi / 2 * s[0]), jnp.sin(math.pi / 2 * s[0])]), 1)
        return {
            "hole": Part((arc,), *sphere((0.0, 0.0), a, outer=False)),
            "right": Part((_segment((W, 0), (W, H)),), *plane((W, 0), (-1, 0))),
            "top": Part((_segment((0, H), (W, H)),), *plane((0, H), (0, -1))),
            "left": Part((_segment((0, a), (0, H)),), *plane((0, 0), (1, 0))),
            "bottom": Part((_segment((a, 0), (W, 0)),), *plane((0, 0), (0, 1))),
        }

    def coordinates(self, x):
        """(1/r, θ) scaled to [−1, 1]."""
        r = jnp.sqrt(x @ x)
        far = math.hypot(self.width, self.height)
        mean, half = (1 / self.radius + 1 / far) / 2, (1 / self.radius - 1 / far) / 2
        return jnp.stack([(1 / r - mean) / half, jnp.arctan2(x[1], x[0]) / (math.pi / 4) - 1])

    def distance(self, x):
        """The largest of the signed distances to the sides and the hole."""
        box = jnp.max(jnp.maximum(self.lower - x, x - self.upper))
        return jnp.maximum(box, self.radius - jnp.sqrt(x @ x))


def _ordered(a: float, b: float, name: str) -> None:
    if not a < b:
        raise ValueError(f"{name}: bounds must be increasing, not {a:g} and {b:g}")


def _unit(angle: float) -> tuple[float, float]:
    # exact zeros on the axes: a symmetry plane there is built into the field, component by component
    return tuple(0.0 if abs(v) < 1e-15 else v for v in (math.cos(angle), math.sin(angle)))  # pyright: ignore


def _cross(a, b, c) -> float:
    return (b[0] - a[0]) * (c[1] - b[1]) - (b[1] - a[1]) * (c[0] - b[0])


def _convex(v: np.ndarray) -> bool:
    return all(_cross(v[k - 1], v[k], v[(k + 1) % len(v)]) > 0 for k in range(len(v)))


def _triangle(a, b, c, grade: float = 1.0) -> Patch:
    return Patch(lambda s: a + s[0] * ((b - a) + s[1] * (c - b)), 2, (1.0, 1.0), (grade, 1.0))


def _clip_ears(v: np.ndarray) -> list[tuple[int, int, int]]:
    """Triangles of a simple polygon, by cutting ears."""
    left, triangles = list(range(len(v))), []
    while len(left) > 3:
        for k in range(len(left)):
            i, j, l = left[k - 1], left[k], left[(k + 1) % len(left)]
            inside = lambda q, i=i, j=j, l=l: all(
                _cross(*p) >= 0 for p in ((v[i], v[j], q), (v[j], v[l], q), (v[l], v[i], q))
            )
            if _cross(v[i], v[j], v[l]) > 0 and not any(inside(v[m]) for m in left if m not in (i, j, l)):
                triangles.append((i, j, l))
                left.pop(k)
                break
        else:
            raise ValueError("Polygon's edges cross each other")
    return [*triangles, (left[0], left[1], left[2])]
