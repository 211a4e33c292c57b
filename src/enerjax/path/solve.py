"""Integrate a field: ẏ = f(t, y, args), y(t₀) = y₀, and differentiate the whole path.

Which derivative when (measured in benchmarks/odes, restated in docs/motion.md):

    solver                          adjoint=None takes             derivatives
    explicit Runge–Kutta, adaptive  `Replay()`                     grad, jvp, Hessian-vector, Gauss–Newton products
    the same, history over budget   diffrax RecursiveCheckpoint    grad
    `substeps=k`, fixed steps       one `lax.scan`                 all, to any order; compiles fastest
    implicit, IMEX, SDE, events     diffrax RecursiveCheckpoint,   grad (pass diffrax.DirectAdjoint() for the rest)
                                    one checkpoint per step when the history is within budget

Any diffrax adjoint can be passed instead. `diffrax.ForwardMode()` gives jvp only, `BacksolveAdjoint` re-solves
backwards: no memory, but its gradient is silently wrong on stiff fields and, under vmap, it carries every parameter
per sample.
"""

from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from .. import _tree as tree
from .._array import PyTree
from .._precision import full_precision
from . import march as _march
from .replay import accepted
from .solution import REASONS, Between, Dense, Solution, outcome
from .traced import traced

STEPS = 256  # the default limit of steps where the history is allocated beforehand
OBSERVED = 512  # up to so many times the states there are written while stepping; beyond, gathered afterwards
BUDGET = 256 * 2**20  # bytes of stored history above which the default adjoint recomputes instead of storing


class Replay(eqx.Module):
    """Adaptive forwards once, then differentiate the accepted steps: memory one state and its stages per step."""


def solve(field, y0: PyTree, ts, args: PyTree = None, *, throw: bool | None = None, **options) -> PyTree:
    """The states at the times `ts` of the path that starts at y0: `integrate(...).ys`.

    Args:
        field: as in `integrate`, like all that is not named here.
        y0: initial state.
        ts: strictly increasing times.
        args: passed to the field.
        throw: what a failure does, beside making every state after it NaN. None raises where the call is eager, under
            an eager vmap or grad too, and leaves it at NaN inside `jit`: a sampler rejects there, a training step is
            undone. True raises inside `jit` as well, from the running program, which costs a call of the host; False
            never does.
        options: of `integrate`. Without `max_steps` an eager call that runs out of steps tries again with more.

    Raises:
        RuntimeError: a failure, with time, state and the likely cause where eager, and the cause inside `jit`.
    """
    solution = integrate(field, y0, ts, args, **options)
    found = outcome(solution)
    growing = options.get("max_steps") is None and options.get("adjoint") is None and options.get("substeps") is None
    steps = STEPS
    while growing and not isinstance(found.code, Tracer) and _out_of_steps(found) and steps < 2**17:
        steps *= 8
        more = {**options, "max_steps": steps}
        if found.code.size * steps * _bytes(y0) * 8 > BUDGET:  # of all trajectories; integrate sees one
            more["adjoint"] = diffrax.RecursiveCheckpointAdjoint()
        solution = integrate(field, y0, ts, args, **more)  # pyright: ignore[reportArgumentType]
        found = outcome(solution)
    if isinstance(found.code, Tracer):
        return _raise_inside(solution) if throw else solution.ys
    if throw is not False and np.any(np.asarray(found.code) != 0):
        raise RuntimeError(f"path.solve: {found.reason}.")
    return solution.ys


def _out_of_steps(solution: Solution) -> bool:
    return bool(np.any(np.asarray(solution.code) == _march.OUT_OF_STEPS))


def _bytes(y0: PyTree) -> int:
    return sum(v.size * v.dtype.itemsize for v in map(jnp.asarray, jax.tree.leaves(y0)))


def _raise_inside(solution: Solution) -> PyTree:
    """The states, which raise when the compiled program finds that the path failed."""
    words = [f"path.solve: {REASONS[code]}." for code in sorted(REASONS)]
    return eqx.branched_error_if(solution.ys, solution.code != _march.ARRIVED, solution.code, words)


@full_precision
def integrate(
    field,
    y0: PyTree,
    ts,
    args: PyTree = None,
    *,
    t0=None,
    solver: diffrax.AbstractSolver | None = None,
    rtol: float = 1e-5,
    atol: float = 1e-7,
    dt0=None,
    max_steps: int | None = None,
    substeps: int | None = None,
    adjoint: Any = None,
    noise: tuple | None = None,
    event: diffrax.Event | None = None,
    controller: diffrax.AbstractStepSizeController | None = None,
    dense: bool = False,
) -> Solution:
    """ẏ = field(t, y, args) from y0 at t0, observed at the times ts.

    Args:
        field: `field(t, y, args) -> dy/dt`, of the structure of y; any callable, closing over arrays or not.
        y0: initial state, any pytree of real arrays.
        ts: strictly increasing times, [n]; the path starts at ts[0] unless t0 is given.
        args: passed to the field.
        t0: start, at most ts[0].
        solver: a diffrax solver, Tsit5 by default. Implicit ones (Kvaerno5…) for stiff fields.
        rtol: relative tolerance of each adaptive step, error ≤ atol + rtol |y| in the root-mean-square norm.
        atol: absolute tolerance.
        dt0: first step; chosen when None. The length of every step where steps are fixed, as with `noise`.
        max_steps: limit of accepted steps, and the length of the stored history; None is 256 for `Replay`,
            where an eager `solve` that runs out of them tries again with more, and 4096 for diffrax.
        substeps: None steps adaptively; k takes k equal steps of the explicit `solver` between successive times.
        adjoint: None (the table above), `Replay()`, or any diffrax adjoint.
        noise: (diffusion, brownian): adds diffusion(t, y, args) dW with a diffrax Brownian path. With `dt0` alone the
            steps are fixed and the solver is Euler–Maruyama, which reads dW as Itô does; `diffrax.EulerHeun()` or
            `diffrax.Heun()` read it as Stratonovich does, and solvers with an error estimate for noise, such as
            `diffrax.SPaRK()`, step adaptively.
        event: a diffrax Event; the path ends there, later states are NaN, `stopped_at` and `state` are the event's.
        controller: a diffrax step size controller instead of the tolerances; None takes fixed steps of `dt0` with
            solvers that estimate no error.
        dense: keep the states in between where that costs memory (implicit, noisy, with an event): `Solution.dense`.

    Returns:
        A `Solution`; vmap over y0, ts or args gives a batch, each trajectory with its own times and steps.

    Raises:
        ValueError: times that do not increase, an observation before t0, a field whose value is not of y's structure.
    """
    ts, moving = _times(ts, t0)
    if dt0 is not None and not isinstance(dt0, Tracer) and not float(dt0) > 0:
        raise ValueError(f"path.solve: the first step dt0 must be positive, not {dt0}; None chooses it.")
    _check_field(field, ts[0], y0, args)
    start = ts[0] if t0 is None else jnp.asarray(t0, ts.dtype)
    if noise is not None and dt0 is None and (solver is None or controller is None):
        raise ValueError("path.solve: noise= needs dt0=, the length of its fixed steps (of Euler–Maruyama by default).")
    solver = (diffrax.Tsit5() if noise is None else diffrax.Euler()) if solver is None else solver
    explicit = isinstance(solver, diffrax.AbstractERK)
    if substeps is not None:
        if not explicit or noise is not None or event is not None or dense:
            raise ValueError("path.solve: substeps=k needs an explicit solver, without noise, event or dense=True.")
        return _fixed(field, y0, ts, None if t0 is None else start, args, _march.Tableau.of(solver), substeps)
    stored = STEPS if max_steps is None else max_steps
    history = stored * _bytes(y0)
    plain = explicit and noise is None and event is None and controller is None
    if adjoint is None and plain and history * (1 + len(_march.Tableau.of(solver).b)) <= BUDGET:
        adjoint = Replay()
    if isinstance(adjoint, Replay):
        if not plain:
            raise ValueError("path.solve: Replay needs an explicit solver with tolerances, without noise or event.")
        return _adaptive(field, y0, ts, start, moving, args, solver, rtol, atol, dt0, stored)
    max_steps = 4096 if max_steps is None else max_steps
    if adjoint is None:
        checkpoints = max_steps if history * max_steps // stored <= BUDGET else None
        adjoint = diffrax.RecursiveCheckpointAdjoint(checkpoints=checkpoints)
    tolerances = rtol, atol
    return _diffrax(
        field, y0, ts, start, args, solver, controller, tolerances, dt0, max_steps, adjoint, noise, event, dense
    )


def _times(ts, t0):
    """The times as an array, checked where they are known, and whether the start is traced (so may be differentiated).

    Known times are checked before they become an array of jax: inside `jit` that array is a tracer.
    """
    known = not any(isinstance(v, Tracer) for v in jax.tree.leaves(ts))
    floating = jnp.issubdtype(jnp.result_type(ts) if hasattr(ts, "dtype") else float, jnp.floating)
    dtype = jnp.result_type(ts if floating and hasattr(ts, "dtype") else float)
    if known:
        _check_times(np.asarray(ts, dtype), t0)
    ts = jnp.asarray(ts, dtype)
    if ts.ndim != 1 or ts.size == 0:
        raise ValueError(f"path.solve: ts must be a vector of times, not of shape {ts.shape}; vmap for a batch.")
    return ts, not known if t0 is None else isinstance(t0, Tracer)


def _check_times(times, t0) -> None:
    if not np.all(np.isfinite(times)):
        raise ValueError(f"path.solve: ts[{int(np.argmin(np.isfinite(times)))}] is not finite.")
    if times.ndim == 1 and np.any(np.diff(times) <= 0):
        i = int(np.argmax(np.diff(times) <= 0))
        cure = "sort them"
        if len(times) > 1 and np.all(np.diff(times) < 0):
            cure = "time runs forwards: −f as the field and −ts as the times solve backwards"
        raise ValueError(
            f"path.solve: times must increase, but ts[{i + 1}] = {times[i + 1]} follows {times[i]}; {cure}."
        )
    if t0 is not None and not isinstance(t0, Tracer) and times.ndim == 1 and times.size and times[0] < float(t0):
        raise ValueError(f"path.solve: the observation at ts[0] = {times[0]} lies before the start t0 = {float(t0)}.")


def _check_field(field, t, y0, args) -> None:
    for v in jax.tree.leaves(y0):
        if not jnp.issubdtype(jnp.result_type(v), jnp.floating):
            raise ValueError(f"path.solve: the state must be real floating arrays, found {jnp.result_type(v)}.")
    out = eqx.filter_eval_shape(field, t, y0, args)
    shape = lambda x: (jax.tree.structure(x), [jnp.shape(v) for v in jax.tree.leaves(x)])
    if shape(out) != shape(y0):
        raise ValueError(f"path.solve: the field returns {shape(out)}, its state is {shape(y0)}; they must agree.")


def _moving_start(flat, consts, y, start):
    """Let the gradient by the start time through: dy(t)/dt₀ = −Φ(t, t₀) f(t₀, y₀)."""
    fixed = jax.lax.stop_gradient(start)
    return y - (start - fixed).astype(y.dtype) * flat(consts, fixed, y), fixed


def _adaptive(field, y0, ts, start, moving, args, solver, rtol, atol, dt0, max_steps) -> Solution:
    tableau = _march.Tableau.of(solver)
    flat, consts, y, unravel = traced(field, y0, args, start)
    if moving:
        y, start = _moving_start(flat, consts, y, start)
    observe = len(ts) <= OBSERVED
    t, h, rows, _, k, _, ys, where, latest, _, count, code, reached, last = accepted(
        flat, tableau, consts, y, ts, start, dt0, rtol, atol, max_steps=max_steps, observe=observe
    )
    dense = Dense(t, h, rows, k, latest, code, reached, tuple(tableau.b), solver.interpolation_cls, unravel)
    if observe:
        fine = (ts <= reached) & (code != _march.BAD_START)
        ys = jax.vmap(unravel)(ys * jnp.where(fine, 1.0, jnp.nan).astype(ys.dtype)[:, None])  # NaN for the gradient too
    else:
        ys = jax.vmap(dense.inside)(where, ts)
    return Solution(ts, ys, code, count, reached, unravel(last), dense)


def _fixed(field, y0, ts, start, args, tableau, substeps) -> Solution:
    """k equal steps between successive times, in one scan: nothing to choose, every derivative to any order."""
    if substeps < 1:
        raise ValueError(f"path.solve: substeps must be at least 1, not {substeps}.")

    def step(y, t, h):
        scale = lambda h, v: jax.tree.map(lambda v: h.astype(v.dtype) * v, v)
        k = [field(t, y, args)]
        for row, c in zip(tableau.a, tableau.c[1:], strict=True):
            moved = jax.tree.map(lambda *k, row=row: _march.combine(row, list(k)), *k)
            k.append(field(t + c * h, tree.add(y, scale(h, moved)), args))
        return tree.add(y, scale(h, jax.tree.map(lambda *k: _march.combine(tableau.b, list(k)), *k)))

    def stretch(y, interval):
        t, t1 = interval
        h = (t1 - t) / substeps
        y, _ = jax.lax.scan(lambda y, i: (step(y, t + i * h, h), None), y, jnp.arange(substeps, dtype=ts.dtype))
        return y, y

    y0 = jax.tree.map(jnp.asarray, y0)
    starts = ts[:-1] if start is None else jnp.concatenate([start[None], ts[:-1]])
    last, ys = jax.lax.scan(stretch, y0, (starts, ts[len(ts) - len(starts) :]))
    if start is None:  # the path starts at the first time asked for: nothing to step over
        ys = jax.tree.map(lambda v, rest: jnp.concatenate([v[None], rest]), y0, ys)
        starts = jnp.concatenate([ts[:1], starts])
    good = jnp.array([jnp.all(jnp.isfinite(v.reshape(len(ts), -1)), axis=1) for v in jax.tree.leaves(ys)]).all(0)
    reached = jnp.where(jnp.all(good), ts[-1], starts[jnp.argmin(good)])
    code = jnp.where(jnp.all(good), _march.ARRIVED, _march.UNDERFLOW).astype(jnp.int32)
    return Solution(ts, ys, code, jnp.array(substeps * (len(ts) - (start is None))), reached, last, None)


def _diffrax(
    field, y0, ts, start, args, solver, controller, tolerances, dt0, max_steps, adjoint, noise, event, dense
) -> Solution:
    terms = diffrax.ODETerm(field)
    if noise is not None:
        diffusion, brownian = noise
        terms = diffrax.MultiTerm(terms, diffrax.ControlTerm(diffusion, brownian))
    if controller is None:
        estimates = isinstance(solver, diffrax.AbstractAdaptiveSolver) and solver.error_order(terms) is not None
        rtol, atol = tolerances
        controller = diffrax.PIDController(rtol=rtol, atol=atol) if estimates else diffrax.ConstantStepSize()
    subs = [diffrax.SubSaveAt(ts=ts), diffrax.SubSaveAt(t1=True)]
    backsolve = isinstance(adjoint, diffrax.BacksolveAdjoint)
    if dense and backsolve:
        raise ValueError(
            "path.solve: BacksolveAdjoint keeps no states in between; take another adjoint for dense=True."
        )
    solution = diffrax.diffeqsolve(
        terms,
        solver,
        start,
        ts[-1],
        dt0,
        jax.tree.map(jnp.asarray, y0),
        args,
        saveat=diffrax.SaveAt(ts=ts) if backsolve else diffrax.SaveAt(subs=subs, dense=dense),
        stepsize_controller=controller,
        adjoint=adjoint,
        max_steps=max_steps,
        event=event,
        throw=False,
    )
    saved, times = solution.ys, solution.ts
    assert saved is not None and times is not None  # both were asked for
    ys = saved if backsolve else saved[0]
    state = jax.tree.map(lambda v: v[-1], saved if backsolve else saved[1])
    reached = ts[-1] if backsolve else times[1][-1]
    good = (solution.result == diffrax.RESULTS.successful) | (solution.result == diffrax.RESULTS.event_occurred)
    limit = solution.result == diffrax.RESULTS.max_steps_reached
    code = jnp.where(good, _march.ARRIVED, jnp.where(limit, _march.OUT_OF_STEPS, _march.UNDERFLOW)).astype(jnp.int32)
    # diffrax marks what was not reached by inf; a product lets the gradient be NaN too
    hide = lambda v: v * jnp.where(jnp.isfinite(v), 1.0, jnp.nan).astype(v.dtype)
    between = Between(solution.interpolation, start, reached) if dense else None
    return Solution(ts, jax.tree.map(hide, ys), code, solution.stats["num_accepted_steps"], reached, state, between)
