"""The strong form over a linear field: rows of the residual's Jacobian from basis jets, then QR; Gauss–Newton if
nonlinear.

The residual at a point is a function r(z) of the field's jet z there, and z is linear in the coefficients, z = lift +
M φ c with φ the jets of the basis and M the product rule with the built-in factor. So J = (∂r/∂z M) φ, with ∂r/∂z a
small matrix by forward mode and φ computed once: no derivative of a network is ever taken by reverse mode, and the 8th
iteration costs no more than one assembly and one QR.
"""

import dataclasses
from collections.abc import Callable
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from .._array import Key
from ..fit.least_squares import reduce, solve_reduced
from . import jets
from ._clock import Clock, run
from .field import Affine, RandomFeatures, Stacked, draw_weights
from .method import Collocation
from .residual import mixed, strong
from .survey import Survey, built_in

BATCH = 128  # points whose jets are formed at once


class Jets(eqx.Module):
    """Jets of the basis and of the built-in boundary values at the points of all terms, computed once per basis."""

    base: Array  # [n, S, N], or without n at one point
    factor: Array  # [n, m, S]
    lift: Array  # [n, m, S]

    def __getitem__(self, index) -> "Jets":
        return jax.tree.map(lambda a: a[index], self)


def _jets_of(terms, built, basis) -> Jets:
    """Jets at the points of all terms, and of their shifted ones."""
    sets = [x for t in terms for x in ([t.points.x] if t.shift is None else [t.points.x, t.points.x + t.shift[None]])]
    return _prepare(built, basis, sets, max(t.order for t in terms))


def _prepare(built, basis, sets, order: int) -> Jets:
    """Jets at several sets of points [n, D], one after the other, in batches."""
    x = jnp.concatenate(sets)

    def one(x):
        return Jets(*(jets.jet(f, x, order) for f in (basis, built.factor, built.lift)))

    pieces = -(-len(x) // BATCH)
    size = -(-len(x) // pieces)
    # equal batches: `lax.map(batch_size=)` would compile the remainder a second time
    batches = x[np.minimum(np.arange(pieces * size), len(x) - 1)].reshape(pieces, size, -1)
    all_jets = jax.lax.map(jax.vmap(one), batches)
    flat = jax.tree.map(lambda a: a.reshape(pieces * size, *a.shape[2:])[: len(x)], all_jets)
    return Jets(flat.base, jnp.swapaxes(flat.factor, 1, 2), jnp.swapaxes(flat.lift, 1, 2))


def _products(j: Jets, D: int, order: int):
    """M [m, S, S], at one point: the jets of factor_i φ are M_i times those of φ."""
    S = jets.length(D, order)
    one = jnp.eye(S, dtype=j.factor.dtype)
    return jax.vmap(lambda a: jets.product(a[:S], one, D, order))(j.factor)


def _state(M, j: Jets, c, load):
    """z [m, S] at one point, from coefficients c [m, N]; at rest where c is None."""
    S = M.shape[1]
    z = load * j.lift[:, :S]
    return z if c is None else z + jnp.einsum("mst,mt->ms", M, c @ j.base[:S].T)


def _through(slope, M, j: Jets):
    """∂r/∂c [q, m, N] at one point, from ∂r/∂z [q, m, S]."""
    return jnp.einsum("qms,mst->qmt", slope, M) @ j.base[: M.shape[1]]


def _term_jets(terms, found: Jets):
    """The jets of each term, and of its shifted points."""
    start = 0
    for term in terms:
        n = len(term.points)
        mine, start = found[start : start + n], start + n
        partner = None
        if term.shift is not None:
            partner, start = found[start : start + n], start + n
        yield term, mine, partner


def _rows(terms, found: Jets, c, load):
    """r [M] and J [M, m N] of all terms, at rest where c is None."""
    residuals, rows = [], []
    for term, mine, partner in _term_jets(terms, found):
        p, D = term.points, term.points.x.shape[1]

        def one(x, w, n, j, k, term=term, D=D):
            M = _products(j, D, term.order)
            z = _state(M, j, c, load)
            if k is None:
                at = lambda z: term.at(z, x, w, n, load=load)
                return at(z), _through(jax.jacfwd(at)(z), M, j)
            M2 = _products(k, D, term.order)
            z2 = _state(M2, k, c, load)
            at = lambda z, z2: term.at(z, x, w, n, z2, load)
            s1, s2 = jax.jacfwd(at, (0, 1))(z, z2)
            return at(z, z2), _through(s1, M, j) + _through(s2, M2, k)

        r, J = jax.vmap(one)(p.x, p.w, p.normal, mine, partner)
        residuals.append(r.ravel())
        rows.append(J.reshape(-1, J.shape[-2] * J.shape[-1]))
    return jnp.concatenate(residuals), jnp.concatenate(rows)


def _triangle(terms, found, c, load):
    """‖r‖ and the triangle of [J, J c − r]: what the next coefficients, not the step, must satisfy."""
    r, J = _rows(terms, found, c, load)
    return jnp.linalg.norm(r), reduce(J, J @ c.ravel() - r)


def _extend(terms, found, c, load, R):
    """The same below an earlier triangle: rows in batches."""
    r, J = _rows(terms, found, c, load)
    return jnp.linalg.norm(r), reduce(J, J @ c.ravel() - r, R)


def _norm(terms, found, c, load):
    """‖r‖ at coefficients c."""
    total = jnp.zeros(())
    for term, mine, partner in _term_jets(terms, found):
        p, D = term.points, term.points.x.shape[1]

        def one(x, w, n, j, k, term=term, D=D):
            z = _state(_products(j, D, term.order), j, c, load)
            z2 = None if k is None else _state(_products(k, D, term.order), k, c, load)
            return term.at(z, x, w, n, z2, load)

        total += jnp.sum(jax.vmap(one)(p.x, p.w, p.normal, mine, partner) ** 2)
    return jnp.sqrt(total)


def _split(term, rows: int):
    """A term as terms of one shape with at most `rows` points, the last filled up with points of weight zero."""
    p = term.points
    pieces = -(-len(p) // rows)
    size = -(-len(p) // pieces)
    index = np.minimum(np.arange(pieces * size), len(p) - 1)
    padded = dataclasses.replace(p[index], w=jnp.where(jnp.arange(pieces * size) < len(p), p.w[index], 0.0))
    return [dataclasses.replace(term, points=padded[k * size : (k + 1) * size]) for k in range(pieces)]


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
        self._first: dict[int, Callable] = {}
        self._next = partial(_next, self.components)

    def _jets(self, terms, basis) -> Jets:
        return self.clock.call(_jets_of, terms, self.built, basis)

    def prepare(self, basis) -> Jets | None:
        """Jets of a basis at all points, or None where they and the rows would not fit into memory."""
        return self._jets(self.terms, basis) if self._fits(basis.size) else None

    def _fits(self, size: int) -> bool:
        points = sum(len(t.points) * (1 + (t.shift is not None)) for t in self.terms)
        return points * self._bytes(size) <= self.memory

    def _bytes(self, size: int) -> int:
        """Memory of one point: jets and what forms them, rows and the copies that QR makes of them, as measured."""
        D = self.survey.problem.domain.dimension
        return 8 * size * (2 * jets.length(D, 2) + 7 * self.components**2)

    def first(self, key: Key, features: int, width: float):
        """The linearised problem under the full load, from rest: basis, coefficients, ‖r‖ before and after. In one
        program where memory allows: features drawn, rows, triangle and solution never leave it.
        """
        problem = self.survey.problem
        if not self._fits(features + 1 + problem.domain.dimension + sum(b.size for b in problem.basis)):
            basis = basis_of(self.survey, key, features, width, self.clock.call)
            c = np.zeros((self.components, basis.size))
            start, R = self.triangle(basis, None, c, np.asarray(1.0))
            return basis, *self.solve(R), start
        program = self._first.setdefault(features, partial(_first, self.survey, features, self.components))
        weights, bias, *found = self.clock.call(program, self.terms, self.built, key, np.asarray(float(width)))
        return _stacked(problem, weights, bias), *found

    def triangle(self, basis, found: Jets | None, c, load):
        """‖r‖ and the triangle of [J, J c − r] at coefficients c; in batches where `found` is None."""
        if found is not None:
            return self.clock.call(_triangle, self.terms, found, c, load)
        budget = max(32, int(self.memory / self._bytes(basis.size)))
        total, R = 0.0, jnp.zeros((c.size + 1, c.size + 1))
        for piece in (q for term in self.terms for q in _split(term, budget)):
            norm, R = self.clock.call(_extend, (piece,), self._jets((piece,), basis), c, load, R)
            total += float(norm) ** 2
        return jnp.asarray(total**0.5), R

    def norm(self, basis, found: Jets | None, c, load) -> float:
        """‖r‖ at coefficients c; NaN where the deformation is inverted."""
        if found is not None:
            return float(self.clock.call(_norm, self.terms, found, c, load))
        pieces = [q for term in self.terms for q in _split(term, 4096)]
        squares = [float(self.clock.call(_norm, (q,), self._jets((q,), basis), c, load)) ** 2 for q in pieces]
        return sum(squares) ** 0.5

    def solve(self, R, ridge: float = 1e-14):
        """The next coefficients [m, N] and the norm of the linearised residual there.

        The ridge acts on the coefficients themselves: a step far from the solution asks the dependent directions of
        the basis for large coefficients, which would stay for ever and cost digits in every later evaluation.
        """
        return self.clock.call(self._next, R, np.asarray(ridge))


def _next(components: int, R, ridge):
    c, norm = solve_reduced(R, ridge)
    return c.reshape(components, -1), norm


def basis_of(survey: Survey, key: Key, size: int, width, call: Callable = run) -> Stacked:
    """Random features over the problem's coordinates, the affine functions (so that constant strain is exact), and
    its enrichment. `call` runs the draw: `Clock.call` counts its compilation apart.
    """
    return _stacked(survey.problem, *call(draw_weights, key, size, survey.inputs, np.asarray(float(width))))


def _stacked(problem, weights, bias) -> Stacked:
    random = RandomFeatures(weights, bias, problem.xi)
    return Stacked((random, Affine(problem.domain.lower, problem.domain.upper), *problem.basis))


def _first(survey: Survey, size: int, components: int, terms, built, key, width):
    """Weights and bias of the features, then what `System.first` returns."""
    drawn = draw_weights(key, size, survey.inputs, width)
    r, J = _rows(terms, _jets_of(terms, built, _stacked(survey.problem, *drawn)), None, 1.0)
    return *drawn, *_next(components, reduce(J, -r), 1e-14), jnp.linalg.norm(r)


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
            *_, norm, start = system.first(key, size, widths[k])
            found[k] = float(norm) / max(float(start), 1e-300)
            say(f"width {widths[k]:g}: relative residual {found[k]:.2e}")
        return found[k]

    best = len(widths) // 2
    while True:
        around = [k for k in (best - 1, best, best + 1) if 0 <= k < len(widths)]
        better = min(around, key=cost)
        if better == best:
            return widths[best]
        best = better
