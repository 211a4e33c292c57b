"""The Neural ODE of diffrax's tutorial, trained to its loss: CPU seconds and the loss over the whole data set.

    python benchmarks/odes/tutorial.py [--write FILE.npz] [--seeds 3]
    python benchmarks/odes/tutorial_torch.py FILE.npz           (torchdiffeq, an environment of its own)

256 paths of (y₂/(1 + y₂), −y₁/(1 + y₁)) from uniform starts in (−0.6, 1)², 100 points on [0, 10]; a learned number
times tanh of a 2-64-64-2 softplus network; AdaBelief, batch 32, rtol 1e-3, atol 1e-6: 504 steps at rate 5e-3 on the
first ten points, then 504 on all of them, the rate growing over their first tenth and falling over their second half.
Both stages are one call and one program. The tutorial (500 + 500 steps at 3e-3) prints a loss of 0.0020 for its last
batch; ours is over all paths, and the median path.
"""

import argparse
import os
import time

os.environ.setdefault("PJRT_NPROC", "1")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax

from enerjax import fit, ode, path


def data(key):
    ts = jnp.linspace(0.0, 10.0, 100)
    starts = jax.vmap(lambda k: jr.uniform(k, (2,), minval=-0.6, maxval=1.0))(jr.split(key, 256))
    truth = lambda t, y, a: jnp.stack([y[1] / (1 + y[1]), -y[0] / (1 + y[0])])
    return ts, jax.jit(jax.vmap(lambda y: path.solve(truth, y, ts, rtol=1e-6, atol=1e-8)))(starts)


class Scaled(eqx.Module):
    """scale · net(y): tanh alone stops at 1."""

    net: eqx.nn.MLP
    scale: jax.Array

    def __call__(self, y):
        return self.scale * self.net(y)


def report(seed, learned, ts, ys, epochs, spent, how):
    whole = ode.path_loss(ts, **how)
    each = jax.jit(jax.vmap(lambda i: whole(learned, (i[None], ys[i][None]), None)))(jnp.arange(256))
    loss, median = float(jnp.mean(each)), float(jnp.median(each))
    # the same training again, compiled: what a longer run pays per step
    parts, rest = eqx.partition(learned, eqx.is_inexact_array)
    step = jax.jit(jax.value_and_grad(lambda l, b: whole(eqx.combine(l, rest), b, None)))
    batch = (jnp.arange(32), ys[:32])
    jax.block_until_ready(step(parts, batch))
    times = []
    for _ in range(20):
        start = time.process_time()
        jax.block_until_ready(step(parts, batch))
        times.append(time.process_time() - start)
    print(
        f"seed {seed}: loss {loss:.5f}, median path {median:.5f} (wanted 0.00200), {504 + 8 * epochs} "
        f"steps, {spent:.1f} CPU-s with compilation; a gradient over 100 points {1e3 * min(times):.2f} ms",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", help="save times, paths and the first seed's initial weights for the peer")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--order", type=int, default=0, help="another order of the batches, same weights")
    parser.add_argument("--epochs", type=int, default=63, help="of 8 steps, of the second stage")
    parser.add_argument("--rate", type=float, default=5e-3, help="the tutorial's is 3e-3")
    parser.add_argument("--constant", action="store_true", help="the rate stays, as in the tutorial")
    parser.add_argument("--cosine", action="store_true", help="the rate falls as a cosine from the first step on")
    options = parser.parse_args()
    drawn, first, _ = jr.split(jr.key(5678), 3)  # as the tutorial splits it: its paths, and its weights for seed 0
    ts, ys = data(drawn)
    for seed in range(options.seeds):
        net = eqx.nn.MLP(2, 2, 64, 2, ode.softplus, jnp.tanh, key=jr.fold_in(first, seed) if seed else first)
        if options.write and seed == 0:
            weights = {f"w{k}": v.weight for k, v in enumerate(net.layers)}
            np.savez(options.write, ts=ts, ys=ys, **weights, **{f"b{k}": v.bias for k, v in enumerate(net.layers)})
        how = dict(solver=dict(rtol=1e-3, atol=1e-6))
        key, rates = jr.key(seed + 100 * options.order), options.rate
        # the warm-up keeps the optimiser's first steps from undoing the first stage
        gentle = fit.flat_then_cosine(0.5, warmup=0.1)
        second = None if options.constant else fit.cosine if options.cosine else gentle
        begin = time.process_time()
        learned = ode.learn(
            ode.Network(Scaled(net, jnp.array(1.0))), ts, ys, key=key, horizons=(10, 100), epochs=(63, options.epochs),
            rates=rates, schedule=(None, second), batch=32, free=False, optimizer=optax.adabelief, **how,
        )  # fmt: skip
        report(seed, learned, ts, ys, options.epochs, time.process_time() - begin, how)


if __name__ == "__main__":
    main()
