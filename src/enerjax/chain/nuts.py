"""The no-U-turn sampler as a state machine: begin a trajectory, sprout a sub-tree, add a leaf, merge, and so on.

The gradient is called in one place only, in `leaf`; so it is compiled once, and chains that are vectorised each advance
their own tree (`program.py`). Every operation is on flat vectors, and the tree needs O(depth) memory.

A sub-tree of 2^k leaves is grown leaf by leaf. The criterion of every balanced sub-tree inside it must hold: with w the
whitened momenta, ρ = Σw over the sub-tree, ρ·w > 0 at both ends, and, for its two halves, the same for ρ of one half
plus the nearest leaf of the other. Leaf n closes the sub-trees of size 2, 4, … 2^t, t the number of trailing ones of n;
slot popcount(n) of the checkpoints holds the last leaf n with that popcount, so all the starts needed are in the slots
popcount(n)−t … popcount(n)−1, and all the criteria are two small matrix-vector products.

M. D. Hoffman and A. Gelman, JMLR 15, 1593 (2014); M. Betancourt, arXiv:1701.02434 (2017), appendix A; D. Phan et al.,
arXiv:1912.11554 (2019), section on the iterative algorithm; the criterion across halves is Stan's (stan-dev/stan#2800).
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Bool, Int, UInt32

from .._array import Array, Energy, Float, Scalar
from ..flow.phase import Phase
from .failure import DIVERGED, NO_FORCE, decode
from .metric import AbstractMetric


class Point(eqx.Module):
    """A position with its energy and force."""

    position: Float[Array, " d"]
    force: Float[Array, " d"]
    energy: Scalar


class Tree(eqx.Module):
    """A trajectory while it grows. Whitened momenta carry the name w."""

    # the tree so far
    left: Phase
    right: Phase
    left_w: Float[Array, " d"]
    right_w: Float[Array, " d"]
    rho: Float[Array, " d"]
    weight: Scalar  # log Σ e^(H₀−H)
    draw: Point
    depth: Int[Array, ""]
    # the sub-tree that is growing
    z: Phase
    w: Float[Array, " d"]
    sign: Scalar
    leaves: Int[Array, ""]
    sub_rho: Float[Array, " d"]
    sub_weight: Scalar
    candidate: Point
    starts: Float[Array, "4 slots d"]  # w of the checkpoint leaf, w of the leaf before it; Σw before each of the two
    offsets: Float[Array, "2 slots"]  # scalar products of the above, so that later criteria are linear in Σw
    halves: Float[Array, " slots"]  # criterion of the left half with the first leaf of the right half
    # what happened
    start: Scalar  # H₀
    steps: Int[Array, ""]
    acceptance: Scalar  # Σ min(1, e^(H₀−H))
    symmetric: Scalar  # Σ 2 min(1, e^(H₀−H)) / (1 + e^(H₀−H))
    turned: Bool[Array, ""]
    why: Int[Array, ""]  # 0, or the reason for which the last leaf was refused (`failure.py`)
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
    z = Phase(point.position, p, point.force, point.energy)
    zero, d = jnp.zeros_like(point.energy), noise.shape[0]
    whole = jnp.zeros((), jnp.int32)
    slots = max_depth + 1
    return Tree(
        left=z, right=z, left_w=noise, right_w=noise, rho=noise, weight=zero, draw=point, depth=whole,
        z=z, w=noise, sign=zero, leaves=whole, sub_rho=noise, sub_weight=zero, candidate=point,
        starts=jnp.zeros((4, slots, d), noise.dtype), offsets=jnp.zeros((2, slots), noise.dtype),
        halves=jnp.zeros((slots,), noise.dtype),
        start=point.energy + 0.5 * jnp.vdot(noise, noise), steps=whole, acceptance=zero, symmetric=zero,
        turned=jnp.array(False), why=whole, seed=seed,
    )  # fmt: skip


def _replace(tree: Tree, **changes) -> Tree:
    """The tree with some of its fields changed."""
    fields = {name: getattr(tree, name) for name in tree.__dataclass_fields__}
    return Tree(**(fields | changes))


def sprout(t: Tree) -> Tree:
    """Choose a direction of time and start a sub-tree as large as the tree at that end."""
    forward = _uniform(t.seed, t.depth + 2**30, t.weight.dtype) < 0.5
    pick = lambda right, left: jax.tree.map(lambda r, l: jnp.where(forward, r, l), right, left)
    return _replace(
        t,
        z=pick(t.right, t.left),
        w=pick(t.right_w, t.left_w),
        sign=jnp.where(forward, 1.0, -1.0).astype(t.weight.dtype),
        leaves=jnp.zeros_like(t.leaves),
        sub_rho=jnp.zeros_like(t.sub_rho),
        sub_weight=jnp.full_like(t.sub_weight, -jnp.inf),
    )


def growing(t: Tree) -> Bool[Array, ""]:
    """True while the sub-tree needs more leaves."""
    return (t.leaves < (1 << t.depth)) & ~t.turned & (t.why == 0)


def alive(t: Tree, max_depth) -> Bool[Array, ""]:
    """True while the tree may double."""
    return (t.depth < max_depth) & ~t.turned & (t.why == 0)


def leaf(energy: Energy, integrator, t: Tree, step_size, metric: AbstractMetric, max_error: float) -> Tree:
    """One leapfrog step, its weight, and the criteria of all the sub-trees that it closes. The only gradient."""
    z = integrator(energy, t.z, t.sign * step_size, metric)
    w = metric.whiten(z.momentum)
    gain = t.start - (z.energy + 0.5 * jnp.vdot(w, w))  # H₀ − H
    why = decode(z.energy)
    why = jnp.where((why == 0) & ~jnp.isfinite(gain), NO_FORCE, why)
    why = jnp.where((why == 0) & (gain < -max_error), DIVERGED, why)
    gain = jnp.where(why == 0, gain, -jnp.inf)

    # a leaf of the sub-tree with probability proportional to its weight
    weight = jnp.logaddexp(t.sub_weight, gain)
    take = jnp.log(_uniform(t.seed, t.steps, gain.dtype)) < gain - weight
    keep = lambda new, old: jnp.where(take, new, old)
    candidate = Point(
        keep(z.position, t.candidate.position), keep(z.force, t.candidate.force), keep(z.energy, t.candidate.energy)
    )

    # U-turns
    n = t.leaves
    slot = jax.lax.population_count(n)
    before, rho = t.sub_rho, t.sub_rho + w
    closed = jax.lax.population_count(n ^ (n + 1)) - 1  # trailing ones
    reach = jnp.sum(t.starts[:2] * rho, axis=-1) - t.offsets  # Σw from checkpoint to here, times w there
    here = jnp.vdot(rho, w) - jnp.sum(t.starts[2:] * w, axis=-1)  # … times w here
    bend = jnp.minimum(reach, here)
    k = jnp.arange(bend.shape[1])
    ends = (k >= slot - closed) & (k < slot)
    inner = (k >= slot - closed) & (k < slot - 1)
    outer = (k > slot - closed) & (k < slot)
    bad = (ends & (bend[0] <= 0)) | (inner & (t.halves <= 0)) | (outer & (bend[1] <= 0))
    turned = jnp.any(bad)

    first = before - t.w  # Σw before the previous leaf
    row = jnp.stack([w, t.w, before, first])
    scalars = jnp.stack([jnp.vdot(before, w), jnp.vdot(first, t.w)])
    accepted = jnp.exp(jnp.minimum(gain, 0.0))
    return _replace(
        t,
        z=z,
        w=w,
        leaves=n + 1,
        sub_rho=rho,
        sub_weight=weight,
        candidate=candidate,
        starts=jax.lax.dynamic_update_index_in_dim(t.starts, row, slot, 1),
        offsets=jax.lax.dynamic_update_index_in_dim(t.offsets, scalars, slot, 1),
        halves=jnp.where(k == slot - 1, bend[0], t.halves),
        steps=t.steps + 1,
        acceptance=t.acceptance + accepted,
        symmetric=t.symmetric + 2 * accepted / (1 + jnp.exp(gain)),
        turned=turned,
        why=why,
    )


def merge(t: Tree) -> Tree:
    """Join the finished sub-tree to the tree: choose between their draws, check the criterion of the whole."""
    whole = ~t.turned & (t.why == 0)
    u = _uniform(t.seed, t.depth + 2**30 + 2**20, t.weight.dtype)
    take = whole & (jnp.log(u) < t.sub_weight - t.weight)  # biased towards the new half
    draw = jax.tree.map(lambda new, old: jnp.where(take, new, old), t.candidate, t.draw)
    forward = t.sign > 0
    pick = lambda a, b: jax.tree.map(lambda a, b: jnp.where(forward, a, b), a, b)
    far, near, first, rho = pick(t.left_w, t.right_w), pick(t.right_w, t.left_w), t.starts[0, 0], t.rho + t.sub_rho
    left, right = t.rho + first, t.sub_rho + near
    dots = [(rho, far), (rho, t.w), (left, far), (left, first), (right, near), (right, t.w)]
    turned = jnp.any(jnp.stack([jnp.vdot(a, b) for a, b in dots]) <= 0)
    return _replace(
        t,
        draw=draw,
        left=pick(t.left, t.z),
        right=pick(t.z, t.right),
        left_w=pick(t.left_w, t.w),
        right_w=pick(t.w, t.right_w),
        rho=rho,
        weight=jnp.logaddexp(t.weight, t.sub_weight),
        depth=t.depth + 1,
        turned=t.turned | turned,
    )
