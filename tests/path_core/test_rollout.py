"""The one scan: the same states and gradients as a plain loop, whatever the stride."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from enerjax.path import rollout


def _step(W):
    return lambda h, u: {"h": jnp.tanh(W @ h["h"] + u), "n": h["n"] + 1}


def _start():
    W = jnp.array([[0.9, -0.4], [0.7, 0.8]])
    return (
        W,
        {"h": jnp.array([0.3, -0.2]), "n": jnp.array(0)},
        jnp.sin(jnp.arange(24.0))[:, None] * jnp.array([[0.1, 0.2]]),
    )


def _loop(W, h, xs):
    kept = []
    for u in xs:
        h = _step(W)(h, u)
        kept.append(h)
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *kept)


@pytest.mark.parametrize("stride", [1, 4, 24])
def test_keeps_every_stride_th_state_of_the_plain_loop(stride):
    W, h, xs = _start()
    kept, loop = rollout(_step(W), h, xs, stride=stride), _loop(W, h, xs)
    np.testing.assert_allclose(kept["h"], loop["h"][stride - 1 :: stride], rtol=1e-14)
    np.testing.assert_array_equal(kept["n"], loop["n"][stride - 1 :: stride])
    jitted = jax.jit(lambda W, h, xs: rollout(_step(W), h, xs, stride=stride))(W, h, xs)
    np.testing.assert_allclose(jitted["h"], kept["h"], rtol=1e-13)


@pytest.mark.parametrize("stride", [1, 4, 24])
def test_gradient_is_that_of_the_plain_loop(stride):
    W, h, xs = _start()

    def cost(run):
        return lambda W, x0, xs: jnp.sum(run(W, {"h": x0, "n": h["n"]}, xs)["h"][-1] ** 2)

    by_scan = jax.grad(cost(lambda W, h, xs: rollout(_step(W), h, xs, stride=stride)), (0, 1, 2))(W, h["h"], xs)
    by_loop = jax.grad(cost(_loop), (0, 1, 2))(W, h["h"], xs)
    for ours, plain in zip(by_scan, by_loop, strict=True):
        np.testing.assert_allclose(ours, plain, rtol=1e-12, atol=1e-15)


def test_explicit_adjoint_recursion_is_the_gradient():
    """λₜ = (∂f/∂h)ᵀ λₜ₊₁ + ∂c/∂h written by hand: λ₀ is 4D-Var, Σ (∂f/∂W)ᵀλ back-propagation through time."""
    W, h, xs = _start()
    f = lambda W, h, u: _step(W)({"h": h, "n": 0}, u)["h"]
    states = rollout(lambda h, u: f(W, h, u), h["h"], xs)
    cost = lambda W, h0: 0.5 * jnp.sum((rollout(lambda h, u: f(W, h, u), h0, xs) - 0.1) ** 2)
    before = jnp.concatenate([h["h"][None], states[:-1]])
    lam, gW = jnp.zeros(2), jnp.zeros_like(W)
    for t in reversed(range(len(xs))):
        lam = lam + states[t] - 0.1
        pull = jax.vjp(lambda W, h, t=t: f(W, h, xs[t]), W, before[t])[1]
        dW, lam = pull(lam)
        gW = gW + dW
    by_ad = jax.grad(cost, (0, 1))(W, h["h"])
    np.testing.assert_allclose(gW, by_ad[0], rtol=1e-12)
    np.testing.assert_allclose(lam, by_ad[1], rtol=1e-12)


def test_no_inputs_needs_a_length():
    count = lambda n, _: n + 1
    np.testing.assert_array_equal(rollout(count, jnp.array(0), length=6, stride=2), [2, 4, 6])
    with pytest.raises(ValueError, match="length"):
        rollout(count, jnp.array(0))
    with pytest.raises(ValueError, match="multiple"):
        rollout(count, jnp.array(0), length=7, stride=2)
    with pytest.raises(ValueError, match="5 entries"):
        rollout(count, jnp.array(0), jnp.arange(5), length=4)
