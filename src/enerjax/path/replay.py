"""Every derivative of a march: the tangent forwards through its accepted steps, the adjoint backwards.

    tangent   (θ̇, ẏ₀) ↦ (ẏₙ, ḟₙ, k̇ₙ, ẏ(τ))        adjoint   (ȳₙ, f̄ₙ, k̄ₙ, ȳ(τ)) ↦ (θ̄, ȳ₀)

The lengths of the steps are held fixed ("discretise, then optimise"). Each runs in a loop of as many turns as there are
rows, the adjoint of observed states alone in as many as the longest path has steps: it follows each lane's own back.
Both repeat the stages of a step instead of storing what was inside the field. So value, gradient, jvp, Hessian-vector
product (forward over reverse) and Gauss–Newton product cost what they must, through one call.

A `while_loop` of unknown length cannot be transposed by JAX; two primitives below can. `vmap` does not turn them into
loops of gathers: it widens the step itself, so shared parameters keep one gradient, summed inside the batch.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from .._precision import full_precision
from .march import Law, Tableau, march, points, points_transposed, put, row, step


class History(NamedTuple):
    """The accepted steps of a march, as its table of results below names them: what a replay holds fixed."""

    t: jax.Array
    h: jax.Array
    y: jax.Array
    f: jax.Array
    before: jax.Array
    ts: jax.Array
    where: jax.Array
    latest: jax.Array
    n: jax.Array

    @property
    def axis(self) -> int:
        return self.t.ndim - 1

    @property
    def times(self):
        """The times asked for, [times, *lanes]."""
        return jnp.moveaxis(self.ts, -1, 0)

    def at(self, i):
        """Row i of every lane: t, h, y, f = k₁, and which of the times asked for lie in it."""
        return [row(v, i, self.axis) for v in self[:4]], jnp.moveaxis(self.where, -1, 0) == i

    def own(self, i):
        """The same of each lane's own row i [*lanes], empty where i < 0, and the row before."""

        def pick(v):
            wide = jnp.maximum(i, 0).reshape(*i.shape, *(1,) * (v.ndim - i.ndim))
            return jnp.take_along_axis(v, wide, axis=i.ndim, mode="clip").squeeze(i.ndim)

        t, h, y, f, before = map(pick, self[:5])
        here = jnp.moveaxis(self.where, -1, 0) == i[None]
        return ([t, jnp.where(i >= 0, h, 0.0), y, f], here), jnp.where(i >= 0, before, -1)


def _tangent(law: Law, active, kinds, consts, past: History, dconsts, dy):
    """(ẏ₀, θ̇) ↦ (ẏₙ, ḟₙ, k̇ₙ, ẏ(τ)), those of them that `kinds` marks, through the accepted steps; f = k₁."""
    axis, T, y = past.axis, past.times, past.y
    full, stages = _spread(active, consts, dconsts), len(law.tableau.b)
    start = lambda c, y: law(c, row(past.t, 0, axis), y)
    df = jax.jvp(start, (consts, row(y, 0, axis)), (full, dy))[1]
    shapes = [y.shape, y.shape, (*y.shape[:-1], stages, y.shape[-1]), (*T.shape[:1], *y.shape[-1:], *T.shape[1:])]
    kept = [jnp.zeros(shape, y.dtype) for shape, kind in zip(shapes, kinds, strict=True) if kind]

    def turn(i, state):
        dy, df, kept = state
        (t, h, y, f), here = past.at(i)
        one = lambda c, y, f: step(law, c, t, h, y, f)
        _, ((dy1, df1), dk) = jax.jvp(one, (consts, y, f), (full, dy, df))
        found = [v for v, kind in zip((dy, df, dk), kinds, strict=False) if kind]
        new = [put(rows, v, i, axis) for rows, v in zip(kept, found, strict=False)]
        if kinds[3]:
            seen = points(law.tableau, T, t, h, dy, [dk[..., j, :] for j in range(stages)])
            new.append(jnp.where(here[:, None], seen, kept[-1]))
        return dy1, df1, new

    kept = jax.lax.fori_loop(0, past.n, turn, (dy, df, kept))[2]
    return [*kept[:-1], jnp.moveaxis(kept[-1], (0, 1), (-2, -1))] if kinds[3] else kept


def _adjoint(law: Law, active, kinds, consts, past: History, *cotangents):
    """Cotangents of the states, stages and observed states that `kinds` marks ↦ those of θ and y₀, backwards."""
    axis, T = past.axis, past.times
    chosen = [c for c, on in zip(consts, active, strict=True) if on]
    given = iter(cotangents)
    bars = [next(given) if kind else None for kind in kinds[:3]]  # of the rows: y, f, k
    seen = jnp.moveaxis(next(given), (-2, -1), (0, 1)) if kinds[3] else None

    y0 = row(past.y, 0, axis)
    zeros = jnp.zeros_like(y0)
    blank = zeros, zeros, jnp.zeros((*zeros.shape[:-1], len(law.tableau.b), zeros.shape[-1]), zeros.dtype)

    def turn(one, state, added):
        ((t, h, y, f), here), (cbar, yb, fb), (more, more_f, ks) = one, state, added
        forward = lambda c, y, f: step(law, _merge(active, consts, c), t, h, y, f)
        _, pull = jax.vjp(forward, chosen, y, f)
        if seen is not None:
            back, stage_bars = points_transposed(law.tableau, T, t, h, seen, here)
            more, ks = more + back, ks + jnp.stack(stage_bars, axis=-2)
        dc, dy, df = pull(((yb, fb), ks))
        return jax.tree.map(jnp.add, cbar, dc), dy + more, df + more_f

    def every(i, state):
        i = past.n - 1 - i
        return turn(past.at(i), state, [z if b is None else row(b, i, axis) for b, z in zip(bars, blank, strict=True)])

    def own(state):
        i, state = state
        one, before = past.own(i)
        return before, turn(one, state, blank)

    state = jax.tree.map(jnp.zeros_like, chosen), zeros, zeros
    if not any(kinds[:3]):
        cbar, yb, fb = jax.lax.while_loop(lambda s: jnp.any(s[0] >= 0), own, (past.latest, state))[1]
    else:
        cbar, yb, fb = jax.lax.fori_loop(0, past.n, every, state)
    _, pull = jax.vjp(lambda c, y: law(_merge(active, consts, c), row(past.t, 0, axis), y), chosen, y0)
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
# march_p   consts…, y0, ts, t0, h0, rtol, atol
#           -> t, h, y, f, k, before, ys, where, latest, n, count, code, t_end, y_end
# replay_p  [consts…, History] + linear operands: the tangent, or transposed, the adjoint

march_p = Primitive("march")
replay_p = Primitive("march_replay")
march_p.multiple_results = replay_p.multiple_results = True
_RESIDUALS, _OUTPUTS, _ROWS = len(History._fields), 14, 9  # the number of rows is one for all lanes


@full_precision
def _run_march(*args, law, max_steps, choose, observe):
    return march(law, max_steps, choose, observe, list(args[:-6]), *args[-6:])


@full_precision
def _run_replay(*args, law, active, kinds, transposed):
    split = len(active) + _RESIDUALS
    consts, past, linear = list(args[: len(active)]), History(*args[len(active) : split]), list(args[split:])
    if transposed:
        return tuple(_adjoint(law, active, kinds, consts, past, *linear))
    return tuple(_tangent(law, active, kinds, consts, past, dconsts=linear[:-1], dy=linear[-1]))


def _march_shapes(*args, law, max_steps, observe, **_):
    """What `_run_march` returns, as shapes: tracing it for that was nearly all of the time of tracing a gradient."""
    y, ts = args[-6], args[-5]
    lanes, d, times = y.shape[:-1], y.shape[-1], ts.shape[-1]
    real = lambda *shape: ShapedArray((*lanes, *shape), y.dtype)
    time = lambda *shape: ShapedArray((*lanes, *shape), ts.dtype)
    whole = lambda *shape: ShapedArray(shape, jnp.int32)
    rows = time(max_steps), time(max_steps), real(max_steps, d), real(max_steps, d)
    rows += real(max_steps, len(law.tableau.c), d), whole(*lanes, max_steps)
    where = real(times if observe else 0, d), whole(*lanes, times), whole(*lanes)
    return [*rows, *where, whole(), whole(*lanes), whole(*lanes), time(), real(d)]


def _replay_shapes(*args, law, active, kinds, transposed):
    """What `_run_replay` returns, as shapes."""
    past = History(*args[len(active) : len(active) + _RESIDUALS])
    *lanes, rows, d = past.y.shape
    real = lambda *shape: ShapedArray((*lanes, *shape), past.y.dtype)
    if transposed:
        chosen = [c for c, on in zip(args, active, strict=False) if on]
        return [*(ShapedArray(c.shape, c.dtype) for c in chosen), real(d)]
    every = real(rows, d), real(rows, d), real(rows, len(law.tableau.b), d), real(past.ts.shape[-1], d)
    return [shape for shape, kind in zip(every, kinds, strict=True) if kind]


_STATIC = {march_p: ("law", "max_steps", "choose", "observe"), replay_p: ("law", "active", "kinds", "transposed")}
for primitive, run, shapes in ((march_p, _run_march, _march_shapes), (replay_p, _run_replay, _replay_shapes)):
    primitive.def_impl(jax.jit(run, static_argnames=_STATIC[primitive]))
    primitive.def_abstract_eval(shapes)
    mlir.register_lowering(primitive, mlir.lower_fun(run, multiple_results=True))


def _zero(v):
    return ad.Zero(jax.typeof(v).to_tangent_aval())


def _is_zero(v):
    return type(v) is ad.Zero


def _march_jvp(primals, tangents, *, law, observe, **static):
    out = march_p.bind(*primals, law=law, observe=observe, **static)
    count = len(primals) - 6
    consts, y0, ts = primals[:count], primals[count], primals[count + 1]
    t, h, y, f, k, before, _, where, latest, n, *_ = out
    total = [_zero(v) for v in out]
    moving = [not _is_zero(v) for v in tangents]
    if any(moving[:count]) or moving[count]:
        active, kinds = tuple(moving[:count]), (True, True, True, observe)
        linear = [v for v, on in zip(tangents, active, strict=False) if on]
        linear.append(jnp.zeros_like(y0) if not moving[count] else tangents[count])
        given = dict(law=law, active=active, kinds=kinds, transposed=False)
        past = History(t, h, y, f, before, ts, where, latest, n)
        total[2], total[3], total[4], *seen = replay_p.bind(*consts, *past, *linear, **given)
        total[6] = seen[0] if observe else total[6]
    if moving[count + 1] and observe:
        rate = _rates(law.tableau, ts, where, t, h, y, k) * tangents[count + 1].astype(y.dtype)[..., None]
        total[6] = rate if _is_zero(total[6]) else total[6] + rate
    return out, total


def _rates(tableau: Tableau, ts, where, t, h, y, k):
    """dy/dτ at the times asked for, [*lanes, times, d]."""
    pick = lambda v: jnp.take_along_axis(v, where.reshape(*where.shape, *(1,) * (v.ndim - where.ndim)), where.ndim - 1)
    one = lambda tau, t, h, y, *k: points(tableau, tau[None], t, h, y, list(k), derivative=1)[0]
    for _ in range(where.ndim):
        one = jax.vmap(one)
    return one(ts, pick(t), pick(h), pick(y), *jnp.moveaxis(pick(k), -2, 0))


def _replay_jvp(primals, tangents, *, law, active, kinds, transposed):
    split = len(active) + _RESIDUALS
    params = dict(law=law, active=active, kinds=kinds, transposed=transposed)
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


def _replay_transpose(cotangents, *args, law, active, kinds, transposed):
    split = len(active) + _RESIDUALS
    fixed = args[:split]
    params = dict(law=law, active=active, transposed=not transposed)
    if not transposed:  # only what is asked for takes part: no zeros are stored for the rest
        marked = iter(not _is_zero(c) for c in cotangents)
        kinds = tuple(kind and next(marked) for kind in kinds)
        given = [c for c in cotangents if not _is_zero(c)]
        return [None] * split + list(replay_p.bind(*fixed, *given, kinds=kinds, **params))
    shapes = [c for c, on in zip(fixed, active, strict=False) if on]
    y = fixed[len(active) + 2]
    shapes.append(jax.ShapeDtypeStruct((*y.shape[:-2], y.shape[-1]), y.dtype))
    given = [jnp.zeros(s.shape, s.dtype) if _is_zero(ct) else ct for ct, s in zip(cotangents, shapes, strict=True)]
    return [None] * split + list(replay_p.bind(*fixed, *given, kinds=kinds, **params))


def _front(v, dim, size):
    """The array with the new lane's axis first, broadcast where it had none."""
    if dim is None:
        return jnp.broadcast_to(v, (size, *v.shape))
    return jnp.moveaxis(v, dim, 0)


def _size(args, dims):
    return next(v.shape[d] for v, d in zip(args, dims, strict=True) if d is not None)


def _consts(args, dims):
    carried = [d is not None for d in dims]
    return carried, [jnp.moveaxis(v, d, 0) if on else v for v, d, on in zip(args, dims, carried, strict=True)]


def _march_batch(args, dims, *, law, **static):
    size, count = _size(args, dims), len(args) - 6
    carried, consts = _consts(args[:count], dims[:count])
    rest = [_front(v, d, size) for v, d in zip(args[count:], dims[count:], strict=True)]
    out = march_p.bind(*consts, *rest, law=law.widened(carried), **static)
    return out, [None if i == _ROWS else 0 for i in range(_OUTPUTS)]


def _replay_batch(args, dims, *, law, active, kinds, transposed):
    size, count = _size(args, dims), len(active)
    split = count + _RESIDUALS
    linear, ldims = args[split:], dims[split:]
    n = args[split - 1]
    residuals = [_front(v, d, size) for v, d in zip(args[count : split - 1], dims[count : split - 1], strict=True)]
    n = n if dims[split - 1] is None else jnp.max(n)
    params = dict(active=active, kinds=kinds, transposed=transposed)
    if transposed:
        # vmap asks for one cotangent per lane: an active parameter shared by the lanes is given a copy in each
        pairs = [(_front(v, d, size), 0) if on else (v, d) for v, d, on in zip(args, dims, active, strict=False)]
        carried, consts = _consts([v for v, _ in pairs], [d for _, d in pairs])
        given = [_front(v, d, size) for v, d in zip(linear, ldims, strict=True)]
        out = replay_p.bind(*consts, *residuals, n, *given, law=law.widened(carried), **params)
        return out, [0] * len(out)
    # a tangent that differs between lanes needs its parameter to have lanes as well
    each = iter(ldims[:-1])
    spread = [on and next(each) is not None for on in active]
    pairs = [
        (_front(v, d, size), 0) if on else (v, d) for v, d, on in zip(args[:count], dims[:count], spread, strict=True)
    ]
    carried, consts = _consts([v for v, _ in pairs], [d for _, d in pairs])
    chosen = [c for c, on in zip(carried, active, strict=True) if on]
    given = [_front(v, d, size) if c else v for v, d, c in zip(linear[:-1], ldims[:-1], chosen, strict=True)]
    out = replay_p.bind(
        *consts, *residuals, n, *given, _front(linear[-1], ldims[-1], size), law=law.widened(carried), **params
    )
    return out, [0] * len(out)


ad.primitive_jvps[march_p] = _march_jvp
ad.primitive_jvps[replay_p] = _replay_jvp
ad.primitive_transposes[replay_p] = _replay_transpose
batching.primitive_batchers[march_p] = _march_batch
batching.primitive_batchers[replay_p] = _replay_batch


def accepted(field, tableau: Tableau, consts, y0, ts, t0, h0, rtol, atol, *, max_steps: int, observe: bool):
    """The accepted steps from t0 to ts[-1] of one lane, the first of length h0 or chosen when that is None, and the
    states at ts if `observe`; see the table of results above.
    """
    dtype, choose = y0.dtype, h0 is None
    as_scalar = lambda v: jnp.asarray(v, dtype)
    times = jnp.asarray(t0, ts.dtype), jnp.asarray(0.0 if choose else h0, ts.dtype)
    args = (*consts, y0, ts, *times, as_scalar(rtol), as_scalar(atol))
    law = Law(field, tableau, ())
    return march_p.bind(*args, law=law, max_steps=max_steps, choose=choose, observe=observe)
