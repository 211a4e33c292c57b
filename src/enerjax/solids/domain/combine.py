"""Boolean combinations of domains: `a - b`, `a & b`, `a | b`.

The parts of both remain, under the names `a.name` and `b.name` where they clash, each cut to what is still on the
boundary; where two boundaries run along each other, the part of `a` has what is left of them. Quadrature is the uncut
rule without the points outside: its error falls as their spacing, which is enough for collocation. Where an integral
must be exact, use a domain whose patches follow the boundary (`Annulus`, `PerforatedQuarter`).
"""

from collections.abc import Callable
from functools import cached_property, partial

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
        self.near = 1e-7 * max(a.size, b.size)  # what counts as on a boundary

    def _box(self):
        return self.a.lower, self.a.upper

    def _keep(self, x) -> Scalar:
        """Positive where a point inside a remains."""
        raise NotImplementedError

    def _keep_edge(self, x, inward) -> Scalar:
        """Positive where a point of a's boundary is still on the boundary."""
        raise NotImplementedError

    def _keep_other(self, x) -> Scalar:
        """Positive where a point of b's boundary is on the boundary, and not on that of a."""
        raise NotImplementedError

    flips_b = False

    @property
    def patches(self):
        """The patches of the first domain, cut."""
        return tuple(_Cut(p, self._keep) for p in self.a.patches)

    @cached_property  # what is left of each is found by evaluation
    def parts(self):
        """The parts of both domains that are still on the boundary."""
        mine, theirs = self.a.parts, self.b.parts
        clash = set(mine) & set(theirs)
        parts = {}
        for prefix, source in (("a.", mine), ("b.", theirs)):
            for name, part in source.items():
                keep = partial(self._along, part) if source is mine else self._keep_other
                cut = tuple(_Cut(p, keep) for p in part.patches)
                cut = tuple(p for p in cut if len(p.rule(8)[0]))
                if cut:
                    flip = source is theirs and self.flips_b
                    level = (lambda x, part=part: -part.level(x)) if flip else part.level
                    parts[prefix + name if name in clash else name] = Part(cut, level, part.project)
        return parts

    def _along(self, part: Part, x):
        slope = jax.grad(lambda x: jnp.asarray(part.level(x)))(x)
        return self._keep_edge(x, slope / jnp.maximum(jnp.linalg.norm(slope), 1e-30))


class _Cut(Patch):
    """A patch less the points where keep(x) ≤ 0."""

    patch: Patch
    keep: Callable

    def __init__(self, patch: Patch, keep: Callable):
        super().__init__(patch.map, patch.dimension, patch.shares, patch.grades)
        object.__setattr__(self, "patch", patch)
        object.__setattr__(self, "keep", keep)

    def rule(self, n):
        """The uncut rule without the points outside."""
        s, w = self.patch.rule(n)
        with jax.ensure_compile_time_eval():
            x = jax.vmap(self.map)(jnp.asarray(s, float))
            inside = np.asarray(jax.vmap(self.keep)(x) > 0)
        return s[inside], w[inside]


class Difference(_Combination):
    """a without b."""

    flips_b = True

    def _keep(self, x):
        return self.b.distance(x)

    def _keep_edge(self, x, inward):
        return self.b.distance(x + self.near * inward)

    def _keep_other(self, x):
        return -self.a.distance(x) - self.near

    def distance(self, x):
        """max(d_a, −d_b)."""
        return jnp.maximum(self.a.distance(x), -self.b.distance(x))


class Intersection(_Combination):
    """a and b."""

    def _box(self):
        return np.maximum(self.a.lower, self.b.lower), np.minimum(self.a.upper, self.b.upper)

    def _keep(self, x):
        return -self.b.distance(x)

    def _keep_edge(self, x, inward):
        return -self.b.distance(x + self.near * inward)

    def _keep_other(self, x):
        return -self.a.distance(x) - self.near

    def distance(self, x):
        """max(d_a, d_b)."""
        return jnp.maximum(self.a.distance(x), self.b.distance(x))


class Union(_Combination):
    """a or b."""

    def _box(self):
        return np.minimum(self.a.lower, self.b.lower), np.maximum(self.a.upper, self.b.upper)

    def _keep_edge(self, x, inward):
        return self.b.distance(x - self.near * inward)

    def _keep_other(self, x):
        return self.a.distance(x) - self.near

    @property
    def patches(self):
        """All of a, and of b what lies outside a."""
        return (*self.a.patches, *(_Cut(p, self.a.distance) for p in self.b.patches))

    def distance(self, x):
        """min(d_a, d_b)."""
        return jnp.minimum(self.a.distance(x), self.b.distance(x))


__all__ = ["Difference", "Intersection", "Points", "Union"]
