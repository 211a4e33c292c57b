"""Starts: paths judged by free energy leave modes without weight; Gaussians of paths; independence of the layout."""

import sys

import jax.numpy as jnp
import jax.random as jr
import numpy as np

from enerjax import chain
from enerjax.chain import pathfinder
from enerjax.chain.reach import TRIAL, lengthen
from enerjax.chain.warmup import Schedule, adapt


def two_wells(x):
    """Weight e⁻⁴⁰ in the wide well at +8, the rest in the well at −8, a barrier of 38 kT; gradients lead to either."""
    near = 0.5 * jnp.sum((x + 8) ** 2)
    far = 40.0 + 0.5 * jnp.sum((x - 8) ** 2) / 1.5
    return -jnp.logaddexp(-near, -far)


def test_paths_avoid_a_mode_without_weight():
    """Half of the starts lie in the basin of the wrong well; from paths every chain finds the right one, and alone
    not."""
    starts = chain.uniform(jnp.zeros(3), 12.0)
    where = lambda post: np.sign(np.mean(post.draws, axis=(1, 2)))
    given = chain.sample(two_wells, starts, jr.key(3), chains=8, draws=40, start=chain.Given())
    found = chain.sample(two_wells, starts, jr.key(3), chains=8, draws=40)
    assert 0 < np.sum(where(given) > 0) < 8, "the test needs starts in both basins"
    assert np.all(where(found) < 0)
    assert found.warmup["path_gradients"] > 8 and found.gradients > found.warmup["path_gradients"]
    two = chain.sample(two_wells, starts, jr.key(3), chains=2, draws=40)
    np.testing.assert_array_equal(two.unconstrained, found.unconstrained[:2])


def test_gaussian_of_a_path():
    """H of the pairs equals the BFGS recursion in full, its draws have that covariance, log q is their density."""
    rng = np.random.default_rng(0)
    d, pairs = 5, 3
    A = rng.standard_normal((d, d))
    P = A @ A.T + np.eye(d)
    S = rng.standard_normal((d, pairs))
    alpha, x, g = rng.uniform(0.5, 2, d), rng.standard_normal(d), rng.standard_normal(d)
    step = pathfinder.Step(x, g, 0.0, alpha, S, P @ S)
    H = np.diag(alpha)
    for s, z in zip(S.T, (P @ S).T, strict=True):
        V = np.eye(d) - np.outer(z, s) / (s @ z)
        H = V.T @ H @ V + np.outer(s, s) / (s @ z)
    q = pathfinder.Approximation.of(step)
    np.testing.assert_allclose([q.times(e) for e in np.eye(d)], H, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(pathfinder._inverse_hessian(step, g), H @ g, rtol=1e-8)
    np.testing.assert_allclose(q.mean, x - H @ g, rtol=1e-8)
    np.testing.assert_allclose(q.scale**2, np.diag(H), rtol=1e-8)
    draws, log_q = q.draw(rng.standard_normal((50_000, d)))
    r = draws - q.mean
    np.testing.assert_allclose(r.T @ r / len(r), H, atol=0.05 * np.abs(H).max())
    exact = -0.5 * np.sum(r @ np.linalg.inv(H) * r, 1) - 0.5 * np.linalg.slogdet(2 * np.pi * H)[1]
    np.testing.assert_allclose(log_q, exact, rtol=1e-8)


def test_free_energy_of_a_gaussian_path(monkeypatch):
    """On a Gaussian F ends near −log Z, and the mode is found; Mode() starts there."""
    scales = jnp.array([0.1, 1.0, 5.0])
    energy = lambda x: 0.5 * jnp.sum(((x - 1) / scales) ** 2) + 7.0
    found = []

    class Keep(pathfinder.Pool):
        def __init__(self, paths):
            super().__init__(paths)
            found.extend(paths)

    # `chain.sample` is the function; the module is found by its full name
    monkeypatch.setattr(sys.modules["enerjax.chain.sample"], "Pool", Keep)
    post = chain.sample(energy, jnp.zeros(3), jr.key(0), chains=1, draws=4, warmup=10)
    assert post.warmup["path_gradients"] == sum(p.gradients for p in found)
    exact = 7.0 - 0.5 * 3 * np.log(2 * np.pi) - float(jnp.log(scales).sum())
    best = min(p.free_energy for p in found)
    assert exact - 1.5 < best < exact + 1.5
    near = chain.sample(energy, 3 * jnp.ones(3), jr.key(0), chains=1, draws=4, warmup=0, start=chain.Mode())
    assert near.stats["step_size"].shape == (1, 4) and near.warmup["gradients"][0] > 3
    # at a mode the force says nothing of the scale: the curvature along the path does
    assert not near.stats["divergence"].any() and near.stats["acceptance"].mean() > 0.5


def test_a_chain_at_rest_in_the_wrong_place_gives_up():
    """The warm-up says so where energies have settled above the ceiling, whatever `early` is."""

    class Block:
        def __init__(self, n, rng):
            self.draws = rng.standard_normal((n, 2))
            self.forces = -self.draws
            self.potential = 50 + 0.5 * np.sum(self.draws**2, axis=1)
            self.why, self.steps = np.zeros(n), np.ones(n)

    rng = np.random.default_rng(0)

    def run(metric, n, last, floor=0):
        assert not floor, "independent draws need no longer trajectories"
        yield
        return Block(n, rng)

    def drive(ceiling, early):
        life = adapt(chain.Diagonal(), Schedule(1000, early), chain.DiagonalMetric(np.ones(2)), 2, run, ceiling)
        try:
            while True:
                next(life)
        except StopIteration as stop:
            return stop.value[1]

    assert drive(20.0, True) and drive(20.0, False)
    assert not drive(60.0, True) and not drive(60.0, False)


def test_longer_trajectories_only_where_they_pay():
    """A chain is tried at a floor above its usual depth if it is slow, and stays there if it gains from it."""

    class Block:
        def __init__(self, r, depth, n, rng):
            noise, x = rng.standard_normal((n, 2)), np.zeros((n, 2))
            x[0] = noise[0]
            for i in range(1, n):
                x[i] = np.array([r, 0.0]) * x[i - 1] + np.sqrt(1 - np.array([r, 0.0]) ** 2) * noise[i]
            self.draws, self.steps = np.exp(x), np.full(n, 2.0**depth - 1)  # ranks do not see the exponential

    def drive(correlation, room=1000):
        """The floor, where trees of depth k ≥ 4 give draws with lag-1 autocorrelation `correlation(k)`."""
        rng, asked = np.random.default_rng(0), []

        def attempt(floor, n):
            yield
            asked.append(floor)
            return Block(correlation(floor), floor, n, rng)

        first = Block(correlation(4), 4, 200, rng)
        life = lengthen(first.draws, first.draws, first.steps, room, 7, attempt)
        try:
            while True:
                next(life)
        except StopIteration as stop:
            assert stop.value[1] == TRIAL * len(asked)
            return stop.value[0], asked

    assert drive(lambda k: 0.3) == (0, [])  # fast enough
    assert drive(lambda k: 0.8 if k < 6 else 0.2, room=TRIAL - 1) == (0, [])
    assert drive(lambda k: 0.8) == (0, [5])  # it does not help
    assert drive(lambda k: {4: 0.8, 5: 0.1}[k]) == (5, [5])
    assert drive(lambda k: {4: 0.96, 5: 0.88, 6: 0.7, 7: 0.1}[k]) == (7, [5, 6, 7])


def test_vectorised_chains_do_not_know_of_each_other():
    """Lanes of the vectorised program: what a chain draws does not depend on how many lanes there are."""
    energy = lambda x: jnp.sum(0.25 * x**4 + 0.1 * x) + 0.3 * x[0] * x[1]
    starts = chain.uniform(jnp.zeros(3))
    run = lambda n: chain.sample(energy, starts, jr.key(1), chains=n, draws=60, warmup=150, vectorise=True)
    many, few = run(6), run(2)
    np.testing.assert_array_equal(many.unconstrained[:2], few.unconstrained)
