"""CTC, soft edit distance, soft DTW and the HMM against enumeration, optax and plain recursions."""

import itertools

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

from enerjax.energy import free_energy
from enerjax.learning.sequence import Reader, ctc, edit_distance, hmm_forward, one_hot, soft_dtw, soft_edit_distance


def _collapse(path, blank=0):
    return tuple(k for k, _ in itertools.groupby(path) if k != blank)


@pytest.mark.parametrize("target", [(), (1,), (1, 2), (2, 2), (1, 2, 1)])
def test_ctc_is_the_sum_over_all_alignments(key, target):
    log_probs = jax.nn.log_softmax(jr.normal(key, (6, 3)))
    scores = [
        -sum(float(log_probs[t, k]) for t, k in enumerate(path))
        for path in itertools.product(range(3), repeat=6)
        if _collapse(path) == target
    ]
    ours = ctc(log_probs, jnp.array(target, int))
    np.testing.assert_allclose(ours, free_energy(jnp.array(scores)), rtol=1e-12)
    np.testing.assert_allclose(ctc(log_probs, jnp.array(target, int), temperature=0), min(scores), rtol=1e-12)


def test_ctc_equals_optax_on_a_padded_batch(key):
    batch, time, labels, length = 5, 20, 7, 6
    log_probs = jax.nn.log_softmax(jr.normal(key, (batch, time, labels)))
    target = jr.randint(jr.fold_in(key, 1), (batch, length), 1, labels)
    frames, symbols = jnp.array([20, 15, 18, 20, 9]), jnp.array([6, 4, 6, 2, 3])

    def ours(x):
        return jax.vmap(lambda x, y, t, n: ctc(x, y, frames=t, symbols=n))(x, target, frames, symbols)

    pad = (
        (jnp.arange(time)[None] >= frames[:, None]).astype(float),
        (jnp.arange(length)[None] >= symbols[:, None]).astype(float),
    )

    def theirs(x):
        with jax.numpy_rank_promotion("allow"):
            return optax.ctc_loss(x, pad[0], target, pad[1], log_epsilon=-1e30)

    np.testing.assert_allclose(ours(log_probs), theirs(log_probs), rtol=1e-9)
    # gradient by the logits; ours for one sequence is also minus the expected count of each label at each time
    slope = jax.grad(lambda x: ours(jax.nn.log_softmax(x)).sum())(log_probs)
    np.testing.assert_allclose(slope, jax.grad(lambda x: theirs(x).sum())(log_probs), rtol=1e-7, atol=1e-9)
    counts = -jax.grad(lambda x: ctc(x, target[0]))(log_probs[0])
    np.testing.assert_allclose(counts.sum(1), np.ones(time), rtol=1e-10)


def test_ctc_without_room_is_infinite():
    log_probs = jax.nn.log_softmax(jnp.zeros((2, 3)))
    value, slope = jax.value_and_grad(ctc)(log_probs, jnp.array([1, 1]))  # needs a blank between: three frames
    assert value == jnp.inf and bool(jnp.isfinite(slope).all())


WORDS = [
    ("kitten", "sitting", 3),
    ("saturday", "sunday", 3),
    ("", "abc", 3),
    ("flaw", "lawn", 2),
    ("gumbo", "gambol", 2),
]


@pytest.mark.parametrize(("first", "second", "distance"), WORDS)
def test_soft_edit_distance_freezes_to_levenshtein(first, second, distance):
    assert edit_distance(first, second) == distance
    cost = jnp.array([[float(a != b) for b in second] for a in first]).reshape(len(first), len(second))
    np.testing.assert_allclose(soft_edit_distance(cost, temperature=0), distance)
    for T in (0.1, 0.02):  # F ≤ minimum ≤ F + T log(number of scripts), and the number is a Delannoy number
        F = soft_edit_distance(cost, temperature=T)
        scripts = float(jnp.exp(-soft_edit_distance(0 * cost, 0.0, 0.0)))
        assert distance + 1e-12 >= F and distance <= F + T * np.log(scripts) + 1e-12


def _scripts(n, m):
    """Every edit script of a pair of lengths: lists of ('s', i, j), ('d', i), ('i', j)."""
    if n == m == 0:
        yield []
    if n:
        yield from ([*rest, ("d", n - 1)] for rest in _scripts(n - 1, m))
    if m:
        yield from ([*rest, ("i", m - 1)] for rest in _scripts(n, m - 1))
    if n and m:
        yield from ([*rest, ("s", n - 1, m - 1)] for rest in _scripts(n - 1, m - 1))


def test_soft_edit_distance_is_the_sum_over_scripts(key):
    cost, insert, delete = jr.uniform(key, (3, 4)), jnp.array([0.5, 0.7, 0.9, 0.4]), jnp.array([1.0, 0.3, 0.6])
    price = {"s": lambda i, j: cost[i, j], "d": lambda i: delete[i], "i": lambda j: insert[j]}
    totals = [sum(float(price[op](*where)) for op, *where in script) for script in _scripts(3, 4)]
    for T in (0.3, 1.0):
        ours = soft_edit_distance(cost, insert, delete, T)
        np.testing.assert_allclose(ours, free_energy(jnp.array(totals), T), rtol=1e-12)
    # gradient = how often each pair is substituted
    p = np.exp(-(np.array(totals) - float(free_energy(jnp.array(totals)))))
    used = np.zeros((3, 4))
    for weight, script in zip(p, _scripts(3, 4), strict=True):
        for op, *where in script:
            if op == "s":
                used[tuple(where)] += weight
    slope = jax.grad(lambda c: soft_edit_distance(c, insert, delete))(cost)
    np.testing.assert_allclose(slope, used, rtol=1e-11)


def test_soft_dtw_is_cuturi_and_blondels_recursion(key):
    x, y = jr.normal(key, (7, 2)), jr.normal(jr.fold_in(key, 1), (9, 2))
    cost = np.asarray(jnp.sum((x[:, None] - y[None]) ** 2, -1))
    for T in (0.1, 1.0):
        R = np.full((8, 10), np.inf)
        R[0, 0] = 0.0
        for i, j in itertools.product(range(1, 8), range(1, 10)):
            before = np.array([R[i - 1, j], R[i, j - 1], R[i - 1, j - 1]])
            R[i, j] = cost[i - 1, j - 1] + before.min() - T * np.log(np.sum(np.exp(-(before - before.min()) / T)))
        np.testing.assert_allclose(soft_dtw(jnp.asarray(cost), T), R[-1, -1], rtol=1e-12)
    alignment = jax.grad(soft_dtw)(jnp.asarray(cost), 0.1)
    np.testing.assert_allclose([alignment[0, 0], alignment[-1, -1]], 1.0, rtol=1e-12)  # every warping joins both ends
    assert float(soft_dtw(jnp.asarray(cost[:, :7] * 0 + (1 - np.eye(7))), 0)) == 0.0


def test_hmm_forward_is_the_sum_over_hidden_paths(key):
    states, time = 3, 5
    log = lambda *shape: -jax.nn.log_softmax(jr.normal(jr.fold_in(key, sum(shape)), shape))
    initial, transition, emission = log(states), log(states, states), log(time, states)
    totals = []
    for path in itertools.product(range(states), repeat=time):
        steps = sum(float(transition[a, b]) for a, b in itertools.pairwise(path))
        totals.append(float(initial[path[0]]) + steps + sum(float(emission[t, s]) for t, s in enumerate(path)))
    F = free_energy(hmm_forward(initial, transition, emission)[-1])
    np.testing.assert_allclose(F, free_energy(jnp.array(totals)), rtol=1e-12)
    viterbi = jax.grad(lambda e: free_energy(hmm_forward(initial, transition, e, 0)[-1], 0))(emission)
    best = list(itertools.product(range(states), repeat=time))[int(np.argmin(totals))]
    assert [int(s) for s in jnp.argmax(viterbi, 1)] == list(best)
    # with uninformative emissions the likelihood is one, at any length
    np.testing.assert_allclose(free_energy(hmm_forward(initial, transition, 0 * emission)[-1]), 0.0, atol=1e-12)


def test_reader_sees_both_sides(key):
    """The hidden state at a place depends on what comes before and after it, and the mirror of a network mirrors."""
    net = Reader(4, 5, 2, key=key, place=3)
    x = one_hot("ACGTACGT", "ACGT")
    slope = jax.jacobian(net)(x)
    assert bool(jnp.all(jnp.abs(slope).sum((0, 2)) > 0))
    forward_only = jax.jacobian(lambda x: net.reading(x)[3, :5])(x)
    assert bool(jnp.all(forward_only[:, 4:] == 0)) and bool(jnp.any(forward_only[:, :4] != 0))
    with pytest.raises(ValueError, match="alphabet"):
        one_hot("ACGX", "ACGT")
