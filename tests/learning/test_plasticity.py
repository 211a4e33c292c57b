"""Gates freeze to the bit and are the mobility of the flow; a memristor's noise is a Tikhonov term."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

from enerjax.fit import train
from enerjax.flow import Phase, descend
from enerjax.learning.plasticity import gate, gates_of, soft_bounds, tikhonov
from enerjax.path import rollout
from zoo import Quartic, energies


@pytest.mark.parametrize("name", ["sgd", "adamw", "lion"])
def test_zero_gate_is_frozen_to_the_bit(key, name):
    inner = {"sgd": optax.sgd(0.3, 0.9), "adamw": optax.adamw(0.1, weight_decay=0.1), "lion": optax.lion(0.1)}[name]
    x = jr.normal(key, (50,)).at[0].set(-0.0)
    gates = (jnp.arange(50) % 3 > 0).astype(float).at[3].set(0.5)
    optimizer = optax.chain(inner, gate(gates))
    E = lambda x: jnp.sum(jnp.cos(3 * x)) + jnp.sum(x**2)

    def step(z, _):
        x, state = z
        update, state = optimizer.update(jax.grad(E)(x), state, x)
        return optax.apply_updates(x, update), state

    end = rollout(step, (x, optimizer.init(x)), length=50, stride=50)[0][-1]
    frozen = np.asarray(gates) == 0
    assert np.asarray(x)[frozen].tobytes() == np.asarray(end)[frozen].tobytes()
    assert bool(jnp.all(end[~frozen] != x[~frozen]))


def test_a_closed_gate_stops_nan():
    optimizer = gate({"a": 0.0, "b": 2.0})
    updates = {"a": jnp.array([jnp.nan, 1.0]), "b": jnp.ones(2)}
    out, _ = optimizer.update(updates, optimizer.init(updates))
    assert bool(jnp.all(out["a"] == 0)) and bool(jnp.all(out["b"] == 2))


def test_gate_is_the_mobility_and_one_over_the_mass():
    """optax sgd with gates = heavy ball of masses 1/g; an infinite mass does not move."""
    E, x = Quartic(1.3), energies["quartic"]()[1]
    gates = jnp.array([1.0, 0.5, 0.0, 2.0, 0.1])[:, None] * jnp.ones((1, 3))
    eta, n = 0.04, 30
    ours = rollout(lambda z, _: descend(E, z, jnp.sqrt(eta), jnp.inf, 1 / gates), Phase.at(E, x), length=n, stride=n)
    optimizer = optax.chain(optax.sgd(eta), gate(gates))
    y = x
    for _ in range(n):
        y = optax.apply_updates(y, optimizer.update(jax.grad(E)(y), optimizer.init(y))[0])
    np.testing.assert_allclose(ours.position[-1], y, rtol=1e-12)
    assert bool(jnp.all(y[2] == x[2]))


def test_transfer_learning_trains_only_what_is_open(key):
    """A network trained on one task, its features frozen, its head trained on another by `fit.train`."""
    net = eqx.nn.MLP(1, 1, 8, 2, jnp.tanh, key=key)
    x = jnp.linspace(-1, 1, 32)[:, None]
    optimizer = optax.chain(optax.adam(5e-2), gate(gates_of(net, lambda m: m.layers[:-1])))
    loss = lambda net, batch, key: jnp.mean((jax.vmap(net)(batch[0]) - batch[1]) ** 2)
    fitted = train(loss, net, lambda epoch, key: [(x, x**2)], optimizer, key=key, epochs=200)
    for before, after in zip(net.layers[:-1], fitted.model.layers[:-1], strict=True):
        assert bool(jnp.all(before.weight == after.weight)) and bool(jnp.all(before.bias == after.bias))
    assert bool(jnp.any(net.layers[-1].weight != fitted.model.layers[-1].weight))
    assert fitted.metrics[-1]["loss"] < 0.2 * fitted.metrics[0]["loss"]
    with pytest.raises(ValueError, match="no trainable"):
        gates_of(net, lambda m: m.layers[:0])


def test_tikhonov_coefficient_is_the_mean_of_a_folded_normal(key):
    for g in (0.0, 0.4, -2.0):
        sample = 0.3 * jnp.abs(g + 1.5 * jr.normal(key, (400_000,)))
        error = jnp.std(sample) / np.sqrt(sample.size)
        assert abs(jnp.mean(sample) - tikhonov(0.3, 1.5, g)) < 4 * error


def test_memristor_noise_is_tikhonov(key):
    """Linear regression: the mean weights are those of ridge regression with the derived λ, within error bars.

    And they are not those of least squares: the bias is tens of standard errors.
    """
    n, d, bound, noise, eta = 200, 3, 0.2, 2.0, 4e-3
    X = jr.normal(key, (n, d)) @ jnp.array([[1.0, 0.6, 0.0], [0.0, 0.8, 0.5], [0.0, 0.0, 0.7]])
    y = X @ jnp.array([1.0, -0.7, 0.4]) + 0.1 * jr.normal(jr.fold_in(key, 1), (n,))
    H, b = X.T @ X / n, X.T @ y / n
    optimizer = optax.chain(soft_bounds(bound, noise, jr.fold_in(key, 2)), optax.scale_by_learning_rate(eta))

    def step(z, _):
        w, state = z
        update, state = optimizer.update(H @ w - b, state, w)
        return optax.apply_updates(w, update), state

    w, _ = jax.jit(lambda w: rollout(step, (w, optimizer.init(w)), length=400_000, stride=100))(jnp.zeros(d))
    w = np.asarray(w[200:])
    lam = tikhonov(bound, noise)
    ridge = np.asarray(jnp.linalg.solve(H + lam * jnp.eye(d), b))
    plain = np.asarray(jnp.linalg.solve(H, b))
    means = w[: len(w) // 38 * 38].reshape(38, -1, d).mean(1)
    error = means.std(0, ddof=1) / np.sqrt(38)
    # second order in g/σ: λ(g) = λ (1 + g²/2σ²) along the stationary fluctuations, below 2 % here
    assert np.all(np.abs(w.mean(0) - ridge) < 4 * error + 0.02 * np.abs(plain - ridge))
    assert np.abs(w.mean(0) - plain).max() > 20 * error.max()
