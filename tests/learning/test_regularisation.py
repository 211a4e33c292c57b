"""Ridge regression against scikit-learn on real data, its two cures, and λ as a reaction in the volume."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from enerjax.learning.regularisation import normal_equations, ridge, screened_poisson


def test_ridge_solves_its_normal_equations_and_filters(key):
    X, y = jr.normal(key, (40, 6)), jr.normal(jr.fold_in(key, 1), (40,))
    for penalty in (0.0, 0.3, 20.0):
        fit = ridge(X, y, penalty, offset=False)
        np.testing.assert_allclose(fit.weights, normal_equations(X, y, penalty), rtol=1e-9)
        hat = X @ jnp.linalg.solve(X.T @ X + penalty * jnp.eye(6), X.T)
        np.testing.assert_allclose(fit.degrees_of_freedom, jnp.trace(hat), rtol=1e-10)


def test_ridge_on_diabetes_is_scikit_learns():
    datasets = pytest.importorskip("sklearn.datasets")
    linear_model = pytest.importorskip("sklearn.linear_model")
    X, y = datasets.load_diabetes(return_X_y=True)
    for penalty in (1e-3, 0.1, 10.0):
        theirs = linear_model.Ridge(alpha=penalty, solver="svd", tol=1e-12).fit(X, y)
        ours = ridge(jnp.asarray(X), jnp.asarray(y), penalty)
        np.testing.assert_allclose(ours.weights, theirs.coef_, rtol=1e-9)
        np.testing.assert_allclose(ours.offset, theirs.intercept_, rtol=1e-10)
        np.testing.assert_allclose(ours(jnp.asarray(X)), theirs.predict(X), rtol=1e-9)


def test_multicollinearity_is_cured(key):
    """Two copies of a feature, apart by 1e-6: least squares gives huge opposite weights, ridge shares between them."""
    x = jr.normal(key, (100,))
    X = jnp.stack([x, x + 1e-6 * jr.normal(jr.fold_in(key, 1), (100,))], 1)
    y = x + 0.1 * jr.normal(jr.fold_in(key, 2), (100,))
    wild, calm = ridge(X, y, 0.0), ridge(X, y, 1e-3)
    assert jnp.abs(wild.weights).max() > 100 and wild.condition > 1e10
    np.testing.assert_allclose(calm.weights, calm.weights[::-1], atol=5e-3)
    np.testing.assert_allclose(calm.weights.sum(), 1.0, atol=0.05)
    assert calm.condition < 1e6
    exact = ridge(jnp.stack([x, x], 1), y, 0.0)  # exactly collinear: the solution of smallest norm
    np.testing.assert_allclose(exact.weights[0], exact.weights[1], rtol=1e-9)


def test_singular_values_keep_the_digits_that_normal_equations_lose():
    """Hilbert-like X of condition 3e7 and exact weights: errors near ε κ against ε κ²."""
    X = 1.0 / (jnp.arange(12)[:, None] + jnp.arange(6)[None] + 1.0)
    truth = jnp.ones(6)
    svd = jnp.abs(ridge(X, X @ truth, 0.0, offset=False).weights - truth).max()
    normal = jnp.abs(normal_equations(X, X @ truth, 0.0) - truth).max()
    assert svd < 1e-8 and normal > 100 * svd


def test_penalty_is_a_reaction_term_in_the_volume():
    """−u'' + λu = δ: u = e^(−√λ r)/2√λ, so log u falls with slope √λ; measured to 1e-3."""
    n, L = 4096, 40.0
    spacing = L / n
    source = jnp.zeros(n).at[n // 2].set(1 / spacing)
    for reaction in (1.0, 4.0):
        u = screened_poisson(source, reaction, spacing)
        r = jnp.abs(jnp.arange(n) - n // 2) * spacing
        near = r < 4.0
        exact = jnp.exp(-np.sqrt(reaction) * r) / (2 * np.sqrt(reaction))
        np.testing.assert_allclose(u[near], exact[near], rtol=1e-3)
        slope = np.polyfit(np.asarray(r[near]), np.log(np.asarray(u[near])), 1)[0]
        np.testing.assert_allclose(-slope, np.sqrt(reaction), rtol=1e-3)
