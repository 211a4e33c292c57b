"""Many short chains in one vectorised program: HMC that learns its step, metric and trajectory length from all of them.

ChEES: trajectories are as long as makes the squared distance from the mean change most per unit of time,

    C(T) = ¼ E[(|q' − μ'|² − |q − μ|²)²] / T,

its gradient along the flow being ½ (|q'−μ'|² − |q−μ|²) ⟨q' − μ', v'⟩. Lengths are jittered by a Halton sequence,
so that all chains take the same number of steps and none waits.

M. D. Hoffman, A. Radul and P. Sountsov, An adaptive-MCMC scheme for setting trajectory lengths in HMC, AISTATS (2021).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Int

from .._array import Array, Energy, Float, Key, PyTree, Scalar
from ..flow import DiagonalMass, Phase, verlet
from .failure import Guarded
from .flat import as_key, check_energy, layout, proposer
from .posterior import constrain
from .summary import Summary, columns, judged, mixing, mixing_advice, tabulate


class Many(NamedTuple):
    """What `sample_many` returns.

    Attributes:
        draws: pytree with leaves [chains, draws, …].
        acceptance: mean acceptance per draw [draws].
        step_size, length: what was learned.
        gradients: evaluations over all chains, warm-up included.
        stats: the energies, `potential` [chains, draws].
        unconstrained: flat draws on the real line, [chains, draws, d].
    """

    draws: PyTree
    acceptance: np.ndarray
    step_size: float
    length: float
    gradients: int
    stats: dict[str, np.ndarray]
    unconstrained: np.ndarray

    def summary(self) -> Summary:
        """Table of all coordinates, worst diagnostics and advice; prints well."""
        every, names = columns(self.draws)
        table, some = tabulate(every, names), judged(every, self.unconstrained)
        worst = mixing(table, some) | {"acceptance": float(self.acceptance.mean()), "gradients": self.gradients}
        return Summary(table, worst, mixing_advice(table, some, len(self.unconstrained)))

    def to_arviz(self, dims: dict[str, list[str]] | None = None, coords: dict[str, Any] | None = None):
        """The draws for ArviZ, as `Posterior.to_arviz`."""
        from .arviz import to_arviz

        return to_arviz(self, dims, coords)


class _Learned(eqx.Module):
    """Adaptation state, shared by all chains."""

    scale: Float[Array, " d"]
    log_step: Scalar
    log_length: Scalar
    mean_log_step: Scalar
    mean_log_length: Scalar
    moments: Float[Array, " 4"]  # Adam's two moments of the step size and the two of the length
    count: Int[Array, ""]


def halton(i) -> Array:
    """The i-th number of the base-2 Halton sequence, in (0, 1)."""
    bits = (jnp.asarray(i, jnp.uint32)[..., None] >> jnp.arange(16, dtype=jnp.uint32)) & 1
    return jnp.sum(bits * (0.5 ** (1.0 + jnp.arange(16))), axis=-1)


def _adam(g, m, v, t, rate):
    m, v = 0.9 * m + 0.1 * g, 0.95 * v + 0.05 * g**2
    return rate * (m / (1 - 0.9**t)) / (jnp.sqrt(v / (1 - 0.95**t)) + 1e-8), m, v


def sample_many(
    energy: Energy,
    initial: PyTree | Callable[[Key], PyTree],
    key: Key,
    *,
    chains: int = 1000,
    warmup: int = 300,
    draws: int = 200,
    target: float = 0.7,
    max_steps: int = 256,
    thin: int = 1,
) -> Many:
    """ChEES-HMC over many chains at once; for targets cheap in batches, or on an accelerator.

    Args:
        energy: E(x); the chains are a batch axis that it never sees. One with `constrain` and `unconstrain` is sampled
            on the real line, while `initial` and the draws are in the user's space, as in `sample`.
        initial: a start point, or `initial(key) -> start point` for each chain; spread them.
        key: randomness.
        chains: at least 2; the adaptation averages over them.
        warmup: draws in which step, metric and length are learned from all chains.
        draws: kept draws of each chain.
        target: harmonic-mean acceptance.
        max_steps: gradients per trajectory at most.
        thin: keep every thin-th draw.

    Raises:
        ValueError: on fewer than two chains, a bad energy, or a start that is not finite.
        TypeError: if `key` is none.
    """
    if chains < 2:
        raise ValueError("sample_many: adaptation learns from differences between chains; chains must be at least 2.")
    if not 0 < target < 1:
        raise ValueError(f"target: an acceptance between 0 and 1, such as 0.7, not {target}.")
    key, propose = as_key(key), proposer(energy, initial)
    shape = layout(propose(key))
    check_energy(energy, shape)
    k0, k1 = jr.split(key)
    x = jax.vmap(lambda k: jnp.concatenate([jnp.ravel(v).astype(shape.dtype) for v in jax.tree.leaves(propose(k))]))(
        jr.split(k0, chains)
    )
    arrays, static = eqx.partition(energy, eqx.is_array)
    out = _run(
        arrays, _Static(static, shape, warmup, draws, max_steps, thin), x, jr.key_data(k1), jnp.asarray(target, x.dtype)
    )
    positions, energies, acceptance, learned, steps, start = out
    if not bool(jnp.all(jnp.isfinite(start))):
        bad = int(jnp.sum(~jnp.isfinite(start)))
        raise ValueError(f"initial: the energy is not finite at the start of {bad} of {chains} chains.")
    flat = np.swapaxes(np.asarray(positions), 0, 1)
    step, length = float(jnp.exp(learned.mean_log_step)), float(jnp.exp(learned.mean_log_length))
    stats = {"potential": np.asarray(energies).T}
    found = constrain(energy, shape, flat)
    return Many(found, np.asarray(acceptance), step, length, int(steps) * chains, stats, flat)


class _Static(eqx.Module):
    """All that is compiled in."""

    energy: PyTree
    layout: object = eqx.field(static=True)
    warmup: int = eqx.field(static=True)
    draws: int = eqx.field(static=True)
    max_steps: int = eqx.field(static=True)
    thin: int = eqx.field(static=True)


@eqx.filter_jit
def _run(arrays, static: _Static, x, key, target):
    guarded = Guarded(eqx.combine(arrays, static.energy), static.layout)
    value_and_gradient = jax.vmap(jax.value_and_grad(guarded))
    key, dtype, d = jr.wrap_key_data(key), x.dtype, x.shape[1]
    centre = lambda x: x - x.mean(0, keepdims=True)

    def draw(carry, i):
        x, E, g, learned, spent = carry
        adapting = i < static.warmup
        step = jnp.exp(jnp.where(adapting, learned.log_step, learned.mean_log_step))
        length = jnp.exp(jnp.where(adapting, learned.log_length, learned.mean_log_length))
        jitter = 2 * halton(i + 1).astype(dtype)  # mean one
        count = jnp.clip(jnp.ceil(jitter * length / step), 1, static.max_steps).astype(jnp.int32)
        k1, k2 = jr.split(jr.fold_in(key, i))
        p = jr.normal(k1, x.shape, dtype)  # in the scaled coordinates x = scale · y
        s = learned.scale[None, :]

        mass = DiagonalMass(1 / learned.scale**2)
        leap = jax.vmap(lambda z: verlet(guarded, z, step, mass))  # all chains at once, one gradient
        z = jax.lax.fori_loop(0, count, lambda _, z: leap(z), Phase(x, p / s, -g, E))
        x1, p1, E1, g1 = z.position, s * z.momentum, z.energy, -z.force
        error = E1 - E + 0.5 * jnp.sum(p1**2 - p**2, axis=1)
        error = jnp.where(jnp.isfinite(error), error, jnp.inf)
        acceptance = jnp.exp(-jnp.maximum(error, 0.0))
        take = jr.uniform(k2, error.shape, dtype) < acceptance
        new, old = centre(jnp.where(jnp.isfinite(x1), x1, x)) / s, centre(x) / s
        # the gradient of C, weighted by acceptance; chains that left the world weigh nothing
        change = jnp.sum(new**2, 1) - jnp.sum(old**2, 1)
        along = jnp.where(acceptance > 0, change * jnp.sum(new * jnp.nan_to_num(p1), 1), 0.0)
        slope = jitter * length * jnp.sum(acceptance * along) / (jnp.sum(acceptance) + 1e-10)
        x = jnp.where(take[:, None], x1, x)
        g = jnp.where(take[:, None], g1, g)
        E = jnp.where(take, E1, E)
        harmonic = 1 / jnp.mean(1 / jnp.maximum(acceptance, 1e-10))
        learned = jax.lax.cond(adapting, lambda l: _learn(l, x, harmonic, slope, target, static), lambda l: l, learned)
        return (x, E, g, learned, spent + count), acceptance.mean()

    def kept(carry, i):
        carry, acceptance = jax.lax.scan(draw, carry, i)
        return carry, (carry[0], carry[1], acceptance.mean())

    E, g = value_and_gradient(x)
    log_step, log_length = jnp.log(jnp.asarray(0.1 / d**0.25, dtype)), jnp.log(jnp.asarray(1.0, dtype))
    learned = _Learned(
        jnp.ones(d, dtype), log_step, log_length, log_step, log_length, jnp.zeros(4, dtype), jnp.int32(0)
    )
    carry = (x, E, g, learned, jnp.ones((), jnp.int32))
    carry, _ = jax.lax.scan(draw, carry, jnp.arange(static.warmup))
    numbers = static.warmup + jnp.arange(static.draws * static.thin).reshape(static.draws, static.thin)
    carry, (positions, energies, acceptance) = jax.lax.scan(kept, carry, numbers)
    return positions, energies, acceptance, carry[3], carry[4], E + jnp.sum(g, axis=1)


def _learn(l: _Learned, x, harmonic, slope, target, static) -> _Learned:
    """One step of Adam on log ε and log T, running averages of both, scales from the spread over chains."""
    t = l.count + 1
    up, m1, v1 = _adam(harmonic - target, l.moments[0], l.moments[1], t, 0.05)
    out, m2, v2 = _adam(slope / (jnp.abs(slope) + 1e-30), l.moments[2], l.moments[3], t, 0.025)
    log_step = l.log_step + up
    log_length = jnp.clip(l.log_length + out, log_step, log_step + jnp.log(float(static.max_steps)))
    weight = t**-0.5
    average = lambda old, new: (1 - weight) * old + weight * new
    spread = jnp.maximum(x.std(0), 1e-8)
    scale = jnp.exp(average(jnp.log(l.scale), jnp.log(spread)))
    # ε and T are measured in scaled coordinates, whose unit follows the scales
    return _Learned(
        scale, log_step, log_length, average(l.mean_log_step, log_step), average(l.mean_log_length, log_length),
        jnp.stack([m1, v1, m2, v2]), t,
    )  # fmt: skip
