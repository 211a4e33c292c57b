"""The hypergradient is the gradient: against finite differences, for every step's rate; it finds better schedules."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

from enerjax.fit import cosine, train
from enerjax.learning.schedule import final_loss, run

STEPS = 16


def _task(key):
    """A stiff noisy regression: batches for training, other data for judging."""
    scale = jnp.array([1.0, 0.3, 0.1])
    truth = jnp.array([1.0, -2.0, 3.0])
    X = jr.normal(key, (STEPS, 16, 3)) * scale[None, None]
    y = X @ truth + 0.5 * jr.normal(jr.fold_in(key, 1), (STEPS, 16))
    Xv = jr.normal(jr.fold_in(key, 2), (200, 3)) * scale[None]
    loss = lambda w, batch: jnp.mean((batch[0] @ w - batch[1]) ** 2) / 2
    return loss, lambda w: loss(w, (Xv, Xv @ truth)), (X, y)


@pytest.mark.parametrize("direction", [None, optax.trace(0.8), optax.scale_by_adam()], ids=["sgd", "momentum", "adam"])
def test_hypergradient_is_the_finite_difference(key, direction):
    loss, validation, batches = _task(key)
    final = jax.jit(jax.value_and_grad(final_loss(loss, validation, direction=direction, stride=4)), static_argnums=())
    rates, w = 0.05 + 0.02 * jnp.sin(jnp.arange(STEPS)), jnp.zeros(3)
    slope = final(rates, w, batches)[1]
    h = 1e-5
    for t in range(STEPS):
        up, down = (final(rates.at[t].add(s), w, batches)[0] for s in (h, -h))
        np.testing.assert_allclose(slope[t], (up - down) / (2 * h), rtol=1e-6, atol=1e-9)


def test_run_is_optax_step_by_step(key):
    loss, _, (X, y) = _task(key)
    rates = jnp.full(STEPS, 0.05)
    optimizer = optax.chain(optax.trace(0.8), optax.scale(-0.05))
    w, state = jnp.zeros(3), optimizer.init(jnp.zeros(3))
    for t in range(STEPS):
        update, state = optimizer.update(jax.grad(loss)(w, (X[t], y[t])), state)
        w = optax.apply_updates(w, update)
    np.testing.assert_allclose(run(loss, jnp.zeros(3), rates, (X, y), direction=optax.trace(0.8)), w, rtol=1e-12)


def test_learned_schedule_beats_the_best_constant_rate(key):
    """Rates learned on some tasks, judged on fresh ones; the best constant is searched on a fine grid."""
    final = lambda log_rates, key: (
        lambda task: final_loss(task[0], task[1])(jnp.exp(log_rates), jnp.zeros(3), task[2])
    )(_task(key))
    average = lambda log_rates, keys: jnp.mean(jax.vmap(lambda k: final(log_rates, k))(keys))
    fresh = jr.split(jr.fold_in(key, 9), 512)
    grid = jnp.geomspace(0.01, 1.5, 120)
    constant = jax.jit(jax.vmap(lambda rate: average(jnp.full(STEPS, jnp.log(rate)), fresh)))(grid)
    best = float(jnp.nanmin(constant))  # chosen on the very tasks it is judged on: a head start for the constant
    start = jnp.full(STEPS, jnp.log(grid[jnp.nanargmin(constant)]))
    fitted = train(
        lambda rates, keys, key: average(rates, keys),
        start,
        lambda epoch, key: [jr.split(key, 64)],
        optax.adam(0.03),
        key=key,
        rate=cosine,
        epochs=200,
    )
    learned = float(average(fitted.model, fresh))
    assert learned < 0.9 * best
