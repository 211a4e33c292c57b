"""Gradient flow, heavy ball and ergodicity: what continuous and discrete learners conserve, lose and sample."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

from enerjax.flow import Phase, descend, diffuse, verlet
from enerjax.learning.dynamics import critical_friction, critical_momentum, gradient_flow, heavy_ball
from enerjax.path import rollout
from zoo import Quadratic, Quartic, energies


def test_gradient_flow_on_a_quadratic_is_the_matrix_exponential():
    """θ(t) = θ* + e^(−Ht)(θ₀ − θ*), to 1e-10."""
    E, x = energies["quadratic"]()
    ts = jnp.linspace(0.0, 3.0, 7)
    path = gradient_flow(E, x, ts, rtol=1e-12, atol=1e-13, max_steps=4096)
    rest = jnp.linalg.solve(E.H, E.b)
    exact = jnp.stack([rest + jax.scipy.linalg.expm(-E.H * t) @ (x - rest) for t in ts])
    np.testing.assert_allclose(path, exact, atol=1e-10)


def test_loss_never_grows_along_the_flow_and_falls_at_the_rate_of_dissipation():
    E, w = energies["network loss"]()
    ts = jnp.linspace(0.0, 8.0, 401)
    path = gradient_flow(E, w, ts, rtol=1e-9, atol=1e-10, max_steps=4096)
    L = jax.vmap(E)(path)
    assert bool(jnp.all(jnp.diff(L) < 0)) and L[-1] < 0.5 * L[0]
    power = jax.vmap(lambda w: sum(jnp.sum(g**2) for g in jax.tree.leaves(jax.grad(E)(w))))(path)
    work = jnp.sum(power[1:-1:2] * 4 + power[:-2:2] + power[2::2]) * (ts[1] - ts[0]) / 3  # Simpson
    np.testing.assert_allclose(L[0] - L[-1], work, rtol=1e-5)  # L(0) − L(t) = ∫ |∇L|²


def test_mobility_zero_freezes_a_coordinate():
    E, x = energies["quadratic"]()
    mobility = jnp.array([1.0, 0.0, 1.0, 0.0, 1.0, 1.0])
    path = gradient_flow(E, x, jnp.linspace(0.0, 1.0, 3), mobility=mobility)
    assert bool(jnp.all(path[:, 1] == x[1])) and bool(jnp.all(path[-1, ::4] != x[::4]))


def test_frictionless_heavy_ball_conserves_energy_over_1e5_steps():
    """½|θ̇|² + L on a double well: bounded by the order, no drift, for 1e5 steps; quartered at half the step."""
    L = lambda x: jnp.sum((x**2 - 1) ** 2) + 0.3 * x[0] * x[1]
    z = Phase.at(L, jnp.array([0.3, 1.4]), jnp.array([0.5, 0.0]))

    @jax.jit
    def energies(dt):
        return rollout(lambda z, _: verlet(L, z, dt), z, length=100_000, stride=50).hamiltonian

    def error(dt):
        step = lambda z, _: verlet(L, z, dt)
        kept = jax.jit(lambda z: rollout(step, z, length=100_000, stride=50))(z)
        return np.asarray(jax.vmap(Phase.hamiltonian)(kept) - z.hamiltonian())

    fine, coarse = error(0.01), error(0.02)
    assert np.abs(fine).max() < 2e-3
    drift = np.polyfit(np.arange(fine.size) * 0.5, fine, 1)[0]
    assert abs(drift) < 1e-7  # per unit of time, over 1000 units
    assert 1.8 < np.log2(np.abs(coarse).max() / np.abs(fine).max()) < 2.2


def test_friction_takes_energy_at_its_rate():
    """H(0) − H(t) = ∫ mγ|θ̇|²."""
    E, x = Quartic(1.3), energies["quartic"]()[1].ravel()[:4]
    ts = jnp.linspace(0.0, 5.0, 2001)
    q, v = heavy_ball(E, x, jnp.zeros(4), ts, friction=0.3, mass=2.0, rtol=1e-10, atol=1e-11, max_steps=4096)
    H = jax.vmap(lambda q, v: E(q) + v @ v)(q, v)
    power = 0.6 * jnp.sum(v**2, 1)
    work = jnp.sum(power[1:-1:2] * 4 + power[:-2:2] + power[2::2]) * (ts[1] - ts[0]) / 3
    np.testing.assert_allclose(H[0] - H[-1], work, rtol=1e-7)


def test_critical_damping_on_a_quadratic():
    """At γ = 2√(k/m) the ball follows (1 + ωt) e^(−ωt); less friction overshoots, more is slower."""
    k, m = 3.0, 2.0
    E = lambda x: 0.5 * k * jnp.sum(x**2)
    ts = jnp.linspace(0.0, 8.0, 81)
    omega = np.sqrt(k / m)
    run = lambda factor: heavy_ball(
        E, jnp.ones(1), jnp.zeros(1), ts, friction=factor * critical_friction(k, m), mass=m, rtol=1e-11, atol=1e-12
    )[0][:, 0]
    critical = run(1.0)
    np.testing.assert_allclose(critical, (1 + omega * ts) * jnp.exp(-omega * ts), atol=1e-9)
    under, over = run(0.6), run(1.5)
    assert under.min() < -0.05 and critical.min() > 0 and over[-1] > 10 * critical[-1]


def test_discrete_critical_momentum_is_optimal():
    """θ_t = (1 + t(1 − √ηk)) β^(t/2) at β = (1 − √(ηk))², and optax's momentum descent follows it."""
    eta, k, n = 0.05, 2.0, 30
    beta = critical_momentum(eta, k)
    E = lambda x: 0.5 * k * jnp.sum(x**2)
    optimizer = optax.sgd(eta, momentum=float(beta))
    x, state, seen = jnp.ones(1), optimizer.init(jnp.ones(1)), []
    for _ in range(n):
        update, state = optimizer.update(jax.grad(E)(x), state)
        x = optax.apply_updates(x, update)
        seen.append(x[0])
    # a double eigenvalue r = √β: θ_t = (1 + c t) rᵗ with θ₁ = 1 − ηk
    r = jnp.sqrt(beta)
    c = (1 - eta * k) / r - 1
    t = jnp.arange(1, n + 1)
    np.testing.assert_allclose(jnp.array(seen), (1 + c * t) * r**t, rtol=1e-8)
    step = jnp.array([[1 - eta * k, float(beta)], [-eta * k, float(beta)]])
    np.testing.assert_allclose(jnp.abs(jnp.linalg.eigvals(step)), r, rtol=1e-6)
    dt = jnp.sqrt(eta)
    friction = -jnp.log(beta) / dt
    ours = rollout(lambda z, _: descend(E, z, dt, friction), Phase.at(E, jnp.ones(1)), length=n)
    np.testing.assert_allclose(ours.position[:, 0], jnp.array(seen), rtol=1e-10)


def _batch_means_error(x, batches=40):
    """Standard error of a time average that knows of autocorrelation."""
    means = np.asarray(x)[: len(x) // batches * batches].reshape(batches, -1).mean(1)
    return means.std(ddof=1) / np.sqrt(batches)


@pytest.fixture(scope="module")
def well():
    """A tilted double well, temperature and its exact moments by quadrature."""
    L = lambda x: jnp.sum((x**2 - 1) ** 2 + 0.2 * x)
    T, grid = 1.0, jnp.linspace(-4, 4, 8001)
    weight = jnp.exp(-jax.vmap(L)(grid) / T)
    mean = lambda f: float(jnp.sum(weight * f(grid)) / jnp.sum(weight))
    return L, T, mean, (grid, weight / jnp.sum(weight))


def test_sgld_is_ergodic_and_samples_the_gibbs_law(key, well):
    """One long run and many short runs agree with each other and with exp(−L/T), within Monte Carlo error."""
    L, T, mean, (grid, density) = well
    dt = jnp.sqrt(2 * 0.002)  # ε = dt²/2 = 0.002: the step's own bias stays below the statistical error
    go = jax.jit(
        lambda z, keys, stride: rollout(lambda z, k: diffuse(L, z, dt, T, k), z, keys, stride=stride).position,
        static_argnums=2,
    )
    time = go(Phase.at(L, jnp.ones(1)), jr.split(key, 400_000), 20)[:, 0]
    ensemble = go(Phase.at(L, jnp.ones(3000)), jr.split(jr.fold_in(key, 1), 5000), 5000)[0]
    for f in (lambda x: x, lambda x: x**2, lambda x: x**4):
        by_time, error = float(jnp.mean(f(time))), _batch_means_error(f(time))
        by_ensemble, spread = float(jnp.mean(f(ensemble))), float(jnp.std(f(ensemble))) / np.sqrt(3000)
        assert abs(by_time - by_ensemble) < 4 * np.hypot(error, spread)
        assert abs(by_ensemble - mean(f)) < 4 * spread and abs(by_time - mean(f)) < 4 * error
    # the whole law: distance of cumulative distributions (Kolmogorov) of independent walkers
    exact = jnp.interp(jnp.sort(ensemble), grid, jnp.cumsum(density))
    distance = jnp.max(jnp.abs(exact - (jnp.arange(3000) + 0.5) / 3000))
    assert distance < 1.95 / np.sqrt(3000)  # 0.1 % level


def test_descent_is_dissipative_not_ergodic(well):
    """T = 0: each start falls into its own well; time averages remember where they began."""
    L, _, mean, _ = well
    starts = jnp.array([-1.5, 1.5])
    run = lambda x: rollout(lambda z, _: descend(L, z, 0.1, jnp.inf), Phase.at(L, x[None]), length=2000)
    z = jax.vmap(run)(starts)
    assert bool(jnp.all(jnp.diff(z.energy, axis=1) <= 1e-15))
    averages = jnp.mean(z.position[:, 1000:, 0], 1)
    assert averages[0] < -0.9 < 0.9 < averages[1]
    assert abs(averages[0] - mean(lambda x: x)) > 0.3 and abs(averages[1] - mean(lambda x: x)) > 0.3


def test_minibatch_energies_are_leaves_one_trace(key):
    """SGLD on 200 different minibatches compiles once, and its mean is the full-data posterior's."""
    data = 1.5 + jr.normal(key, (400, 1))
    traces = []

    @jax.jit
    def run(z, batches, keys):
        def step(z, x):
            traces.append(1)
            batch, k = x
            mean = jnp.mean(batch, 0)
            energy = Quadratic(400.0 * jnp.eye(1), 400.0 * mean)
            return diffuse(energy, z, jnp.sqrt(2e-4), 1.0, k)

        return rollout(step, z, (batches, keys)).position

    index = jr.randint(jr.fold_in(key, 1), (4000, 100), 0, 400)
    z = Phase.at(Quadratic(400.0 * jnp.eye(1), 400.0 * jnp.mean(data, 0)), jnp.zeros(1))
    draws = run(z, data[index], jr.split(key, 4000))[500:, 0]
    assert len(traces) <= 2
    assert abs(jnp.mean(draws) - jnp.mean(data)) < 4 * _batch_means_error(draws)
