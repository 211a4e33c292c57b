"""A cocktail party: natural-gradient likelihood separates as well as scikit-learn's FastICA, equivariantly."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

from enerjax.fit import train
from enerjax.learning.ica import Unmixing, amari_index, log_cosh, natural_gradient, sub_gaussian, whitening


def _party(key, n=4000):
    """Three long-tailed sources of different loudness, mixed badly (condition about 50)."""
    s = jr.laplace(key, (n, 3)) * jnp.array([[1.0, 3.0, 0.3]])
    s = s - jnp.mean(s, 0, keepdims=True)
    A = jnp.array([[1.0, 0.9, 0.4], [0.9, 1.0, 0.5], [0.3, 0.2, 1.0]])
    return s, A, s @ A.T


def _separate(x, start, key, epochs=300):
    optimizer = optax.chain(natural_gradient(), optax.sgd(0.3))
    fit = train(lambda W, x, key: Unmixing(x)(W), start, lambda epoch, key: [x], optimizer, key=key, epochs=epochs)
    return fit.model


def test_natural_gradient_is_the_relative_gradient(key):
    """∇E WᵀW = (⟨φ(y) yᵀ⟩ − 1) W, without an inverse."""
    _, _, x = _party(key, 100)
    W = jr.normal(key, (3, 3))
    optimizer = natural_gradient()
    update, _ = optimizer.update(jax.grad(Unmixing(x))(W), optimizer.init(W), W)
    y = x @ W.T
    np.testing.assert_allclose(update, (jnp.tanh(y).T @ y / 100 - jnp.eye(3)) @ W, rtol=1e-9, atol=1e-11)
    with pytest.raises(ValueError, match="params"):
        optimizer.update(W, optimizer.init(W))


def test_cocktail_party_is_separated_like_fastica(key):
    s, A, x = _party(key)
    W = _separate(x, whitening(x), key)
    ours = float(amari_index(W @ A))
    assert float(amari_index(whitening(x) @ A)) > 0.1 and ours < 0.03
    decomposition = pytest.importorskip("sklearn.decomposition")
    theirs = decomposition.FastICA(3, whiten="unit-variance", random_state=0, tol=1e-6).fit(np.asarray(x)).components_
    assert ours < 1.3 * float(amari_index(jnp.asarray(theirs) @ A)) + 0.005
    y = np.asarray(x @ W.T)
    correlation = np.abs(np.corrcoef(y.T, np.asarray(s).T)[:3, 3:])
    assert np.all(correlation.max(0) > 0.995)


def test_separation_does_not_depend_on_the_mixture(key):
    """Equivariance: started at W₀A⁻¹, the product W A after any number of steps is the same for every A."""
    s, A, x = _party(key, 500)
    start = jnp.eye(3)
    plain = _separate(s, start, key, epochs=20)
    mixed = _separate(x, start @ jnp.linalg.inv(A), key, epochs=20)
    np.testing.assert_allclose(mixed @ A, plain, rtol=1e-8, atol=1e-10)


def test_amari_index_and_priors():
    permuted = jnp.array([[0.0, -2.0, 0.0], [0.1, 0.0, 0.0], [0.0, 0.0, 5.0]])
    assert amari_index(permuted) == 0.0 and float(amari_index(jnp.ones((3, 3)))) == 1.0
    np.testing.assert_allclose(log_cosh(jnp.array([0.0, 50.0])), [0.0, 50.0 - np.log(2)], atol=1e-12)
    y = jnp.array(0.7)
    np.testing.assert_allclose(jax.grad(log_cosh)(y), jnp.tanh(y), rtol=1e-12)
    np.testing.assert_allclose(jax.grad(sub_gaussian)(y), y - jnp.tanh(y), rtol=1e-12)
