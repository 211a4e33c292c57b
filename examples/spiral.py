"""A spiral seen at irregular times, a fifth of its readings missing: a Neural ODE learned and extrapolated.

python examples/spiral.py
"""

import time

import jax
import jax.numpy as jnp
import jax.random as jr

jax.config.update("jax_enable_x64", True)

from enerjax import ode, path  # noqa: E402

A = jnp.array([[-0.1, 1.5], [-1.5, -0.1]])
truth = lambda t, y, args: A @ y


def main():
    begin = time.process_time()
    key = jr.key(0)
    ts = jnp.sort(jnp.concatenate([jnp.zeros(1), jr.uniform(key, (39,), minval=0.05, maxval=6.0)]))
    starts = jnp.array([[2.0, 0.0], [0.0, -1.5], [-1.0, 1.0]])
    clean = jax.vmap(lambda y: path.solve(truth, y, ts, rtol=1e-9, atol=1e-9, max_steps=512))(starts)
    data = clean + 0.05 * jr.normal(jr.fold_in(key, 1), clean.shape)
    gone = jr.bernoulli(jr.fold_in(key, 2), 0.2, clean.shape).at[:, 0].set(False)
    data = jnp.where(gone, jnp.nan, data)
    field = ode.Network(ode.mlp(2, 2, 10, 1, key))
    how = dict(noise=0.05, missing=True, solver=dict(substeps=1))
    learned = ode.learn(field, ts, data, key=key, horizons=(10, 20), epochs=150, rates=1e-2, **how)
    learned = ode.refine(learned, ts, data, ridge=0.3, steps=15, **how)
    far = jnp.linspace(0.0, 12.0, 61)
    go = lambda f: path.solve(f, starts[0], far, rtol=1e-8, atol=1e-8, max_steps=512)
    error = jnp.sqrt(jnp.mean((go(learned.field) - go(truth)) ** 2, axis=1))
    within, beyond = float(jnp.mean(error[:31])), float(jnp.mean(error[31:]))
    print(f"{int((~gone).sum())} of {gone.size} readings, noise 0.05; path error {within:.3f} over the data's time,")
    print(f"{beyond:.3f} over as long again; {time.process_time() - begin:.0f} CPU-s")
    law = ode.sparse_law(clean[0], jax.vmap(lambda y: learned.field(0.0, y))(clean[0]), degree=1, names=("x", "y"))
    print("; ".join(law.equations(3)) + "   (true: -0.1 x +1.5 y; -1.5 x -0.1 y)")


if __name__ == "__main__":
    main()
