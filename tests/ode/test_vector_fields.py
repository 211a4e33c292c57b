"""Each field against the law it promises: conservation, passivity, known equations of motion."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from enerjax import flow, ode, path
from enerjax.flow.continuous import Descent, Langevin


def test_hamiltonian_network_conserves_its_energy_and_damping_spends_it(key):
    H = ode.ScalarNetwork(ode.mlp(4, 1, 12, 2, key), 1.0)
    y0 = (jnp.array([0.7, -0.2]), jnp.array([0.1, 0.5]))
    ts = jnp.linspace(0, 5, 6)
    run = jax.jit(lambda R: jax.vmap(H)(path.solve(ode.Hamiltonian(H, R), y0, ts, rtol=1e-10, atol=1e-12)))
    np.testing.assert_allclose(run(0.0), H(y0), rtol=1e-9)
    assert np.all(np.diff(run(0.3)) < 0)


def test_lagrangian_of_the_double_pendulum():
    """Against the textbook accelerations (m = l = 1)."""
    g = 9.8

    def L(q, v):
        T = v[0] ** 2 + 0.5 * v[1] ** 2 + v[0] * v[1] * jnp.cos(q[0] - q[1])
        return T + 2 * g * jnp.cos(q[0]) + g * jnp.cos(q[1])

    q, v = jnp.array([1.1, -0.4]), jnp.array([0.3, 0.8])
    d = q[0] - q[1]
    M = jnp.array([[2.0, jnp.cos(d)], [jnp.cos(d), 1.0]])
    force = jnp.array([-(v[1] ** 2) * jnp.sin(d) - 2 * g * jnp.sin(q[0]), v[0] ** 2 * jnp.sin(d) - g * jnp.sin(q[1])])
    field = ode.Lagrangian(L)
    np.testing.assert_allclose(field(0.0, (q, v))[1], jnp.linalg.solve(M, force), rtol=1e-12)
    energies = jax.vmap(field.energy)(path.solve(field, (q, v), jnp.linspace(0, 2, 4), rtol=1e-10, atol=1e-12))
    np.testing.assert_allclose(energies, energies[0], rtol=1e-9)


def test_port_hamiltonian_is_passive_whatever_its_weights(key):
    H = ode.ScalarNetwork(ode.mlp(3, 1, 8, 2, key))
    A, B, G = (jr.normal(jr.fold_in(key, i), s) for i, s in enumerate([(3, 3), (3, 2), (3, 1)]))
    field = ode.PortHamiltonian(H, A, B, G)

    def power(y, u):
        stored = jax.jvp(H, (y,), (field(0.0, y, u),))[1]
        supplied = field.output(y) @ u
        return stored, supplied, jnp.sum((B.T @ jax.grad(H)(y)) ** 2)

    stored, supplied, lost = jax.vmap(power)(jr.normal(key, (50, 3)), jr.normal(jr.key(9), (50, 1)))
    np.testing.assert_allclose(stored, supplied - lost, atol=1e-12)
    with pytest.raises(ValueError, match="give ports"):
        ode.PortHamiltonian(H, A, B).output(jnp.ones(3))


def test_inputs_interpolate_and_hold():
    ts, us = jnp.array([0.0, 1.0, 3.0]), jnp.array([[0.0], [2.0], [-2.0]])
    at = jnp.array([-1.0, 0.5, 2.0, 9.0])
    np.testing.assert_allclose(jax.vmap(ode.Inputs(ts, us))(at)[:, 0], [0.0, 1.0, 0.0, -2.0])
    np.testing.assert_allclose(jax.vmap(ode.Inputs(ts, us, held=True))(at)[:, 0], [0.0, 0.0, 2.0, -2.0])
    # ẏ = −y + u(t) with u = 2t on [0, 1]: y = 2t − 2 + 2e^(−t)
    field = ode.Controlled(lambda t, y, u: -y + u)
    y = path.solve(field, jnp.zeros(1), jnp.array([0.0, 1.0]), ode.Inputs(ts, us), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(y[-1, 0], 2 * np.exp(-1.0), rtol=1e-8)


def test_neural_cde_with_a_constant_matrix_reads_the_path(key):
    """F constant: y(T) − y(0) = F (X(T) − X(0)), whatever the path between."""
    F = jr.normal(key, (4, 2))
    ts = jnp.array([0.0, 0.3, 1.0, 1.7])
    X = jr.normal(jr.key(2), (4, 2))
    field = ode.NeuralCDE(lambda y: F, 2)
    y = path.solve(field, jnp.zeros(4), ts, ode.Inputs(ts, X), rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(y[-1], F @ (X[-1] - X[0]), rtol=1e-4, atol=1e-4)


def test_scaled_field_is_the_same_law_in_other_units():
    law = lambda t, y, a: jnp.stack([y[1], -y[0]])
    field = ode.Scaled(law, jnp.array([3.0, 0.0]), jnp.array([10.0, 10.0]), 5.0)
    y = path.solve(field, jnp.array([13.0, 0.0]), jnp.array([0.0, 10.0]), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(y[-1], [3 + 10 * np.cos(2.0), -10 * np.sin(2.0)], rtol=1e-6)
    ts = jnp.linspace(0, 10, 101)
    fitted = ode.Scaled.of(law, ts, 3 + 10 * jnp.sin(ts[None, :, None] / 5))
    np.testing.assert_allclose(
        fitted.time, 5.0 * np.std(np.sin(ts / 5)) / np.sqrt(np.mean(np.cos(ts / 5) ** 2)), rtol=0.05
    )


def test_second_order_universal_kinetic_and_augmented():
    fall = ode.SecondOrder(lambda t, q, v, a: -a * jnp.ones_like(q))
    drag = ode.Universal(fall, lambda t, y, a: (jnp.zeros_like(y[0]), 0.5 * jnp.ones_like(y[1])))
    q, v = path.solve(drag, (jnp.zeros(1), jnp.zeros(1)), jnp.array([0.0, 2.0]), 9.5)
    np.testing.assert_allclose([q[-1, 0], v[-1, 0]], [-18.0, -18.0], rtol=1e-6)
    y, k = path.solve(ode.Kinetic(lambda t, y, a: -y), (jnp.ones(2), jnp.array(0.0)), jnp.array([0.0, 1.0]), rtol=1e-9)
    np.testing.assert_allclose(k[-1], 1 - np.exp(-2.0), rtol=1e-6)
    assert ode.augmented(jnp.ones(2), 3).shape == (5,)


def test_continuous_motions_agree_with_the_steps(key):
    """Langevin without bath is Newton's equation, which Verlet follows to second order."""
    E = lambda q: jnp.sum(q**4) / 4 + jnp.sum(q**2)
    q, mass = jnp.array([1.0, -0.3]), jnp.array([1.0, 3.0])
    exact = path.solve(Langevin(E, mass), (q, 0 * q), jnp.array([0.0, 1.0]), rtol=1e-10, atol=1e-12)[0][-1]
    n = 400
    z = path.rollout(lambda z, _: flow.verlet(E, z, 1 / n, mass), flow.Phase.at(E, q), length=n, stride=n)
    np.testing.assert_allclose(z.position[-1], exact, atol=1e-5)
    down = jax.vmap(E)(path.solve(Descent(E), q, jnp.linspace(0, 1, 5)))
    assert np.all(np.diff(down) < 0)
    noise = Langevin(E, mass, friction=2.0, kT=0.5).noise(0.0, (q, 0 * q))
    np.testing.assert_allclose(noise.diagonal[1], np.sqrt(2 * 2.0 * 0.5 * np.asarray(mass)))


def test_sparse_law_is_read_off_a_known_field():
    y = np.random.default_rng(0).uniform(0.5, 3, (200, 2))
    rates = np.stack([1.3 * y[:, 0] - 0.9 * y[:, 0] * y[:, 1], 0.8 * y[:, 0] * y[:, 1] - 1.8 * y[:, 1]], 1)
    noisy = rates * (1 + 0.01 * np.random.default_rng(1).normal(size=rates.shape))
    law = ode.sparse_law(y, noisy, names=("x", "y"))
    assert int((law.coefficients != 0).sum()) == 4
    np.testing.assert_allclose(law(y), rates, atol=0.03)
    assert law.equations(2) == ["dx/dt = +1.3 x -0.9 x y", "dy/dt = -1.8 y +0.8 x y"]
    with pytest.raises(ValueError, match="lower the degree"):
        ode.sparse_law(y[:3], rates[:3])
    with pytest.raises(ValueError, match="not finite"):
        ode.sparse_law(y * np.nan, rates)


def test_smoothed_derivative_of_an_irregular_series():
    ts = np.sort(np.random.default_rng(0).uniform(0, 6, 80))
    ys = np.stack([np.sin(ts), np.cos(ts)], 1)
    ys[5, 0] = np.nan
    states, rates = ode.smoothed(ts, ys)
    np.testing.assert_allclose(rates[3:-3], np.stack([np.cos(ts), -np.sin(ts)], 1)[3:-3], atol=0.01)
    np.testing.assert_allclose(states[5, 0], np.sin(ts[5]), atol=1e-3)


def test_network_takes_time_and_arguments(key):
    net = ode.Network(eqx.nn.MLP(2 + 1 + 1, 2, 4, 1, key=key), timed=True)
    assert net(jnp.array(0.1), jnp.ones(2), jnp.ones(1)).shape == (2,)


@pytest.mark.parametrize("dtype, tolerance", [(np.float32, 4e-7), (np.float64, 1e-15)])
def test_softplus_to_rounding_with_its_slopes(dtype, tolerance):
    """Relative error in the far tail too; derivatives are the logistic function and s(1 − s), at zero as well."""
    x = np.concatenate([np.linspace(-60, 60, 241), np.linspace(-1e-3, 1e-3, 5)]).astype(dtype)
    wide = x.astype(np.longdouble)
    exact = np.maximum(wide, 0) + np.log1p(np.exp(-np.abs(wide)))
    np.testing.assert_allclose(np.asarray(ode.softplus(jnp.asarray(x))), exact.astype(dtype), rtol=tolerance)
    slope = jax.vmap(jax.grad(ode.softplus))(jnp.asarray(x))
    s = 1 / (1 + np.exp(-wide))
    np.testing.assert_allclose(slope, s.astype(dtype), rtol=4 * tolerance)
    bend = jax.vmap(jax.grad(jax.grad(ode.softplus)))(jnp.asarray(x))
    np.testing.assert_allclose(bend, (s * (1 - s)).astype(dtype), rtol=4 * tolerance, atol=tolerance)
