"""A material law from noisy full-field displacements and reactions: error, and coverage of its intervals.

    python benchmarks/solids/identify_law.py [DATA SETS]

Specimen: a quarter plate with a hole, plane strain, its top moved up by 10, 20 and 30 % of the height, of a Mooney–Rivlin
material. Its displacements come from our energy form with 150 features; the readings are 600 random points with noise
of 3e-4 of the largest displacement, and the top's reaction with 0.2 %. The identification never sees the law: it smooths
the readings and balances virtual work (`enerjax.solids.law`). First a Mooney–Rivlin law with unknown constants and the
coverage of its 90 % intervals by Laplace and by `chain.sample` (one run over all data sets: their joint posterior is a
product), then a polyconvex network of the invariants, judged by its stress in deformations that were not measured.
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


def constants(x):
    """Logarithms of (c₁, c₂, λ) as a material."""
    return MooneyRivlin(*jnp.exp(x))


class Named(AbstractEnergy):
    """A misfit of materials as an energy of logarithms of constants."""

    misfit: law.LawMisfit

    def residual(self, x):
        return self.misfit.residual(constants(x)).ravel()

    def __call__(self, x):
        return 0.5 * jnp.sum(self.residual(x) ** 2)


class Product(AbstractEnergy):
    """Σ_d E_d(x_d): independent data sets as one energy."""

    parts: Named  # every leaf with a leading axis

    def __call__(self, x):
        return jnp.sum(jax.vmap(lambda e, x: e(x))(self.parts, x))


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
    truth = jnp.log(jnp.array([TRUTH.c1, TRUTH.c2, TRUTH.lam]))

    def data_set(key):
        k1, k2 = jr.split(key)
        measured = u + noise[0] * jr.normal(k1, u.shape), force + noise[1] * jr.normal(k2, force.shape)
        return set_up.misfit(measured[0], {"top": measured[1]}, noise)

    exact = set_up.misfit(u, {"top": force}, noise).weigh(TRUTH)
    fit = levenberg_marquardt(Named(exact), jnp.zeros(3))
    print(
        f"noise-free: relative errors {jnp.abs(jnp.exp(fit.value - truth) - 1)}, "
        f"{time.process_time() - begin:.1f} CPU s with compilation"
    )

    begin = time.process_time()

    @eqx.filter_jit
    def gauss_newton(energy, x):
        def look(x):
            return energy.residual(x), jax.jacfwd(energy.residual)(x)

        def step(_, x):
            r, J = look(x)
            return x - jnp.linalg.lstsq(J, r)[0]

        x = jax.lax.fori_loop(0, 6, step, x)
        r, J = look(x)
        return x, jnp.linalg.inv(J.T @ J), r @ r

    energies, inside, spread = [], [], []
    for key in jr.split(jr.key(5), sets):
        first = data_set(key).weigh(constants(jnp.zeros(3)))
        misfit = first.weigh(constants(gauss_newton(Named(first), jnp.zeros(3))[0]))
        misfit = misfit.weigh(constants(gauss_newton(Named(misfit), jnp.zeros(3))[0]))
        x, C, square = gauss_newton(Named(misfit), jnp.zeros(3))
        energies.append(Named(misfit))
        sd = jnp.sqrt(jnp.diag(C))
        inside.append(jnp.abs(x - truth) < 1.6448536 * sd)
        spread.append(jnp.stack([x - truth, sd]))
    inside, spread = jnp.stack(inside), jnp.stack(spread)
    freedom = energies[0].residual(truth).size - 3
    print(f"{sets} noisy data sets: {time.process_time() - begin:.1f} CPU s; χ²/freedom of the last {square / freedom:.3f}")
    print(f"  relative error (rms) of c₁, c₂, λ: {jnp.sqrt(jnp.mean(spread[:, 0] ** 2, axis=0))}")
    print(f"  mean of error / stated deviation:  {jnp.mean(spread[:, 0] / spread[:, 1], axis=0)}")
    print(f"  Laplace 90 % intervals held the truth in {jnp.mean(inside, axis=0)}")

    begin = time.process_time()
    product = Product(jax.tree.map(lambda *a: jnp.stack([jnp.asarray(v) for v in a]), *energies))
    start = lambda key: truth + 0.01 * jr.normal(key, (sets, 3))
    posterior = chain.sample(product, start, jr.key(7), chains=2, warmup=300, draws=400)
    low, high = jnp.quantile(posterior.draws.reshape(-1, sets, 3), jnp.array([0.05, 0.95]), axis=0)
    share = jnp.mean((low < truth) & (truth < high), axis=0)
    print(f"  chain.sample 90 % intervals: {share}, {time.process_time() - begin:.1f} CPU s for all {sets}")

    begin = time.process_time()
    misfit = energies[0].misfit
    learned = Polyconvex.create(jr.key(11), hidden=8)
    fit = levenberg_marquardt(misfit, learned, iterations=200)
    print(
        f"polyconvex network, {sum(a.size for a in jax.tree.leaves(learned))} parameters: χ²/freedom "
        f"{2 * fit.energy / freedom:.3f}, stress in unseen deformations to {unseen_error(fit.value, jr.key(13)):.1e} "
        f"(Mooney–Rivlin: {unseen_error(constants(gauss_newton(energies[0], truth)[0]), jr.key(13)):.1e}), "
        f"{time.process_time() - begin:.1f} CPU s"
    )


if __name__ == "__main__":
    main()
