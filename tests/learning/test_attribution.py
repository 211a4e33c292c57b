"""Attribution accounts for everything: completeness to 1e-6, Euler's theorem, exact shares of linear models."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from enerjax.learning.attribution import (
    completeness,
    gradient_times_input,
    integrated_gradients,
    mutagenesis,
    saliency,
    source_norms,
)


@pytest.mark.parametrize("activation", [jnp.tanh, jax.nn.gelu])
def test_integrated_gradients_are_complete_to_1e_6(key, activation):
    net = eqx.nn.MLP(12, "scalar", 32, 3, activation, key=key)
    x, baseline = 3 * jr.normal(key, (2, 12))
    shares = integrated_gradients(net, x, baseline)
    assert abs(completeness(net, x, baseline, shares)) < 1e-6
    assert abs(net(x) - net(baseline)) > 1e-3


def test_relu_network_is_complete_with_more_nodes(key):
    net = eqx.nn.MLP(12, "scalar", 32, 3, jax.nn.relu, key=key)
    x, baseline = jr.normal(key, (2, 12))
    gaps = [
        abs(float(completeness(net, x, baseline, integrated_gradients(net, x, baseline, nodes=n)))) for n in (16, 1024)
    ]
    assert gaps[1] < 1e-3 and gaps[1] < 0.2 * gaps[0]


def test_linear_models_are_shared_out_exactly(key):
    w, x = jr.normal(key, (2, 7))
    f = lambda x: w @ x + 3.0
    np.testing.assert_allclose(integrated_gradients(f, x, jnp.zeros(7), nodes=2), w * x, rtol=1e-12)
    np.testing.assert_allclose(gradient_times_input(f, x), w * x, rtol=1e-12)
    np.testing.assert_allclose(saliency(f, x), jnp.abs(w), rtol=1e-12)


def test_gradient_times_input_sums_to_a_homogeneous_function(key):
    """A relu network without biases is homogeneous of degree one (Euler)."""
    W1, W2 = jr.normal(key, (16, 5)), jr.normal(jr.fold_in(key, 1), (16,))
    f = lambda x: W2 @ jax.nn.relu(W1 @ x)
    x = jr.normal(jr.fold_in(key, 2), (5,))
    np.testing.assert_allclose(jnp.sum(gradient_times_input(f, x)), f(x), rtol=1e-12)


def test_dummy_source_has_no_norm_and_pytrees_work(key):
    x = {"structure": jr.normal(key, (4, 3)), "alignment": jr.normal(key, (6,))}
    norms = source_norms(lambda s: jnp.sum(jnp.sin(s["structure"])) + 0.0 * jnp.sum(s["alignment"]), x)
    np.testing.assert_allclose(norms["structure"], jnp.linalg.norm(jnp.cos(x["structure"])), rtol=1e-12)
    assert norms["alignment"] == 0.0
    base = jax.tree.map(jnp.zeros_like, x)
    f = lambda s: jnp.sum(jnp.sin(s["structure"])) * jnp.sum(s["alignment"] ** 2)
    assert abs(completeness(f, x, base, integrated_gradients(f, x, base))) < 1e-6


def test_mutagenesis_of_an_additive_model_is_its_table(key):
    table = jr.normal(key, (6, 4))
    x = jnp.eye(4)[jnp.array([0, 1, 2, 3, 0, 2])]
    effects = mutagenesis(lambda x: jnp.sum(table * x), x)
    np.testing.assert_allclose(effects, table - jnp.sum(table * x, 1, keepdims=True), atol=1e-12)
    assert bool(jnp.all(effects[x == 1] == 0))
