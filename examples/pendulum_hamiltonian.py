"""A damped pendulum learned as an energy and a friction, from noisy angles alone.

    python examples/pendulum_hamiltonian.py

q̇ = p, ṗ = −2.25 sin q − 0.08 p. Only q is read; the velocity at each start is free. The learned energy is compared with
2.25 (1 − cos q), the friction with 0.08, and the motion with the truth over five times the data's time.
"""

import time

import jax
import jax.numpy as jnp
import jax.random as jr

jax.config.update("jax_enable_x64", True)

from enerjax import ode, path  # noqa: E402

truth = lambda t, y, args: (y[1], -2.25 * jnp.sin(y[0]) - 0.08 * y[1])
kinetic = lambda p: 0.5 * jnp.sum(p**2)


def main():
    begin = time.process_time()
    key, ts, far = jr.key(0), jnp.linspace(0.0, 6.0, 37), jnp.linspace(0.0, 30.0, 121)
    starts = jr.uniform(key, (8, 2), minval=-1.5, maxval=1.5)
    run = lambda y, ts: path.solve(truth, (y[:1], y[1:]), ts, rtol=1e-9, atol=1e-9, max_steps=1024)
    angles = jax.vmap(lambda y: run(y, ts)[0])(starts)
    data = angles + 0.03 * jr.normal(jr.fold_in(key, 1), angles.shape)
    potential = ode.ScalarNetwork(ode.mlp(1, 1, 8, 2, key, final=0.3), jnp.array(1.0))
    law = ode.Hamiltonian(ode.Separable(potential, kinetic), jnp.array(0.0))
    guess = (data[:, 0], (data[:, 1] - data[:, 0]) / ts[1])
    how = dict(noise=0.03, observe=lambda y: y[0], solver=dict(substeps=1))
    learned = ode.learn(law, ts, data, key=key, horizons=(8, 18), epochs=120, rates=1e-2, starts=guess, **how)
    learned = ode.refine(learned, ts, data, ridge=0.3, steps=15, **how)
    q = jnp.linspace(-1.6, 1.6, 41)
    well = jax.vmap(lambda q: learned.field.energy.potential(q[None]))(q)
    exact = 2.25 * (1 - jnp.cos(q))
    error = jnp.linalg.norm(well - well[20] - exact) / jnp.linalg.norm(exact)
    start = jnp.array([1.4, 0.0])
    ours = path.solve(learned.field, (start[:1], start[1:]), far, rtol=1e-8, atol=1e-8)[0]
    miss = jnp.sqrt(jnp.mean((ours - run(start, far)[0]) ** 2))
    print(f"friction {float(learned.field.damping):.4f} (true 0.08), potential off by {100 * float(error):.1f} %")
    print(
        f"angle off by {float(miss):.3f} rms over five times the data's time; {time.process_time() - begin:.0f} CPU-s"
    )


if __name__ == "__main__":
    main()
