"""Points that follow the residual: they stay quadratures, lie inside, gather where they should, and lower the error."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from enerjax.solids import Collocation, Displacement, Problem, solve
from enerjax.solids.domain import Annulus, Disc, Interval, Meshed, Rectangle
from enerjax.solids.field import RandomFeatures
from enerjax.solids.material import IsotropicElastic
from enerjax.solids.problems.plane import minus_divergence
from enerjax.solids.refine import refine

PLATE = Rectangle((0, 0), (2, 1))
L_MESH = Meshed(
    np.array([[0.0, 0], [2, 0], [2, 1], [1, 1], [1, 2], [0, 2], [0, 1], [1, 0]]),
    {"triangle": np.array([[1, 2, 3], [1, 3, 7]]), "quad": np.array([[0, 7, 3, 6], [6, 3, 4, 5]])},
)


def ridge(x):
    """A narrow ridge across the box, as two components of a residual."""
    s = jnp.exp(-(((x[:, 0] - 0.7) / 0.05) ** 2))
    return jnp.stack([s, -s], 1)


@pytest.mark.parametrize(
    ("domain", "area", "tolerance"),
    [
        (PLATE, 2.0, 0.02),
        (PLATE - Disc(0.3, (1.0, 0.5)), 2.0 - np.pi * 0.09, 0.04),  # its own volume is right to a cell only
        (Annulus(0.5, 2.0, 0.0, np.pi / 2), np.pi / 4 * 3.75, 0.02),
        (L_MESH, 3.0, 0.02),
    ],
    ids=["rectangle", "difference", "annulus", "mesh"],
)
def test_weights_integrate_and_points_lie_inside(domain, area, tolerance):
    points = refine(ridge, domain.interior(20), domain, jr.key(0), candidates=20000)
    n = len(points)
    assert n == len(domain.interior(20)) and len(np.unique(np.asarray(points.x), axis=0)) == n
    assert bool(jnp.all(domain.contains(points.x)))
    assert abs(float(jnp.sum(points.w)) - area) < tolerance * area
    # ∫ x dA against Gauss points of the domain itself
    gauss = domain.interior(40)
    mean = lambda p: np.asarray(p.w @ p.x) / float(jnp.sum(p.w))
    assert np.abs(mean(points) - mean(gauss)).max() < 0.04


def test_density_is_the_papers():
    """P(|x − 0.7| < 0.1) of p = r/mean r + 1 (k = 1, c = 1), from closed forms: half uniform, half the bump."""
    points = refine(ridge, PLATE.interior(20), PLATE, jr.key(1), candidates=40000)
    near = float(jnp.mean(jnp.abs(points.x[:, 0] - 0.7) < 0.1))
    bump = float(jax.scipy.special.erf(2.0))
    assert abs(near - (bump + 0.1) / 2) < 0.02
    added = refine(ridge, PLATE.interior(20), PLATE, jr.key(1), power=2, floor=0, add=100, candidates=40000)
    assert len(added) == len(PLATE.interior(20)) + 100
    new = added[-100:]  # with p ∝ |r|² the terms of ∫ |r|² are all alike
    square = float(jnp.sum(new.w * jnp.sum(ridge(new.x) ** 2, 1))) * len(added) / 100
    assert abs(square / (0.1 * np.sqrt(np.pi / 2)) - 1) < 0.03
    assert bool(jnp.all(jnp.abs(added.x[-100:, 0] - 0.7) < 0.2))


def test_what_is_refused():
    points = PLATE.interior(5)
    broken = lambda x: jnp.where(x[:, 0] > 1, jnp.nan, 1.0)
    for residual, domain, options, said in (
        (ridge, PLATE, {"power": -1.0}, "power k"),
        (ridge, PLATE, {"floor": -1.0}, "floor c"),
        (ridge, PLATE, {"candidates": 3}, "3 candidates"),
        (broken, PLATE, {}, r"not finite at \d+ of \d+ candidates, the first at \(1\."),
        (lambda x: jnp.zeros(3), PLATE, {}, "one row per point"),
        (lambda x: (x[:, 0] < 0.01) * 1.0, PLATE, {"floor": 0.0}, "positive density"),
        (ridge, Disc(0.1, (5.0, 5.0)) & PLATE, {}, "bounding box"),
    ):
        with pytest.raises(ValueError, match=said):
            refine(residual, points, domain, jr.key(0), **options)


def test_a_layer_is_found():
    """Same basis, 120 points: 73 times and more below Gauss points over two seeds; asserted at 15."""
    law, eps = IsotropicElastic(0.0, 0.5), 0.002
    exact = lambda x: x * (1 - x) * (1 + jnp.tanh((x - 0.37) / eps))
    problem = Problem(
        Interval(0.0, 1.0),
        law,
        {"left": Displacement(0.0), "right": Displacement(0.0)},
        body=minus_divergence(law, exact),
        exact=exact,
        basis=(RandomFeatures.create(jr.key(100), 40, 1, 3.0, lambda x: (x - 0.37) / 0.005),),
    )
    method = lambda n, rounds: Collocation(features=20, interior=n, widths=(2.0,), refine=rounds)
    gauss, refined = (solve(problem, 0, method=method(*a)).errors(600) for a in ((120, 0), (60, 2)))
    assert refined["displacement_relative_l2"] < 1e-3
    assert all(refined[k] < gauss[k] / 15 for k in gauss), (gauss, refined)
    with pytest.raises(ValueError, match="counts rounds"):
        solve(problem, 0, method=method(60, -1))
