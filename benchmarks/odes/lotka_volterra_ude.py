"""The Lotka–Volterra universal differential equation: recover a missing interaction from 31 noisy points.

    python benchmarks/odes/lotka_volterra_ude.py [--seeds 5]

Setting of C. Rackauckas et al. (2020), scenario 1: u̇ = 1.3u − 0.9uv, v̇ = 0.8uv − 1.8v, u(0) = (0.4425, 4.628), 31
points on [0, 3], noise 0.5 % of the mean; births and deaths known, the interaction (−0.9uv, 0.8uv) not. Score: relative
L2 error of the learned interaction along the true path. How: it is written u v g(u, v), g a 2-8-2 network of scaled
inputs (there is no interaction without both species; that is all that is assumed); free starts, growing windows, then
Levenberg–Marquardt to the likelihood's bottom under a Gaussian prior on the weights; `ode.sparse_law` reads the result.
"""

import argparse
import os
import time

os.environ.setdefault("PJRT_NPROC", "1")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

jax.config.update("jax_enable_x64", True)

from enerjax import ode, path  # noqa: E402

T = jnp.linspace(0.0, 3.0, 31)
P = jnp.array([1.3, 0.9, 0.8, 1.8])
SCALE = jnp.array([2.0, 3.0])


def truth(t, y, a):
    return jnp.stack([P[0] * y[0] - P[1] * y[0] * y[1], P[2] * y[0] * y[1] - P[3] * y[1]])


def known(t, y, a):
    return jnp.stack([P[0] * y[0], -P[3] * y[1]])


class Missing(ode.Network):
    """An interaction: u v g(u, v), nothing without both species; g is a network. `plain`: a network of y."""

    plain: bool = False

    def __call__(self, t, y, args=None):
        g = self.net(y / SCALE - 1.0)
        return 5.0 * g if self.plain else y[0] * y[1] * g


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--ridge", type=float, default=1.0)
    parser.add_argument("--plain", action="store_true", help="do not assume that an interaction needs both species")
    options = parser.parse_args()
    clean = path.solve(truth, jnp.array([0.44249296, 4.6280594]), T, rtol=1e-10, atol=1e-10)
    sigma = 0.005 * jnp.mean(clean, axis=0)
    exact = clean[:, :1] * clean[:, 1:] * jnp.array([-0.9, 0.8])[None]
    errors = []
    for seed in range(options.seeds):
        begin = time.process_time()
        data = clean + sigma[None] * jr.normal(jr.key(100 + seed), clean.shape)
        law = ode.Universal(known, Missing(ode.mlp(2, 2, 8, 1, jr.key(seed), final=0.3), plain=options.plain))
        how = dict(noise=sigma, solver=dict(substeps=1))
        learned = ode.learn(law, T, data[None], key=jr.key(seed), horizons=(8, 16), epochs=200, rates=1e-2, **how)
        learned = ode.refine(learned, T, data[None], ridge=options.ridge, steps=60, **how)
        ours = jax.vmap(lambda y, law=learned.field.learned: law(0.0, y))(clean)
        errors.append(float(jnp.linalg.norm(ours - exact) / jnp.linalg.norm(exact)))
        reading = ode.sparse_law(clean, ours, degree=2, threshold=0.1, names=("u", "v"))
        found = "; ".join(e.split("= ")[1] for e in reading.equations())
        spent = time.process_time() - begin
        print(
            f"seed {seed}: interaction off by {100 * errors[-1]:.1f} %, read as {found}  ({spent:.0f} CPU-s)",
            flush=True,
        )
    print(f"median {100 * np.median(errors):.1f} % (goal 5 %; a plain fit is off by 15–70 %)")


if __name__ == "__main__":
    main()
