"""One adaptive march through time: the accepted steps of an embedded explicit Runge–Kutta pair, and states in between.

    march:   y₀, θ ↦ (tₙ, hₙ, yₙ, kₙ₁ … kₙₛ) and y(τ) = yₙ + hₙ Σᵢ wᵢ(s) kₙᵢ, s = (τ − tₙ)/hₙ, at the times asked for

The steps are found once, in a loop that stops when the last lane arrives; `replay` differentiates them. A row is a turn
in which some lane moved, and a lane's own steps are a list within the rows: each names the lane's step before it, so
that the adjoint takes as many turns as the longest path has steps. The states at the times asked for are written in the
same loop, where the stages are at hand: a step touches them all, which beats gathering stages afterwards (and
scattering them in the adjoint) while steps are fewer than about a hundred.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

WHOLE, BLOCK = 8192, 20  # the adjoint of the interpolation: above so many numbers, so many output times at once

ARRIVED, OUT_OF_STEPS, UNDERFLOW, BAD_START, BAD_TIMES = range(5)


class Tableau(NamedTuple):
    """An embedded explicit pair: stages kᵢ = f(t + cᵢh, y + h Σⱼ aᵢⱼ kⱼ), y₁ = y + h Σ bᵢ kᵢ, error h Σ eᵢ kᵢ."""

    a: tuple[tuple[float, ...], ...]
    b: tuple[float, ...]
    e: tuple[float, ...]
    c: tuple[float, ...]
    order: int
    first_same_as_last: bool
    dense: tuple[tuple[float, ...], ...]  # wᵢ(s) = Σₚ dense[p − 1][i] sᵖ, p = 1, 2, …

    @classmethod
    def of(cls, solver) -> "Tableau":
        """The tableau of an explicit diffrax solver."""
        t = solver.tableau
        a = tuple(tuple(float(v) for v in row) for row in t.a_lower)
        b = tuple(map(float, t.b_sol))
        same = len(a) > 0 and b[-1] == 0 and np.array_equal(a[-1], b[:-1]) and float(t.c[-1]) == 1
        c = (0.0, *map(float, t.c))
        return cls(a, b, tuple(map(float, t.b_error)), c, int(solver.order(None)), bool(same), _dense(type(solver)))


@functools.cache
def _dense(solver: type) -> tuple[tuple[float, ...], ...]:
    """The solver's own interpolation, which is linear in the stages, as polynomials: read off at a few points."""
    s, b = np.linspace(0.05, 1.0, 16), np.asarray(solver.tableau.b_sol)

    def between(s):
        return solver().interpolation_cls(t0=0.0, t1=1.0, y0=jnp.zeros(len(b)), y1=b, k=jnp.eye(len(b))).evaluate(s)

    with jax.ensure_compile_time_eval(), jax.enable_x64(True):  # one program: eagerly each operation would be one
        values = np.asarray(jax.jit(jax.vmap(between))(s))
    for degree in range(1, 8):
        powers = s[:, None] ** np.arange(1, degree + 1)
        weights = np.linalg.lstsq(powers, values, rcond=None)[0]
        if np.max(np.abs(powers @ weights - values)) < 1e-10:
            weights[np.abs(weights) < 1e-11] = 0.0
            return tuple(tuple(map(float, row)) for row in weights)
    raise ValueError(f"path.solve: the interpolation of {solver.__name__} is no polynomial of degree 7 or less.")


class Law(NamedTuple):
    """What is static: the field `(consts, t, y) -> dy/dt` of one lane, its tableau, and how vmaps widened it.

    `lanes` holds, innermost first, which consts carry the axis of that vmap.
    """

    field: Callable
    tableau: Tableau
    lanes: tuple[tuple[bool, ...], ...]

    def __call__(self, consts, t, y):
        f = self.field
        for carried in self.lanes:
            f = jax.vmap(f, in_axes=([0 if c else None for c in carried], 0, 0))
        return f(list(consts), t, y)

    def widened(self, carried) -> "Law":
        return self._replace(lanes=(*self.lanes, tuple(carried)))


def combine(weights, k):
    """Σᵢ wᵢ kᵢ over the nonzero weights."""
    terms = [w * v for w, v in zip(weights, k, strict=False) if w != 0]
    return sum(terms[1:], start=terms[0]) if terms else jnp.zeros_like(k[0])


def row(rows, i, axis):
    return jax.lax.dynamic_index_in_dim(rows, i, axis, keepdims=False)


def put(rows, v, i, axis):
    return jax.lax.dynamic_update_index_in_dim(rows, v.astype(rows.dtype), i, axis)


def step(law: Law, consts, t, h, y, f):
    """One step: (y, f(t, y)) ↦ (y₁, f(t + h, y₁)) and the stages, [lanes, stages, d]."""
    tableau, k = law.tableau, [f]
    stage = y
    for row, c in zip(tableau.a, tableau.c[1:], strict=True):
        stage = y + h[..., None] * combine(row, k)
        k.append(law(consts, t + c * h, stage))
    if tableau.first_same_as_last:
        return (stage, k[-1]), jnp.stack(k, axis=-2)
    after = y + h[..., None] * combine(tableau.b, k)
    return (after, law(consts, t + h, after)), jnp.stack(k, axis=-2)


def points(tableau: Tableau, T, t, h, y, k, derivative: int = 0):
    """y(τ) (or dy/dτ) at all times T of one step, continued outside it: [times, d, *lanes]; T is [times, *lanes].

    Lanes are innermost: they are contiguous then, and the loops over them vectorise.
    """
    s = _fraction(T, t, h, y)
    terms = [jnp.moveaxis(combine(w, k), -1, 0) for w in tableau.dense]
    if derivative:
        terms = [p * v for p, v in enumerate(terms, start=1)]
    total = terms[-1][None] + jnp.zeros_like(s)
    for v in terms[-2::-1]:
        total = total * s + v[None]
    return total if derivative else jnp.moveaxis(y, -1, 0)[None] + (h.astype(y.dtype)[None, None] * s) * total


def points_transposed(tableau: Tableau, T, t, h, cotangent, here):
    """The transpose of `points` in (y, k), of the times marked `here` [times, *lanes]: [times, d, *lanes] ↦ [*lanes, d]
    and a list of stages of that shape.

    Sums over times of ȳ(τ) sᵖ, p = 0, 1, …: on long arrays a block of times at a time, and only the blocks with a mark,
    since a reduction along the slow axis makes XLA write every power out.
    """
    times = len(T)
    block = times if cotangent.size <= WHOLE else min(times, BLOCK)

    def sums(k, moments):
        first = jnp.minimum(k * block, times - block)
        part = lambda v: jax.lax.dynamic_slice_in_dim(v, first, block)
        fresh = (first + jnp.arange(block) >= k * block).reshape(-1, *(1,) * (T.ndim - 1))  # the last block overlaps
        w = jnp.where((part(here) & fresh)[:, None], part(cotangent), 0.0)
        s = _fraction(part(T), t, h, cotangent)
        out = []
        for m in moments:
            out.append(m + (jnp.sum(w, axis=0) if block == times else sum(list(w))))
            w = w * s
        return out

    moments = [jnp.zeros_like(cotangent[0])] * (1 + len(tableau.dense))
    if block == times:
        moments = sums(0, moments)
    else:
        marked = jnp.any(here, axis=tuple(range(1, here.ndim)))
        low, high = jnp.argmax(marked), times - 1 - jnp.argmax(marked[::-1])
        end = jnp.where(jnp.any(marked), high // block + 1, low // block)
        moments = jax.lax.fori_loop(low // block, end, sums, moments)
    scaled = [h.astype(cotangent.dtype)[None] * m for m in moments[1:]]
    k = [combine([w[i] for w in tableau.dense], scaled) for i in range(len(tableau.b))]
    back = lambda v: jnp.moveaxis(v, 0, -1)
    return back(moments[0]), [back(v) for v in k]


def _fraction(T, t, h, like):
    return ((T - t[None]) / jnp.where(h > 0, h, 1.0)[None]).astype(like.dtype)[:, None]


def _first_step(law: Law, consts, t0, span, y, f, rms, size):
    """The first step to try, from the sizes d₀, d₁, d₂ of y, y′ and y″ in units of the tolerance.

    E. Hairer, S. Nørsett and G. Wanner, Solving Ordinary Differential Equations I, section II.4, set
    hᵖ max(d₁, d₂) = 1/100, which depends on the unit of time and is mostly far too small. A path of amplitude a and
    time scale τ has d₁ = a/τ and d₂ = a/τ², and the step's error is about a (h/τ)ᵖ times a small constant: so
    h = τ (30/a)^(1/p), τ = d₁/d₂, a = d₁²/d₂, at most ten times d₀/d₁ (unless the path starts at zero, d₀ < 1). Over
    twenty fields and five pairs that takes up to 18 % fewer steps, refused ones included
    (benchmarks/odes/first_step.py). A path that does not move at its start is asked again after a millionth of `span`.
    """
    d0, d1 = rms(y / size(y)), rms(f / size(y))
    still = d1 * span < 1e-5
    guess = jnp.where(still, 1e-6 * span, jnp.minimum(0.01 * jnp.maximum(d0, 1.0) / jnp.where(still, 1.0, d1), span))
    d2 = rms((law(consts, t0 + guess, y + guess[..., None] * f) - f) / size(y)) / guess
    d1, d2 = jnp.maximum(d1, 1e-15 / span), jnp.maximum(d2, 1e-15 / span**2)
    scaled = d1 / d2 * (30 * d2 / d1 / d1) ** (1 / law.tableau.order)
    return jnp.minimum(scaled, jnp.where(still | (d0 >= 1), 1000 * guess, span))


def march(law: Law, max_steps: int, choose: bool, observe: bool, consts, y, ts, t0, h0, rtol, atol):
    """The adaptive loop. A lane that does not move in a turn stores a step of length zero, exactly the identity."""
    tableau, lanes = law.tableau, y.shape[:-1]
    end = ts[..., -1]
    eps = jnp.finfo(y.dtype).eps
    rms = lambda v: jnp.sqrt(jnp.mean(v * v, axis=-1))
    size = lambda *ys: atol[..., None] + rtol[..., None] * jnp.max(jnp.stack([jnp.abs(v) for v in ys]), axis=0)

    f = law(consts, t0, y)
    span = jnp.where(end > t0, end - t0, 1.0)
    h = _first_step(law, consts, t0, span, y, f, rms, size) if choose else h0

    healthy = jnp.all(jnp.isfinite(y) & jnp.isfinite(f), axis=-1)
    code = jnp.where(end >= t0, jnp.where(healthy, ARRIVED, BAD_START), BAD_TIMES).astype(jnp.int32)
    stages = len(tableau.c)
    T = jnp.moveaxis(ts, -1, 0)
    seen = T if observe else T[:0]
    ys = jnp.broadcast_to(jnp.moveaxis(y, -1, 0), (*seen.shape[:1], *y.shape[-1:], *lanes))
    rows = (  # the first holds the start, should there be nothing to step over
        jnp.zeros((*lanes, max_steps), ts.dtype).at[..., 0].set(t0),
        jnp.zeros((*lanes, max_steps), ts.dtype),
        jnp.zeros((*lanes, max_steps, y.shape[-1]), y.dtype).at[..., 0, :].set(y),
        jnp.zeros((*lanes, max_steps, y.shape[-1]), y.dtype).at[..., 0, :].set(f),
        jnp.zeros((*lanes, max_steps, stages, y.shape[-1]), y.dtype),
        jnp.full((*lanes, max_steps), -1, jnp.int32),  # the row of the lane's step before; every list ends at row 0
    )
    latest = jnp.zeros(lanes, jnp.int32)  # the row of the lane's last step
    where = jnp.zeros(T.shape, jnp.int32)  # the step in which each output time lies
    count = jnp.zeros(lanes, jnp.int32)

    def running(state):
        n, tries, t, *_, code, _, _, _, _, _ = state
        return jnp.any((t < end) & (code == ARRIVED)) & (n < max_steps) & (tries < 4 * max_steps)

    def turn(state):
        n, tries, t, h, y, f, code, rows, ys, where, count, latest = state
        alive = (t < end) & (code == ARRIVED)
        # the last step reaches the end exactly; a sliver after it would cost a step for nothing
        last = t + h * (1 + 4 * eps) >= end
        h = jnp.where(alive, jnp.where(last, end - t, h), 0.0)
        (y1, f1), k = step(law, consts, t, h, y, f)
        error = rms(h[..., None] * combine(tableau.e, [k[..., i, :] for i in range(stages)]) / size(y, y1))
        error = jnp.where(jnp.all(jnp.isfinite(y1) & jnp.isfinite(f1), axis=-1), error, jnp.inf)
        keep = alive & (error < 1)
        best = 0.9 * jnp.maximum(error, 1e-10) ** (-1 / tableau.order)
        factor = jnp.where(jnp.isfinite(error), jnp.clip(best, 0.2, jnp.where(keep, 10.0, 1.0)), 0.2)
        stuck = alive & ~keep & (h * factor <= jnp.maximum(eps * jnp.abs(t), eps**2 * (end - t0)))
        store = lambda rows, *new: tuple(put(r, v, n, len(lanes)) for r, v in zip(rows, new, strict=True))
        t1 = jnp.where(keep, jnp.where(last, end, t + h), t)
        # a row written by a turn in which no lane moved is overwritten by the next
        rows = store(rows, t, jnp.where(keep, t1 - t, 0.0), y, f, k, jnp.where(n > 0, latest, -1))
        moved = jnp.any(keep)
        if observe:
            here = keep[None] & (where == n) & (seen <= t1[None])
            stages_now = [k[..., i, :] for i in range(stages)]
            ys = jnp.where(here[:, None], points(tableau, seen, t, jnp.where(keep, t1 - t, 0.0), y, stages_now), ys)
        where = where + (moved & (t1[None] < T)).astype(jnp.int32)
        y, f = jnp.where(keep[..., None], y1, y), jnp.where(keep[..., None], f1, f)
        h = jnp.where(alive, h * factor, h)
        code = jnp.where(stuck, UNDERFLOW, code)
        latest = jnp.where(keep, n, latest)
        return n + moved, tries + 1, t1, h, y, f, code, rows, ys, where, count + keep, latest

    zero = jnp.zeros((), jnp.int32)
    state = (zero, zero, t0, h, y, f, code, rows, ys, where, count, latest)
    n, _, t, _, y, _, code, rows, ys, where, count, latest = jax.lax.while_loop(running, turn, state)
    code = jnp.where((code == ARRIVED) & (t < end), OUT_OF_STEPS, code)
    n = jnp.maximum(n, 1)
    where = jnp.moveaxis(jnp.minimum(where, latest[None]), 0, -1)  # a time not reached: the last step's NaN
    return (*rows, jnp.moveaxis(ys, (0, 1), (-2, -1)), where, latest, n, count, code, t, y)
