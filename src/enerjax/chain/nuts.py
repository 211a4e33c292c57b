"""The no-U-turn sampler as a state machine: begin a trajectory, sprout a sub-tree, add a leaf, merge, and so on.

The gradient is called in one place only, in `leaf`; so it is compiled once, and chains that are vectorised each advance
their own tree (`program.py`). Every operation is on flat vectors, and the tree needs O(depth) memory.

A sub-tree of 2^k leaves is grown leaf by leaf. The criterion of every balanced sub-tree inside it must hold: with w the
whitened momenta, ρ = Σw over the sub-tree, ρ·w > 0 at both ends, and, for its two halves, the same for ρ of one half
plus the nearest leaf of the other. Leaf n closes the sub-trees of size 2, 4, … 2^t, t the number of trailing ones of n;
slot popcount(n) of the checkpoints holds the last leaf n with that popcount, so all the starts needed are in the slots
popcount(n)−t … popcount(n)−1, and all the criteria are two small matrix-vector products.

Small models spend their time in starting kernels, not in arithmetic; so vectors that change together are rows of one
array, and scalars that change together are entries of one vector.

M. D. Hoffman and A. Gelman, JMLR 15, 1593 (2014); M. Betancourt, arXiv:1701.02434 (2017), appendix A; D. Phan et al.,
arXiv:1912.11554 (2019), section on the iterative algorithm; the criterion across halves is Stan's (stan-dev/stan#2800).
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Int, UInt32

from .._array import Array, Energy, Float, Scalar
from ..flow.phase import Phase
from .failure import DIVERGED, NO_FORCE, decode
from .metric import AbstractMetric

Level = int | Int[Array, ""]  # of a tree of 2^level leaves


class Point(NamedTuple):
    """A position with its energy and force.

    Attributes:
        rows: position and force.
        energy: E.
    """

    rows: Float[Array, "2 d"]
    energy: Scalar

    @property
    def position(self) -> Array:
        """q."""
        return self.rows[0]

    @property
    def force(self) -> Array:
        """−∇E(q)."""
        return self.rows[1]


class Tree(NamedTuple):
    """A trajectory while it grows. Whitened momenta carry the name w; the direction of time is 0 (back) or 1 (on)."""

    # the tree so far
    ends: Float[Array, "2 4 d"]  # position, momentum, force and w at the backward and the forward end
    end_energies: Float[Array, " 2"]
    rho: Float[Array, " d"]  # Σ w
    weight: Scalar  # log Σ e^(H₀−H)
    draw: Point
    depth: Int[Array, ""]
    # the sub-tree that is growing
    direction: Int[Array, ""]
    z: Phase
    w: Float[Array, " d"]
    sub_rho: Float[Array, " d"]
    candidate: Float[Array, "2 d"]
    heads: Float[Array, "two_slots d"]  # row 2k: w of the checkpoint leaf in slot k; row 2k+1: w of the leaf before it
    sums: Float[Array, "two_slots d"]  # Σw before each of these leaves
    scalars: Float[Array, "slots 3"]  # Σw·w of these two; the criterion of the sub-tree that the left half began, here
    # what happened
    start: Scalar  # H₀
    tally: Float[Array, " 5"]  # log-weight, energy of the candidate, last Σw·w, Σ acceptance, Σ symmetric acceptance
    count: Int[
        Array, " 4"
    ]  # leaves of the sub-tree, steps of the tree, whether it turned, why the last leaf was refused
    seed: UInt32[Array, " 2"]


def _uniform(seed: UInt32[Array, " 2"], counter, dtype) -> Scalar:
    """A number in (0, 1) from a counter: two rounds of a 32-bit mixing function, a handful of integer operations.

    The seed comes from threefry once per draw; a threefry call per leaf would cost more than a small model's gradient.
    Mixing constants: C. Wellons, Prospecting for hash functions (2018), `lowbias32`.
    """

    def mix(x):
        x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
        x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
        return x ^ (x >> 16)

    x = mix(seed[0] + jnp.asarray(counter).astype(jnp.uint32) * jnp.uint32(0x9E3779B9))
    return ((mix(x ^ seed[1]) >> 8).astype(dtype) + 0.5) * 2.0**-24


def begin(point: Point, noise: Float[Array, " d"], seed, metric: AbstractMetric, max_depth: int) -> Tree:
    """A tree of one leaf: the present point with the momentum M^½ ξ."""
    p = metric.momentum(noise)
    end = jnp.stack([point.position, p, point.force, noise])
    zero, d, dtype = jnp.zeros_like(point.energy), noise.shape[0], noise.dtype
    whole = jnp.zeros((), jnp.int32)
    slots = max_depth + 1
    return Tree(
        ends=jnp.stack([end, end]), end_energies=jnp.stack([point.energy, point.energy]), rho=noise, weight=zero,
        draw=point, depth=whole, direction=whole, z=Phase(point.position, p, point.force, point.energy), w=noise,
        sub_rho=noise, candidate=point.rows, heads=jnp.zeros((2 * slots, d), dtype),
        sums=jnp.zeros((2 * slots, d), dtype), scalars=jnp.zeros((slots, 3), dtype),
        start=point.energy + 0.5 * jnp.sum(noise * noise),
        tally=jnp.zeros((5,), dtype), count=jnp.zeros((4,), jnp.int32), seed=seed,
    )  # fmt: skip


def _row(x: Array, i) -> Array:
    return jax.lax.dynamic_index_in_dim(x, i, 0, keepdims=False)


def sprout(t: Tree) -> Tree:
    """Choose a direction of time and start a sub-tree as large as the tree at that end."""
    direction = (_uniform(t.seed, t.depth + 2**30, t.weight.dtype) < 0.5).astype(jnp.int32)
    end = _row(t.ends, direction)
    return t._replace(
        direction=direction,
        z=Phase(end[0], end[1], end[2], _row(t.end_energies, direction)),
        w=end[3],
        sub_rho=jnp.zeros_like(t.sub_rho),
        tally=t.tally.at[0].set(-jnp.inf),
        count=t.count.at[0].set(0),
    )


def growing(t: Tree) -> Bool[Array, ""]:
    """True while the sub-tree needs more leaves."""
    leaves, _, turned, why = t.count
    return (leaves < (1 << t.depth)) & (turned + why == 0)


def alive(t: Tree, max_depth) -> Bool[Array, ""]:
    """True while the tree may double."""
    _, _, turned, why = t.count
    return (t.depth < max_depth) & (turned + why == 0)


def leaf(
    energy: Energy, integrator, t: Tree, step_size, metric: AbstractMetric, max_error: float, floor: Level = 0
) -> Tree:
    """One leapfrog step, its weight, and the criteria of all the sub-trees that it closes. The only gradient.

    Sub-trees of fewer than 2^floor leaves are not asked (`reach`).
    """
    sub_weight, chosen, dot_before, accepted, symmetric = t.tally
    n, steps, _, _ = t.count
    z = integrator(energy, t.z, (2 * t.direction - 1) * step_size, metric)
    w = metric.whiten(z.momentum)
    before, rho = t.sub_rho, t.sub_rho + w
    square, dot = jnp.vdot(w, w), jnp.vdot(before, w)

    gain = t.start - (z.energy + 0.5 * square)  # H₀ − H
    why = decode(z.energy)
    why = jnp.where((why == 0) & ~jnp.isfinite(gain), NO_FORCE, why)
    why = jnp.where((why == 0) & (gain < -max_error), DIVERGED, why)
    gain = jnp.where(why == 0, gain, -jnp.inf)

    # a leaf of the sub-tree with probability proportional to its weight
    weight = jnp.logaddexp(sub_weight, gain)
    take = jnp.log(_uniform(t.seed, steps, gain.dtype)) < gain - weight
    candidate = jnp.where(take, jnp.stack([z.position, z.force]), t.candidate)

    # U-turns: Σw from each checkpoint to here, times w there and w here
    slot = jax.lax.population_count(n)
    closed = jax.lax.population_count(n ^ (n + 1)) - 1  # trailing ones
    reach = (t.heads @ rho).reshape(-1, 2) - t.scalars[:, :2]
    here = square + dot - (t.sums @ w).reshape(-1, 2)
    bend = jnp.minimum(reach, here)
    k = jnp.arange(bend.shape[0], dtype=n.dtype)
    # slot − j began the sub-tree of 2^j leaves that ends here, and is the right half of one of 2^(j+1)
    ends = (k >= slot - closed) & (k <= slot - jnp.maximum(floor, 1))
    inner = (k > slot - closed) & (k < slot - jnp.maximum(floor, 2) + 2)
    turned = jnp.any((ends & (bend[:, 0] <= 0)) | (inner & ((t.scalars[:, 2] <= 0) | (bend[:, 1] <= 0))))

    # write after reading, or XLA copies the checkpoints: make the place depend on what was read
    place = slot + (jnp.max(bend) > jnp.inf)
    put = lambda x, new, i: jax.lax.dynamic_update_slice_in_dim(x, new, i, 0)
    half = jnp.sum(jnp.where(k == slot - 1, bend[:, 0], 0.0))
    accept = jnp.exp(jnp.minimum(gain, 0.0))
    return t._replace(
        z=z,
        w=w,
        sub_rho=rho,
        candidate=candidate,
        heads=put(t.heads, jnp.stack([w, t.w]), 2 * place),
        sums=put(t.sums, jnp.stack([before, before - t.w]), 2 * place),
        scalars=put(t.scalars, jnp.stack([dot, dot_before, half])[None], place),
        tally=jnp.stack(
            [
                weight,
                jnp.where(take, z.energy, chosen),
                dot,
                accepted + accept,
                symmetric + 2 * accept / (1 + jnp.exp(gain)),
            ]
        ),
        count=jnp.stack([n + 1, steps + 1, turned.astype(n.dtype), why.astype(n.dtype)]),
    )


def merge(t: Tree, floor: Level = 0) -> Tree:
    """Join the finished sub-tree to the tree: choose between their draws, check the criterion of the whole."""
    sub_weight, chosen, *_ = t.tally
    turned, why = t.count[2], t.count[3]
    u = _uniform(t.seed, t.depth + 2**30 + 2**20, t.weight.dtype)
    take = (turned + why == 0) & (jnp.log(u) < sub_weight - t.weight)  # biased towards the new half
    draw = Point(jnp.where(take, t.candidate, t.draw.rows), jnp.where(take, chosen, t.draw.energy))
    far, near = _row(t.ends, 1 - t.direction)[3], _row(t.ends, t.direction)[3]
    first, rho = t.heads[0], t.rho + t.sub_rho
    left, right = t.rho + first, t.sub_rho + near
    pairs = ((rho, far), (rho, t.w), (left, far), (left, first), (right, near), (right, t.w))
    bent = functools.reduce(jnp.logical_or, [jnp.vdot(a, b) <= 0 for a, b in pairs]) & (t.depth + 1 >= floor)
    end = jnp.stack([t.z.position, t.z.momentum, t.z.force, t.w])
    put = lambda x, new: jax.lax.dynamic_update_index_in_dim(x, new, t.direction, 0)
    return t._replace(
        draw=draw,
        ends=put(t.ends, end),
        end_energies=put(t.end_energies, t.z.energy),
        rho=rho,
        weight=jnp.logaddexp(t.weight, sub_weight),
        depth=t.depth + 1,
        count=t.count.at[2].max(bent.astype(t.count.dtype)),
    )
