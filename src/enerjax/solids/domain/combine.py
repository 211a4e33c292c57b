"""Boolean combinations of domains: `a - b`, `a & b`, `a | b`.

The parts of both remain, under the names `a.name` and `b.name` where they clash, each cut to what is still on the
boundary. Quadrature is the uncut rule on `cells` sub-cells per direction with the points outside given weight zero
and then dropped: its error falls as the cell size, which is enough for collocation. Where an integral must be exact,
use a domain whose patches follow the boundary (`Annulus`, `PerforatedQuarter`).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from ..._array import Scalar
from .base import AbstractDomain, Part, Patch, Points


class _Combination(AbstractDomain):
    """Two domains and a rule on their distances."""

    def __init__(self, a: AbstractDomain, b: AbstractDomain):
        if a.dimension != b.dimension:
            raise ValueError(f"domains of dimension {a.dimension} and {b.dimension} cannot be combined")
        self.a, self.b = a, b
        self.lower, self.upper = self._box()

    def _box(self):
        return self.a.lower, self.a.upper

    def _keep_a(self, x) -> Scalar:
        """Signed: ≤ 0 where a point of a (or of its boundary) remains."""
        raise NotImplementedError

    def _keep_b(self, x) -> Scalar:
        """The same for the boundary of b."""
        raise NotImplementedError

    flips_b = False

    @property
    def patches(self):
        """The patches of the first domain, cut."""
        return tuple(_Cut(p.map, p.dimension, p.shares, p.grades, self._keep_a) for p in self.a.patches)

    @property
    def parts(self):
        """The parts of both domains that are still on the boundary."""
        mine, theirs = self.a.parts, self.b.parts
        clash = set(mine) & set(theirs)
        parts = {}
        for prefix, source, keep, flip in (
            ("a.", mine, self._keep_a, False),
            ("b.", theirs, self._keep_b, self.flips_b),
        ):
            for name, part in source.items():
                cut = tuple(_Cut(p.map, p.dimension, p.shares, p.grades, keep) for p in part.patches)
                cut = tuple(p for p in cut if len(p.rule(8)[0]))
                if cut:
                    level = (lambda x, part=part: -part.level(x)) if flip else part.level
                    parts[prefix + name if name in clash else name] = Part(cut, level, part.project)
        return parts


class _Cut(Patch):
    """A patch less the points where keep(x) > 0."""

    keep: Callable

    def __init__(self, map, dimension, shares, grades, keep):
        super().__init__(map, dimension, shares, grades)
        object.__setattr__(self, "keep", keep)

    def rule(self, n):
        """The uncut rule without the points outside."""
        s, w = super().rule(n)
        with jax.ensure_compile_time_eval():
            x = jax.vmap(self.map)(jnp.asarray(s))
            inside = np.asarray(jax.vmap(self.keep)(x) <= 1e-9)
        return s[inside], w[inside]


class Difference(_Combination):
    """a without b."""

    flips_b = True

    def _keep_a(self, x):
        return -self.b.distance(x)

    def _keep_b(self, x):
        return self.a.distance(x)

    def distance(self, x):
        """max(d_a, −d_b)."""
        return jnp.maximum(self.a.distance(x), -self.b.distance(x))


class Intersection(_Combination):
    """a and b."""

    def _box(self):
        return np.maximum(self.a.lower, self.b.lower), np.minimum(self.a.upper, self.b.upper)

    def _keep_a(self, x):
        return self.b.distance(x)

    def _keep_b(self, x):
        return self.a.distance(x)

    def distance(self, x):
        """max(d_a, d_b)."""
        return jnp.maximum(self.a.distance(x), self.b.distance(x))


class Union(_Combination):
    """a or b."""

    def _box(self):
        return np.minimum(self.a.lower, self.b.lower), np.maximum(self.a.upper, self.b.upper)

    def _keep_a(self, x):
        return -self.b.distance(x)

    def _keep_b(self, x):
        return -self.a.distance(x)

    @property
    def patches(self):
        """All of a, and of b what lies outside a."""
        cut = tuple(_Cut(p.map, p.dimension, p.shares, p.grades, self._keep_b) for p in self.b.patches)
        return (*self.a.patches, *cut)

    def distance(self, x):
        """min(d_a, d_b)."""
        return jnp.minimum(self.a.distance(x), self.b.distance(x))


__all__ = ["Difference", "Intersection", "Points", "Union"]
