"""Inputs outside their samples, sparse laws of coordinates at rest, plans under a cost that is not convex."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from enerjax import ode


def test_an_input_is_constant_outside_its_samples():
    u = ode.Inputs(jnp.array([0.0, 1.0, 3.0]), jnp.array([0.0, 1.0, 0.0]))
    at = jnp.array([-1.0, 0.0, 0.5, 2.0, 3.0, 4.0])
    np.testing.assert_allclose(jax.vmap(u.rate)(at), [0.0, 1.0, 1.0, -0.5, -0.5, 0.0])
    inner = jnp.array([-1.0, 0.5, 2.0, 4.0])
    np.testing.assert_allclose(jax.vmap(jax.grad(u))(inner), jax.vmap(u.rate)(inner))


def test_a_coordinate_at_rest_has_the_law_zero():
    y = jr.normal(jr.key(0), (30, 2))
    found = ode.sparse_law(y, jnp.stack([y[:, 1], jnp.zeros(30)], axis=1), names=("q", "v"))
    assert found.equations() == ["dq/dt = +1 v", "dv/dt = 0"]
    np.testing.assert_allclose(found.residual, 0.0, atol=1e-12)
    with pytest.raises(ValueError, match="1 names .* for 2 coordinates"):
        ode.sparse_law(y, y, names=("q",))


def test_a_pendulum_is_swung_up():
    """The cost 1 − cos θ bends down where the pendulum hangs, so Cholesky's factor was NaN, and the plan for ever."""
    pendulum = lambda t, y, u: jnp.stack([y[1], jnp.sin(y[0]) - 0.1 * y[1] + u[0]])
    plant = ode.ForwardModel(pendulum, 0.1)
    cost = lambda y, u, k, r: 1 - jnp.cos(y[0]) + 0.05 * y[1] ** 2 + 1e-3 * u[0] ** 2
    controller = ode.Controller(plant, cost, jnp.array([-1.0]), jnp.array([1.0]), horizon=40)
    start = jnp.array([3.1, 0.0])
    ys, us = jax.jit(lambda y: ode.closed_loop(plant, controller, y, length=60))(start)
    assert np.all(np.isfinite(ys)) and np.all(np.abs(us) <= 1.0)
    np.testing.assert_allclose(jnp.cos(ys[-1, 0]), 1.0, atol=1e-3)


def test_a_plan_without_anything_better_stays():
    """A model that fails everywhere but at rest, and a cost that is largest here: the plan is kept, and never NaN."""
    cost = lambda y, u, k, r: -jnp.cos(y[0]) + 1e-3 * u[0] ** 2
    steered = lambda model: ode.Controller(model, cost, -jnp.ones(1), jnp.ones(1), horizon=5)
    controller = steered(lambda y, u: y + 0.1 * u)
    y, foreseen = jnp.array([3.0]), jax.jit(lambda plan: controller.foreseen(plan, jnp.array([3.0]), None))
    action, plan = jax.jit(controller.__call__)(controller.start(), y)
    assert float(foreseen(plan)) < float(foreseen(controller.start()))
    assert np.all(np.abs(plan) <= 1) and float(action[0]) == -1.0  # downhill, to the bound
    broken = steered(lambda y, u: y + jnp.where(u == 0.0, 0.0, jnp.nan))
    action, plan = jax.jit(broken.__call__)(broken.start(), y)
    np.testing.assert_array_equal(plan, broken.start())
