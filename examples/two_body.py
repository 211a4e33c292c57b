"""Two bodies: learn gravity from noisy orbits as an energy, and count how much energy the learned motion loses.

    python examples/two_body.py

The potential between the bodies is a network of their distance, the mass is known; a plain network of the same data
gains or loses energy. Judged over ten times the data's time.
"""

import time

import jax
import jax.numpy as jnp
import jax.random as jr

jax.config.update("jax_enable_x64", True)

from enerjax import ode, path  # noqa: E402
from enerjax.energy import AbstractEnergy  # noqa: E402


class Central(AbstractEnergy):
    """|p|²/2 + V(|q|) in the relative coordinate; V a network of ln r, over r."""

    net: ode.ScalarNetwork

    def __call__(self, x):
        q, p = x
        r = jnp.sqrt(q @ q)
        return 0.5 * p @ p + self.net(jnp.log(r)[None]) / r


class Plain(ode.Network):
    """(q̇, ṗ) a network of (q, p)."""

    def __call__(self, t, y, args=None):
        rate = self.net(jnp.concatenate(y))
        return rate[:2], rate[2:]


kepler = lambda t, y, args: (y[1], -y[0] / (y[0] @ y[0]) ** 1.5)
energy = lambda q, p: jnp.sum(p**2, -1) / 2 - 1 / jnp.linalg.norm(q, axis=-1)


def main():
    begin = time.process_time()
    key, ts = jr.key(0), jnp.linspace(0.0, 3.0, 13)
    angle = jr.uniform(key, (6,), maxval=2 * jnp.pi)
    radius = jr.uniform(jr.fold_in(key, 1), (6,), minval=0.8, maxval=1.3)
    speed = jr.uniform(jr.fold_in(key, 2), (6,), minval=0.85, maxval=1.1) / jnp.sqrt(radius)
    out = jnp.stack([jnp.cos(angle), jnp.sin(angle)], 1)
    starts = (radius[:, None] * out, speed[:, None] * jnp.stack([-out[:, 1], out[:, 0]], 1))
    exact = lambda y, ts: path.solve(kepler, y, ts, rtol=1e-9, atol=1e-9, max_steps=2048)
    clean = jnp.concatenate(jax.vmap(lambda y: exact(y, ts))(starts), axis=-1)
    data = clean + 0.01 * jr.normal(jr.fold_in(key, 3), clean.shape)
    far = jnp.linspace(0.0, 30.0, 121)
    first = jax.tree.map(lambda v: v[0], starts)
    laws = {
        "energy": ode.Hamiltonian(Central(ode.ScalarNetwork(ode.mlp(1, 1, 8, 1, key)))),
        "plain": Plain(ode.mlp(4, 4, 12, 1, key, final=0.3)),
    }
    for name, law in laws.items():
        how = dict(noise=0.01, observe=lambda y: jnp.concatenate(y), solver=dict(substeps=1))
        split = (data[:, 0, :2], data[:, 0, 2:])
        learned = ode.learn(law, ts, data, key=key, horizons=(4, 8), epochs=120, rates=1e-2, starts=split, **how)
        learned = ode.refine(learned, ts, data, ridge=0.3, steps=12, **how)
        q, p = path.integrate(learned.field, first, far, rtol=1e-8, atol=1e-8, max_steps=4096).ys
        drift = jnp.max(jnp.abs(energy(q, p) - energy(*first))) / jnp.abs(energy(*first))
        print(f"{name:7s} largest energy error over ten times the data's time: {100 * float(drift):.3g} %")
    print(f"{time.process_time() - begin:.0f} CPU-s")


if __name__ == "__main__":
    main()
