"""A material law from noisy full-field displacements and reaction forces: error, and coverage of its intervals.

    python benchmarks/solids/identify_law.py [DATA SETS]

Specimen: a quarter plate with a hole, plane strain, its top moved up by 10, 20 and 30 % of the height, of a
Mooney–Rivlin material. Its displacements come from our energy form with 150 features; the readings are 600 random
points with noise of 3e-4 of the largest displacement, and the top's reaction with 0.2 %. A Mooney–Rivlin law with
unknown constants is identified in two ways: by virtual work of the smoothed readings (`enerjax.solids.law`: linear, no
solve) and by the readings of a specimen in equilibrium (`enerjax.solids.specimen`, 100 features of another seed). 90 %
intervals by Laplace, the noise known and estimated, and by `chain.sample` (one run over all data sets, whose joint
posterior is a product). Then a polyconvex network of the invariants, judged by its stress in deformations that were
not measured.
"""

import dataclasses
import sys
import time

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from coverage import sampled

from enerjax.fit.least_squares import levenberg_marquardt
from enerjax.solids import Displacement, Free, Problem, Ritz, Symmetry, law, readings, solve
from enerjax.solids.domain import PerforatedQuarter
from enerjax.solids.material import MooneyRivlin, Polyconvex, stress
from enerjax.solids.specimen import Specimen, specimen_misfit

jax.config.update("jax_enable_x64", True)
TRUTH = MooneyRivlin(0.3, 0.1, 1.2)
CONSTANTS = jnp.array([TRUTH.c1, TRUTH.c2, TRUTH.lam])
HEIGHT = 3.0
LIFTS = (0.1, 0.2, 0.3)


def specimen(lift: float) -> Problem:
    """The plate with its top moved up."""
    conditions = {
        "hole": Free(),
        "right": Free(),
        "top": Displacement((0.0, lift * HEIGHT), (1,)),
        "left": Symmetry(),
        "bottom": Symmetry(),
    }
    return Problem(PerforatedQuarter(1.0, 3.0, HEIGHT), TRUTH, conditions, name="specimen")


def experiment(points):
    """Exact displacements at the points [steps, n, d], and the reaction of the top [steps, d]."""
    u, force = [], []
    for lift in LIFTS:
        problem = specimen(lift)
        solution = solve(problem, 0, method=Ritz(features=150, interior=24, boundary=40, load_steps=2))
        top = problem.domain.boundary("top", 40)
        P = solution.piola(top.x)
        u.append(solution.displacement(points))
        force.append(jnp.einsum("n,nij,nj->i", top.w, P, top.normal))
    return jnp.stack(u), jnp.stack(force)


def unseen_error(material, key) -> float:
    """Relative error of the stress over random plane deformations with strains as large as those measured."""
    G = 0.25 * jr.normal(key, (200, 2, 2)) * jnp.array([[1.0, 0.6], [0.6, 1.0]])
    P, Q = (jax.vmap(lambda G, m=m: stress(m, G))(G) for m in (material, TRUTH))
    return float(jnp.linalg.norm(P - Q) / jnp.linalg.norm(Q))


def by_virtual_work(set_up, u, force, noise, keys):
    """Constants of every data set by virtual work, weighed twice, then adjusted twice; prints errors and coverage."""
    begin = time.process_time()

    def data_set(set_up, key):
        k1, k2 = jr.split(key)
        measured = u + noise[0] * jr.normal(k1, u.shape), force + noise[1] * jr.normal(k2, force.shape)
        return set_up.misfit(measured[0], {"top": measured[1]}, noise)

    def linear(misfit):
        """A, b of the whitened residual A θ − b: these laws are linear in their constants."""
        r = lambda theta: misfit.residual(MooneyRivlin(*theta)).ravel()
        return jax.jacfwd(r)(jnp.zeros(3)), -r(jnp.zeros(3))

    @eqx.filter_jit
    def identify(misfit):
        theta = jnp.ones(3)
        for adjust in (False, False, True, True):  # the weights depend on the law
            misfit = misfit.weigh(MooneyRivlin(*theta), adjust=adjust)
            A, b = linear(misfit)
            theta = jnp.linalg.lstsq(A, b)[0]
        low, high = readings.intervals(misfit, MooneyRivlin(*theta), noise_known=False)
        half = jnp.stack([b - a for a, b in zip(jax.tree.leaves(low), jax.tree.leaves(high), strict=True)]) / 2
        return theta, jnp.linalg.inv(A.T @ A), jnp.sum((A @ theta - b) ** 2) / (b.size - 3), half

    exact = identify(set_up.misfit(u, {"top": force}, noise))[0]
    print(f"virtual work, noise-free: relative errors of c₁, c₂, λ {exact / CONSTANTS - 1}")
    found = [identify(data_set(set_up, key)) for key in keys]
    theta, C, chi, half = (jnp.stack(v) for v in zip(*found, strict=True))
    report(theta, jnp.sqrt(jnp.diagonal(C, axis1=1, axis2=2)), chi, half, begin)
    return theta[0], data_set(set_up, keys[0]).weigh(MooneyRivlin(*theta[0]), adjust=True)


def report(theta, sd, chi, half, begin):
    """Errors, what the stated deviations say of them, coverage by Laplace with known noise and with `half`."""
    z = (theta - CONSTANTS[None]) / sd
    spent = time.process_time() - begin
    print(f"  {len(theta)} noisy data sets, {spent:.1f} CPU s, χ²/freedom {float(jnp.mean(chi)):.3f}")
    print(f"  relative error (rms) {jnp.sqrt(jnp.mean((theta / CONSTANTS[None] - 1) ** 2, axis=0))}")
    print(f"  mean and rms of error / stated deviation {jnp.mean(z, axis=0)} {jnp.sqrt(jnp.mean(z**2, axis=0))}")
    known = jnp.mean(jnp.abs(z) < readings.quantile(0.9), axis=0)
    estimated = jnp.mean(jnp.abs(theta - CONSTANTS[None]) < half, axis=0)
    print(f"  Laplace 90 % intervals held the truth in {known}, with the noise estimated in {estimated}", flush=True)


def by_equilibrium(misfit, sets):
    """The same by the readings of a specimen in equilibrium."""
    begin = time.process_time()
    fit = levenberg_marquardt(misfit, jnp.full(3, 0.5))
    spent = time.process_time() - begin
    print(f"equilibrium, noise-free: relative errors {fit.value / CONSTANTS - 1}, {spent:.1f} CPU s with compilation")
    low, high = readings.intervals(misfit, fit.value)
    sd = (high - low) / 2 / readings.quantile(0.9)
    begin = time.process_time()
    quick = misfit.interpolate(CONSTANTS, 7 * sd, 5)
    spent = time.process_time() - begin
    print(f"  216 solves for the interpolant: {spent:.1f} CPU s; relative deviations {sd / CONSTANTS}")
    for known in (True, False):
        begin = time.process_time()
        share = readings.coverage(quick, CONSTANTS, jr.key(5), 1000, noise_known=known).mean(axis=0)
        name = "known" if known else "estimated (Student)"
        print(f"  1000 data sets, noise {name}: Laplace {share}, {time.process_time() - begin:.1f} CPU s", flush=True)
    begin = time.process_time()
    share = sampled(quick, sets, CONSTANTS, jr.key(7))
    print(f"  {sets} data sets, chain.sample: {share}, {time.process_time() - begin:.1f} CPU s", flush=True)


def network(weighed, misfit, constants):
    """A polyconvex network from one data set: by virtual work, then by equilibrium."""
    begin = time.process_time()
    learned = Polyconvex.create(jr.key(11), hidden=8)
    count = sum(jnp.size(a) for a in jax.tree.leaves(learned))
    first = levenberg_marquardt(weighed, learned, iterations=100)
    middle = time.process_time()
    fit = levenberg_marquardt(misfit, first.value, iterations=12)
    chi = lambda e, f: 2 * f.energy / (e.residual(f.value).size - count)
    error = lambda W: unseen_error(W, jr.key(13))
    print(
        f"polyconvex network, {count} parameters: by virtual work χ²/freedom {chi(weighed, first):.3f}, stress in "
        f"unseen deformations to {error(first.value):.1e}, {middle - begin:.1f} CPU s; then by equilibrium "
        f"{chi(misfit, fit):.3f}, {error(fit.value):.1e}, {time.process_time() - middle:.1f} CPU s "
        f"(Mooney–Rivlin by virtual work: {error(MooneyRivlin(*constants)):.1e})"
    )


def main():
    """Print everything."""
    sets = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    begin = time.process_time()
    points = specimen(0.1).domain.sample(jr.key(1), 600)
    u, force = experiment(points)
    print(f"the experiment: {time.process_time() - begin:.1f} CPU s; reaction {force[:, 1]}", flush=True)
    noise = (3e-4 * float(jnp.abs(u).max()), 2e-3 * float(force[-1, 1]))
    set_up = law.setting(specimen(0.1), points, jr.key(3), smooth=120, tests=30, interior=20)
    keys = jr.split(jr.key(5), sets)
    constants, weighed = by_virtual_work(set_up, u, force, noise, keys)

    problem = dataclasses.replace(specimen(LIFTS[-1]), material=MooneyRivlin(1.0, 1.0, 1.0))
    body = Specimen.create(problem, points, jr.key(3), method=Ritz(features=100, interior=14, boundary=30, cut=1e-8))
    loads = tuple(lift / LIFTS[-1] for lift in LIFTS)
    make = lambda family, u, force: specimen_misfit(body, family, u, noise, loads=loads, reactions={"top": force})
    by_equilibrium(make(lambda theta: MooneyRivlin(*theta), u, force), sets)
    k1, k2 = jr.split(keys[0])
    noisy = u + noise[0] * jr.normal(k1, u.shape), force + noise[1] * jr.normal(k2, force.shape)
    network(weighed, make(lambda law: law, *noisy), constants)


if __name__ == "__main__":
    main()
