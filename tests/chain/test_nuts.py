"""Laws of the sampler: exact moments, U-turns by brute force, metrics that are inverse to themselves, exact
learning."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from enerjax import chain
from enerjax.chain import diagnostics as dg
from enerjax.chain.nuts import Point, begin, growing, leaf, merge, sprout
from enerjax.flow import minimum_norm, verlet


def metrics(d, rng):
    A = rng.standard_normal((d, d))
    L = np.linalg.cholesky(A @ A.T + np.eye(d))
    V = np.linalg.qr(rng.standard_normal((d, 2)))[0]
    s = rng.uniform(0.5, 2, d)
    return {
        "diagonal": chain.DiagonalMetric(jnp.asarray(s)),
        "dense": chain.DenseMetric(jnp.asarray(L @ L.T), jnp.asarray(L), jnp.asarray(np.linalg.inv(L))),
        "low rank": chain.LowRankMetric(jnp.asarray(s), jnp.asarray(V), jnp.array([5.0, 0.2])),
    }


@pytest.mark.parametrize("name", ["diagonal", "dense", "low rank"])
def test_metric(name):
    """whiten ∘ momentum = 1, velocity = M⁻¹, kinetic = ½ pᵀ M⁻¹ p, M⁻¹ symmetric positive definite."""
    rng = np.random.default_rng(0)
    m = metrics(6, rng)[name]
    x = jnp.asarray(rng.standard_normal(6))
    np.testing.assert_allclose(m.whiten(m.momentum(x)), x, atol=1e-12)
    M_inverse = jax.jacfwd(m.velocity)(x)
    A = jax.jacfwd(m.momentum)(x)
    np.testing.assert_allclose(M_inverse @ A @ A.T, np.eye(6), atol=1e-10)
    np.testing.assert_allclose(M_inverse, M_inverse.T, atol=1e-12)
    np.testing.assert_allclose(m.kinetic(x), 0.5 * x @ M_inverse @ x, rtol=1e-12)


def test_criteria_of_all_subtrees_by_brute_force():
    """The checkpoints see exactly the U-turns that a recursive tree sees, Stan's criteria across halves included.

    A tree of fewer than 2^floor leaves is not asked, and asks none of its sub-trees.
    """
    d, depth, energy = 3, 5, lambda x: 0.5 * jnp.sum(x**2 * jnp.array([1.0, 4.0, 0.3])) + 0.1 * jnp.sum(x**4)
    metric = chain.DiagonalMetric(jnp.array([1.0, 0.7, 1.3]))
    add = jax.jit(lambda t, dt, floor: leaf(energy, verlet, t, dt, metric, 1e3, floor))

    def turns(ws, floor):
        """Whether a balanced tree of leaves turns, in itself or in one of its halves."""
        if len(ws) < max(2, 2**floor):
            return False
        a, b = ws[: len(ws) // 2], ws[len(ws) // 2 :]
        if turns(a, floor) or turns(b, floor):
            return True
        sums = [
            (np.sum(ws, 0), ws[0], ws[-1]),
            (np.sum(a, 0) + b[0], ws[0], b[0]),
            (np.sum(b, 0) + a[-1], a[-1], ws[-1]),
        ]
        return any(rho @ w <= 0 for rho, *ends in sums for w in ends)

    turned, late = 0, 0
    for seed in range(25):
        floor = max(seed - 15, 0) % 6
        k1, k2 = jr.split(jr.key(seed))
        x = 0.7 * jr.normal(k1, (d,))
        point = Point(jnp.stack([x, -jax.grad(energy)(x)]), energy(x))
        t = begin(point, jr.normal(k2, (d,)), jnp.array([seed, 7], jnp.uint32), metric, depth)
        t = sprout(t)
        t = t._replace(depth=jnp.int32(depth))
        ws = []
        while bool(growing(t)):
            t = add(t, 0.3 if floor else 0.11 if seed % 2 else 0.03, floor)
            ws.append(np.asarray(t.w))
            closed = [ws[-(2**j) :] for j in range(1, depth + 1) if len(ws) % 2**j == 0]
            assert bool(t.count[2]) == any(turns(sub, floor) for sub in closed), (seed, len(ws))
            late += not t.count[2] and any(turns(sub, 0) for sub in closed)
        turned += int(t.count[2])
    assert 5 < turned < 25, "the trajectories must turn sometimes and sometimes not for this to test anything"
    assert late > 2, "the floor must have kept some from turning"


def test_merge_checks_the_whole():
    """Two opposite leaves turn; their weights add; the depth grows."""
    energy = lambda x: 0.5 * jnp.sum(x**2)
    metric = chain.DiagonalMetric(jnp.ones(1))
    point = Point(jnp.array([[0.0], [0.0]]), jnp.zeros(()))
    t = sprout(begin(point, jnp.ones(1), jnp.array([1, 2], jnp.uint32), metric, 3))
    step = jax.jit(lambda dt, floor: merge(leaf(energy, verlet, t, dt, metric, 1e3, floor), floor))
    short, long, deep = step(0.5, 0), step(1.9, 0), step(1.9, 2)
    assert not bool(short.count[2]) and bool(long.count[2])
    assert int(short.depth) == 1 and np.isfinite(short.weight)
    assert not bool(deep.count[2]), "two leaves are below a floor of 2"


def test_fisher_metric_is_exact_on_a_gaussian():
    """From fewer draws than any covariance estimate would need, drawn from a wrong distribution."""
    rng = np.random.default_rng(1)
    A = rng.standard_normal((8, 8))
    P = A @ A.T + 0.1 * np.eye(8)
    draws = 30 * rng.standard_normal((20, 8)) + 5
    metric = chain.LowRank(cutoff=1.0, gamma=1e-10).fit(draws, -draws @ P)
    eigenvalues = np.linalg.eigvals(np.asarray(metric.covariance) @ P).real
    assert np.all(np.abs(np.log(eigenvalues)) < 1e-3)
    diagonal = chain.Diagonal().fit(draws, -draws * np.diag(P))
    np.testing.assert_allclose(np.asarray(diagonal.scale) ** 2 * np.diag(P), 1.0, rtol=1e-6)


def test_low_rank_storage_agrees_with_dense():
    rng = np.random.default_rng(2)
    P = np.diag(np.array([1e-3, 50.0] + [1.0] * 10)) + 0.05
    draws = rng.standard_normal((200, 12)) @ np.linalg.cholesky(np.linalg.inv(P)).T
    dense, low = (chain.LowRank(dense_below=b).fit(draws, -draws @ P) for b in (12, 2))
    p = jnp.asarray(rng.standard_normal(12))
    for f in ("velocity", "momentum", "whiten"):
        np.testing.assert_allclose(getattr(low, f)(p), getattr(dense, f)(p), rtol=1e-8, atol=1e-8)


def within(x, value, statistic, error, sigmas=4.5):
    assert abs(statistic(x) - value) < sigmas * error(x), (statistic(x), value, error(x))


def test_moments(key):
    """A 100-d Gaussian, a banana and a funnel: means and standard deviations within their Monte Carlo errors."""
    scales = jnp.logspace(-1, 1, 100)
    gauss = chain.sample(lambda x: 0.5 * jnp.sum((x / scales) ** 2), jnp.ones(100), key, draws=500)
    for i in (0, 50, 99):
        x = gauss.draws[..., i]
        within(x, 0.0, np.mean, dg.mcse_mean)
        within(x, float(scales[i]), np.std, dg.mcse_sd)

    banana = lambda x: 0.5 * x["a"] ** 2 + 0.5 * ((x["b"] - x["a"] ** 2) / 0.5) ** 2
    # at 0.9 a few per cent of the trajectories diverge where the banana is stiff, and its ends are missed
    post = chain.sample(banana, {"a": 0.0, "b": 0.0}, key, draws=1000, target=0.99, integrator=minimum_norm)
    assert post.gradients > 2 * post.stats["steps"].sum(), "two gradients a step"
    within(post.draws["a"], 0.0, np.mean, dg.mcse_mean)
    within(post.draws["b"], 1.0, np.mean, dg.mcse_mean)
    within(post.draws["b"], np.sqrt(2 + 0.25), np.std, dg.mcse_sd)

    funnel = lambda x: 0.5 * (x["v"] / 3) ** 2 + 0.5 * jnp.sum(x["z"] ** 2)  # non-centred: y = z e^{v/2}
    post = chain.sample(funnel, {"v": 0.0, "z": jnp.zeros(9)}, key, draws=500)
    within(post.draws["v"], 3.0, np.std, dg.mcse_sd)
