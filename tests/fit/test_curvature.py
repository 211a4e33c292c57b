"""Lanczos, quadrature and Newton–CG against dense eigendecompositions, exact traces and scipy."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import scipy.optimize
from jax.flatten_util import ravel_pytree

from enerjax import _tree as tree
from enerjax.energy import Misfit, gauss_newton_product, hessian_vector_product
from enerjax.fit.curvature import direction, extreme_eigenvalues, lanczos, newton_cg, spectrum
from zoo import Quadratic, energies


def _network():
    E, w = energies["network loss"]()
    flat, unravel = ravel_pytree(w)
    return E, w, jax.jit(jax.hessian(lambda v: E(unravel(v))))(flat)


def test_lanczos_reproduces_the_dense_spectrum_of_a_network(key):
    E, w, H = _network()
    n = len(H)
    krylov = jax.jit(lambda w: lanczos(lambda v: hessian_vector_product(E, w, v), tree.normal_like(key, w), n))(w)
    np.testing.assert_allclose(krylov.basis @ krylov.basis.T, np.eye(n), atol=1e-10)
    T = krylov.basis @ H @ krylov.basis.T
    np.testing.assert_allclose(np.diag(T), krylov.diagonal, atol=1e-10)
    np.testing.assert_allclose(krylov.ritz()[0], np.linalg.eigvalsh(H), atol=1e-9)


def test_extremes_and_condition_number(key):
    E, w, H = _network()
    dense = np.linalg.eigvalsh(H)
    ends = jax.jit(lambda w: extreme_eigenvalues(E, w, key, steps=30))(w)
    np.testing.assert_allclose([ends.smallest, ends.largest], dense[[0, -1]], rtol=1e-6, atol=1e-6 * dense[-1])
    assert bool(jnp.all(ends.residual < 1e-2 * dense[-1]))
    values = jnp.geomspace(1e-2, 1.0, 20)
    Q = jnp.linalg.qr(jr.normal(key, (20, 20)))[0]
    bowl = Quadratic(Q @ jnp.diag(values) @ Q.T, jnp.zeros(20))
    ends = extreme_eigenvalues(bowl, jnp.ones(20), key, steps=20)
    np.testing.assert_allclose(ends.condition, 100.0, rtol=1e-8)


def test_exhausted_krylov_space_adds_no_eigenvalue(key):
    """Three distinct eigenvalues, ten steps: the seven missing directions must not appear as zeros."""
    H = jnp.diag(jnp.repeat(jnp.array([1.0, 2.0, 5.0]), 4))
    ends = extreme_eigenvalues(Quadratic(H, jnp.zeros(12)), jnp.zeros(12), key, steps=10)
    np.testing.assert_allclose([ends.smallest, ends.largest], [1.0, 5.0], rtol=1e-10)
    s = spectrum(Quadratic(H, jnp.zeros(12)), jnp.zeros(12), key, probes=4, steps=10)
    mass = [float(jnp.sum(s.weights[jnp.abs(s.nodes - v) < 1e-6])) for v in (1.0, 2.0, 5.0)]
    np.testing.assert_allclose(sum(mass), jnp.sum(s.weights), rtol=1e-8)


def test_stochastic_quadrature_gives_traces_within_its_standard_error(key):
    E, w, H = _network()
    s = jax.jit(lambda w, key: spectrum(E, w, key, probes=64, steps=20)[:2])(w, key)
    s = type(spectrum(Quadratic(jnp.eye(2), jnp.zeros(2)), jnp.zeros(2), key))(*s, len(H))
    dense = jnp.linalg.eigvalsh(H)
    for f in (lambda x: x, lambda x: x**2, lambda x: jnp.exp(-x)):
        value, error = s.trace(f)
        assert abs(value - jnp.sum(f(dense))) < 4 * error
    np.testing.assert_allclose(jnp.mean(jnp.sum(s.weights, -1)), 1.0, atol=0.2)
    grid = jnp.linspace(dense[0] - 1, dense[-1] + 1, 2000)
    width = 0.1
    exact = jnp.mean(jax.scipy.stats.norm.pdf(grid[:, None], dense[None], width), 1)
    distance = jnp.sum(jnp.abs(s.density(grid, width) - exact)) * (grid[1] - grid[0])
    assert distance < 0.25  # total variation ×2 of densities whose mass is 1


def test_direction_is_the_newton_step_and_stays_in_the_region():
    E, x = energies["quadratic"]()
    g = jax.grad(E)(x)
    newton = direction(lambda v: E.H @ v, g)
    np.testing.assert_allclose(newton.step, -jnp.linalg.solve(E.H, g), rtol=1e-8)
    np.testing.assert_allclose(newton.promise, E(x) - E(x + newton.step), rtol=1e-10)
    short = direction(lambda v: E.H @ v, g, radius=0.1)
    np.testing.assert_allclose(jnp.linalg.norm(short.step), 0.1, rtol=1e-12)
    assert short.boundary and not newton.boundary and short.promise > 0
    saddle = direction(lambda v: jnp.array([1.0, -1.0]) * v, jnp.array([0.1, 1e-3]), radius=2.0)
    np.testing.assert_allclose(jnp.linalg.norm(saddle.step), 2.0, rtol=1e-12)


def test_newton_cg_on_rosenbrock_matches_scipy():
    rosen = lambda x: jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)
    start = jnp.array([1.3, 0.7, 0.8, 1.9, 1.2])
    found = jax.jit(lambda x: newton_cg(rosen, x))(start)
    theirs = scipy.optimize.minimize(scipy.optimize.rosen, np.asarray(start), jac=scipy.optimize.rosen_der, tol=1e-10)
    assert bool(found.converged) and int(found.iterations) < 60
    np.testing.assert_allclose(found.x, theirs.x, atol=1e-6)


def test_newton_cg_leaves_a_saddle_and_never_climbs():
    E = lambda x: x["a"] ** 4 / 4 - x["a"] ** 2 / 2 + jnp.sum(x["b"] ** 2)
    found = newton_cg(E, {"a": jnp.array(1e-3), "b": jnp.ones(2)})
    np.testing.assert_allclose([found.x["a"], found.energy], [1.0, -0.25], rtol=1e-10)


@pytest.mark.parametrize("condition", [1e1, 1e3, 1e5])
def test_newton_and_natural_gradient_make_the_rates_equal(key, condition):
    """Gradient descent contracts with (κ − 1)/(κ + 1) exactly; Newton and Gauss–Newton take one step whatever κ."""
    values = jnp.geomspace(1 / condition, 1.0, 8)
    A = jnp.sqrt(values)[:, None] * jnp.linalg.qr(jr.normal(key, (8, 8)))[0]
    E, x = Misfit(lambda x: A @ x), jnp.linalg.solve(A, jnp.sqrt(jnp.eye(8)[0] + jnp.eye(8)[-1]) / values**0.5)
    rate = 2 / (values[0] + values[-1])
    after = x - rate * jax.grad(E)(x)
    contraction = jnp.linalg.norm(after) / jnp.linalg.norm(x)
    np.testing.assert_allclose(contraction, (condition - 1) / (condition + 1), rtol=1e-6)
    for product in (hessian_vector_product, gauss_newton_product):
        step = direction(lambda v, p=product: p(E, x, v), jax.grad(E)(x), tolerance=1e-14, max_products=40)
        assert jnp.linalg.norm(x + step.step) < 1e-5 * jnp.linalg.norm(x)
