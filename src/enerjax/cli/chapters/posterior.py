"""A posterior whose likelihood solves a differential equation: lynx and hares, 1900–1920, with every check."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.scipy.stats import norm

from ... import chain
from ... import energy as en
from ...chain.arviz import plots
from ..report import Chapter, figure

# Hudson's Bay Company pelts in thousands (hares, lynx), first year 1900; E. P. Odum, Fundamentals of Ecology (1953)
HARES = [
    30,
    47.2,
    70.2,
    77.4,
    36.3,
    20.6,
    18.1,
    21.4,
    22,
    25.4,
    27.1,
    40.3,
    57,
    76.6,
    52.3,
    19.5,
    11.2,
    7.6,
    14.6,
    16.2,
    24.7,
]
LYNX = [4, 6.1, 9.8, 35.2, 59.4, 41.7, 19, 13, 8.3, 9.1, 7.4, 8, 12.3, 19.5, 45.7, 51.1, 29.7, 15.8, 9.7, 10.1, 8.6]
# means of posteriordb's reference draws (Stan, 10 000) for the same model: growth, predation, death, conversion
REFERENCE = {"growth": 0.547, "predation": 0.0277, "death": 0.800, "conversion": 0.0241}
SUBSTEPS = 10


def solve(growth, predation, death, conversion, start):
    """Populations [21, 2] at yearly intervals by the classical Runge–Kutta method, `SUBSTEPS` steps a year."""
    field = lambda z: jnp.stack([(growth - predation * z[1]) * z[0], (conversion * z[0] - death) * z[1]])
    h = 1.0 / SUBSTEPS

    def step(z, _):
        k1 = field(z)
        k2 = field(z + h / 2 * k1)
        k3 = field(z + h / 2 * k2)
        return z + h / 6 * (k1 + 2 * k2 + 2 * k3 + field(z + h * k3)), None

    year = lambda z, _: (jax.lax.scan(step, z, None, length=SUBSTEPS)[0],) * 2
    return jnp.concatenate([start[None], jax.lax.scan(year, start, None, length=20)[1]])


def log_likelihood(x, pelts):
    """Log-normal errors around the solution; a population that is no longer finite is reported as failure 1."""
    z = solve(x["growth"], x["predation"], x["death"], x["conversion"], x["start"])
    good = jnp.all(jnp.isfinite(z) & (z > 0))
    log_z = jnp.log(jnp.where(good, z, 1.0))
    return norm.logpdf(jnp.log(pelts), log_z, x["sigma"][None, :]).sum(), jnp.where(good, 0, 1)


def model() -> en.Posterior:
    """The posterior of posteriordb's hudson_lynx_hare-lotka_volterra."""
    priors = {
        "growth": lambda a: norm.logpdf(a, 1, 0.5),
        "death": lambda a: norm.logpdf(a, 1, 0.5),
        "predation": lambda a: norm.logpdf(a, 0.05, 0.05),
        "conversion": lambda a: norm.logpdf(a, 0.05, 0.05),
        "start": lambda z: norm.logpdf(jnp.log(z), jnp.log(10.0), 1) - jnp.log(z),
        "sigma": lambda s: norm.logpdf(jnp.log(s), -1, 1) - jnp.log(s),
    }
    pelts = jnp.stack([jnp.array(HARES), jnp.array(LYNX)], axis=1)
    return en.posterior(log_likelihood, priors, dict.fromkeys(priors, en.Positive()), data=pelts)


def initial(key):
    """Around plausible rates, a factor of about 1.3 either way."""
    centre = {"growth": 0.6, "predation": 0.03, "death": 0.8, "conversion": 0.03, "start": jnp.array([30.0, 5.0])}
    centre["sigma"] = jnp.array([0.4, 0.4])
    noise = jr.normal(key, (6, 2))
    return {
        n: v * jnp.exp(0.25 * e[: jnp.size(v)].reshape(jnp.shape(v)))
        for (n, v), e in zip(centre.items(), noise, strict=True)
    }


def chapter(seed: int, say: Callable[[str], None]) -> Chapter:
    """Four chains of NUTS on the pelt records; the fit, the diagnostics, and ArviZ's pictures."""
    with jax.enable_x64(True):
        post = chain.sample(
            model(), initial, jr.key(seed), draws=500, progress=say, reasons={1: "the populations are no longer finite"}
        )
        worst, table = post.diagnostics(), post.table
        at = {n: i for i, n in enumerate(table["name"])}
        far = max(abs(table["mean"][at[n]] - m) / table["sd"][at[n]] for n, m in REFERENCE.items())
        flat = {k: jnp.asarray(v).reshape(-1, *v.shape[2:])[::20] for k, v in post.draws.items()}
        one = lambda x: solve(x["growth"], x["predation"], x["death"], x["conversion"], x["start"])
        paths = np.asarray(jax.vmap(one)(flat))
        fig, axes = figure(2)
        years = np.arange(1900, 1921)
        for ax, i, name, data in ((axes[0], 0, "hares", HARES), (axes[1], 1, "lynx", LYNX)):
            low, middle, high = np.quantile(paths[..., i], [0.05, 0.5, 0.95], axis=0)
            ax.fill_between(years, low, high, alpha=0.3)
            ax.plot(years, middle)
            ax.plot(years, data, "ko", markersize=3)
            ax.set(title=name, xlabel="year", ylabel="pelts [thousands]")
            ax.set_xticks([1900, 1910, 1920])
        numbers = {
            "max_rhat": worst["max_rhat"],
            "min_ess_bulk": worst["min_ess_bulk"],
            "min_ess_tail": worst["min_ess_tail"],
            "min_ebfmi": worst["min_ebfmi"],
            "divergences": worst["divergences"],
            "gradients": worst["gradients"],
            "warmup_draws": max(post.warmup["draws"]),
            "largest_deviation_from_reference_in_sd": float(far),
            "growth": float(table["mean"][at["growth"]]),
            "growth_reference": REFERENCE["growth"],
            "sampling_seconds": post.seconds[0],
        }
        text = [
            "The energy is minus the log posterior: a likelihood that solves the Lotka–Volterra equations, priors, and "
            "the volumes of the maps to the real line. Its gradient drives the same leapfrog that moves molecules; the "
            "no-U-turn sampler decides how long. Compiled once, for warm-up and sampling alike.",
            "R-hat below 1.01 says that the chains agree, ESS what the draws are worth, and the means are compared "
            "with the 10 000 reference draws that posteriordb keeps for this model.",
            *post.advice(),
        ]
        pictures = [("Populations: data, median and 90 % band of the solution", fig), *plots(post, limit=4)]
    return Chapter("posterior", "Sample a posterior", text, numbers, pictures)
