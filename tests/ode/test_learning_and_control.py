"""Training recovers known laws; controllers reach their targets."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import optimistix as optx
import pytest

from enerjax import ode, path


class Oscillator(eqx.Module):
    """q̈ = −k q − c q̇ with k and c to be found."""

    k: jax.Array
    c: jax.Array

    def __call__(self, t, y, args=None):
        return jnp.stack([y[1], -self.k * y[0] - self.c * y[1]])


TRUE = Oscillator(jnp.array(2.0), jnp.array(0.1))
TS = jnp.linspace(0.0, 8.0, 33)
STARTS = jnp.array([[1.0, 0.0], [0.0, 1.5], [-1.0, 1.0]])
CLEAN = jax.vmap(lambda y: path.solve(TRUE, y, TS, rtol=1e-10, atol=1e-10))(STARTS)
HOW = dict(noise=0.02, solver=dict(substeps=1, solver=diffrax.Bosh3()))


def test_growing_windows_then_levenberg_marquardt_reach_the_likelihoods_bottom(key):
    """From a stiffness four times off, with noisy, partly missing readings and free starts, within three sigmas."""
    data = CLEAN + 0.02 * jr.normal(key, CLEAN.shape)
    data = data.at[0, 5:9].set(jnp.nan)
    wrong = Oscillator(jnp.array(0.5), jnp.array(0.5))
    with pytest.raises(ValueError, match=r"data\[0, 5, 0\] is not finite"):
        ode.learn(wrong, TS, data, key=key)
    learned = ode.learn(wrong, TS, data, key=key, horizons=(5, 17), epochs=150, rates=3e-2, missing=True, **HOW)
    assert abs(float(learned.field.k) - 2.0) < 0.2
    refined = ode.refine(learned, TS, data, steps=15, missing=True, **HOW)
    np.testing.assert_allclose([refined.field.k, refined.field.c], [2.0, 0.1], atol=0.01)
    loss = ode.path_loss(TS, **HOW)
    value = loss(refined, (jnp.arange(3), data), key)
    assert 0.8 < float(value) < 1.2  # the likelihood knows the noise


def test_shooting_with_an_unobserved_velocity(key):
    """Only q is read; nodes carry the velocity. Gauss–Newton on law and nodes at once."""
    how = dict(every=8, slack=0.01, observe=lambda y: y[:1], solver=HOW["solver"])
    residual = ode.shooting(TS, CLEAN[0, :, :1], 0.01, **how)
    nodes = jnp.stack([CLEAN[0, ::8, 0][:-1], jnp.zeros(4)], axis=1)
    found = optx.least_squares(
        lambda x, _: residual(x),
        optx.LevenbergMarquardt(1e-8, 1e-8),
        (Oscillator(jnp.array(1.5), jnp.array(0.0)), nodes),
        options=dict(jac="fwd"),
        max_steps=100,
    ).value
    np.testing.assert_allclose(found[0].k, 2.0, rtol=5e-3)
    np.testing.assert_allclose(found[1][:, 1], CLEAN[0, ::8, 1][:-1], atol=0.02)
    with pytest.raises(ValueError, match="not a multiple"):
        ode.shooting(TS, CLEAN[0], 0.01, every=7, slack=0.01)


def test_collocation_starts_near_the_law(key):
    found = ode.collocate(
        Oscillator(jnp.array(0.5), jnp.array(0.5)), TS, CLEAN, key=key, epochs=200, optimizer=optax.adam(5e-2)
    )
    np.testing.assert_allclose([found.k, found.c], [2.0, 0.1], atol=0.08)


def test_weak_constraint_tends_to_the_strong_one(key):
    """Linear dynamics: with a tiny model error the weak minimum is the strong one, by normal equations."""
    M = jnp.array([[0.9, 0.2], [-0.3, 0.8]])
    data = jr.normal(key, (6, 2))
    step = lambda z, x=None: M @ z
    strong = path.strong(
        lambda x: path.rollout(step, x, length=5), data[1:], 1.0, background=path.Background(data[0], 1.0)
    )
    x, factor = path.gauss_newton(strong, jnp.zeros(2), iterations=1)
    powers = [jnp.linalg.matrix_power(M, k) for k in range(6)]
    A = sum(P.T @ P for P in powers)
    exact = jnp.linalg.solve(A, sum(P.T @ d for P, d in zip(powers, data, strict=True)))
    np.testing.assert_allclose(x, exact, rtol=1e-10)
    np.testing.assert_allclose(factor @ factor.T, A, rtol=1e-10)
    weak = path.weak(step, data, 1.0, 1e-5)
    z, _ = path.gauss_newton(weak, jnp.zeros((6, 2)), iterations=2)
    np.testing.assert_allclose(z[0], exact, rtol=1e-5)
    with pytest.raises(ValueError, match="model_error must be positive"):
        path.weak(step, data, 1.0, 0.0)


def test_controller_holds_the_reactor_at_its_unstable_state():
    """Open loop it runs away; with gradients through the model it settles at 0.5 mol/l, 350 K and 300 K coolant."""
    scale = jnp.array([1.0, 100.0])
    plant = ode.ForwardModel(ode.stirred_tank, 0.05, substeps=8)
    cost = lambda y, u, k, ref: jnp.sum(((y - ref) / scale) ** 2) * 100 + 1e-4 * jnp.sum((u - 300.0) ** 2) / 100
    controller = ode.Controller(
        plant, cost, jnp.array([290.0]), jnp.array([310.0]), horizon=15, iterations=15, rate=0.2
    )
    y0, ref = jnp.array([0.55, 345.0]), jnp.array([0.5, 350.0])
    alone = path.rollout(lambda y, _: plant(y, jnp.array([300.0])), y0, length=60)[-1]
    run = jax.jit(lambda y: ode.closed_loop(plant, controller, y, jnp.broadcast_to(ref, (60, 2))))
    ys, us = run(y0)
    np.testing.assert_allclose(ys[-1], ref, rtol=2e-2)
    assert np.all((us >= 290) & (us <= 310))
    assert abs(float(alone[1]) - 350) > 10


def test_arm_conserves_energy_without_friction_and_inverse_inverts(key):
    """Work of the torques equals the change of kinetic energy plus friction; an inverse model finds the torque."""
    kinetic = lambda y: (
        0.5 * (5 / 3 + jnp.cos(y[1])) * y[2] ** 2 + (1 / 3 + jnp.cos(y[1]) / 2) * y[2] * y[3] + y[3] ** 2 / 6
    )
    y, u = jnp.array([0.3, 0.9, 0.7, -0.4]), jnp.array([0.5, -0.2])
    power = jax.jvp(kinetic, (y,), (ode.two_link_arm(0.0, y, u),))[1]
    np.testing.assert_allclose(power, (u - 0.1 * y[2:]) @ y[2:], rtol=1e-10)
    plant = ode.ForwardModel(lambda t, y, u: jnp.stack([y[1], u[0] - y[1]]), 0.1)
    policy = lambda y, key: jr.uniform(key, (1,), minval=-1, maxval=1)
    data = ode.transitions(plant, policy, jr.normal(key, (8, 2)), key, length=16)
    assert data[0].shape == (128, 2)
    np.testing.assert_allclose(jax.vmap(plant)(data[0], data[1]), data[2], rtol=1e-12)
    net = eqx.nn.Linear(4, 1, key=key)
    inverse = ode.fit_transitions(ode.InverseModel(net), data, key, inverse=True, epochs=400, batch=128, rate=0.3)
    missed = jax.vmap(inverse)(data[0], data[2]) - data[1]
    assert float(jnp.mean(missed**2)) < 0.1 * float(jnp.var(data[1]))
