"""Calibration of inverse problems: do 90 % intervals hold the truth in 90 % of synthetic data sets?

    python benchmarks/solids/coverage.py [moduli|field]

Lamé's λ and μ of Haghighat's plate from 50 displacements with 1 % noise: Laplace intervals over 1000 data sets, and
quantiles of `chain.sample` over 100 (one run: the joint posterior of independent data sets is a product). Then Young's
modulus as a field of a plate on rollers that is pulled: the error of 4 × 4 Bernstein coefficients where the truth (a
soft spot) is not in the family and the readings come from a forward solve with other features, and Laplace intervals of
3 × 3 coefficients over 100 data sets.
"""

import sys
import time

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from enerjax import chain
from enerjax.energy import AbstractEnergy
from enerjax.solids import Collocation, Problem, Symmetry, Traction, inverse, problems, solve
from enerjax.solids.domain import Rectangle
from enerjax.solids.material import IsotropicElastic, lame

jax.config.update("jax_enable_x64", True)


class Product(AbstractEnergy):
    """Σ_d E(x_d; data d): independent data sets as one energy."""

    misfit: inverse.Interpolated
    data: jax.Array  # [sets, readings]

    def __call__(self, x):
        one = lambda x, y: eqx.tree_at(lambda m: m.data, self.misfit, y)(x)
        return jnp.sum(jax.vmap(one)(x, self.data))


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
    share = inverse.coverage(quick, truth, noise, jr.key(2), 1000)
    spent = time.process_time() - begin
    print(f"Laplace, 1000 data sets: {share[0]:.3f} (λ) {share[1]:.3f} (μ), {spent:.1f} CPU s", flush=True)
    begin, sets = time.process_time(), 100
    clean, theta = quick.predict(jnp.log(truth)), jnp.log(truth)
    data = clean[None] + noise * jr.normal(jr.key(3), (sets, clean.size))
    start = lambda key: theta + 0.001 * jr.normal(key, (sets, 2))
    posterior = chain.sample(Product(quick, data), start, jr.key(4), chains=2, warmup=300, draws=500)
    low, high = np.quantile(np.asarray(posterior.draws).reshape(-1, sets, 2), [0.05, 0.95], axis=0)
    share = np.mean((low < np.asarray(theta)) & (np.asarray(theta) < high), axis=0)
    spent = time.process_time() - begin
    print(f"chain.sample, {sets} data sets: {share[0]:.2f} (λ) {share[1]:.2f} (μ), {spent:.1f} CPU s", flush=True)


def field():
    """Young's modulus as a field."""
    plate = Rectangle((0, 0), (1, 1))
    rollers = {"left": Symmetry(), "bottom": Symmetry(), "right": Traction((1.0, 0.0)), "top": Traction((0.0, 0.5))}
    spot = lambda x: 1 - 0.5 * jnp.exp(-jnp.sum((x - 0.4) ** 2) / (2 * 0.3**2))
    lam, mu = lame(1.0, 0.3)
    problem = Problem(
        plate, lambda x: IsotropicElastic(lam * spot(x), mu * spot(x)), rollers, heterogeneous=True, name="soft_spot"
    )
    solution = solve(problem, 1, method=Collocation(features=250, interior=20, boundary=30, widths=(1.4,)))
    t = (np.arange(15) + 0.5) / 15
    points = np.stack([a.ravel() for a in np.meshgrid(t, t, indexing="ij")], 1)
    exact = solution.displacement(points)
    noise = 0.01 * float(jnp.std(exact))
    data = exact + noise * jr.normal(jr.key(5), exact.shape)
    shape = (4, 4)
    family = inverse.modulus_field(plate, shape, 0.3)
    method = Collocation(features=100, interior=14, boundary=20, widths=(1.2,))
    begin = time.process_time()
    misfit = inverse.moduli_misfit(problem, family, 16, points, data, noise, jr.key(0), method)
    fit, _ = inverse.identify(misfit, jnp.ones(16))
    inside = plate.interior(12)
    found = jax.vmap(lambda x: family(jnp.exp(fit.value))(x).mu / mu)(inside.x)
    true = jax.vmap(spot)(inside.x)
    wrong = float(jnp.sqrt(jnp.sum(inside.w * (found - true) ** 2) / jnp.sum(inside.w * true**2)))
    freedom = data.size - 16
    print(
        f"modulus field from {len(points)} points with 1 % noise: relative L2 error {wrong:.1e}, χ²/freedom "
        f"{2 * fit.energy / freedom:.3f}, {time.process_time() - begin:.1f} CPU s with compilation",
        flush=True,
    )
    begin = time.process_time()
    truth = 1 + 0.4 * jr.uniform(jr.key(9), (9,), minval=-1.0)
    family = inverse.modulus_field(plate, (3, 3), 0.3)
    misfit = inverse.moduli_misfit(problem, family, 9, points, data, noise, jr.key(0), method)
    share = inverse.coverage(misfit, truth, noise, jr.key(6), 100, steps=8)
    print(
        f"Laplace, 100 data sets: intervals of 3 × 3 coefficients held the truth in {float(jnp.mean(share)):.3f} "
        f"(single ones {float(share.min()):.2f}–{float(share.max()):.2f}), {time.process_time() - begin:.1f} CPU s",
        flush=True,
    )


if __name__ == "__main__":
    if "field" not in sys.argv:
        moduli()
    if "moduli" not in sys.argv:
        field()
