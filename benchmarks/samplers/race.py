"""One sampler on one target: CPU seconds with warm-up, compilation apart, effective draws. All write the same row.

    python benchmarks/samplers/race.py enerjax|blackjax|numpyro|nutpie TARGET POSTERIORDB [--repeat 2] [--metric NAME]

TARGET is a name of models.py: eight_schools, german, german_credit, radon, lotka_volterra, gaussian100. enerjax runs in
its own environment, the peers in one with `pip install jax==0.10.1 blackjax numpyro nutpie diffrax arviz==0.23.4`. The
same log density (forward sensitivities for the ODE), starts from the same distribution, 4 chains × 1000 draws; warm-up
as each recommends (BlackJAX, NumPyro 1000; nutpie and enerjax their own); ESS by ArviZ for all.
"""

import argparse
import json
import os
import time
import warnings

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")
warnings.simplefilter("ignore")

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
from models import load  # noqa: E402

parser = argparse.ArgumentParser()
parser.add_argument("sampler")
parser.add_argument("target")
parser.add_argument("directory")
parser.add_argument("--repeat", type=int, default=2)
parser.add_argument("--metric", default="")
parser.add_argument("--chains", type=int, default=4, help="on a GPU as many as it likes")
parser.add_argument("--draws", type=int, default=1000, help="per chain")
a = parser.parse_args()
jax.config.update("jax_enable_x64", True)
model = load(a.target, a.directory)


def ess(x):
    """Smallest bulk ESS and largest R-hat over the flat unconstrained coordinates, by ArviZ."""
    import arviz as az

    return min(float(az.ess(x[..., i])) for i in range(x.shape[-1])), max(
        float(az.rhat(x[..., i])) for i in range(x.shape[-1])
    )


def enerjax():
    from enerjax import chain

    energy = lambda u: -model.log_density(u)
    spread = lambda key: jax.random.uniform(key, (model.dimension,), minval=-model.radius, maxval=model.radius)
    initial = lambda key: model.centre + spread(key)
    metric = chain.Diagonal() if a.metric == "diagonal" else None

    def once(seed):
        post = chain.sample(energy, initial, jax.random.key(seed), metric=metric, chains=a.chains, draws=a.draws)
        return (
            post.unconstrained,
            post.gradients - int(post.stats["steps"].sum()),
            int(post.stats["steps"].sum()),
            int(post.stats["divergence"].sum()),
        )

    return once


def blackjax():
    import blackjax as bj

    adapt = bj.window_adaptation_low_rank if a.metric == "low_rank" else bj.window_adaptation
    warm = adapt(bj.nuts, model.log_density)

    @jax.jit
    def program(keys, starts):
        def one(key, start):
            k1, k2 = jax.random.split(key)
            (state, parameters), info = warm.run(k1, start, num_steps=1000)
            step = bj.nuts(model.log_density, **parameters).step

            def body(s, k):
                s, i = step(k, s)
                return s, (s.position, i.num_integration_steps, i.is_divergent)

            return jax.lax.scan(body, state, jax.random.split(k2, a.draws))[1], info.info.num_integration_steps

        return jax.vmap(one)(keys, starts)

    def once(seed):
        out, warm_steps = program(
            jax.random.split(jax.random.key(seed), a.chains), jnp.asarray(model.starts(seed, a.chains))
        )
        x, steps, divergent = map(np.asarray, out)
        return x, int(warm_steps.sum()), int(steps.sum()), int(divergent.sum())

    return once


def numpyro():
    from numpyro.infer import MCMC, NUTS

    kernel = NUTS(potential_fn=lambda u: -model.log_density(u))
    mcmc = MCMC(
        kernel, num_warmup=1000, num_samples=a.draws, num_chains=a.chains, chain_method="vectorized", progress_bar=False
    )

    def once(seed):
        fields = ("num_steps", "diverging")
        start = jnp.asarray(model.starts(seed, a.chains))
        mcmc.warmup(jax.random.key(seed), init_params=start, extra_fields=fields, collect_warmup=True)
        warm = int(np.asarray(mcmc.get_extra_fields()["num_steps"]).sum())
        mcmc.run(jax.random.key(seed + 1), extra_fields=fields)
        extra = mcmc.get_extra_fields()
        x = np.asarray(mcmc.get_samples(group_by_chain=True))
        mcmc.post_warmup_state = None
        return x, warm, int(np.asarray(extra["num_steps"]).sum()), int(np.asarray(extra["diverging"]).sum())

    return once


def nutpie():
    import nutpie as nt
    from nutpie.compiled_pyfunc import from_pyfunc

    both = jax.jit(jax.value_and_grad(model.log_density))

    def logp():
        def f(x):
            value, gradient = both(x)
            return float(value), np.asarray(gradient)

        return f

    def expand(*_):
        return lambda x: {"x": np.asarray(x)}

    compiled = from_pyfunc(model.dimension, logp, expand, [np.dtype("float64")], [(model.dimension,)], ["x"])

    def once(seed):
        kind = {"low_rank_modified_mass_matrix": True} if a.metric == "low_rank" else {}
        tr = nt.sample(compiled, chains=a.chains, draws=a.draws, cores=2, seed=seed + 1, progress_bar=False, **kind)
        steps, warm = np.asarray(tr.sample_stats["n_steps"]), np.asarray(tr.warmup_sample_stats["n_steps"])
        return (
            np.asarray(tr.posterior["x"]),
            int(warm.sum()),
            int(steps.sum()),
            int(np.asarray(tr.sample_stats["diverging"]).sum()),
        )

    return once


once = {"enerjax": enerjax, "blackjax": blackjax, "numpyro": numpyro, "nutpie": nutpie}[a.sampler]()  # imports
begin = time.process_time()
for repeat in range(a.repeat + 1):
    if repeat:
        begin = time.process_time()
    wall = time.perf_counter()
    x, warm, steps, divergent = once(repeat)
    cpu, wall = time.process_time() - begin, time.perf_counter() - wall
    if repeat == 0:
        first = cpu  # tracing, compilation and one whole run
        continue
    bulk, rhat = ess(np.asarray(x))
    row = {
        "sampler": a.sampler + (f" {a.metric}" if a.metric else ""), "target": a.target, "repeat": repeat,
        "cpu_s": round(cpu, 3), "wall_s": round(wall, 2), "compile_cpu_s": round(first - cpu, 1),
        "chains": a.chains, "draws": a.draws, "min_ess_bulk": round(bulk), "max_rhat": round(rhat, 3),
        "ess_per_cpu_s": round(bulk / cpu, 1), "ess_per_s": round(bulk / wall, 1),
        "ess_per_1000_gradients": round(1000 * bulk / (warm + steps), 1),
        "warmup_gradients": warm, "gradients": warm + steps, "divergences": divergent,
    }  # fmt: skip
    print(json.dumps(row), flush=True)
