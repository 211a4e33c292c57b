"""Sequences compared and read: four energies for one lattice, and a recurrent network that reads both ways.

    connectionist temporal classification  states: labels and blanks    F = −log Σ over alignments of their probability
    soft edit distance                     states: prefixes             T → 0: the exact distance
    soft dynamic time warping              states: prefixes             T → 0: the exact warping cost
    hidden Markov model                    states: hidden states        F = −log likelihood

The recursion is `energy.free.lattice`; what differs is which moves there are and what they cost.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int

from .._array import Key, Scalar
from ..energy.free import free_energy, grid_lattice, lattice
from ..path.rollout import rollout


def ctc(
    log_probs: Float[Array, "time labels"],
    target: Int[Array, " length"],
    *,
    frames: int | Int[Array, ""] | None = None,
    symbols: int | Int[Array, ""] | None = None,
    blank: int = 0,
    temperature: float | int | Scalar = 1.0,
) -> Scalar:
    """−log Σ_π Π_t p_t(π_t) over every alignment π that collapses to `target` (repeats merged, then blanks dropped).

    A. Graves et al., ICML 2006, eqs. (3)–(8). One pair; vmap for a batch. T = 0 gives −log of the best alignment.

    Args:
        log_probs: log-probabilities of the labels, blank among them, at each time.
        target: labels without blanks, padded beyond `symbols`.
        frames: how many times are real, all by default.
        symbols: how many entries of `target` are real, all by default.
        blank: the blank's label.
        temperature: 1 sums over alignments.

    Returns:
        The loss; ∞ if no alignment fits in the frames.
    """
    length = target.shape[0]
    states = 2 * length + 1  # blank, first label, blank, second label, …, blank
    label = jnp.full(states, blank).at[1::2].set(target)
    emission = -log_probs[:, label]
    before = jnp.concatenate([jnp.full(2, blank), label[:-2]]) if length else jnp.full(1, blank)
    may_skip = (label != blank) & (label != before)  # over the blank between two different labels
    skip = jnp.where(may_skip, emission, jnp.inf)
    s = np.arange(states)
    legal = np.stack([s >= 0, s >= 1, s >= 2], -1)
    costs = jnp.where(legal, jnp.stack([emission, emission, skip], -1), jnp.inf)
    sources = np.maximum(s[:, None] - np.arange(3), 0)
    start = jnp.where(s == 0, 0.0, jnp.inf)
    fronts = lattice(costs, sources, start, temperature)
    last = fronts[len(log_probs) if frames is None else frames]
    end = 2 * (length if symbols is None else jnp.asarray(symbols))
    ends = jnp.stack([last[end], jnp.where(end > 0, last[jnp.maximum(end - 1, 0)], jnp.inf)])
    return free_energy(ends, temperature)


def soft_edit_distance(
    substitute: Float[Array, "n m"],
    insert: float | Float[Array, " m"] = 1.0,
    delete: float | Float[Array, " n"] = 1.0,
    temperature: float | int | Scalar = 1.0,
) -> Scalar:
    """−T log Σ over edit scripts of e^(−cost/T); T → 0 is the exact edit distance (V. I. Levenshtein 1966).

    Args:
        substitute: cost of turning symbol i of the first sequence into symbol j of the second, 0 where they agree;
            Σ_ab p_i(a) d(a, b) q_j(b) for distributions over symbols.
        insert: cost of inserting each symbol of the second sequence.
        delete: cost of deleting each symbol of the first sequence.
        temperature: T.
    """
    n, m = substitute.shape
    pad = jnp.zeros((n + 1, m + 1), substitute.dtype)
    down = pad.at[1:].set(jnp.broadcast_to(delete, (n,))[:, None] * jnp.ones((1, m + 1)))
    right = pad.at[:, 1:].set(jnp.broadcast_to(insert, (m,))[None, :] * jnp.ones((n + 1, 1)))
    return grid_lattice(down, right, pad.at[1:, 1:].set(substitute), temperature)[n, m]


def soft_dtw(cost: Float[Array, "n m"], temperature: float | int | Scalar = 1.0) -> Scalar:
    """−T log Σ over monotone warpings of e^(−Σ cost/T).

    M. Cuturi and M. Blondel, ICML 2017 (arXiv 1703.01541), eq. (1). Its gradient is the expected alignment matrix.

    Args:
        cost: c(x_i, y_j), for instance half the squared distance.
        temperature: their γ.
    """
    n, m = cost.shape
    padded = jnp.full((n + 1, m + 1), jnp.inf, cost.dtype).at[1:, 1:].set(cost)  # no path along the border
    return grid_lattice(padded, padded, padded, temperature)[n, m]


def hmm_forward(
    initial: Float[Array, " states"],
    transition: Float[Array, "states states"],
    emission: Float[Array, "time states"],
    temperature: float | int | Scalar = 1.0,
) -> Float[Array, "time states"]:
    """−log p(y₁…y_t, s_t = s) for every time and state; `free_energy` of the last row is −log likelihood.

    Args:
        initial: −log π(s).
        transition: −log A(s → s'), rows are where from.
        emission: −log p(y_t | s).
        temperature: 1 for the likelihood, 0 for Viterbi.
    """
    states = initial.shape[0]
    costs = emission[1:, :, None] + transition.T[None]
    sources = np.tile(np.arange(states), (states, 1))
    return lattice(costs, sources, initial + emission[0], temperature)


def edit_distance(first, second) -> int:
    """The exact Levenshtein distance of two sequences of hashable symbols, on the host."""
    row = list(range(len(second) + 1))
    for i, a in enumerate(first, 1):
        previous, row[0] = row[0], i
        for j, b in enumerate(second, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (a != b))
    return row[-1]


class Bidirectional(eqx.Module):
    """A recurrent network that reads a sequence from both ends: h_t = [→h_t, ←h_t].

    M. Schuster and K. K. Paliwal, IEEE Trans. Signal Process. 45, 2673 (1997). The cells are equinox's.
    """

    forward: eqx.nn.GRUCell
    backward: eqx.nn.GRUCell

    def __init__(self, inputs: int, hidden: int, *, key: Key):
        there, back = jr.split(key)
        self.forward = eqx.nn.GRUCell(inputs, hidden, key=there)
        self.backward = eqx.nn.GRUCell(inputs, hidden, key=back)

    def __call__(self, xs: Float[Array, "time inputs"]) -> Float[Array, "time features"]:
        """Hidden states of both directions, [time, 2 hidden]."""
        rest = jnp.zeros(self.forward.hidden_size, xs.dtype)
        there = rollout(lambda h, x: self.forward(x, h), rest, xs)
        back = rollout(lambda h, x: self.backward(x, h), rest, xs[::-1])[::-1]
        return jnp.concatenate([there, back], -1)


class Reader(eqx.Module):
    """Scores of a sequence: a bidirectional reading, the features of one place or their mean, and a linear head."""

    reading: Bidirectional
    head: eqx.nn.Linear
    place: int | None = eqx.field(static=True)

    def __init__(self, inputs: int, hidden: int, classes: int, *, key: Key, place: int | None = None):
        one, two = jr.split(key)
        self.reading = Bidirectional(inputs, hidden, key=one)
        self.head = eqx.nn.Linear(2 * hidden, classes, key=two)
        self.place = place

    def hidden(self, xs: Float[Array, "time inputs"]) -> Float[Array, " features"]:
        """The features the head reads, [2 hidden]."""
        states = self.reading(xs)
        return jnp.mean(states, 0) if self.place is None else states[self.place]

    def __call__(self, xs: Float[Array, "time inputs"]) -> Float[Array, " classes"]:
        """Unnormalised log-probabilities (or regression outputs)."""
        return self.head(self.hidden(xs))


def one_hot(text: str, alphabet: str) -> Float[Array, "time symbols"]:
    """Rows of the identity, one for each letter.

    Raises:
        ValueError: if a letter is not in the alphabet.
    """
    unknown = sorted(set(text) - set(alphabet))
    if unknown:
        raise ValueError(f"one_hot: {unknown} not in the alphabet {alphabet!r}; clean the sequence first.")
    return jax.nn.one_hot(jnp.array([alphabet.index(c) for c in text], int), len(alphabet))
