"""The strong form over a linear field: rows of the residual's Jacobian from basis jets, then QR; Gauss–Newton if nonlinear.

The residual at a point is a function r(z) of the field's jet z there, and z is linear in the coefficients, z = lift + B c. So
J = ∂r/∂z B, with ∂r/∂z a small matrix by forward mode and B computed once: no derivative of a network is ever taken by
reverse mode, and the 8th iteration costs no more than one assembly and one QR.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from .._array import Key
from ..fit.least_squares import reduce, solve_reduced
from . import jets
from ._clock import Clock
from .field import LinearField, RandomFeatures, Stacked
from .method import Collocation
from .residual import mixed, strong
from .survey import Survey, built_in

BATCH = 128  # points whose rows are formed at once


def _point_rows(term, built, basis, x, w, n, c, load):
    """r [q] and J [q, m, N] of one term at one point."""

    def jets_at(x):
        factor = jets.jet(built.factor, x, term.order).T
        lift = jets.jet(built.lift, x, term.order).T
        base = jets.jet(basis, x, term.order)
        product = lambda a: jets.product(a, base, x.shape[0], term.order)
        B = jax.vmap(product)(factor)  # [m, S, N]
        return B, load * lift + jnp.einsum("msN,mN->ms", B, c)

    B, z = jets_at(x)
    if term.shift is None:
        r, slope = term.at(z, x, w, n, load=load), jax.jacfwd(lambda z: term.at(z, x, w, n, load=load))(z)
        return r, jnp.einsum("qms,msN->qmN", slope, B)
    B2, z2 = jets_at(x + term.shift)
    at = lambda z, z2: term.at(z, x, w, n, z2, load)
    s1, s2 = jax.jacfwd(at, (0, 1))(z, z2)
    return at(z, z2), jnp.einsum("qms,msN->qmN", s1, B) + jnp.einsum("qms,msN->qmN", s2, B2)


def _rows(terms, built, basis, c, load):
    """r [M] and J [M, m N] of all terms."""
    residuals, rows = [], []
    for term in terms:
        p = term.points
        one = jax.vmap(lambda x, w, n, term=term: _point_rows(term, built, basis, x, w, n, c, load))
        pieces = -(-len(p) // BATCH)
        batches = _pad(p, pieces, -(-len(p) // pieces))
        # equal batches: `lax.map(batch_size=)` would compile the remainder a second time
        r, J = jax.lax.map(lambda q: one(q.x, q.w, q.normal), batches) if pieces > 1 else one(p.x, p.w, p.normal)
        residuals.append(r.ravel())
        rows.append(J.reshape(-1, c.size))
    return jnp.concatenate(residuals), jnp.concatenate(rows)


def _triangle(terms, built, basis, c, load):
    """‖r‖ and the triangle of [J, −r]."""
    r, J = _rows(terms, built, basis, c, load)
    return jnp.linalg.norm(r), reduce(J, -r)


def _extend(terms, built, basis, c, load, R):
    """The same below an earlier triangle: rows in batches."""
    r, J = _rows(terms, built, basis, c, load)
    return jnp.linalg.norm(r), reduce(J, -r, R)


def _residual_norm(terms, built, basis, c, load):
    field = LinearField(basis, built, c)
    scaled = lambda x: (1 - load) * -built.lift(x) + field(x)
    total = jnp.zeros(())
    for term in terms:
        p = term.points

        def one(x, w, n, term=term):
            z = jets.jet(scaled, x, term.order).T
            z2 = None if term.shift is None else jets.jet(scaled, x + term.shift, term.order).T
            return term.at(z, x, w, n, z2, load)

        total += jnp.sum(jax.vmap(one)(p.x, p.w, p.normal) ** 2)
    return jnp.sqrt(total)


def _pad(points, pieces: int, size: int):
    """Points in `pieces` equal batches [pieces, size, …], the last filled up with points of weight zero."""
    index = np.minimum(np.arange(pieces * size), len(points) - 1)
    weight = jnp.where(jnp.arange(pieces * size) < len(points), points.w[index], 0.0)
    padded = dataclasses.replace(points[index], w=weight)
    return jax.tree.map(lambda a: a.reshape(pieces, size, *a.shape[1:]), padded)


def _split(term, rows: int):
    """A term as terms of at most `rows` points, all of one shape."""
    pieces = -(-len(term.points) // rows)
    batches = _pad(term.points, pieces, -(-len(term.points) // pieces))
    return [dataclasses.replace(term, points=batches[k]) for k in range(pieces)]


class System:
    """The least-squares system of a problem over one basis: rows, triangles and residuals, compiled once."""

    def __init__(self, survey: Survey, method: Collocation, clock: Clock):
        problem = survey.problem
        d = problem.dimension
        self.components = d + (d * (d + 1) // 2 if method.form == "mixed" else int(problem.mixed))
        self.clock, self.survey = clock, survey
        self.built, soft = built_in(survey, self.components)
        form = {"strong": strong, "mixed": mixed}.get(method.form)
        if form is None:
            raise ValueError(f"Collocation: form must be 'strong' or 'mixed', not {method.form!r}")
        self.terms = form(survey, soft)
        self.memory = method.memory

    def triangle(self, basis, c, load):
        """‖r‖ and the triangle of [J, −r] at coefficients c."""
        unknowns = c.size
        D = c.shape[0] * (basis.size)
        rows = sum(len(t.points) for t in self.terms) * self.components
        if rows * unknowns * 8 * 2 <= self.memory:
            return self.clock.call(_triangle, self.terms, self.built, basis, c, load)
        budget = max(64, int(self.memory / (16 * D * self.components)))
        total, R = 0.0, jnp.zeros((unknowns + 1, unknowns + 1))
        for term in self.terms:
            for piece in _split(term, budget):
                norm, R = self.clock.call(_extend, (piece,), self.built, basis, c, load, R)
                total += float(norm) ** 2
        return jnp.sqrt(total), R

    def norm(self, basis, c, load) -> float:
        """‖r‖ at coefficients c; NaN where the deformation is inverted."""
        return float(self.clock.call(_residual_norm, self.terms, self.built, basis, c, load))

    def solve(self, R):
        """The step and the norm of the linearised residual after it."""
        return self.clock.call(solve_reduced, R, jnp.asarray(1e-14))


def basis_of(survey: Survey, key: Key, size: int, width) -> Stacked | RandomFeatures:
    """Random features over the problem's coordinates, with its enrichment."""
    problem = survey.problem
    random = RandomFeatures.create(key, size, survey.inputs, jnp.asarray(float(width)), problem.xi)
    return Stacked((random, *problem.basis)) if problem.basis else random


def choose_width(system: System, key: Key, method: Collocation, say) -> float:
    """The candidate with the smallest residual of the linearised problem: the residual tracks the error.

    Starts from the middle and walks uphill, so most candidates are never tried.
    """
    widths = sorted(method.widths)
    if len(widths) == 1:
        return widths[0]
    size = max(16, round(method.features * method.pilot))
    found: dict[int, float] = {}

    def cost(k):
        if k not in found:
            basis = basis_of(system.survey, key, size, widths[k])
            c = jnp.zeros((system.components, basis.size))
            start, R = system.triangle(basis, c, jnp.asarray(1.0))
            found[k] = float(system.solve(R)[1]) / max(float(start), 1e-300)
            say(f"width {widths[k]:g}: relative residual {found[k]:.2e}")
        return found[k]

    best = len(widths) // 2
    while True:
        around = [k for k in (best - 1, best, best + 1) if 0 <= k < len(widths)]
        better = min(around, key=cost)
        if better == best:
            return widths[best]
        best = better
