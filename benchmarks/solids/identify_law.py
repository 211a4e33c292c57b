"""A material law from noisy full-field displacements and reactions: error, and coverage of its intervals.

    python benchmarks/solids/identify_law.py [DATA SETS]

Specimen: a quarter plate with a hole, plane strain, its top moved up by 10, 20 and 30 % of the height, of a
Mooney–Rivlin material. Its displacements come from our energy form with 150 features; the readings are 600 random
points with noise of 3e-4 of the largest displacement, and the top's reaction with 0.2 %. The identification does not
know that law: it smooths the readings and balances virtual work (`enerjax.solids.law`). First a Mooney–Rivlin law with
unknown constants and the coverage of its 90 % intervals by Laplace and by `chain.sample` (one run over all data sets,
whose joint posterior is a product), then a polyconvex network of the invariants, judged by its stress in deformations
that were not measured.
"""

import sys
import time

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr

from enerjax import chain
from enerjax.energy import AbstractEnergy
from enerjax.fit.least_squares import levenberg_marquardt
from enerjax.solids import Displacement, Free, Problem, Ritz, Symmetry, law, solve
from enerjax.solids.domain import PerforatedQuarter
from enerjax.solids.material import MooneyRivlin, Polyconvex, stress

jax.config.update("jax_enable_x64", True)
TRUTH = MooneyRivlin(0.3, 0.1, 1.2)
HEIGHT = 3.0


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


def experiment(points, lifts=(0.1, 0.2, 0.3)):
    """Exact displacements at the points [steps, n, d], and the reaction of the top [steps, d]."""
    u, force = [], []
    for lift in lifts:
        problem = specimen(lift)
        solution = solve(problem, 0, method=Ritz(features=150, interior=24, boundary=40, load_steps=2))
        top = problem.domain.boundary("top", 40)
        P = solution.piola(top.x)
        u.append(solution.displacement(points))
        force.append(jnp.einsum("n,nij,nj->i", top.w, P, top.normal))
    return jnp.stack(u), jnp.stack(force)


class Product(AbstractEnergy):
    """Σ_d ½‖A_d θ_d − b_d‖²: independent data sets as one energy."""

    A: jax.Array
    b: jax.Array

    def __call__(self, x):
        return 0.5 * jnp.sum((jnp.einsum("dmi,di->dm", self.A, x) - self.b) ** 2)


def unseen_error(material, key) -> float:
    """Relative error of the stress over random plane deformations with strains as large as those measured."""
    G = 0.25 * jr.normal(key, (200, 2, 2)) * jnp.array([[1.0, 0.6], [0.6, 1.0]])
    P, Q = (jax.vmap(lambda G, m=m: stress(m, G))(G) for m in (material, TRUTH))
    return float(jnp.linalg.norm(P - Q) / jnp.linalg.norm(Q))


def main():
    """Print everything."""
    sets = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    begin = time.process_time()
    points = specimen(0.1).domain.sample(jr.key(1), 600)
    u, force = experiment(points)
    print(f"the experiment: {time.process_time() - begin:.1f} CPU s; reaction {force[:, 1]}")
    begin = time.process_time()
    set_up = law.setting(specimen(0.1), points, jr.key(3), smooth=120, tests=30, interior=20)
    noise = (3e-4 * float(jnp.abs(u).max()), 2e-3 * float(force[-1, 1]))
    truth = jnp.array([TRUTH.c1, TRUTH.c2, TRUTH.lam])

    def data_set(set_up, key):
        k1, k2 = jr.split(key)
        measured = u + noise[0] * jr.normal(k1, u.shape), force + noise[1] * jr.normal(k2, force.shape)
        return set_up.misfit(measured[0], {"top": measured[1]}, noise)

    exact = set_up.misfit(u, {"top": force}, noise).weigh(TRUTH)
    fit = levenberg_marquardt(exact, MooneyRivlin(*jnp.ones(3)))
    wrong = jnp.array([fit.value.c1, fit.value.c2, fit.value.lam]) / truth - 1
    print(
        f"noise-free: relative errors of c₁, c₂, λ {wrong}, {time.process_time() - begin:.1f} CPU s with compilation",
        flush=True,
    )

    begin = time.process_time()
    keys = jr.split(jr.key(5), sets)
    weighted = lambda misfit, theta: misfit.weigh(MooneyRivlin(*theta))

    def linear(misfit):
        """A, b of the whitened residual A θ − b: these laws are linear in their constants."""
        r = lambda theta: misfit.residual(MooneyRivlin(*theta)).ravel()
        return jax.jacfwd(r)(jnp.zeros(3)), -r(jnp.zeros(3))

    @eqx.filter_jit
    def identify(set_up, key):
        theta = jnp.ones(3)
        for _ in range(3):  # the weights depend on the law
            misfit = weighted(data_set(set_up, key), theta)
            A, b = linear(misfit)
            theta = jnp.linalg.lstsq(A, b)[0]
        return theta, A, b

    found = [identify(set_up, key) for key in keys]
    theta, A, b = (jnp.stack(v) for v in zip(*found, strict=True))
    C = jnp.linalg.inv(jnp.einsum("dmi,dmj->dij", A, A))
    sd = jnp.sqrt(jnp.diagonal(C, axis1=1, axis2=2))
    inside = jnp.abs(theta - truth[None]) < 1.6448536 * sd
    square = jnp.sum((jnp.einsum("dmi,di->dm", A, theta) - b) ** 2, axis=1)
    freedom = b.shape[1] - 3
    spent = time.process_time() - begin
    print(f"{sets} noisy data sets: {spent:.1f} CPU s; mean χ²/freedom {float(jnp.mean(square)) / freedom:.3f}")
    print(f"  relative error (rms) of c₁, c₂, λ: {jnp.sqrt(jnp.mean((theta / truth[None] - 1) ** 2, axis=0))}")
    print(f"  mean of error / stated deviation:  {jnp.mean((theta - truth[None]) / sd, axis=0)}")
    print(f"  Laplace 90 % intervals held the truth in {jnp.mean(inside, axis=0)}", flush=True)

    begin = time.process_time()
    start = lambda key: truth + 0.01 * jr.normal(key, (sets, 3))
    posterior = chain.sample(Product(A, b), start, jr.key(7), chains=2, warmup=300, draws=400)
    draws = jnp.asarray(posterior.draws).reshape(-1, sets, 3)
    low, high = jnp.quantile(draws, jnp.array([0.05, 0.95]), axis=0)
    share = jnp.mean((low < truth[None]) & (truth[None] < high), axis=0)
    print(f"  chain.sample 90 % intervals: {share}, {time.process_time() - begin:.1f} CPU s for all {sets}", flush=True)

    begin = time.process_time()
    misfit = weighted(data_set(set_up, keys[0]), theta[0])
    learned = Polyconvex.create(jr.key(11), hidden=8)
    count = sum(jnp.size(a) for a in jax.tree.leaves(learned))
    fit = levenberg_marquardt(misfit, learned, iterations=100)
    print(
        f"polyconvex network, {count} parameters: χ²/freedom "
        f"{2 * fit.energy / freedom:.3f}, stress in unseen deformations to {unseen_error(fit.value, jr.key(13)):.1e} "
        f"(Mooney–Rivlin: {unseen_error(MooneyRivlin(*theta[0]), jr.key(13)):.1e}), "
        f"{time.process_time() - begin:.1f} CPU s"
    )


if __name__ == "__main__":
    main()
