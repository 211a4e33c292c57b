"""An actuator whose response changes as it heats: a recurrent digital twin against a memoryless network.

    python examples/heating_actuator.py

Force = gain(T) u with gain falling as the coil heats by u² and cools to the room: T is never measured. A GRU's hidden
state can keep it; a network of the present input cannot. Both are trained on the same records, judged on a new one.
"""

import time

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax

from enerjax import fit, path


def actuator(key, length):
    """Inputs that change load every 25 samples, and the force with 1 % noise."""
    load = jnp.repeat(jr.uniform(key, (length // 25,)), 25)
    us = load * jnp.sin(0.9 * jnp.arange(length))

    def step(state, u):
        T, _ = state
        T = T + 0.08 * (4.0 * u**2 - T)
        return T, u / (1 + T)

    _, force = path.rollout(step, (jnp.zeros(()), jnp.zeros(())), us)
    return us, force + 0.01 * jnp.std(force) * jr.normal(jr.fold_in(key, 1), force.shape)


class Twin(eqx.Module):
    """A GRU of the input; its readout is a gain on the input plus a rest."""

    cell: eqx.nn.GRUCell
    out: eqx.nn.Linear

    def __call__(self, us):
        h = path.rollout(lambda h, u: self.cell(jnp.stack([u, u**2]), h), jnp.zeros(12), us)
        gain, rest = jax.vmap(self.out)(h).T
        return gain * us + rest


class Memoryless(eqx.Module):
    """A network of the present input alone."""

    net: eqx.nn.MLP

    def __call__(self, us):
        return jax.vmap(lambda u: self.net(u[None])[0])(us)


def main():
    begin = time.process_time()
    us, force = jax.vmap(lambda k: actuator(k, 400))(jr.split(jr.key(0), 8))
    test_us, test_force = actuator(jr.key(7), 1000)
    cell, out, net = jr.split(jr.key(1), 3)
    models = {
        "recurrent": Twin(eqx.nn.GRUCell(2, 12, key=cell), eqx.nn.Linear(12, 2, key=out)),
        "memoryless": Memoryless(eqx.nn.MLP(1, 1, 32, 2, jnp.tanh, key=net)),
    }
    for name, model in models.items():
        loss = lambda model, batch, key: jnp.mean((jax.vmap(model)(batch[0]) - batch[1]) ** 2) / jnp.var(force)
        one = lambda epoch, key: [(us, force)] * 20
        options = dict(key=jr.key(2), epochs=25, rate=fit.cosine)
        found = fit.train(loss, model, one, optax.adam(2e-2), **options).model
        ours = found(test_us)
        r2 = 1 - jnp.mean((ours - test_force) ** 2) / jnp.var(test_force)
        print(f"{name:10s} R² {float(r2):.4f} on a new record, 2.5 times as long as those it saw")
    print(f"{time.process_time() - begin:.0f} CPU-s")


if __name__ == "__main__":
    main()
