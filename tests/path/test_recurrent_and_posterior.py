"""A recurrent cell is a step of the scan; a path judged by data is a density to sample; a batch may span devices."""

import os
import subprocess
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from enerjax import chain, path


def test_lstm_equals_handwritten_back_propagation_through_time(key):
    """S. Hochreiter and J. Schmidhuber (1997) with forget gate; the recursion is written out from the formulas."""
    n, m, T = 4, 3, 12
    cell = eqx.nn.LSTMCell(m, n, key=key)
    xs, target = jr.normal(jr.key(1), (T, m)), jr.normal(jr.key(2), (T, n))
    z0 = (jnp.zeros(n), 0.3 * jnp.ones(n))

    def loss(cell, z0, **how):
        h, _ = path.rollout(lambda z, x: cell(x, z), z0, xs, **how)
        return 0.5 * jnp.sum((h - target) ** 2)

    ours, (ours_h, ours_c) = jax.jit(jax.grad(loss, (0, 1)))(cell, z0)

    Wi, Wh, b = (np.asarray(v) for v in (cell.weight_ih, cell.weight_hh, cell.bias))
    sigmoid = lambda a: 1 / (1 + np.exp(-a))
    h, c, tape = np.zeros(n), 0.3 * np.ones(n), []
    for x in np.asarray(xs):
        i, f, g, o = np.split(Wi @ x + Wh @ h + b, 4)
        i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
        after = f * c + i * g
        tape.append((x, h, c, i, f, g, o, after))
        h, c = o * np.tanh(after), after
    dWi, dWh, db, dh, dc = np.zeros_like(Wi), np.zeros_like(Wh), np.zeros_like(b), np.zeros(n), np.zeros(n)
    for (x, h, c, i, f, g, o, after), y in zip(tape[::-1], np.asarray(target)[::-1], strict=True):
        s = np.tanh(after)
        dh = dh + (o * s - y)
        dc = dc + dh * o * (1 - s**2)
        gates = (dc * g * i * (1 - i), dc * c * f * (1 - f), dc * i * (1 - g**2), dh * s * o * (1 - o))
        da = np.concatenate(gates)
        dWi, dWh, db = dWi + np.outer(da, x), dWh + np.outer(da, h), db + da
        dh, dc = Wh.T @ da, dc * f
    pairs = ((ours.weight_ih, dWi), (ours.weight_hh, dWh), (ours.bias, db), (ours_h, dh), (ours_c, dc))
    for a, b in pairs:
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


def test_posterior_of_a_path_is_the_exact_gaussian(key):
    """zₖ₊₁ = A zₖ + b from z₀, both unknown, position read with noise: 4D-Var's energy handed to `chain.sample`.

    Everything is linear, so the posterior of (z₀, b) is Gaussian; its moments come from stacked normal equations.
    """
    A, K, σ = np.array([[0.95, 0.3], [-0.3, 0.9]]), 12, 0.2
    truth, prior = np.array([1.0, -0.5, 0.1, 0.2]), np.array([2.0, 2.0, 0.5, 0.5])
    rows, state = [], np.hstack([np.eye(2), np.zeros((2, 2))])  # zₖ = state · (z₀, b)
    for _ in range(K):
        state = A @ state + np.hstack([np.zeros((2, 2)), np.eye(2)])
        rows.append(state[0])
    H = np.array(rows)
    data = H @ truth + σ * np.asarray(jr.normal(key, (K,)))
    cov = np.linalg.inv(H.T @ H / σ**2 + np.diag(prior**-2))
    mean = cov @ H.T @ data / σ**2

    run = lambda x: path.rollout(lambda z, _: jnp.asarray(A) @ z + x["b"], x["z0"], length=K)
    zero = {"b": jnp.zeros(2), "z0": jnp.zeros(2)}
    spread = {"b": jnp.asarray(prior[2:]), "z0": jnp.asarray(prior[:2])}
    energy = path.strong(
        run, jnp.asarray(data)[:, None], σ, observe=lambda z: z[:1], background=path.Background(zero, spread)
    )
    best, factor = path.gauss_newton(energy, zero, iterations=1)
    np.testing.assert_allclose(jnp.concatenate([best["z0"], best["b"]]), mean, rtol=1e-9)
    order = [2, 3, 0, 1]  # leaves are flattened in the order of their names: b, z0
    np.testing.assert_allclose(np.linalg.inv(factor @ factor.T)[np.ix_(order, order)], cov, rtol=1e-9)

    draws = chain.sample(energy, best, jr.key(3), chains=4, warmup=300, draws=500).draws
    x = np.concatenate([np.asarray(draws["z0"]), np.asarray(draws["b"])], axis=-1)
    # Monte Carlo error from means of batches: 80 of 25 draws
    batches = lambda v: v.reshape(80, 25, -1).mean(1)
    close = lambda v, exact: np.abs(v.mean((0, 1)) - exact) / (batches(v).std(0) / np.sqrt(80))
    assert np.all(close(x, mean) < 4)
    products = (x - mean)[..., :, None] * (x - mean)[..., None, :]
    assert np.all(close(products.reshape(*x.shape[:2], -1), cov.ravel()) < 4)


SHARDED = """
import jax, jax.numpy as jnp, equinox as eqx
jax.config.update("jax_enable_x64", True)
from enerjax import fit, ode, path
field = ode.Network(ode.mlp(2, 2, 8, 1, jax.random.key(0)))
ts, starts = jnp.linspace(0.0, 2.0, 9), jax.random.normal(jax.random.key(1), (6, 2))
data = jnp.sin(starts)[:, None] + ts[None, :, None]
@eqx.filter_jit
@eqx.filter_value_and_grad(has_aux=True)
def loss(field, batch):
    starts, data = batch
    ys = jax.vmap(lambda y: path.solve(field, y, ts))(starts)
    return jnp.mean((ys - data) ** 2), ys
(one, ys), g1 = loss(field, (starts, data))
(two, zs), g2 = loss(field, fit.data_parallel()((starts, data)))
assert len(zs.sharding.device_set) == 2 and not zs.sharding.is_fully_replicated
home = lambda tree: [jnp.ravel(jax.device_put(v, jax.devices()[0])) for v in jax.tree.leaves(tree)]
print(float(jnp.max(jnp.abs(jnp.concatenate(home((one, g1))) - jnp.concatenate(home((two, g2)))))))
"""


def test_a_batch_sharded_over_two_devices_has_the_same_gradient():
    flags = "--xla_force_host_platform_device_count=2"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    out = subprocess.run([sys.executable, "-c", SHARDED], env=environment, capture_output=True, text=True)
    assert out.returncode == 0, out.stderr[-2000:]
    assert float(out.stdout) < 1e-12
