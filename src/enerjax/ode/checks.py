"""Whether what a law is learned from fits together: times, readings, starts and field; and why a path failed."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from .._array import Array, PyTree
from ..path import Solution, integrate


def refuse_times(ts) -> None:
    """ValueError if times of each path are known and do not increase; common ones are checked by `path.solve`."""
    if np.ndim(ts) not in (1, 2):
        raise ValueError(f"learn: ts must be [times] or [paths, times], not of shape {np.shape(ts)}.")
    if np.ndim(ts) == 2 and not isinstance(ts, Tracer):
        back = np.any(np.diff(np.asarray(ts, float), axis=1) <= 0, axis=1)
        if np.any(back):
            raise ValueError(f"learn: the times of path {int(np.argmax(back))} do not increase.")


def starts_of(field, ts: Array, ys: Array, starts: PyTree, free: bool, observe: Callable, args) -> PyTree:
    """The initial states [paths, …]: those given, or the first readings, found to be what field and `observe` take.

    Raises:
        ValueError: naming what does not fit.
    """
    if ys.shape[:1] == ts.shape and ys.shape[1:2] != ts.shape[-1:]:
        raise ValueError(f"learn: ys of shape {ys.shape} is one path, [times, …]; ys[None] makes it [paths, times, …].")
    if ys.shape[1:2] != ts.shape[-1:] or (ts.ndim == 2 and ts.shape[0] != ys.shape[0]):
        raise ValueError(
            f"learn: ts of shape {ts.shape} are not the times of ys of shape {ys.shape}, [paths, times, …]: ts is "
            f"[times], or [paths, times]."
        )
    first = _first_readings(ys, free) if starts is None else starts
    for v in jax.tree.leaves(first):
        if jnp.shape(v)[:1] != ys.shape[:1]:
            raise ValueError(f"learn: starts of shape {jnp.shape(v)} are not one for each of {ys.shape[0]} paths.")
    y0 = jax.tree.map(lambda v: v[0], first)
    t0 = jnp.ravel(ts)[0]
    shape = lambda x: (jax.tree.structure(x), [jnp.shape(v) for v in jax.tree.leaves(x)])
    hint = (
        "" if starts is not None else " Readings that are not states need starts=[paths, …] and observe=; where the "
        "state is (q, p) and readings are [q, p]: starts=(q0, p0), observe=jnp.concatenate."
    )  # fmt: skip
    try:
        rate = eqx.filter_eval_shape(lambda row, y: field(t0, y, None if args is None else args(row)), 0, y0)
    except (TypeError, ValueError, IndexError) as error:
        raise ValueError(f"learn: the field fails on a start of shape {shape(y0)[1]}: {error}.{hint}") from error
    if shape(rate) != shape(y0):
        raise ValueError(f"learn: the field returns {shape(rate)}, its state is {shape(y0)}; they must agree.{hint}")
    seen = eqx.filter_eval_shape(observe, y0)
    if shape(seen) != shape(ys[0, 0]):
        raise ValueError(f"learn: observe(state) is {shape(seen)[1]}, a reading is {ys.shape[2:]}.{hint}")
    return first


def _first_readings(ys: Array, free: bool) -> Array:
    """ys[:, 0], and where that is NaN the component's first reading that is not."""
    there = np.isfinite(np.asarray(ys))
    if there[:, 0].all():
        return ys[:, 0]
    if not free:
        raise ValueError("learn: a first reading is missing and free=False; give starts=[paths, …].")
    if not there.any(axis=1).all():
        path, *which = np.argwhere(~there.any(axis=1))[0].tolist()
        raise ValueError(f"learn: path {path} has no reading of component {which}; give starts=[paths, …].")
    return jnp.take_along_axis(ys, jnp.asarray(there.argmax(axis=1))[:, None], axis=1)[:, 0]


def failure(ts: Array, args, solver: dict | None, learned, batch) -> str | None:
    """Which path of a batch (rows, data) fails under the law, when and why; None if all arrive.

    Args:
        ts: times, [times] or [paths, times].
        args: row ↦ args of the field, or None.
        solver: options of `path.solve`.
        learned: a field and starts.
        batch: rows and readings.
    """
    rows = jnp.asarray(batch[0])
    options = {k: v for k, v in (solver or {}).items() if k != "throw"}

    @eqx.filter_jit
    def run(learned):
        def one(row, start, times):
            path = integrate(learned.field, start, times, None if args is None else args(row), **options)
            return path.code, path.steps, path.stopped_at, path.state

        return jax.vmap(one, (0, 0, None if ts.ndim == 1 else 0))(
            rows, jax.tree.map(lambda v: v[rows], learned.starts), ts if ts.ndim == 1 else ts[rows]
        )

    found = Solution(ts, None, *run(learned), None)
    if not np.any(np.asarray(found.code)):
        return None
    return f"the law's path {found.reason} (options go in solver=dict(…))"
