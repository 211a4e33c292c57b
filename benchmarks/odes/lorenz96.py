"""Lorenz-96 4D-Var, the twin experiment of DAPPER's mods/Lorenz96/sakov2008 with observations every 0.2.

    python benchmarks/odes/lorenz96.py --lag 1 4 [--cycles 400] [--seeds 5]

40 variables, F = 8, dt 0.05, all observed with R = 1, background covariance xB · C of the climatology; each analysis is
10 Gauss–Newton iterations over a window of `lag` observations, whose first state is then forecast one cycle. RMSE of
the analysis, averaged over cycles after a spin-up of 20. DAPPER's own Var4D: 0.659 at lag 1 (xB 0.2), 289 s for 400
cycles.
"""

import argparse
import os
import time

os.environ.setdefault("PJRT_NPROC", "1")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # threads that wait for one another count as CPU seconds

import jax
import jax.numpy as jnp
import jax.random as jr

jax.config.update("jax_enable_x64", True)

from enerjax import path  # noqa: E402

N, F, DT, EVERY = 40, 8.0, 0.05, 4


def step(x, _=None):
    f = lambda x: (jnp.roll(x, -1) - jnp.roll(x, 2)) * jnp.roll(x, 1) - x + F
    k1 = f(x)
    k2 = f(x + DT / 2 * k1)
    k3 = f(x + DT / 2 * k2)
    k4 = f(x + DT * k3)
    return x + DT / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


def cycle(x, _=None):
    """From one observation to the next."""
    return jax.lax.scan(lambda x, _: (step(x), None), x, None, EVERY)[0]


def experiment(lag, scale, cycles, iterations, adapt, key):
    spun = jax.lax.fori_loop(0, 2000, lambda _, x: step(x), F * jnp.ones(N).at[0].add(0.01))
    climate = path.rollout(cycle, spun, length=2000)
    factor = jnp.linalg.cholesky(jnp.cov(climate.T))
    truth = path.rollout(cycle, climate[-1], length=cycles)
    data = truth + jr.normal(key, truth.shape)
    start = climate[-1] + jr.normal(jr.fold_in(key, 1), (N,)) * 0.5

    def analyse(state, window):
        """The state one cycle before the window's first observation, and the logarithm of xB."""
        before, log_scale = state
        spread = jnp.exp(log_scale / 2) * factor
        energy = path.Background(before, spread) + path.Observations(
            lambda x: path.rollout(cycle, x, length=lag), window, 1.0
        )
        x, _ = path.gauss_newton(energy, before, iterations=iterations)
        # with the right B, 2J at the minimum is χ² with as many degrees of freedom as there are observations
        log_scale = log_scale + adapt * (2 * energy(x) / window.size - 1)
        return (cycle(x), log_scale), (path.rollout(cycle, x, length=lag)[-1], log_scale)

    windows = jnp.stack([data[i : cycles - lag + 1 + i] for i in range(lag)], axis=1)
    _, (analyses, scales) = jax.lax.scan(analyse, (start, jnp.log(scale)), windows)
    error = jnp.sqrt(jnp.mean((analyses - truth[lag - 1 :]) ** 2, axis=1))
    return jnp.mean(error[20:]), jnp.exp(jnp.mean(scales[len(scales) // 2 :]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lag", type=int, nargs="*", default=[1, 4])
    parser.add_argument("--scale", type=float, nargs="*", default=None, help="xB; 0.2 for lag 1 and 0.05 beyond")
    parser.add_argument("--cycles", type=int, default=400)
    parser.add_argument("--iterations", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--adapt", type=float, default=0.0, help="rate at which xB follows the χ² of the misfit")
    options = parser.parse_args()
    run = jax.jit(experiment, static_argnums=(0, 2, 3))
    for lag in options.lag:
        for scale in options.scale or ([0.2, 0.05] if lag == 1 else [0.05]):
            begin, wall = time.process_time(), time.time()
            keys = [jr.key(seed) for seed in range(options.seeds)]
            found = [run(lag, scale, options.cycles, options.iterations, options.adapt, key) for key in keys]
            rmse = [float(error) for error, _ in found]
            spent = time.process_time() - begin
            spread = f" ({min(rmse):.3f} … {max(rmse):.3f} of {len(rmse)} seeds)" if len(rmse) > 1 else ""
            print(
                f"lag {lag} xB {scale}: analysis RMSE {sum(rmse) / len(rmse):.3f}{spread}, {options.cycles} cycles "
                f"each, last xB {float(found[-1][1]):.3f}, {spent:.1f} CPU-s with compilation "
                f"({time.time() - wall:.0f} s wall)",
                flush=True,
            )


if __name__ == "__main__":
    main()
