"""diffrax's tutorial as it stands there, its loss taken over all paths: what `tutorial.py` is to be compared with.

    python benchmarks/odes/tutorial_diffrax.py

https://docs.kidger.site/diffrax/examples/neural_ode/: 256 paths, 500 + 500 steps of batch 32 with AdaBelief at 3e-3,
the first ten points, then all; only the printing is ours. One thread.
"""

import os
import time

os.environ.setdefault("PJRT_NPROC", "1")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax


class Func(eqx.Module):
    """scale · tanh(network)."""

    out_scale: jax.Array
    mlp: eqx.nn.MLP

    def __call__(self, t, y, args):
        return self.out_scale * self.mlp(y)


def solve(func, ts, y0):
    """The model."""
    return diffrax.diffeqsolve(
        diffrax.ODETerm(func),
        diffrax.Tsit5(),
        ts[0],
        ts[-1],
        ts[1] - ts[0],
        y0,
        stepsize_controller=diffrax.PIDController(rtol=1e-3, atol=1e-6),
        saveat=diffrax.SaveAt(ts=ts),
    ).ys


def truth(ts, key):
    """One path of the data."""

    def f(t, y, args):
        x = y / (1 + y)
        return jnp.stack([x[1], -x[0]])

    y0 = jr.uniform(key, (2,), minval=-0.6, maxval=1)
    ode = diffrax.ODETerm(f)
    return diffrax.diffeqsolve(ode, diffrax.Tsit5(), ts[0], ts[-1], 0.1, y0, saveat=diffrax.SaveAt(ts=ts)).ys


def batches(paths, size, key):
    """Batches of one permutation after another, the rest of each left out."""
    while True:
        order = jr.permutation(key, len(paths))
        (key,) = jr.split(key, 1)
        for start in range(0, len(paths) - size, size):
            yield paths[order[start : start + size]]


def loss(model, ts, ys):
    """Mean square over paths, points and components."""
    return jnp.mean((ys - jax.vmap(lambda y0: solve(model, ts, y0))(ys[:, 0])) ** 2)


@eqx.filter_jit
def step(model, state, optimizer, ts, ys):
    """One step of AdaBelief."""
    value, gradient = eqx.filter_value_and_grad(loss)(model, ts, ys)
    updates, state = optimizer.update(gradient, state)
    return value, eqx.apply_updates(model, updates), state


def main():
    data, weights, order = jr.split(jr.PRNGKey(5678), 3)
    ts = jnp.linspace(0.0, 10.0, 100)
    ys = jax.vmap(lambda key: truth(ts, key))(jr.split(data, 256))
    mlp = eqx.nn.MLP(2, 2, 64, 2, activation=jax.nn.softplus, final_activation=jnp.tanh, key=weights)
    model, value = Func(jnp.array(1.0), mlp), jnp.nan
    begin = time.process_time()
    for points in (10, 100):
        optimizer = optax.adabelief(3e-3)
        state = optimizer.init(eqx.filter(model, eqx.is_inexact_array))
        for _, batch in zip(range(500), batches(ys[:, :points], 32, order), strict=False):
            value, model, state = step(model, state, optimizer, ts[:points], batch)
    last, spent = float(value), time.process_time() - begin
    each = eqx.filter_jit(jax.vmap(lambda y: loss(model, ts, y[None])))(ys)
    print(
        f"loss over all paths {float(jnp.mean(each)):.5f}, median path {float(jnp.median(each)):.5f}, last batch "
        f"{last:.5f}, 1000 steps, {spent:.1f} CPU-s with compilation"
    )


if __name__ == "__main__":
    main()
