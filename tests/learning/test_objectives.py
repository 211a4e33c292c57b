"""InfoNCE, overlap, direction and rewards: bounds, closed forms and exact gradients by enumeration."""

import itertools

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from jax.test_util import check_grads

from enerjax.learning.contrastive import cosine_similarity, infonce, information_bound, retrieval
from enerjax.learning.objectives import directional_loss, reinforce, soft_iou, soft_iou_loss
from enerjax.learning.sequence import edit_distance


def test_infonce_is_optax_cross_entropy_of_the_diagonal(key):
    s = jr.normal(key, (9, 9))
    theirs = optax.softmax_cross_entropy_with_integer_labels(s / 0.3, jnp.arange(9)).mean()
    np.testing.assert_allclose(infonce(s, 0.3), theirs, rtol=1e-12)
    np.testing.assert_allclose(infonce(s, symmetric=True), (infonce(s) + infonce(s.T)) / 2, rtol=1e-12)


def test_information_bound_holds_and_is_tight_for_gaussians(key):
    """With the optimal critic log p(y|x)/p(y) the bound is below I = −½ d log(1 − ρ²), and close when log N ≫ I."""
    n, d, rho = 2000, 2, 0.6
    x, e = jr.normal(key, (2, n, d))
    y = rho * x + np.sqrt(1 - rho**2) * e
    critic = -0.5 * jnp.sum((y[None] - rho * x[:, None]) ** 2, -1) / (1 - rho**2) + 0.5 * jnp.sum(y**2, -1)[None]
    exact = -0.5 * d * np.log(1 - rho**2)
    bound = information_bound(critic)
    noise = float(jnp.std(jnp.diag(critic))) / np.sqrt(n)
    assert bound < exact + 4 * noise and bound > exact - 4 * noise - 0.02
    strong = information_bound(1e3 * jnp.eye(64))  # perfectly separable: the bound saturates at log N
    np.testing.assert_allclose(strong, np.log(64), rtol=1e-12)
    assert information_bound(jnp.zeros((64, 64))) == pytest.approx(0.0, abs=1e-12)


def test_cosine_similarity_and_retrieval(key):
    x = jr.normal(key, (6, 4))
    np.testing.assert_allclose(jnp.diag(cosine_similarity(x, 3 * x)), np.ones(6), rtol=1e-12)
    assert retrieval(cosine_similarity(x, 3 * x)) == 1.0
    slope = jax.grad(lambda x: cosine_similarity(x, x).sum())(x.at[0].set(0.0))
    assert bool(jnp.isfinite(slope).all())


def test_soft_iou_is_the_hard_one_on_binary_masks_and_has_its_closed_gradient(key):
    p, y = (jr.uniform(jr.fold_in(key, i), (8, 9)) for i in (0, 1))
    hard_p, hard_y = (p > 0.4).astype(float), (y > 0.6).astype(float)
    exact = jnp.sum((hard_p * hard_y) > 0) / jnp.sum((hard_p + hard_y) > 0)
    np.testing.assert_allclose(soft_iou(hard_p, hard_y), exact, rtol=1e-14)
    check_grads(lambda p: soft_iou_loss(jnp.asarray(p), hard_y), (p,), order=1, rtol=1e-6, eps=1e-6)
    overlap, union = jnp.sum(p * hard_y), jnp.sum(p + hard_y - p * hard_y)
    closed = -(hard_y * union - overlap * (1 - hard_y)) / union**2
    np.testing.assert_allclose(jax.grad(soft_iou_loss)(p, hard_y), closed, rtol=1e-11)
    assert soft_iou(jnp.zeros(3), jnp.zeros(3)) == 1.0


def test_soft_iou_is_scikit_learns_jaccard(key):
    metrics = pytest.importorskip("sklearn.metrics")
    p, y = (np.asarray(jr.uniform(jr.fold_in(key, i), (200,)) > 0.5) for i in (0, 1))
    ours = soft_iou(jnp.asarray(p, float), jnp.asarray(y, float))
    np.testing.assert_allclose(ours, metrics.jaccard_score(y, p), rtol=1e-12)


def test_directional_loss_prices_only_the_wrong_sign(key):
    r, guess = jr.normal(key, (2, 50))
    same = jnp.abs(guess) * jnp.sign(r)
    np.testing.assert_allclose(directional_loss(same, r, 5.0), jnp.mean((same - r) ** 2), rtol=1e-13)
    extra = directional_loss(guess, r, 5.0) - directional_loss(guess, r, 0.0)
    wrong = guess * r < 0
    np.testing.assert_allclose(extra, 5 * jnp.sum(jnp.where(wrong, jnp.abs(guess), 0)) / 50, rtol=1e-12)
    a, b = guess, jnp.roll(guess, 1)  # convex
    middle = directional_loss((a + b) / 2, r, 5.0)
    assert middle <= (directional_loss(a, r, 5.0) + directional_loss(b, r, 5.0)) / 2


TARGET = (0, 2, 1)


def _policy():
    logits = jnp.array(
        [[0.5, -0.2, 0.1], [0.3, 0.0, -0.5], [-0.1, 0.4, 0.2], [0.2, 0.2, -0.3]]
    )  # four symbols of three
    log_probability = lambda w, x: jnp.sum(jnp.take_along_axis(jax.nn.log_softmax(w), x[:, None], 1))
    sample = lambda w, key: jr.categorical(key, w, axis=1)
    words = jnp.array(list(itertools.product(range(3), repeat=4)))
    costs = jnp.array([float(edit_distance(tuple(map(int, w)), TARGET)) for w in words])
    table = costs.reshape(3, 3, 3, 3)
    return logits, log_probability, sample, lambda x: table[tuple(x)], words, costs


def test_reinforce_is_unbiased_and_its_baseline_quietens(key):
    """The exact Levenshtein distance as cost: score-function gradients against the sum over all 81 words."""
    logits, log_probability, sample, cost, words, costs = _policy()
    expected = lambda w: jnp.sum(jnp.exp(jax.vmap(lambda x: log_probability(w, x))(words)) * costs)
    exact = jax.grad(expected)(logits)
    spread = {}
    for baseline in (False, True):
        slope = lambda keys, b=baseline: jax.grad(
            lambda w: reinforce(log_probability, sample, cost, w, keys, baseline=b)
        )(logits)
        grads = jax.jit(lambda key, slope=slope: jax.lax.map(slope, jr.split(key, (400, 25))))(key)
        error = jnp.std(grads, 0) / np.sqrt(400)
        assert jnp.abs((jnp.mean(grads, 0) - exact) / error).max() < 4.5
        spread[baseline] = float(jnp.sum(jnp.var(grads, 0)))
    assert spread[True] < 0.5 * spread[False]
    value = reinforce(log_probability, sample, cost, logits, jr.split(key, 20_000))
    assert abs(value - expected(logits)) < 0.03
    with pytest.raises(ValueError, match="two keys"):
        reinforce(log_probability, sample, cost, logits, jr.split(key, 1))
