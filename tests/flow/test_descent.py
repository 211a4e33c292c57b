"""Motions that come to rest: FIRE and any optax transformation find the minimum, each in its own way."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from enerjax.flow import Fire, optax_step
from enerjax.path import rollout
from zoo import energies


def rosenbrock(x):
    return jnp.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def test_optax_step_of_plain_descent_is_euler_of_the_gradient_flow():
    E, x = energies["quadratic"]()
    rate = optax.sgd(0.01)
    y, memory = x, rate.init(x)
    for _ in range(3):
        x, (y, memory) = x - 0.01 * (E.H @ x - E.b), optax_step(E, y, memory, rate)
    np.testing.assert_allclose(y, x, rtol=1e-13)


def test_lbfgs_with_its_line_search_is_a_step_like_any_other():
    x = jnp.array([-1.2, 1.0, -0.5])
    search = optax.lbfgs()
    (end, _) = jax.jit(
        lambda x: rollout(lambda z, _: optax_step(rosenbrock, *z, search), (x, search.init(x)), length=80, stride=80)
    )(x)
    np.testing.assert_allclose(end[0], jnp.ones(3), atol=1e-6)


def test_fire_comes_to_rest_in_the_minimum():
    E, x = energies["quadratic"]()
    fire = Fire(dt=0.05, dt_max=0.3)
    end = jax.jit(lambda x: rollout(lambda z, _: fire(E, z), fire.start(E, x), length=2000, stride=2000))(x)
    np.testing.assert_allclose(end.phase.position[0], jnp.linalg.solve(E.H, E.b), atol=1e-6)
