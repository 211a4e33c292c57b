"""Every composition converges at the order it declares."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from enerjax.flow import Phase, descend
from enerjax.path import rollout
from zoo import Quadratic, Quartic, energies, steps

E, X = Quartic(1.3), energies["quartic"]()[1]


def _end(step, n, time=1.0, mass=1.0):
    z = Phase.at(E, X / 2, X[::-1] / 2)
    return rollout(lambda z, _: step(E, z, time / n), z, length=n, stride=n).position[0]


@pytest.fixture(scope="module")
def exact():
    return _end(steps["yoshida6"][0], 256)


@pytest.mark.parametrize("name", steps)
def test_error_falls_at_the_declared_order(name, exact):
    step, order = steps[name]
    coarse = 8 if order == 2 else 4
    errors = [float(jnp.abs(_end(step, n) - exact).max()) for n in (coarse, 2 * coarse)]
    slope = np.log2(errors[0] / errors[1])
    assert errors[1] > 1e-13 and abs(slope - order) < 0.35, f"declared {order}, measured {slope:.2f}"


def test_more_gradients_buy_smaller_constants(exact):
    """At equal gradients: minimum norm beats Verlet, Blanes–Moan beats the triple jump twentyfold and more."""
    gradients = 24
    error = lambda name, stages: float(jnp.abs(_end(steps[name][0], gradients // stages) - exact).max())
    assert error("minimum norm", 2) < 0.6 * error("verlet", 1)
    assert error("blanes-moan4", 6) < 0.05 * error("yoshida4", 3)


def test_descent_converges_to_the_gradient_flow_at_first_order():
    """γ = ∞: step dt² of Euler on ẋ = −∇E, which on ½xᵀHx − bᵀx is x* + e^(−Ht)(x₀ − x*)."""
    E, x = energies["quadratic"]()
    values, vectors = jnp.linalg.eigh(E.H)
    rest, time = jnp.linalg.solve(E.H, E.b), 2.0
    flow = rest + vectors @ (jnp.exp(-values * time) * (vectors.T @ (x - rest)))

    @jax.jit
    def errors(E: Quadratic):
        end = lambda n: rollout(
            lambda z, _: descend(E, z, jnp.sqrt(time / n), jnp.inf), Phase.at(E, x), length=n, stride=n
        ).position[0]
        return jnp.array([jnp.linalg.norm(end(n) - flow) for n in (200, 400)])

    coarse, fine = errors(E)
    assert abs(np.log2(coarse / fine) - 1) < 0.05
