"""Does a chain find the posterior from anywhere? Lynx and hares, every start from U(−2, 2) in all log-parameters.

    python benchmarks/samplers/robust.py POSTERIORDB [--runs 25] [--start pathfinder|given] [--warmup 1000]

A chain has recovered if its last 50 of 100 draws have a mean energy within 4 standard deviations of the reference
draws' (the metastable modes lie 30 units higher). Prints the share that did, and what the warm-up refused and why.
"""

import argparse
import json
import time

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from models import load

from enerjax import chain

parser = argparse.ArgumentParser()
parser.add_argument("directory")
parser.add_argument("--runs", type=int, default=25)
parser.add_argument("--start", default="pathfinder")
parser.add_argument("--warmup", type=int, default=1000)
arguments = parser.parse_args()
jax.config.update("jax_enable_x64", True)

model = load("lotka_volterra", arguments.directory)
energy = lambda u: -model.log_density(u)
draws = np.log(model.reference.reshape(-1, model.dimension)[::20])
known = np.asarray(jax.lax.map(energy, jnp.asarray(draws)))
limit = known.mean() + 4 * known.std()
start = {"pathfinder": chain.Pathfinder(), "given": chain.Given()}[arguments.start]
recovered, refused, gradients, restarts = [], {}, 0, 0
begin = time.process_time()
for run in range(arguments.runs):
    post = chain.sample(
        energy, chain.uniform(jnp.zeros(model.dimension)), jr.key(100 + run), draws=100, warmup=arguments.warmup,
        start=start,
    )  # fmt: skip
    recovered += (post.stats["potential"][:, 50:].mean(1) < limit).tolist()
    gradients += post.gradients
    restarts += sum(post.warmup["restarts"])
    for why, n in post.warmup["failures"].items():
        name = chain.failure.reason(why)
        refused[name] = refused.get(name, 0) + n
row = {
    "start": arguments.start, "chains": len(recovered), "recovered": sum(recovered), "energy_limit": round(limit, 1),
    "restarts": restarts, "gradients_per_chain": round(gradients / len(recovered)),
    "refused_in_warmup": refused, "cpu_s": round(time.process_time() - begin, 1),
}  # fmt: skip
print(json.dumps(row))
