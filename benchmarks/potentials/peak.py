"""What fraction of this core's matrix-multiply peak a training step and an evaluation reach.

    python benchmarks/potentials/peak.py train_300K.extxyz

Operations as XLA counts them in the compiled program; the peak is the best of float32 products of 256 to 1024; times in
CPU seconds.
"""

import os
import sys
import time

os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr

import enerjax
from enerjax.atoms import Equivariant, batch, configure, dataset, training


def best(run, *arguments, rounds=12):
    """CPU seconds of a call: all threads count, and the kernel counts in ticks longer than a short call."""
    jax.block_until_ready(run(*arguments))
    start = time.process_time()
    jax.block_until_ready(run(*arguments))
    calls = max(1, round(0.1 / max(time.process_time() - start, 1e-4)))
    times = []
    for _ in range(rounds):
        start = time.process_time()
        for _ in range(calls):
            jax.block_until_ready(run(*arguments))
        times.append((time.process_time() - start) / calls)
    return min(times)


def main(path):
    enerjax.keep_freed_memory()
    peak = 0.0
    for n in (256, 512, 1024):
        a = jr.normal(jr.key(n), (n, n))
        peak = max(peak, 2e-9 * n**3 / best(jax.jit(jnp.matmul), a, a))
    print(f"peak {peak:.0f} Gflop/s")
    data = dataset.read(path)
    model = Equivariant(configure(data), key=jr.key(0))
    (frames,), _, _ = batch.prepare(data, model.cutoff, model.reference)
    params, static = eqx.partition(model, eqx.is_inexact_array)
    recipe = training.Recipe()
    loss = lambda p, b: training.loss(eqx.combine(p, static), b, recipe, 0.02)[0]
    tasks = {
        "training gradient, batch 2": (jax.grad(loss), frames.at(slice(0, 2))),
        "training gradient, batch 5": (jax.grad(loss), frames.at(slice(0, 5))),
        "energy and forces": (lambda p, b: batch.predict(eqx.combine(p, static), b, False)[:2], frames.at(slice(0, 1))),
    }
    for name, (function, b) in tasks.items():
        compiled = jax.jit(function).lower(params, b).compile()
        flops, seconds = 1e-9 * compiled.cost_analysis()["flops"], best(compiled, params, b)
        print(f"{name}: {flops:.3f} Gflop in {1e3 * seconds:.2f} ms, {flops / seconds / peak:.0%} of the peak")


if __name__ == "__main__":
    main(sys.argv[1])
