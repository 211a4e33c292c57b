"""The one compiled program of `sample`: n draws of NUTS with dual averaging, for warm-up and for sampling alike.

Everything that changes between warm-up and sampling is an argument: the metric, the number of draws, the depth, whether
the step size adapts. A mere evaluation of the energy is a tree of one leaf with step size zero, so that the user's
gradient is compiled once in all.

Two drivers run the same pieces. `alone`: one chain, loops within loops, nothing computed in vain; chains run in
threads. `together`: all chains vectorised, one loop, in every turn of which each chain adds a leaf of its own tree and
merges or begins anew when it is due; no chain waits for another.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Int

from .. import _tree as tree
from .._array import Array, Energy, Float, Scalar
from .metric import AbstractMetric
from .nuts import Point, Tree, alive, begin, growing, leaf, merge, sprout

Number = Float[Array | np.ndarray, ""]
STATS = ("energy", "potential", "acceptance", "symmetric", "step_size", "steps", "depth", "why")


class Tuning(NamedTuple):
    """Dual averaging of log ε. Y. Nesterov, Math. Program. 120, 221 (2009); Hoffman and Gelman (2014), section 3.2."""

    log_step: Scalar
    average: Scalar
    error: Scalar
    centre: Scalar
    count: Scalar

    @classmethod
    def at(cls, step_size: float, dtype) -> "Tuning":
        """A fresh start at a step size, biased towards larger ones."""
        log = np.log(step_size)
        return cls(*(np.asarray(x, dtype) for x in (log, log, 0.0, log + np.log(10.0), 1.0)))

    def update(self, acceptance, target) -> "Tuning":
        """One observation of the acceptance. γ = 0.05, t₀ = 10, κ = 0.75."""
        weight = 1 / (self.count + 10)
        error = (1 - weight) * self.error + weight * (target - acceptance)
        log_step = self.centre - error * jnp.sqrt(self.count) / 0.05
        fresh = self.count**-0.75
        return Tuning(log_step, fresh * log_step + (1 - fresh) * self.average, error, self.centre, self.count + 1)


class Chain(NamedTuple):
    """Where a chain is: all it needs to go on."""

    point: Point
    tuning: Tuning
    index: Int[Array, ""]  # draws so far: the counter of the random numbers
    floor: Int[Array, ""]  # trees of fewer than 2^floor leaves are not asked whether they turn (`reach`)


class Plan(NamedTuple):
    """What to do in one call; everything here may change without compiling."""

    draws: Int[Array | np.ndarray, ""]
    max_depth: Int[Array | np.ndarray, ""]
    adapt: Number  # 1: the step size follows the acceptance; 0: it stays
    symmetric: Number  # 1: the acceptance counts energy errors of both signs alike
    target: Number
    fresh: Number  # 1: no motion: draw i is the energy and the force at point i
    points: Float[Array, "rows d"]


class Block(NamedTuple):
    """What a call gives back; rows beyond `plan.draws` are not meant to be read."""

    rows: Float[Array, "block 3 d"]  # the draw, its force, and where the trajectory's last leaf was: where it diverged
    stats: Float[Array, "block stats"]


def noise_of(key, index, d: int, dtype):
    """Momentum noise and seed of draw number `index`: a function of the chain's key data and the number alone.

    One call of the generator serves both, since every call is code to compile. Normal numbers by inversion, from the
    centres of equal cells of (−1, 1).
    """
    key = jr.fold_in(jr.wrap_key_data(key, impl="threefry2x32"), index)
    if dtype == jnp.float64:
        bits = jr.bits(key, (d + 1,), jnp.uint64)
        uniform = ((bits[:d] >> 12).astype(dtype) + 0.5) * 2.0**-51 - 1
        seed = jnp.stack([bits[d], bits[d] >> 32]).astype(jnp.uint32)
    else:  # in single precision also where the parameters are of half
        bits = jr.bits(key, (d + 2,), jnp.uint32)
        uniform, seed = ((bits[:d] >> 9).astype(jnp.float32) + 0.5) * 2.0**-22 - 1, bits[d:]
    return (2**0.5 * jax.lax.erf_inv(uniform)).astype(dtype), seed


def _finish(t: Tree, chain: Chain, plan: Plan, step_size) -> tuple[Chain, Array]:
    """The draw of a finished tree, the tuned step size, the row of statistics."""
    fresh = plan.fresh > 0
    at = lambda new, old: jnp.where(fresh, new, old)
    point = Point(at(jnp.stack([t.z.position, t.z.force]), t.draw.rows), at(t.z.energy, t.draw.energy))
    steps = t.count[1].astype(step_size.dtype)
    acceptance, symmetric = t.tally[3] / steps, t.tally[4] / steps
    observed = jnp.where(plan.symmetric > 0, symmetric, acceptance)
    tuning = tree.where(plan.adapt > 0, chain.tuning.update(observed, plan.target), chain.tuning)
    numbers = (t.start, point.energy, acceptance, symmetric, step_size, steps, t.depth, t.count[3])
    row = jnp.stack([jnp.asarray(x, step_size.dtype) for x in numbers])
    return Chain(point, tuning, chain.index + 1, chain.floor), row


def _step_size(chain: Chain, plan: Plan):
    tuning = chain.tuning
    return jnp.where(plan.fresh > 0, 0.0, jnp.exp(jnp.where(plan.adapt > 0, tuning.log_step, tuning.average)))


def _origin(chain: Chain, plan: Plan, n) -> Point:
    """Where draw n of a call begins: where the chain is, or at the n-th of the plan's points."""
    there = jax.lax.dynamic_index_in_dim(plan.points, n, 0, keepdims=False)
    rows = jnp.where(plan.fresh > 0, jnp.stack([there, jnp.zeros_like(there)]), chain.point.rows)
    return Point(rows, chain.point.energy)


def _write(out: Block, k, t: Tree, point: Point, row) -> Block:
    put = lambda buffer, x: jax.lax.dynamic_update_index_in_dim(buffer, x, k, 0)
    return Block(put(out.rows, jnp.stack([*point.rows, t.z.position])), put(out.stats, row))


def _empty(rows: int, d: int, dtype) -> Block:
    return Block(jnp.zeros((rows, 3, d), dtype), jnp.zeros((rows, len(STATS)), dtype))


def alone(
    energy: Energy, chain: Chain, metric: AbstractMetric, plan: Plan, key, *, integrator, rows, depth, max_error, chunk
) -> tuple[Chain, Block]:
    """`plan.draws` draws of one chain."""
    d, dtype = chain.point.rows.shape[1], chain.point.rows.dtype

    def draw(carry):
        j, n, chain, out, noise, seeds = carry
        step_size = _step_size(chain, plan)
        quiet = jnp.where(plan.fresh > 0, 0.0, 1.0).astype(dtype)
        t = begin(_origin(chain, plan, n), quiet * noise[j], seeds[j], metric, depth)
        grow = lambda t: leaf(energy, integrator, t, step_size, metric, max_error, chain.floor)
        double = lambda t: merge(jax.lax.while_loop(growing, grow, sprout(t)), chain.floor)
        t = jax.lax.while_loop(lambda t: alive(t, plan.max_depth), double, t)
        chain, row = _finish(t, chain, plan, step_size)
        return j + 1, n + 1, chain, _write(out, n, t, chain.point, row), noise, seeds

    def several(carry):
        n, chain, out = carry
        noise, seeds = jax.vmap(lambda i: noise_of(key, chain.index + i, d, dtype))(jnp.arange(chunk))
        inside = lambda c: (c[0] < chunk) & (c[1] < plan.draws)
        _, n, chain, out, *_ = jax.lax.while_loop(inside, draw, (jnp.zeros((), jnp.int32), n, chain, out, noise, seeds))
        return n, chain, out

    start = (jnp.zeros((), jnp.int32), chain, _empty(rows, d, dtype))
    _, chain, out = jax.lax.while_loop(lambda c: c[0] < plan.draws, several, start)
    return chain, out


def together(
    energy: Energy,
    chains: Chain,
    metrics: AbstractMetric,
    plans: Plan,
    keys,
    *,
    integrator,
    rows,
    depth,
    max_error,
    chunk,
    shared=False,
) -> tuple[Chain, Block]:
    """`plan.draws` draws of each of many chains, vectorised; leading axis: chain; a `shared` metric has none."""
    del chunk
    theirs = None if shared else 0
    d, dtype = chains.point.rows.shape[2], chains.point.rows.dtype

    def prepare(chain, metric, plan, key):
        noise, seeds = jax.vmap(lambda i: noise_of(key, chain.index + i, d, dtype))(jnp.arange(rows + 1))
        noise = jnp.where(plan.fresh > 0, 0.0, 1.0).astype(dtype) * noise
        t = sprout(begin(_origin(chain, plan, 0), noise[0], seeds[0], metric, depth))
        return jnp.zeros((), jnp.int32), chain, t, _empty(rows + 1, d, dtype), noise, seeds

    def turn(n, chain, t, out, noise, seeds, metric, plan):
        step_size = _step_size(chain, plan)
        t = leaf(energy, integrator, t, step_size, metric, max_error, chain.floor)
        grown = ~growing(t)
        merged = merge(t, chain.floor)
        ended = grown & ~alive(merged, plan.max_depth)
        running = n < plan.draws
        after, row = _finish(merged, chain, plan, step_size)
        # a row beyond the last serves the turns that end no draw, and the chains that have finished
        out = _write(out, jnp.where(ended & running, n, rows), merged, after.point, row)
        chain = tree.where(ended & running, after, chain)
        n = n + (ended & running)
        new = begin(_origin(chain, plan, n), noise[n], seeds[n], metric, depth)
        keep = {"heads": t.heads, "sums": t.sums, "scalars": t.scalars}  # written before they are read: never reset
        small = lambda t: t._replace(**dict.fromkeys(keep))
        following = tree.where(ended, small(sprout(new)), small(sprout(merged)))
        return n, chain, tree.where(grown, following, small(t))._replace(**keep), out

    def body(carry):
        n, chain, t, out, noise, seeds = carry
        every = jax.vmap(turn, in_axes=(0, 0, 0, 0, 0, 0, theirs, 0))
        n, chain, t, out = every(n, chain, t, out, noise, seeds, metrics, plans)
        return n, chain, t, out, noise, seeds

    carry = jax.vmap(prepare, in_axes=(0, theirs, 0, 0))(chains, metrics, plans, keys)
    _, chains, _, out, _, _ = jax.lax.while_loop(lambda c: jnp.any(c[0] < plans.draws), body, carry)
    return chains, jax.tree.map(lambda x: x[:, :rows], out)
