"""Is it right? Every posterior with reference draws, 4 chains × 1000 draws, against Stan's 10 000.

    python benchmarks/samplers/reference.py POSTERIORDB [--only NAME …] [--seed 0] [--target 0.8]
        [--metric low_rank|diagonal|dense]

All defaults are ours but the target acceptance, which models.py takes from the reference run (Stan's adapt_delta).

Prints, per posterior, the worst |mean − reference| and |sd − reference| in units of their joint Monte Carlo error over
all parameters, R-hat, ESS, divergences, gradients, CPU seconds (second call, so without compilation).
"""

import argparse
import json
import time

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from models import WITH_REFERENCE, load

from enerjax import chain
from enerjax.chain import diagnostics as dg

parser = argparse.ArgumentParser()
parser.add_argument("directory")
parser.add_argument("--only", nargs="*", default=list(WITH_REFERENCE))
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--target", type=float, default=None)
parser.add_argument("--metric", choices=("low_rank", "diagonal", "dense"), default="low_rank")
arguments = parser.parse_args()
jax.config.update("jax_enable_x64", True)

for name in arguments.only:
    model = load(name, arguments.directory)
    energy = lambda u, f=model.log_density: -f(u)
    initial = lambda key, m=model: m.centre + jr.uniform(key, (m.dimension,), minval=-m.radius, maxval=m.radius)
    target = arguments.target or model.acceptance
    kind = arguments.metric
    metric = {"low_rank": chain.LowRank, "diagonal": chain.Diagonal, "dense": chain.Dense}[kind]()
    begin = time.process_time()
    posterior = chain.sample(energy, initial, jr.key(arguments.seed), target=target, metric=metric)
    first = time.process_time() - begin
    posterior = chain.sample(energy, initial, jr.key(arguments.seed), target=target, metric=metric)
    ours = np.asarray(jax.vmap(jax.vmap(model.report))(jnp.asarray(posterior.draws)))
    z = {"mean": 0.0, "sd": 0.0}
    rhat, ess = 0.0, np.inf
    for i in range(ours.shape[-1]):
        a, b = ours[..., i], model.reference[..., i]
        error = np.hypot(dg.mcse_mean(a), dg.mcse_mean(b))
        z["mean"] = max(z["mean"], abs(a.mean() - b.mean()) / error)
        error = np.hypot(dg.mcse_sd(a), dg.mcse_sd(b))
        z["sd"] = max(z["sd"], abs(a.std() - b.std()) / error)
        rhat, ess = max(rhat, dg.rhat(a)), min(ess, dg.ess_bulk(a))
    row = {
        "posterior": name, "target": target, "metric": kind, "seed": arguments.seed,
        "worst_mean_in_mcse": round(z["mean"], 2), "worst_sd_in_mcse": round(z["sd"], 2),
        "max_rhat": round(rhat, 4), "min_ess_bulk": round(ess), "divergences": int(posterior.stats["divergence"].sum()),
        "warmup_draws": posterior.warmup["draws"], "warmup_gradients": sum(posterior.warmup["gradients"]),
        "gradients": posterior.gradients, "cpu_s": round(posterior.seconds[1], 2), "first_call_cpu_s": round(first, 1),
        "ok": bool(max(z.values()) < 4 and rhat < 1.01),
    }  # fmt: skip
    print(json.dumps(row), flush=True)
