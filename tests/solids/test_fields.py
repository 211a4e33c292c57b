"""Fields other than tanh layers: Fourier features where waves are, and a nodal grid under the same energy."""

import dataclasses

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from enerjax.solids import Collocation, Displacement, Problem, problems, solve
from enerjax.solids._clock import Clock
from enerjax.solids.domain import Interval
from enerjax.solids.domain.base import gauss
from enerjax.solids.field import FourierFeatures, GridField
from enerjax.solids.material import IsotropicElastic
from enerjax.solids.problems.plane import minus_divergence
from enerjax.solids.residual import PotentialEnergy
from enerjax.solids.survey import built_in, survey


def test_fourier_features_carry_short_waves():
    """u = sin 12πx in a bar held at both ends: waves beside 10 tanh functions, against as many tanh functions."""
    law, exact = IsotropicElastic(0.0, 0.5), lambda x: jnp.sin(12 * jnp.pi * x)
    bar, ends = Interval(0.0, 1.0), {"left": Displacement(0.0), "right": Displacement(0.0)}
    plain = Problem(bar, law, ends, body=minus_divergence(law, exact), exact=exact)
    waves = FourierFeatures.create(jr.key(1), 30, 1, 7.0, bar.coordinates)
    method = lambda n: Collocation(features=n, interior=120, widths=(4.0,))
    error = lambda problem, n: solve(problem, 0, method=method(n)).errors(200)["displacement_relative_l2"]
    with_waves, without = error(dataclasses.replace(plain, basis=(waves,)), 10), error(plain, 40)
    assert with_waves < 1e-8 and with_waves < without / 1e3, (with_waves, without)


def test_an_energy_is_minimised_over_a_nodal_grid():
    """Constant strain lies in the space of 5 × 4 bilinear nodes: conjugate gradients on ∇Π find it.

    Gauss points cell by cell: a rule across the kinks of the grid would miss the balance of forces there.
    """
    problem = problems.patch_tension()
    plate = problem.domain
    built, _ = built_in(survey(problem, 6, 6, Clock()), 2)
    t, w = gauss(3)
    rule = lambda n: (np.concatenate([(k + t) / n for k in range(n)]), np.tile(w / n, n))
    (s1, w1), (s2, w2) = rule(4), rule(3)
    grid = np.stack([a.ravel() for a in np.meshgrid(s1, s2, indexing="ij")], axis=1)
    inside = plate.patches[0].place(grid, np.outer(w1, w2).ravel())
    along = {"left": (s2, w2), "right": (s2, w2), "bottom": (s1, w1), "top": (s1, w1)}
    edges = {name: plate.parts[name].place([(s[:, None], w)]) for name, (s, w) in along.items()}
    energy = PotentialEnergy(problem, inside, edges)
    field = lambda values: GridField(values, built, plate.coordinates)
    potential, zero = lambda values: energy(field(values)), jnp.zeros((2, 5, 4))

    @jax.jit
    def solved():
        slope = jax.grad(potential)
        product = lambda v: jax.jvp(slope, (zero,), (v,))[1]  # Π is quadratic
        found = jax.scipy.sparse.linalg.cg(product, -slope(zero), tol=1e-12, maxiter=200)[0]
        return jax.vmap(field(found))(inside.x), jax.vmap(problem.exact)(inside.x)

    u, exact = solved()
    assert jnp.linalg.norm(u - exact) < 1e-8 * jnp.linalg.norm(exact)
