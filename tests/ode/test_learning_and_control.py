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


def test_a_learned_model_holds_the_reactor_as_well_as_the_true_one(key):
    """Open loop it runs away; gradients through either model hold it at 0.5 mol/l, 350 K with 300 K coolant.

    Deviations: 0.1 mol/l, 10 K, 10 K of coolant. The field is learned from 960 transitions with random coolant.
    """
    middle, spread = jnp.array([0.5, 350.0]), jnp.array([0.1, 10.0])
    reactor = lambda t, x, a: ode.stirred_tank(t, middle + spread * x, 300.0 + 10.0 * a) / spread
    plant = ode.ForwardModel(reactor, 0.05, substeps=2)
    starts = jr.uniform(key, (160, 2), minval=-1.0, maxval=1.0)
    data = ode.transitions(plant, lambda y, key: jr.uniform(key, (1,), minval=-1, maxval=1), starts, key, length=6)
    inside = jnp.all(jnp.abs(data[2]) < 3.0, axis=1)  # some run away even so
    data = tuple(v[inside] for v in data)
    law = ode.Network(ode.mlp(3, 2, 16, 1, key, final=0.3))
    learned = ode.fit_transitions(ode.ForwardModel(law, 0.05), data, key, epochs=120, batch=240, rate=1e-2)
    cost = lambda y, a, k, ref: jnp.sum((y - ref) ** 2) + 1e-4 * jnp.sum(a**2)
    x0, rest = jnp.array([0.5, -0.5]), jnp.zeros((60, 2))

    def steered(model):
        controller = ode.Controller(model, cost, -jnp.ones(1), jnp.ones(1), horizon=12)
        return jax.jit(lambda x: ode.closed_loop(plant, controller, x, rest))(x0)

    (knowing, _), (ys, us) = steered(plant), steered(learned)
    alone = path.rollout(lambda y, _: plant(y, jnp.zeros(1)), x0, length=60)
    off = lambda ys: float(jnp.sqrt(jnp.mean(ys[:, 1] ** 2)))
    assert off(ys) < 1.2 * off(knowing) < 0.2 < 1.0 < off(alone)
    assert np.all(np.abs(ys[-10:]) < 0.1) and np.all(np.abs(us) <= 1)


def test_an_inverse_model_moves_the_arm_where_it_is_told(key):
    """(state, wanted joint velocities) ↦ torques, learned from the same transitions with inputs and targets swapped."""
    plant = ode.ForwardModel(ode.two_link_arm, 0.05)
    starts = jr.uniform(key, (100, 4), minval=-1.0, maxval=1.0)
    policy = lambda y, key: jr.uniform(key, (2,), minval=-2.0, maxval=2.0)
    y, u, after = ode.transitions(plant, policy, starts, key, length=8)
    np.testing.assert_allclose(jax.vmap(plant)(y, u), after, rtol=1e-12)

    class Torques(eqx.Module):
        net: eqx.nn.MLP

        def __call__(self, x):  # velocities change by tenths: the net sees the rate of change
            return self.net(jnp.concatenate([jnp.cos(x[1:2]), x[2:4], x[4:] - x[2:4]]))

    inverse = ode.InverseModel(Torques(ode.mlp(5, 2, 32, 2, key)))
    inverse = ode.fit_transitions(inverse, (y, u, after[:, 2:]), key, inverse=True, batch=200, rate=1e-2)
    fresh = jr.uniform(jr.key(8), (50, 4), minval=-0.8, maxval=0.8)
    torques = jr.uniform(jr.key(9), (50, 2), minval=-1.5, maxval=1.5)
    wanted = jax.vmap(plant)(fresh, torques)[:, 2:]
    reached = jax.vmap(lambda y, w: plant(y, inverse(y, w)))(fresh, wanted)[:, 2:]
    assert float(jnp.mean((reached - wanted) ** 2)) < 0.03 * float(jnp.mean((fresh[:, 2:] - wanted) ** 2))


def test_the_arms_energy_balances():
    """Work of the torques equals the change of kinetic energy plus friction."""
    kinetic = lambda y: (
        0.5 * (5 / 3 + jnp.cos(y[1])) * y[2] ** 2 + (1 / 3 + jnp.cos(y[1]) / 2) * y[2] * y[3] + y[3] ** 2 / 6
    )
    y, u = jnp.array([0.3, 0.9, 0.7, -0.4]), jnp.array([0.5, -0.2])
    power = jax.jvp(kinetic, (y,), (ode.two_link_arm(0.0, y, u),))[1]
    np.testing.assert_allclose(power, (u - 0.1 * y[2:]) @ y[2:], rtol=1e-10)
