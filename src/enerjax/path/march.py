"""One adaptive march through time, and every derivative of it.

    march:   y₀, θ ↦ the accepted steps (tₙ, hₙ, yₙ, kₙ₁ … kₙₛ) of an embedded explicit Runge–Kutta pair

The steps are found once, in a loop that stops when the last lane arrives. Derivatives are those of the accepted steps
with their lengths held fixed ("discretise, then optimise"): the tangent runs through the same steps forwards, the
adjoint backwards from the stored states, each in a loop of exactly as many turns. So value, gradient, jvp,
Hessian-vector product (forward over reverse) and Gauss–Newton product cost what they must, through one call.

A `while_loop` of unknown length cannot be transposed by JAX; two primitives below can. `vmap` does not turn them into
loops of gathers: it widens the step itself, so shared parameters keep one gradient, summed inside the batch.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

ARRIVED, OUT_OF_STEPS, UNDERFLOW, BAD_START, BAD_TIMES = range(5)


class Tableau(NamedTuple):
    """An embedded explicit pair: stages kᵢ = f(t + cᵢh, y + h Σⱼ aᵢⱼ kⱼ), y₁ = y + h Σ bᵢ kᵢ, error h Σ eᵢ kᵢ."""

    a: tuple[tuple[float, ...], ...]
    b: tuple[float, ...]
    e: tuple[float, ...]
    c: tuple[float, ...]
    order: int
    first_same_as_last: bool

    @classmethod
    def of(cls, solver) -> "Tableau":
        """The tableau of an explicit diffrax solver."""
        t = solver.tableau
        a = tuple(tuple(float(v) for v in row) for row in t.a_lower)
        b = tuple(map(float, t.b_sol))
        same = len(a) > 0 and b[-1] == 0 and np.array_equal(a[-1], b[:-1]) and float(t.c[-1]) == 1
        return cls(a, b, tuple(map(float, t.b_error)), (0.0, *map(float, t.c)), int(solver.order(None)), bool(same))


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


def _row(rows, i, axis):
    return jax.lax.dynamic_index_in_dim(rows, i, axis, keepdims=False)


def _put(rows, v, i, axis):
    return jax.lax.dynamic_update_index_in_dim(rows, v.astype(rows.dtype), i, axis)


def _step(law: Law, consts, t, h, y, f):
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


def _first_step(law: Law, consts, t0, y, f, rms, size):
    """E. Hairer, S. Nørsett and G. Wanner, Solving Ordinary Differential Equations I, section II.4."""
    d0, d1 = rms(y / size(y)), rms(f / size(y))
    small = (d0 < 1e-5) | (d1 < 1e-5)
    guess = jnp.where(small, 1e-6, 0.01 * d0 / jnp.where(small, 1.0, d1))
    d2 = rms((law(consts, t0 + guess, y + guess[..., None] * f) - f) / size(y)) / guess
    d = jnp.maximum(d1, d2)
    order = law.tableau.order
    first = jnp.where(d <= 1e-15, jnp.maximum(1e-6, guess * 1e-3), (0.01 / jnp.maximum(d, 1e-15)) ** (1 / order))
    return jnp.minimum(100 * guess, first)


def _march(law: Law, max_steps: int, choose: bool, consts, y, ts, t0, h0, rtol, atol):
    """The adaptive loop. A lane that does not move in a turn stores a step of length zero, exactly the identity."""
    tableau, lanes = law.tableau, y.shape[:-1]
    end = ts[..., -1]
    eps = jnp.finfo(y.dtype).eps
    rms = lambda v: jnp.sqrt(jnp.mean(v * v, axis=-1))
    size = lambda *ys: atol[..., None] + rtol[..., None] * jnp.max(jnp.stack([jnp.abs(v) for v in ys]), axis=0)

    f = law(consts, t0, y)
    h = _first_step(law, consts, t0, y, f, rms, size) if choose else h0

    healthy = jnp.all(jnp.isfinite(y) & jnp.isfinite(f), axis=-1)
    code = jnp.where(end >= t0, jnp.where(healthy, ARRIVED, BAD_START), BAD_TIMES).astype(jnp.int32)
    stages = len(tableau.c)
    rows = (  # the first holds the start, should there be nothing to step over
        jnp.zeros((*lanes, max_steps), ts.dtype).at[..., 0].set(t0),
        jnp.zeros((*lanes, max_steps), ts.dtype),
        jnp.zeros((*lanes, max_steps, y.shape[-1]), y.dtype).at[..., 0, :].set(y),
        jnp.zeros((*lanes, max_steps, stages, y.shape[-1]), y.dtype),
    )
    where = jnp.zeros(ts.shape, jnp.int32)  # the step in which each output time lies
    count = jnp.zeros(lanes, jnp.int32)

    def running(state):
        n, tries, t, *_, code, _, _, _ = state
        return jnp.any((t < end) & (code == ARRIVED)) & (n < max_steps) & (tries < 4 * max_steps)

    def turn(state):
        n, tries, t, h, y, f, code, rows, where, count = state
        alive = (t < end) & (code == ARRIVED)
        # the last step reaches the end exactly; a sliver after it would cost a step for nothing
        last = t + h * (1 + 4 * eps) >= end
        h = jnp.where(alive, jnp.where(last, end - t, h), 0.0)
        (y1, f1), k = _step(law, consts, t, h, y, f)
        error = rms(h[..., None] * combine(tableau.e, [k[..., i, :] for i in range(stages)]) / size(y, y1))
        error = jnp.where(jnp.all(jnp.isfinite(y1) & jnp.isfinite(f1), axis=-1), error, jnp.inf)
        keep = alive & (error < 1)
        best = 0.9 * jnp.maximum(error, 1e-10) ** (-1 / tableau.order)
        factor = jnp.where(jnp.isfinite(error), jnp.clip(best, 0.2, jnp.where(keep, 10.0, 1.0)), 0.2)
        stuck = alive & ~keep & (h * factor <= jnp.maximum(eps * jnp.abs(t), eps**2 * (end - t0)))
        store = lambda rows, *new: tuple(_put(r, v, n, len(lanes)) for r, v in zip(rows, new, strict=True))
        t1 = jnp.where(keep, jnp.where(last, end, t + h), t)
        # a row written by a turn in which no lane moved is overwritten by the next
        rows = store(rows, t, jnp.where(keep, t1 - t, 0.0), y, k)
        moved = jnp.any(keep)
        where = where + (moved & (t1[..., None] < ts)).astype(jnp.int32)
        y, f = jnp.where(keep[..., None], y1, y), jnp.where(keep[..., None], f1, f)
        h = jnp.where(alive, h * factor, h)
        code = jnp.where(stuck, UNDERFLOW, code)
        return n + moved, tries + 1, t1, h, y, f, code, rows, where, count + keep

    zero = jnp.zeros((), jnp.int32)
    state = (zero, zero, t0, h, y, f, code, rows, where, count)
    n, _, t, _, y, _, code, rows, where, count = jax.lax.while_loop(running, turn, state)
    code = jnp.where((code == ARRIVED) & (t < end), OUT_OF_STEPS, code)
    n = jnp.maximum(n, 1)
    where = jnp.minimum(where, n - 1)
    return (*rows, where, n, count, code, t, y)


def _tangent(law: Law, active, consts, t, h, y, k, n, dconsts, dy):
    """(ẏ₀, θ̇) ↦ (ẏₙ, k̇ₙ) through the accepted steps."""
    axis, full = t.ndim - 1, _spread(active, consts, dconsts)
    start = lambda c, y: law(c, _row(t, 0, axis), y)
    df = jax.jvp(start, (consts, _row(y, 0, axis)), (full, dy))[1]

    def turn(i, state):
        dy, df, dys, dks = state
        t_i, h_i, y_i, f_i = _row(t, i, axis), _row(h, i, axis), _row(y, i, axis), _row(k, i, axis)[..., 0, :]
        step = lambda c, y, f: _step(law, c, t_i, h_i, y, f)
        _, ((dy1, df1), dk) = jax.jvp(step, (consts, y_i, f_i), (full, dy, df))
        return dy1, df1, _put(dys, dy, i, axis), _put(dks, dk, i, axis)

    state = (dy, df, jnp.zeros_like(y), jnp.zeros_like(k))
    return jax.lax.fori_loop(0, n, turn, state)[2:]


def _adjoint(law: Law, active, consts, t, h, y, k, n, ybar, kbar):
    """Cotangents of (yₙ, kₙ) ↦ those of θ and y₀, through the accepted steps backwards."""
    axis, chosen = t.ndim - 1, [c for c, on in zip(consts, active, strict=True) if on]

    def turn(i, state):
        i = n - 1 - i
        cbar, yb, fb = state
        t_i, h_i, y_i, f_i = _row(t, i, axis), _row(h, i, axis), _row(y, i, axis), _row(k, i, axis)[..., 0, :]
        step = lambda c, y, f: _step(law, _merge(active, consts, c), t_i, h_i, y, f)
        _, pull = jax.vjp(step, chosen, y_i, f_i)
        dc, dy, df = pull(((yb, fb), _row(kbar, i, axis)))
        return jax.tree.map(jnp.add, cbar, dc), dy + _row(ybar, i, axis), df

    y0 = _row(y, 0, axis)
    zeros = jnp.zeros_like(y0)
    cbar, yb, fb = jax.lax.fori_loop(0, n, turn, (jax.tree.map(jnp.zeros_like, chosen), zeros, zeros))
    _, pull = jax.vjp(lambda c, y: law(_merge(active, consts, c), _row(t, 0, axis), y), chosen, y0)
    dc, dy = pull(fb)
    return (*jax.tree.map(jnp.add, cbar, dc), yb + dy)


def _merge(active, consts, chosen):
    chosen = iter(chosen)
    return [next(chosen) if on else c for c, on in zip(consts, active, strict=True)]


def _spread(active, consts, dconsts):
    """Tangents of all consts, zero where not active."""
    dconsts = iter(dconsts)
    zero = lambda c: (
        jnp.zeros(c.shape, jax.dtypes.float0) if not jnp.issubdtype(c.dtype, jnp.inexact) else jnp.zeros_like(c)
    )
    return [next(dconsts) if on else zero(c) for c, on in zip(consts, active, strict=True)]


# ---- the primitives -------------------------------------------------------------------------------------------------
# march_p   consts…, y0, ts, t0, h0, rtol, atol -> t, h, y, k, where, n, count, code, t_end, y_end
# replay_p  [consts…, t, h, y, k, n] + linear operands: the tangent, or transposed, the adjoint

march_p = Primitive("march")
replay_p = Primitive("march_replay")
march_p.multiple_results = replay_p.multiple_results = True
_RESIDUALS = 5


def _run_march(*args, law, max_steps, choose):
    return _march(law, max_steps, choose, list(args[:-6]), *args[-6:])


def _run_replay(*args, law, active, transposed):
    split = len(active) + _RESIDUALS
    consts, residuals, linear = list(args[: len(active)]), args[len(active) : split], list(args[split:])
    if transposed:
        return tuple(_adjoint(law, active, consts, *residuals, *linear))
    t, h, y, k, n = residuals
    return tuple(_tangent(law, active, consts, t, h, y, k, n, linear[:-1], linear[-1]))


def _abstract(run):
    def rule(*avals, **params):
        out = jax.eval_shape(lambda *a: run(*a, **params), *[jax.ShapeDtypeStruct(a.shape, a.dtype) for a in avals])
        return [ShapedArray(o.shape, o.dtype) for o in out]

    return rule


_STATIC = {march_p: ("law", "max_steps", "choose"), replay_p: ("law", "active", "transposed")}
for primitive, run in ((march_p, _run_march), (replay_p, _run_replay)):
    primitive.def_impl(jax.jit(run, static_argnames=_STATIC[primitive]))
    primitive.def_abstract_eval(_abstract(run))
    mlir.register_lowering(primitive, mlir.lower_fun(run, multiple_results=True))


def _zero(v):
    return ad.Zero(jax.typeof(v).to_tangent_aval())


def _is_zero(v):
    return type(v) is ad.Zero


def _march_jvp(primals, tangents, *, law, **static):
    out = march_p.bind(*primals, law=law, **static)
    count = len(primals) - 6
    consts, y0 = primals[:count], primals[count]
    moving = [not _is_zero(v) for v in tangents]
    if any(moving[:count]) or moving[count]:
        active = tuple(moving[:count])
        linear = [v for v, on in zip(tangents, active, strict=False) if on]
        linear.append(jnp.zeros_like(y0) if not moving[count] else tangents[count])
        t, h, y, k, _, n, *_ = out
        dy, dk = replay_p.bind(*consts, t, h, y, k, n, *linear, law=law, active=active, transposed=False)
    else:
        dy, dk = (_zero(v) for v in out[2:4])
    still = [_zero(v) for v in out]
    return out, [*still[:2], dy, dk, *still[4:]]


def _replay_jvp(primals, tangents, *, law, active, transposed):
    split = len(active) + _RESIDUALS
    params = dict(law=law, active=active, transposed=transposed)
    out = replay_p.bind(*primals, **params)
    total = [None] * len(out)
    if any(not _is_zero(v) for v in tangents[split:]):
        linear = [
            jnp.zeros_like(p) if _is_zero(v) else v for p, v in zip(primals[split:], tangents[split:], strict=True)
        ]
        total = replay_p.bind(*primals[:split], *linear, **params)
    moving = [i for i, v in enumerate(tangents[:split]) if not _is_zero(v)]
    if moving:

        def at(*chosen):
            args = list(primals)
            for i, v in zip(moving, chosen, strict=True):
                args[i] = v
            return _run_replay(*args, **params)

        bent = jax.jvp(at, [primals[i] for i in moving], [tangents[i] for i in moving])[1]
        total = [b if a is None else a + b for a, b in zip(total, bent, strict=True)]
    return out, [_zero(o) if v is None else v for o, v in zip(out, total, strict=True)]


def _replay_transpose(cotangents, *args, law, active, transposed):
    split = len(active) + _RESIDUALS
    fixed = args[:split]
    if transposed:  # the transpose of the adjoint is the tangent
        shapes = [jax.ShapeDtypeStruct(c.shape, c.dtype) for c, on in zip(fixed, active, strict=False) if on]
        y = fixed[len(active) + 2]
        shapes.append(jax.ShapeDtypeStruct((*y.shape[:-2], y.shape[-1]), y.dtype))
    else:
        shapes = [jax.ShapeDtypeStruct(v.shape, v.dtype) for v in fixed[len(active) + 2 : len(active) + 4]]
    given = [jnp.zeros(s.shape, s.dtype) if _is_zero(ct) else ct for ct, s in zip(cotangents, shapes, strict=True)]
    back = replay_p.bind(*fixed, *given, law=law, active=active, transposed=not transposed)
    return [None] * split + list(back)


def _front(v, dim, size):
    """The array with the new lane's axis first, broadcast where it had none."""
    if dim is batching.not_mapped:
        return jnp.broadcast_to(v, (size, *v.shape))
    return jnp.moveaxis(v, dim, 0)


def _size(args, dims):
    return next(v.shape[d] for v, d in zip(args, dims, strict=True) if d is not batching.not_mapped)


def _consts(args, dims):
    carried = [d is not batching.not_mapped for d in dims]
    return carried, [jnp.moveaxis(v, d, 0) if on else v for v, d, on in zip(args, dims, carried, strict=True)]


def _march_batch(args, dims, *, law, **static):
    size, count = _size(args, dims), len(args) - 6
    carried, consts = _consts(args[:count], dims[:count])
    rest = [_front(v, d, size) for v, d in zip(args[count:], dims[count:], strict=True)]
    out = march_p.bind(*consts, *rest, law=law.widened(carried), **static)
    return out, [batching.not_mapped if i == 5 else 0 for i in range(10)]


def _replay_batch(args, dims, *, law, active, transposed):
    size, count = _size(args, dims), len(active)
    split = count + _RESIDUALS
    linear, ldims = args[split:], dims[split:]
    n = args[split - 1]
    residuals = [_front(v, d, size) for v, d in zip(args[count : split - 1], dims[count : split - 1], strict=True)]
    n = n if dims[split - 1] is batching.not_mapped else jnp.max(n)
    params = dict(active=active, transposed=transposed)
    if transposed:
        # vmap asks for one cotangent per lane: an active parameter shared by the lanes is given a copy in each
        pairs = [(_front(v, d, size), 0) if on else (v, d) for v, d, on in zip(args, dims, active, strict=False)]
        carried, consts = _consts([v for v, _ in pairs], [d for _, d in pairs])
        given = [_front(v, d, size) for v, d in zip(linear, ldims, strict=True)]
        out = replay_p.bind(*consts, *residuals, n, *given, law=law.widened(carried), **params)
        return out, [0] * len(out)
    # a tangent that differs between lanes needs its parameter to have lanes as well
    each = iter(ldims[:-1])
    spread = [on and next(each) is not batching.not_mapped for on in active]
    pairs = [
        (_front(v, d, size), 0) if on else (v, d) for v, d, on in zip(args[:count], dims[:count], spread, strict=True)
    ]
    carried, consts = _consts([v for v, _ in pairs], [d for _, d in pairs])
    chosen = [c for c, on in zip(carried, active, strict=True) if on]
    given = [_front(v, d, size) if c else v for v, d, c in zip(linear[:-1], ldims[:-1], chosen, strict=True)]
    out = replay_p.bind(
        *consts, *residuals, n, *given, _front(linear[-1], ldims[-1], size), law=law.widened(carried), **params
    )
    return out, [0, 0]


ad.primitive_jvps[march_p] = _march_jvp
ad.primitive_jvps[replay_p] = _replay_jvp
ad.primitive_transposes[replay_p] = _replay_transpose
batching.primitive_batchers[march_p] = _march_batch
batching.primitive_batchers[replay_p] = _replay_batch


def march(field, tableau: Tableau, consts, y0, ts, t0, h0, rtol, atol, *, max_steps: int):
    """The accepted steps from t0 to ts[-1] of one lane, the first of length h0 or chosen when that is None; see the
    table of results above.
    """
    dtype, choose = y0.dtype, h0 is None
    as_scalar = lambda v: jnp.asarray(v, dtype)
    times = jnp.asarray(t0, ts.dtype), jnp.asarray(0.0 if choose else h0, ts.dtype)
    args = (*consts, y0, ts, *times, as_scalar(rtol), as_scalar(atol))
    return march_p.bind(*args, law=Law(field, tableau, ()), max_steps=max_steps, choose=choose)
