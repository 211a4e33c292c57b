"""A path that was followed: its states, how it went, in words as well, and the states in between."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from .._array import Array, PyTree
from . import march as _march

REASONS = {
    _march.ARRIVED: "arrived",
    _march.OUT_OF_STEPS: "the step limit was reached: raise max_steps, loosen rtol/atol, or use an implicit solver",
    _march.UNDERFLOW: "the step size underflowed: the field is singular, stiff or returns NaN there",
    _march.BAD_START: "the initial state or the field there is not finite",
    _march.BAD_TIMES: "the times do not increase",
}


class Solution(eqx.Module):
    """A path, and how it went.

    Attributes:
        ts: the times asked for.
        ys: the states there, leading axis of size len(ts). NaN from the time of a failure on, never a wrong number.
        code: 0 when the path arrived; `reason` says what the others mean.
        steps: accepted steps.
        stopped_at: the last time reached.
        state: the state there.
        dense: state at any time in between: of `Replay` always, of diffrax's adjoints when asked for; None for fixed
            steps. NaN outside the path.
    """

    ts: Array
    ys: PyTree
    code: Array
    steps: Array
    stopped_at: Array
    state: PyTree
    dense: Callable | None

    @property
    def reason(self) -> str:
        """What happened, in words, with time and state; for concrete (not traced) solutions."""
        codes = np.atleast_1d(np.asarray(self.code))
        worst = int(np.argmax(codes != 0))
        code = int(codes.ravel()[worst])
        if code == 0:
            return "arrived"
        pick = lambda v, rank: np.asarray(v).reshape(-1, *np.shape(v)[np.ndim(v) - rank :])[worst]
        at = pick(self.stopped_at, 0)
        rank = np.ndim(self.code)
        state = jax.tree.map(
            lambda v: np.asarray(v) if rank == 0 else np.asarray(v)[np.unravel_index(worst, np.shape(self.code))],
            self.state,
        )
        where = "" if rank == 0 else f" (trajectory {worst} of {codes.size}, {int((codes != 0).sum())} failed)"
        text = REASONS.get(code, f"diffrax: {code}")
        return f"stopped at t = {float(at):.6g}, y = {_short(state)}{where}: {text}"


def _short(state) -> str:
    leaves = [np.array2string(np.asarray(v), precision=4, threshold=6, edgeitems=3) for v in jax.tree.leaves(state)]
    return " ".join(", ".join(leaves).split())


class Dense(eqx.Module):
    """The state at any time, by the solver's own interpolation inside the accepted steps."""

    t: Array
    h: Array
    y: Array
    k: Array
    latest: Array  # the last row of the path; under vmap those between may be idle, of length zero
    code: Array
    reached: Array
    b: tuple[float, ...] = eqx.field(static=True)
    interpolation: Callable = eqx.field(static=True)
    unravel: Callable = eqx.field(static=True)

    def inside(self, i, time) -> PyTree:
        """The state at `time`, which lies in step i."""
        h, dtype = self.h[i], self.y.dtype
        hk = h.astype(dtype) * self.k[i]
        s = ((time - self.t[i]) / jnp.where(h > 0, h, 1.0)).astype(dtype)
        end = self.y[i] + jnp.asarray(self.b, dtype) @ hk
        state = self.interpolation(t0=0.0, t1=1.0, y0=self.y[i], y1=end, k=hk).evaluate(s)
        fine = (time <= self.reached) & (self.code != _march.BAD_START)
        return self.unravel(state * jnp.where(fine, 1.0, jnp.nan).astype(dtype))  # a NaN for the gradient as well

    def __call__(self, time) -> PyTree:
        """The state at `time`; NaN outside the path."""
        time = jnp.asarray(time, self.t.dtype)
        ends = jnp.where(jnp.arange(len(self.t)) <= self.latest, self.t + self.h, jnp.inf)
        i = jnp.clip(jnp.searchsorted(ends, time), 0, self.latest)
        return self.inside(i, jnp.where(time >= self.t[0], time, jnp.nan))


class Between(eqx.Module):
    """The state at any time of a path that diffrax followed."""

    interpolation: Any
    start: Array
    reached: Array

    def __call__(self, time) -> PyTree:
        """The state at `time`; NaN outside the path."""
        fine = (time >= self.start) & (time <= self.reached)
        state = self.interpolation.evaluate(jnp.clip(time, self.start, self.reached))
        return jax.tree.map(lambda v: v * jnp.where(fine, 1.0, jnp.nan).astype(v.dtype), state)


def outcome(solution: Solution) -> Solution:
    """The codes, times and states of all trajectories at once, where vmap shows one of them: for reports.

    Traced as well where the solution is traced by `jit`; concrete under an eager vmap, or grad.
    """
    leaves, structure = jax.tree.flatten((solution.code, solution.steps, solution.stopped_at, solution.state))
    code, steps, stopped_at, state = jax.tree.unflatten(structure, _lanes_p.bind(*leaves))
    return Solution(solution.ts, None, code, steps, stopped_at, state, None)


_lanes_p = Primitive("lanes")  # values ↦ the same with the lanes of every vmap around in front, which leaves no lane
_lanes_p.multiple_results = True
_lanes_p.def_impl(lambda *values: list(values))
_lanes_p.def_abstract_eval(lambda *values: [ShapedArray(v.shape, v.dtype) for v in values])
mlir.register_lowering(_lanes_p, mlir.lower_fun(lambda *values: list(values), multiple_results=True))


def _lanes_jvp(primals, tangents):
    out = _lanes_p.bind(*primals)
    return out, [ad.Zero(jax.typeof(v).to_tangent_aval()) for v in out]


def _lanes_batch(values, dims):
    size = next(v.shape[d] for v, d in zip(values, dims, strict=True) if d is not None)
    wide = [
        jnp.broadcast_to(v, (size, *jnp.shape(v))) if d is None else jnp.moveaxis(v, d, 0)
        for v, d in zip(values, dims, strict=True)
    ]
    out = _lanes_p.bind(*wide)
    return out, [None] * len(out)


ad.primitive_jvps[_lanes_p] = _lanes_jvp
batching.primitive_batchers[_lanes_p] = _lanes_batch
