"""Learn a law from its paths.

    loss(θ, z₀) = Σₖ ‖(y(tₖ; θ, z₀) − yₖ)/σ‖² + …      along windows that grow, from starts that are free

All points of a long path at once is hard: the loss is rugged, training sticks to the mean or diverges. Three remedies,
which compose: `collocate` gives the field a first guess from smoothed derivatives; `learn` fits short windows first and
lengthens them; `shooting` cuts the path at free nodes and asks for continuity (fully or partly observed).
"""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from .. import fit
from .._array import Key, PyTree, Scalar
from ..energy import Misfit
from ..fit.least_squares import levenberg_marquardt
from ..path import Observations, solve
from ..path.assimilate import ModelError, refuse_nan
from .checks import failure, refuse_times, starts_of


class Learned(eqx.Module):
    """A field and the starts it was fitted with.

    Attributes:
        field: the law.
        starts: initial states, [paths, …]; trained when free.
    """

    field: Callable
    starts: PyTree


def path_loss(
    ts: Float[ArrayLike, " times"] | Float[ArrayLike, "paths times"],
    *,
    noise: float | Array = 1.0,
    observe: Callable = lambda y: y,
    anchor: float = 0.0,
    args: Callable | None = None,
    solver: dict | None = None,
):
    """loss(learned, (rows, data), key): the mean of ‖(h(y(tₖ)) − yₖ)/σ‖² over the readings that are not NaN.

    Args:
        ts: times of the window, [times], or those of each path, [paths, times], of which a batch takes its rows'.
        noise: σ.
        observe: state ↦ reading.
        anchor: weight of ‖start − first reading‖² for starts that are observed but noisy.
        args: row ↦ args of the field (its own input signal), or None.
        solver: options of `path.solve`. A path that fails makes the loss NaN; `throw=True` raises instead.

    Raises:
        ValueError: times that do not increase, or not as many as the readings.
    """
    refuse_times(ts)
    misfit = _misfit(noise, observe, anchor, args, solver)

    def loss(learned: Learned, batch, key) -> Scalar:
        rows, data = batch
        if np.shape(data)[1] != np.shape(ts)[-1]:
            raise ValueError(f"path_loss: readings of {np.shape(data)[1]} times, but ts are {np.shape(ts)[-1]}.")
        return misfit(learned, rows, data, ts if np.ndim(ts) == 1 else jnp.asarray(ts)[rows])

    return loss


def _misfit(noise, observe, anchor, args, solver) -> Callable:
    """(learned, rows, data, times, t0) ↦ the mean square that `path_loss` describes; times and t0 are common, or each
    row's.
    """
    options = {"throw": False} | (solver or {})  # training keeps the state before a NaN, and says what made it

    def misfit(learned: Learned, rows, data, times, t0=None) -> Scalar:
        starts = jax.tree.map(lambda v: v[rows], learned.starts)
        each = None if np.ndim(times) == 1 else 0

        def one(row, first, y, times, t0):
            said = options if t0 is None else {"t0": t0} | options
            ys = solve(learned.field, first, times, None if args is None else args(row), **said)
            r = Observations(lambda s: s, y, noise, observe).residual(ys)
            return jnp.sum(r**2), jnp.sum(jnp.isfinite(y)), jnp.sum(r[0] ** 2)

        square, count, first = jax.vmap(one, (0, 0, 0, each, each))(rows, starts, data, times, t0)
        return (jnp.sum(square) + anchor * jnp.sum(first)) / jnp.sum(count)

    return misfit


def learn(
    field,
    ts: Float[ArrayLike, " times"] | Float[ArrayLike, "paths times"],
    ys: Float[ArrayLike, "paths times d"],
    *,
    key: Key,
    horizons: Sequence[int] | None = None,
    epochs: int | Sequence[int] = 300,
    optimizer: Callable[[float], optax.GradientTransformation] = optax.adam,
    rates: float | Sequence[float] = 3e-3,
    schedule: Callable[[float], float] | None | Sequence[Callable[[float], float] | None] = fit.cosine,
    batch: int | None = None,
    starts: PyTree = None,
    free: bool = True,
    missing: bool = False,
    noise: float | Array = 1.0,
    observe: Callable = lambda y: y,
    args: Callable | None = None,
    validate: Callable | None = None,
    progress: Callable[[str], None] | None = None,
    directory: str | Path | None = None,
    solver: dict | None = None,
    **options,
) -> Learned:
    """Match paths over windows that grow: `horizons` points first, the whole last.

    Stages of one rate share one compiled program: a shorter window is the longest one whose later times all lie at its
    end, and whose later readings are missing. Fixed steps (`substeps`) would be wasted there, and compile sooner: each
    of their stages has its own.

    Training is `fit.train`: lines of progress, checkpoints, and the same call with the same directory goes on exactly
    where an interrupted one stopped. A call with other data, times, options or first parameters is refused there (what
    functions compute, `observe` or `optimizer`, is not compared); more epochs of the last stage, or more stages, go on.

    Args:
        field: the module to train.
        ts: common times, [times], or those of each path, [paths, times].
        ys: readings, [paths, times, d].
        key: random key.
        horizons: numbers of points; by default an eighth, a quarter, a half and all of them.
        epochs: of each stage.
        optimizer: learning rate ↦ optax transformation. `lambda rate: optax.lbfgs()` with schedule=None and all paths
            in the batch minimises each stage by L-BFGS with a line search; `refine` finishes by Gauss–Newton.
        rates: learning rate of each stage.
        schedule: factor on the rate at the fraction s of a stage, a cosine by default; or one for each stage. Where
            short windows have taught something, a warm-up such as `fit.flat_then_cosine(0.5, warmup=0.1)` keeps the
            first steps of an optimiser that starts anew from undoing it: diffrax's tutorial needs half as many steps
            (benchmarks/odes).
        batch: paths per step; all by default.
        starts: initial states [paths, …]; by default the first readings, and where one is missing, that component's
            first that is there.
        free: train the starts too: a noisy first reading is not the state.
        missing: NaN readings are allowed and left out.
        noise: standard deviation of the readings: the loss is then a likelihood, 1 when it fits to the noise.
        observe: state ↦ reading. Readings of a part of the state need `starts`; of a `Hamiltonian`, whose state is
            (q, p), readings [q, p] are starts=(q0, p0), observe=jnp.concatenate.
        args: row ↦ args of the field.
        validate: `validate(learned)`, a loss or a dictionary with a "loss", for instance by extrapolation; picks the
            best model of each stage.
        progress: receives lines.
        directory: checkpoints and metrics of each stage, resumable by the same call.
        solver: options of `path.solve`.
        options: more options of `fit.train`, such as `place=fit.data_parallel()` to split the paths over devices.

    Raises:
        ValueError: NaN readings without `missing`, times, readings, starts and field that do not fit together, a
            horizon that is not within the data, or a directory that holds another run.
        FloatingPointError: at the first step that is not finite, with the path that failed, and why, where one did.
    """
    refuse_nan(ys, missing)
    refuse_times(ts)
    ys, ts = jnp.asarray(ys), jnp.asarray(ts)
    first = starts_of(field, ts, ys, starts, free, observe, args)
    paths, times = ys.shape[:2]
    horizons = (
        sorted({max(2, times // 8), max(2, times // 4), max(2, times // 2), times}) if horizons is None else horizons
    )
    if max(horizons) > times or min(horizons) < 2:
        raise ValueError(f"learn: horizons {list(horizons)} do not lie within 2 … {times} points.")
    each = lambda v: [v] * len(horizons) if np.ndim(v) == 0 else list(v)
    stages = list(zip(horizons, each(epochs), each(rates), each(schedule), strict=True))
    learned = Learned(field, first)
    trainable = Learned(jax.tree.map(eqx.is_inexact_array, field), jax.tree.map(lambda _: free, learned.starts))
    size, longest, held = paths if batch is None else batch, ts[..., : max(horizons)], np.asarray(ys)
    shared = "substeps" not in (solver or {})
    # the start is said: that of times which are traced could move, and would be differentiated
    misfit = _misfit(noise, observe, 0.0, args, solver)
    transforms, programs = {rate: optimizer(rate) for _, _, rate, _ in stages}, {}

    def window_loss(learned: Learned, seen, key) -> Scalar:
        (rows, data), end = seen
        times, t0, end = (longest, ts[0], end) if ts.ndim == 1 else (longest[rows], ts[rows, 0], end[rows, None])
        inside = times <= end
        data = jnp.where(inside.reshape(*inside.shape, *[1] * (data.ndim - 2)), data, jnp.nan)
        return misfit(learned, rows, data, jnp.minimum(times, end), t0)

    run = dict(field=field, starts=starts, ts=ts, ys=ys, key=key, batch=size, free=free, missing=missing, noise=noise)
    run |= dict(solver=solver or {}, ema=options.get("ema"))
    for stage, (points, count, rate, factor) in enumerate(stages):
        how = dict(observe=observe, args=args, solver=solver)
        loss = window_loss if shared else path_loss(ts[..., :points], noise=noise, **how)
        before = dict(
            horizons=[p for p, *_ in stages[: stage + 1]],
            epochs=[n for _, n, *_ in stages[:stage]],
            rates=[r for _, _, r, _ in stages[: stage + 1]],
        )
        window = held[:, : longest.shape[-1] if shared else points]

        def batches(epoch, key, window=window):
            if size >= paths:
                return [(np.arange(paths), window)]
            # on the host: small programs of jax would each be compiled, and dispatched for every batch
            order = np.random.default_rng(np.asarray(jax.random.key_data(key))).permutation(paths)
            return [(rows, window[rows]) for rows in order[: paths // size * size].reshape(-1, size)]

        learned = fit.train(
            loss,
            learned,
            batches,
            transforms[rate],
            key=jax.random.fold_in(key, stage),
            epochs=count,
            rate=factor,
            attach=(lambda s, end=ts[..., points - 1]: end) if shared else None,
            programs=programs,
            trainable=trainable,
            validate=validate,
            validate_every=max(1, count // 10),
            progress=progress,
            directory=None if directory is None else Path(directory) / f"stage-{stage}",
            identity=run | before,
            diagnose=functools.partial(failure, ts[..., :points], args, solver),
            **options,
        ).model
    return learned


def refine(
    learned: Learned,
    ts: Float[ArrayLike, " times"],
    ys: Float[ArrayLike, "paths times d"],
    *,
    noise: float | Array = 1.0,
    ridge: float = 0.0,
    observe: Callable = lambda y: y,
    args: Callable | None = None,
    free: bool = True,
    missing: bool = False,
    steps: int = 30,
    rtol: float = 1e-5,
    damping: float = 1e-3,
    matrix_free: bool = False,
    solver: dict | None = None,
) -> Learned:
    """Finish by Levenberg–Marquardt: a few hundred parameters reach the bottom in tens of steps, where Adam crawls.

        ½ Σ ‖(h(y(tₖ)) − yₖ)/σ‖² + ½ ridge² ‖θ‖²

    The solver is `fit.least_squares`. The Jacobian is formed by tangents of the path, as many as there are parameters,
    batched; `matrix_free` solves by conjugate gradients with one tangent and one adjoint of the path per iteration.

    Args:
        learned: what `learn` returned.
        ts: common times, [times].
        ys: readings, [paths, times, d].
        noise: σ.
        ridge: 1/standard deviation of a Gaussian prior on the field's parameters around zero.
        observe: state ↦ reading.
        args: row ↦ args of the field.
        free: whether the starts move as well.
        missing: NaN readings are allowed and left out.
        steps: at most.
        rtol: relative decrease of the energy at which it stops.
        damping: initial; 0 is Gauss–Newton, damped only after a step fails.
        matrix_free: never form the Jacobian: for more than a few thousand parameters.
        solver: options of `path.solve`.
    """
    refuse_nan(ys, missing)
    ys, ts, rows = jnp.asarray(ys), jnp.asarray(ts), jnp.arange(len(ys))
    marks = Learned(jax.tree.map(eqx.is_inexact_array, learned.field), jax.tree.map(lambda _: free, learned.starts))
    params, static = eqx.partition(learned, marks)

    def residual(params):
        model = eqx.combine(params, static)

        def one(row, start, y):
            run = solve(model.field, start, ts, None if args is None else args(row), **(solver or {}))
            return Observations(lambda s: s, y, noise, observe).residual(run)

        prior = jax.tree.map(lambda w: ridge * w, params.field) if ridge else None
        return jax.vmap(one)(rows, model.starts, ys), prior

    best = levenberg_marquardt(
        Misfit(residual), params, iterations=steps, tolerance=rtol, damping=damping, matrix_free=matrix_free
    ).value
    return eqx.combine(best, static)


def shooting(
    ts: Float[ArrayLike, " times"],
    data: PyTree,
    noise,
    *,
    every: int,
    slack,
    observe: Callable = lambda y: y,
    solver=None,
):
    """Multiple shooting as one misfit of (field, nodes): data along short pieces, continuity between them.

        E(θ, z) = ½ Σ ‖(h(y) − yₖ)/σ‖² + ½ Σᵢ ‖(zᵢ₊₁ − y(tᵢ₊₁; zᵢ))/slack‖²

    Weak 4D-Var with the law itself unknown; nodes are free, so unobserved components are welcome.

    Args:
        ts: times, [times], times − 1 a multiple of `every`.
        data: readings, [times, …]; NaN is left out.
        noise: σ.
        every: points per piece.
        slack: how exactly pieces must join; lower it in stages.
        observe: state ↦ reading.
        solver: options of `path.solve`.

    Returns:
        residual((field, nodes)) for `energy.Misfit` or a loss; nodes has (times − 1)/every rows.
    """
    pieces, rest = divmod(len(ts) - 1, every)
    if rest or pieces < 1:
        raise ValueError(f"shooting: {len(ts) - 1} intervals are not a multiple of every={every}.")
    ts, data = jnp.asarray(ts), jax.tree.map(jnp.asarray, data)
    windows = jnp.stack([ts[i * every : (i + 1) * every + 1] for i in range(pieces)])
    parts = jax.tree.map(lambda v: jnp.stack([v[i * every : (i + 1) * every + 1] for i in range(pieces)]), data)
    # a point at a joint is read once, by the piece that starts there
    parts = jax.tree.map(lambda v: v.at[:-1, -1].set(jnp.nan), parts)

    def residual(unknown):
        field, nodes = unknown
        run = jax.vmap(lambda z, t: solve(field, z, t, **(solver or {})))(nodes, windows)
        seen = jax.vmap(lambda ys, y: Observations(lambda s: s, y, noise, observe).residual(ys))(run, parts)
        ends = jax.tree.map(lambda v: v[:, -1], run)
        joints = ModelError(lambda z, end: end, slack, jax.tree.map(lambda v: v[:-1], ends)).residual(nodes)
        return seen, joints

    return residual
