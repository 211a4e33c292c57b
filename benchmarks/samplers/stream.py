"""A million draws on disk with flat memory, and a thousand vectorised chains: what they take.

    python benchmarks/samplers/stream.py [--draws 250000]

Four chains of a 10-d correlated Gaussian stream their draws to a directory; the anonymous memory of the process (what
is not a mapped file) is read from /proc ten times a second. Then 1000 chains of a 50-d logistic regression in one
vectorised program: ChEES-HMC, and NUTS with a pooled metric.
"""

import argparse
import json
import tempfile
import threading
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from enerjax import chain

parser = argparse.ArgumentParser()
parser.add_argument("--draws", type=int, default=250_000, help="per streaming chain; 0: no streaming")
arguments = parser.parse_args()
jax.config.update("jax_enable_x64", True)


def memory() -> float:
    """Anonymous resident memory [MB]."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


A = np.random.default_rng(0).standard_normal((10, 10))
P = jnp.asarray(A @ A.T + np.eye(10))
energy = lambda x: 0.5 * x @ P @ x
chain.sample(energy, jnp.zeros(10), jr.key(0), draws=1000)  # compiled
for draws in (arguments.draws // 10, arguments.draws) if arguments.draws else ():
    seen, going = [memory()], True

    def watch(seen=seen):
        while going:
            seen.append(memory())
            time.sleep(0.1)

    watcher = threading.Thread(target=watch)
    with tempfile.TemporaryDirectory() as directory:
        watcher.start()
        begin = time.process_time()
        post = chain.sample(energy, jnp.zeros(10), jr.key(1), draws=draws, directory=directory)
        cpu = time.process_time() - begin
        going = False
        watcher.join()
        spread = np.cov(np.asarray(post.unconstrained[:, ::50]).reshape(-1, 10).T) @ np.asarray(P)
        row = {
            "streamed_draws": 4 * draws, "megabytes": round(post.unconstrained.nbytes / 2**20),
            "cpu_s": round(cpu, 1), "memory_before_mb": round(seen[0]), "peak_memory_mb": round(max(seen)),
            "largest_error_of_covariance": round(float(np.abs(np.linalg.eigvals(spread) - 1).max()), 3),
        }  # fmt: skip
        print(json.dumps(row), flush=True)

rng = np.random.default_rng(0)
X, y = jnp.asarray(rng.standard_normal((200, 50)) / 5), jnp.asarray(np.where(rng.random(200) < 0.5, 1.0, -1.0))
logistic = lambda b: jnp.sum(jax.nn.softplus(-y * (X @ b))) + 0.5 * b @ b
starts = chain.uniform(jnp.zeros(50))
ess = lambda x: min(chain.diagnostics.ess_bulk(x[..., i]) for i in range(0, 50, 7))
begin = time.process_time()
many = chain.sample_many(logistic, starts, jr.key(2), chains=1000, warmup=200, draws=50)
cpu = time.process_time() - begin
x = np.asarray(many.draws)
rhat = max(chain.diagnostics.rhat(x[..., i]) for i in range(0, 50, 7))
print(json.dumps({"sample_many": x.shape, "cpu_s_with_compilation": round(cpu, 1), "max_rhat": round(rhat, 4),
                  "gradients": many.gradients, "ess_per_cpu_s": round(ess(x) / cpu)}), flush=True)  # fmt: skip
begin = time.process_time()
post = chain.sample(logistic, starts, jr.key(2), chains=1000, draws=200, vectorise=True)
cpu, y = time.process_time() - begin, post.unconstrained
rhat = max(chain.diagnostics.rhat(y[..., i]) for i in range(0, 50, 7))
error = (x.mean((0, 1)) - y.mean((0, 1))) / (y.std((0, 1)) * np.hypot(ess(x) ** -0.5, ess(y) ** -0.5))
print(json.dumps({"sample": y.shape, "cpu_s_with_compilation": round(cpu, 1), "max_rhat": round(rhat, 4),
                  "warmup_draws": post.warmup["draws"][0], "gradients": post.gradients,
                  "ess_per_cpu_s": round(ess(y) / cpu), "divergences": int(post.stats["divergence"].sum()),
                  "means_differ_by_errors": round(float(np.abs(error).max()), 2)}), flush=True)  # fmt: skip
