"""Calibration of inverse problems: do 90 % intervals hold the truth in 90 % of synthetic data sets?

    python benchmarks/solids/coverage.py [moduli|field]

Lamé's λ and μ of Haghighat's plate from 50 displacements with 1 % noise: Laplace intervals over 1000 data sets, and
quantiles of `chain.sample` over 100 (one run: the joint posterior of independent data sets is a product). Then Young's
modulus as a field of a plate on rollers that is pulled, ln E in Bernstein polynomials, from 225 displacements with 1 %
noise: the error where the truth (a soft spot) is not in the family and the readings come from a strong-form solve with
other features; Laplace intervals over 100 data sets, without a prior and with truths drawn from it, the noise known
and estimated; and `chain.sample` over 100 data sets.
"""

import dataclasses
import sys
import time

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from enerjax import chain
from enerjax.energy import AbstractEnergy
from enerjax.fit.least_squares import levenberg_marquardt
from enerjax.path.assimilate import Background, gauss_newton
from enerjax.solids import Collocation, Problem, Ritz, Symmetry, Traction, inverse, problems, readings, solve
from enerjax.solids.domain import Rectangle
from enerjax.solids.material import IsotropicElastic, lame
from enerjax.solids.specimen import Specimen, specimen_misfit

jax.config.update("jax_enable_x64", True)
SPREAD = 0.3  # of the prior of ln E


class Product(AbstractEnergy):
    """Σ_d E(θ + L z_d; data d): independent data sets as one energy, in units of Laplace's deviations."""

    misfit: readings.Interpolated
    data: jax.Array  # [sets, readings]
    centre: jax.Array  # θ, [K]
    root: jax.Array  # L, [K, K]

    def __call__(self, z):
        one = lambda z, y: eqx.tree_at(lambda m: m.data, self.misfit, y)(self.centre + self.root @ z)
        return jnp.sum(jax.vmap(one)(z, self.data))


def moduli():
    """λ and μ."""
    truth = jnp.array([1.0, 0.5])
    problem = problems.manufactured()
    points = jr.uniform(jr.key(1), (50, 2), minval=0.05, maxval=0.95)
    exact = jax.vmap(problem.exact)(points)
    noise = 0.01 * float(jnp.std(exact))
    method = Collocation(features=120, interior=18, boundary=28, widths=(1.0,))
    family = lambda q: IsotropicElastic(q[0], q[1])
    misfit = inverse.moduli_misfit(problem, family, 2, points, exact, noise, jr.key(0), method)
    begin = time.process_time()
    fit, covariance = inverse.identify(misfit, [3.0, 3.0])
    wrong, spent = jnp.abs(jnp.exp(fit.value) / truth - 1), time.process_time() - begin
    print(f"noise-free λ, μ: relative errors {wrong}, {spent:.1f} CPU s with compilation", flush=True)
    begin = time.process_time()
    quick = misfit.interpolate(jnp.log(truth), 8 * jnp.sqrt(jnp.diag(covariance)))
    share = readings.coverage(quick, jnp.log(truth), jr.key(2), 1000).mean(axis=0)
    spent = time.process_time() - begin
    print(f"Laplace, 1000 data sets: {share[0]:.3f} (λ) {share[1]:.3f} (μ), {spent:.1f} CPU s", flush=True)
    begin, sets = time.process_time(), 100
    share = sampled(quick, sets, jnp.log(truth), jr.key(4))
    spent = time.process_time() - begin
    print(f"chain.sample, {sets} data sets: {share[0]:.2f} (λ) {share[1]:.2f} (μ), {spent:.1f} CPU s", flush=True)


def field():
    """Young's modulus as a field."""
    plate = Rectangle((0, 0), (1, 1))
    rollers = {"left": Symmetry(), "bottom": Symmetry(), "right": Traction((1.0, 0.0)), "top": Traction((0.0, 0.5))}
    t = (np.arange(15) + 0.5) / 15
    points = np.stack([a.ravel() for a in np.meshgrid(t, t, indexing="ij")], 1)
    problem = Problem(plate, IsotropicElastic.from_young(1.0, 0.3), rollers, name="plate")
    body = Specimen.create(problem, points, jr.key(0), method=Ritz(features=100, interior=16, boundary=20, cut=1e-8))

    def misfit(n, exact=None):
        """n × n coefficients of ln E, readings with 1 % noise of a homogeneous plate or of what `exact` says."""
        family = inverse.log_modulus_field(plate, (n, n), 0.3)
        bare = specimen_misfit(body, family, jnp.zeros((1, len(points), 2)), (1.0, 1.0))
        data = bare.predict(jnp.zeros(n * n)) if exact is None else exact.reshape(1, -1)
        noise = jnp.full(data.shape, 0.01 * float(jnp.std(data)))
        return family, eqx.tree_at(lambda m: (m.data, m.noise), bare, (data, noise))

    spot = lambda x: 1 - 0.5 * jnp.exp(-jnp.sum((x - 0.4) ** 2) / (2 * 0.3**2))
    lam, mu = lame(1.0, 0.3)
    soft = dataclasses.replace(
        problem, material=lambda x: IsotropicElastic(lam * spot(x), mu * spot(x)), heterogeneous=True
    )
    exact = solve(soft, 1, method=Collocation(features=250, interior=20, boundary=30, widths=(1.4,)))
    inside = plate.interior(12)
    true = jax.vmap(spot)(inside.x)
    for n in (4, 6):
        family, readings_of = misfit(n, exact.displacement(points))
        noisy = readings_of.data + readings_of.noise * jr.normal(jr.key(5), readings_of.data.shape)
        readings_of = eqx.tree_at(lambda m: m.data, readings_of, noisy)
        begin = time.process_time()
        fit = levenberg_marquardt(readings_of + Background(jnp.zeros(n * n), SPREAD), jnp.zeros(n * n))
        found = jax.vmap(lambda x, f=family, v=fit.value: f(v)(x).mu / mu)(inside.x)
        wrong = float(jnp.sqrt(jnp.sum(inside.w * (found - true) ** 2) / jnp.sum(inside.w * true**2)))
        chi = 2 * float(readings_of(fit.value)) / readings_of.data.size
        print(
            f"soft spot by {n} × {n} coefficients of ln E, prior 0 ± {SPREAD}: relative L2 error {wrong:.1e}, χ² per "
            f"reading {chi:.3f}, {time.process_time() - begin:.1f} CPU s with compilation",
            flush=True,
        )
    prior = lambda n: Background(jnp.zeros(n * n), SPREAD)
    drawn = lambda n: lambda key: SPREAD * jr.normal(key, (n * n,))
    fixed = 0.3 * jr.normal(jr.key(9), (9,))
    cases = {
        "3 × 3, one truth, no prior, noise known": (3, fixed, {}),
        "3 × 3, one truth, no prior, noise estimated": (3, fixed, {"noise_known": False}),
        f"5 × 5, truths drawn from the prior 0 ± {SPREAD}": (5, drawn(5), {"prior": prior(5)}),
    }
    for name, (n, truth, options) in cases.items():
        begin = time.process_time()
        share = readings.coverage(misfit(n)[1], truth, jr.key(6), 100, steps=6, **options).mean(axis=0)
        print(
            f"ln E, {name}: Laplace intervals held the truth in {float(share.mean()):.3f} of 100 data sets (single "
            f"coefficients {float(share.min()):.2f}–{float(share.max()):.2f}), {time.process_time() - begin:.1f} CPU s",
            flush=True,
        )
    begin, sets, theta = time.process_time(), 100, 0.3 * jr.normal(jr.key(10), (4,))
    made = misfit(2)[1]
    low, high = readings.intervals(made, theta)
    quick = made.interpolate(theta, 4 * (high - low) / 2, 5)
    share = sampled(quick, sets, theta, jr.key(4))
    print(
        f"ln E, 2 × 2: chain.sample over {sets} data sets {share}, {time.process_time() - begin:.1f} CPU s", flush=True
    )


def sampled(misfit, sets, theta, key, warmup=200, draws=400):
    """The share of data sets whose 90 % interval by `chain.sample` holds theta; prints Laplace's on the same sets.

    What makes it feasible: readings compressed to what θ depends on (a gradient of 100 sets of 3600 readings each cost
    0.3 s), and all sets in units of their common Laplace deviations, so that the product is nearly isotropic.
    """
    small = misfit.compressed()
    clean, J = small.predict(theta), jax.jacfwd(small.predict)(theta)
    root = jnp.linalg.cholesky(jnp.linalg.inv(J.T @ J))
    k1, k2 = jr.split(key)
    data = clean[None] + jr.normal(k1, (sets, clean.size))
    start = lambda key: jr.normal(key, (sets, theta.size))
    posterior = chain.sample(Product(small, data, theta, root), start, k2, chains=2, warmup=warmup, draws=draws)

    @jax.jit
    def laplace(y):
        found, factor = gauss_newton(eqx.tree_at(lambda m: m.data, small, y), theta, iterations=6)
        covariance = jax.scipy.linalg.cho_solve((factor, True), jnp.eye(theta.size))
        return jnp.abs(found - theta) < readings.quantile(0.9) * jnp.sqrt(jnp.diag(covariance))

    kept, rhat = f"{clean.size} of {misfit.data.size} readings kept", posterior.diagnostics()["max_rhat"]
    same = jnp.mean(jax.lax.map(laplace, data), axis=0)
    print(f"  {kept}; R-hat {rhat:.3f}, {posterior.gradients} gradients; Laplace on the same sets: {same}")
    z = jnp.asarray(posterior.draws).reshape(-1, sets, theta.size)
    low, high = jnp.quantile(z @ root.T, jnp.array([0.05, 0.95]), axis=0)
    return np.asarray(jnp.mean((low < 0) & (high > 0), axis=0))


if __name__ == "__main__":
    if "field" not in sys.argv:
        moduli()
    if "moduli" not in sys.argv:
        field()
