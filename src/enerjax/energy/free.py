"""One free energy, F = −T log Σ e^(−E/T), and one recursion that sums it over all paths of a lattice.

    F(T) = min_p ⟨p, E⟩ − T S(p),    ∂F/∂E = p = e^(−(E−F)/T)  (the Gibbs distribution)

At T → 0 it is the smallest energy, at T = 1 with E = −log p it is −log of a marginal likelihood. Over the paths of a
lattice it is forward-backward: `jax.grad` of the last free energy by an edge's energy is the probability that a path
uses that edge. CTC, soft edit distance, soft DTW and the HMM's forward recursion are four lattices (`lattice` here,
their energies in `learning/sequence.py`), and InfoNCE is a free energy over candidates (`learning/contrastive.py`).

L. R. Rabiner, Proc. IEEE 77, 257 (1989), sec. III; A. Mensch and M. Blondel, ICML 2018 (arXiv 1802.03676).
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .._array import Scalar


def free_energy(
    energies: Float[Array, "..."], temperature: float | int | Scalar = 1.0, axis: int | tuple[int, ...] | None = None
) -> Float[Array, "..."]:
    """F = −T log Σ e^(−E/T) over `axis`; the minimum at T = 0.

    +∞ marks a forbidden state: it adds nothing and puts no NaN into a derivative, even where all are forbidden (F = ∞).

    Args:
        energies: E, any shape.
        temperature: T ≥ 0, in the units of E. The Python number 0 gives the minimum; a traced T must be positive.
        axis: summed over; all axes by default.

    Raises:
        ValueError: if a negative temperature is given as a number.
    """
    if isinstance(temperature, float | int):
        if temperature < 0:
            raise ValueError(f"free_energy: temperature={temperature} is negative; give T > 0, or 0 for the minimum.")
        if temperature == 0:
            return jnp.min(energies, axis)
    allowed = jnp.isfinite(energies)
    lowest = jax.lax.stop_gradient(jnp.min(energies, axis, keepdims=True))
    lowest = jnp.where(jnp.isfinite(lowest), lowest, jnp.zeros_like(lowest))
    # masked twice (value and argument): a derivative never meets ∞ · 0
    height = jnp.where(allowed, energies, lowest) - lowest
    weight = jnp.sum(jnp.where(allowed, jnp.exp(-height / temperature), 0.0), axis)
    possible = weight > 0
    value = jnp.squeeze(lowest, axis) - temperature * jnp.log(jnp.where(possible, weight, 1.0))
    return jnp.where(possible, value, jnp.inf)


def gibbs(
    energies: Float[Array, "..."], temperature: float | Scalar = 1.0, axis: int | None = None
) -> Float[Array, "..."]:
    """p = e^(−E/T) / Σ e^(−E/T) = ∂F/∂E."""
    return jax.nn.softmax(-energies / temperature, axis=axis)


def entropy(p: Float[Array, "..."], axis: int | None = None) -> Float[Array, "..."]:
    """S = −Σ p log p, with 0 log 0 = 0."""
    return -jnp.sum(jax.scipy.special.xlogy(p, p), axis)


def lattice(
    energies: Float[Array, "steps states moves"],
    sources: Int[np.ndarray, "_ _"],
    start: Float[Array, " _"],
    temperature: float | int | Scalar = 1.0,
    delays: Sequence[int] | None = None,
) -> Float[Array, "steps+1 states"]:
    """Fₜ(s) = minᵀ over moves m of [F_{t−d(m)}(source(s, m)) + Eₜ(s, m)]: the free energy of all paths to (t, s).

    Args:
        energies: E[t, s, m], what move m into state s at step t + 1 costs; ∞ forbids it.
        sources: the state that move m into s comes from; host integers, fixed when compiled.
        start: F₀, the free energy of every state before the first step; ∞ where no path starts.
        temperature: T; 0 gives the cheapest path (Viterbi, Levenshtein), and its gradient marks that path.
        delays: how many steps back each move starts, 1 for all by default; 2 for the diagonal of an alignment swept by
            anti-diagonals.

    Returns:
        F₀ … F_steps, all of them, so that sequences of different length read theirs from one padded batch.

    Raises:
        ValueError: if shapes disagree or a delay is not a positive integer.
    """
    steps, states, moves = energies.shape
    delays = (1,) * moves if delays is None else tuple(delays)
    if sources.shape != (states, moves) or start.shape != (states,) or len(delays) != moves:
        raise ValueError(
            f"lattice: energies {energies.shape} need sources [{states}, {moves}], start [{states}] and {moves} "
            f"delays; got {sources.shape}, {start.shape} and {len(delays)}."
        )
    if min(delays) < 1:
        raise ValueError(f"lattice: delays are steps back in time, at least 1; got {delays}.")
    start = start.astype(energies.dtype)
    fronts = jnp.full((max(delays), states), jnp.inf, energies.dtype).at[0].set(start)  # fronts[d − 1]: d steps ago
    delay, source = jnp.asarray(delays) - 1, jnp.asarray(sources)

    def sweep(fronts, cost):
        front = free_energy(fronts[delay[None, :], source] + cost, temperature, axis=-1)
        return jnp.concatenate([front[None], fronts[:-1]]), front

    _, rest = jax.lax.scan(sweep, fronts, energies)
    return jnp.concatenate([start[None], rest])


def grid_lattice(
    down: Float[Array, "rows columns"],
    right: Float[Array, "rows columns"],
    diagonal: Float[Array, "rows columns"],
    temperature: float | int | Scalar = 1.0,
) -> Float[Array, "rows columns"]:
    """F[i, j] = minᵀ(F[i−1, j] + down, F[i, j−1] + right, F[i−1, j−1] + diagonal), F[0, 0] = 0.

    The free energy of all monotone alignments. The arrays give what the move *into* (i, j) costs; entries that would
    leave the grid are ignored. Swept by anti-diagonals i + j = t, so a step of the scan is parallel over i.
    """
    n, m = down.shape[0] - 1, down.shape[1] - 1
    t, i = np.arange(1, n + m + 1)[:, None], np.arange(n + 1)[None, :]
    j = t - i
    inside = (j >= 0) & (j <= m)
    column = np.clip(j, 0, m)
    legal = np.stack([inside & (i > 0), inside & (j > 0), inside & (i > 0) & (j > 0)], -1)
    costs = jnp.stack([move[i, column] for move in (down, right, diagonal)], -1)
    up = np.maximum(np.arange(n + 1) - 1, 0)
    sources = np.stack([up, np.arange(n + 1), up], -1)
    start = jnp.where(jnp.arange(n + 1) == 0, 0.0, jnp.inf)
    fronts = lattice(jnp.where(legal, costs, jnp.inf), sources, start, temperature, delays=(1, 1, 2))
    rows, columns = np.meshgrid(np.arange(n + 1), np.arange(m + 1), indexing="ij")
    return fronts[rows + columns, rows]
