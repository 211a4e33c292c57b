"""The learner as a dynamical system, against what is known of the logistic map and of eigenvalues."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from enerjax import _tree as tree
from enerjax.fit.curvature import extreme_eigenvalues, newton_cg
from enerjax.learning.stability import (
    bifurcation,
    descent,
    feigenbaum,
    lyapunov,
    multipliers,
    period_doubling,
    periodic_point,
    superstable,
)

LOGISTIC = descent(lambda x: jnp.sum(x**2 / 2 - x**3 / 3))  # x ← (1 − η) x + η x², conjugate to r = 1 + η
CRITICAL = lambda eta: (eta - 1) / (2 * eta)
DELTA = 4.669201609102990


def test_descent_on_a_cubic_is_the_logistic_map():
    eta, x = 2.7, jnp.array(0.2)
    u = lambda x: (eta * (1 - x)) / (1 + eta)  # the conjugacy u = η(1 − x)/r to u ← r u (1 − u)
    np.testing.assert_allclose(u(LOGISTIC(eta, x)), (1 + eta) * u(x) * (1 - u(x)), rtol=1e-13)


def test_period_doubles_at_two_over_curvature():
    found = period_doubling(LOGISTIC, 1.7, jnp.array(0.05))
    np.testing.assert_allclose(found.parameter, 2.0, atol=1e-10)
    # the two-cycle of the logistic map doubles at r = 1 + √6 (known in closed form)
    eta = 2.3
    cycle = bifurcation(LOGISTIC, jnp.array(0.1), jnp.array([eta]), transient=500, keep=1)[0, 0]
    second = period_doubling(LOGISTIC, eta, cycle, period=2)
    np.testing.assert_allclose(second.parameter, np.sqrt(6.0), rtol=1e-10)


def test_doubling_of_a_network_is_two_over_the_largest_eigenvalue(key):
    """Many dimensions: the rate at which descent at a minimum of a loss loses stability is 2/λ_max from Lanczos."""
    X = jnp.linspace(-2, 2, 15)
    model = lambda w: w[0] * jnp.tanh(w[1] * X + w[2]) + w[3] * jnp.tanh(w[4] * X)
    y = jnp.sin(1.3 * X)
    L = lambda w: jnp.mean((model(w) - y) ** 2) / 2 + 1e-2 * jnp.sum(w**2)
    minimum = jax.jit(lambda w: newton_cg(L, w, tolerance=1e-11))(jnp.array([0.8, 0.9, 0.1, -0.3, 1.5]))
    assert bool(minimum.converged)
    top = extreme_eigenvalues(L, minimum.x, key, steps=5).largest
    found = period_doubling(descent(L), 0.9 * 2 / top, minimum.x)
    np.testing.assert_allclose(found.parameter, 2 / top, rtol=1e-6)
    np.testing.assert_allclose(found.point, minimum.x, atol=1e-8)
    assert float(jnp.abs(multipliers(descent(L), 0.99 * 2 / top, minimum.x)).max()) < 1
    assert float(jnp.abs(multipliers(descent(L), 1.01 * 2 / top, minimum.x)).max()) > 1


def test_feigenbaum_constant():
    """Superstable rates: 1 (period 1), √5 (period 2), accumulating at 2.5699456; ratios → δ."""
    rates, ratios = feigenbaum(LOGISTIC, CRITICAL, 1.0, 2.2, 8)
    np.testing.assert_allclose(rates[:2], [1.0, np.sqrt(5.0)], rtol=1e-12)
    np.testing.assert_allclose(ratios[-1], DELTA, rtol=2e-4)
    assert float(jnp.abs(ratios[-3:] / DELTA - 1).max()) < 0.02
    np.testing.assert_allclose(rates[-1] + (rates[-1] - rates[-2]) / (DELTA - 1), 2.569945671870945, atol=1e-8)
    np.testing.assert_allclose(superstable(LOGISTIC, CRITICAL, 2.83, 3), 2.8318740552, atol=1e-9)  # r = 3.8318740552


@pytest.mark.parametrize(("eta", "exponent"), [(3.0, np.log(2.0)), (1.5, np.log(0.5)), (2.0 - 1e-3, np.log(0.999))])
def test_lyapunov_exponent(key, eta, exponent):
    """log 2 in full chaos (η = 3), log |1 − η| at the fixed point."""
    measured = lyapunov(lambda x: LOGISTIC(eta, x), jnp.array(0.3217), key, length=50_000, transient=2000)
    np.testing.assert_allclose(measured, exponent, atol=5e-3)


def test_bifurcation_diagram_counts_the_period():
    orbits = np.asarray(bifurcation(LOGISTIC, jnp.array(0.1), jnp.array([1.5, 2.3, 2.5, 2.9]), transient=4000, keep=64))
    periods = [len(np.unique(np.round(orbit, 8))) for orbit in orbits]
    assert periods[:3] == [1, 2, 4] and periods[3] > 32


def test_periodic_point_may_be_unstable():
    x = periodic_point(LOGISTIC, 2.8, jnp.array(0.05))  # the minimum itself, past its stability
    np.testing.assert_allclose(x, 0.0, atol=1e-12)
    np.testing.assert_allclose(multipliers(LOGISTIC, 2.8, x), [-1.8], rtol=1e-12)


def test_lyapunov_of_a_linear_map_is_its_spectral_radius(key):
    A = jnp.array([[0.4, 1.3], [-0.2, 0.7]])
    measured = lyapunov(
        lambda x: tree.scale(1.0, {"x": A @ x["x"]}), {"x": jnp.ones(2)}, key, length=20_000, transient=100
    )
    np.testing.assert_allclose(measured, np.log(np.abs(np.linalg.eigvals(A)).max()), atol=1e-3)
