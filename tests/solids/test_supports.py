"""What holds a body: springs, walls at any angle, parts of an edge, periodicity, combined domains, and bad input."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from enerjax.solids import (
    Clamped,
    Collocation,
    Displacement,
    Free,
    Periodic,
    Pressure,
    Problem,
    Ritz,
    Spring,
    Symmetry,
    Traction,
    march,
    modes,
    solve,
)
from enerjax.solids.domain import Annulus, Disc, Polygon, Rectangle
from enerjax.solids.material import J2, IsotropicElastic, NeoHookean, PlaneStrain, orthotropic

SQUARE = Rectangle((0, 0), (1, 1))
FREE = dict.fromkeys(("left", "right", "bottom", "top"), Free())
METHOD = Ritz(features=40, interior=12, boundary=12)
PLAIN = IsotropicElastic.from_young(1.0, 0.3)


def square(conditions, material=PLAIN, **options) -> Problem:
    return Problem(SQUARE, material, FREE | conditions, **options)


def test_a_column_rests_on_springs_in_both_forms():
    """u(1) = T/k + T/E without lateral strain; stiffness by component and as a function of x."""
    bar = IsotropicElastic.from_young(1.0, 0.0)
    collocation = Collocation(features=20, interior=8, boundary=8, widths=(1.0,))
    for stiffness, method in (((0.0, 1.0), METHOD), (lambda x: 1.0 + 0 * x[0], METHOD), (1.0, collocation)):
        held = {"left": Symmetry(), "bottom": Spring(stiffness), "top": Traction((0.0, -0.01))}
        u = solve(square(held, bar), 0, method=method).displacement([[1.0, 1.0]])
        assert np.allclose(u, [[0.0, -0.02]], atol=1e-8)
    with pytest.raises(ValueError, match="translation along x1"):
        solve(square({"bottom": Spring((0.0, 1.0)), "top": Traction((0.0, -0.01))}, bar), 0, method=METHOD)


def test_springs_are_as_stiff_under_half_the_load():
    """Everything is linear, so the displacement follows the load factor."""
    rubber = J2.virgin(1 / 3, 0.5, 1e3)
    held = {"left": Clamped(), "right": Spring(1.0)}
    problem = square(held, rubber, body=lambda x: jnp.array([0.1, 0.0]))
    found = march(problem, [1.0, 0.5, 0.1], 0, method=Ritz(features=40, interior=12, boundary=12, cut=1e-7))
    ends = [float(s.displacement([[1.0, 0.5]])[0, 0]) for s in found.solutions]
    assert np.allclose(ends, ends[0] * np.array([1.0, 0.5, 0.1]), rtol=1e-6)


def test_a_block_swings_on_its_springs():
    """A stiff block on a soft bed: ω² = k/(ρ h)."""
    stiff = IsotropicElastic.from_young(1e5, 0.3)
    found = modes(square({"bottom": Spring((0.0, 4.0)), "left": Symmetry()}, stiff), 1, density=1.0, method=METHOD)
    assert abs(float(found.angular[0]) - 2.0) < 1e-3


def test_walls_at_any_angle_hold_in_the_energy_form():
    """Lamé's cylinder as a sector of 45°, one of whose planes of symmetry lies along no axis."""
    sides = {"inner": Pressure(1.0), "outer": Free(), "start": Symmetry(), "end": Symmetry()}
    tube = Problem(Annulus(1.0, 4.0, 0.0, math.pi / 4), PLAIN, sides)
    found = solve(tube, 0, method=Ritz(features=60, interior=14, boundary=20))
    at = np.array([[2.0 * math.cos(t), 2.0 * math.sin(t)] for t in (0.1, 0.4, 0.75)])
    assert np.allclose(np.linalg.eigvalsh(np.asarray(found.stress(at))), [-0.2, 1 / 3], atol=2e-3)
    assert float(modes(tube, 1, method=METHOD).angular[0]) > 0.1  # the breathing mode, not a rigid one
    slope = Polygon([(0, 0), (2, 0), (1, 1), (0, 1)], names=("bottom", "slope", "top", "left"))
    pushed = Problem(
        slope,
        PLAIN,
        {"bottom": Symmetry(), "slope": Symmetry(), "top": Free(), "left": Displacement(0.1, components=(0,))},
    )
    with pytest.raises(ValueError, match="through its plane of symmetry"):
        solve(pushed, 0, method=METHOD)


def test_a_foot_on_part_of_an_edge_leaves_the_rest_free():
    """A body pulled off a foot of half its width: the free half lifts; clamping both halves holds it."""
    body = Polygon([(0, 0), (0.5, 0), (1, 0), (1, 1), (0, 1)], names=("foot", "rest", "right", "top", "left"))
    sides = dict.fromkeys(("rest", "right", "left"), Free()) | {"top": Traction((0.0, -1.0))}
    half = solve(Problem(body, PLAIN, sides | {"foot": Clamped()}), 0, method=Ritz(features=150, interior=24))
    both = solve(Problem(body, PLAIN, sides | {"foot": Clamped(), "rest": Clamped()}), 0, method=METHOD)
    ends = np.array([[0.25, 0.0], [1.0, 0.0], [1.0, 1.0]])
    assert np.allclose(half.displacement(ends)[0], 0, atol=1e-12)
    # benchmarks/solids/reference_foot.py with 80 cells per side; the foot's end is singular
    assert np.allclose(half.displacement(ends)[2], [4.77, -4.60], rtol=0.25)
    assert np.allclose(both.displacement(ends)[:2], 0, atol=1e-12)
    named = Polygon([(0, 0), (1, 0), (1, 1), (0, 1)], names=("held", "held", "free", "free"))
    corner = Problem(named, PLAIN, {"held": Clamped(), "free": Traction((0.0, -1.0))})
    u = solve(corner, 0, method=METHOD).displacement([[0.5, 0.0], [1.0, 0.5], [0.0, 1.0]])
    assert np.allclose(u[:2], 0, atol=1e-12) and u[2, 1] < -0.1


def test_periodic_parts_are_refused_by_the_energy_form_and_homogenised_by_collocation():
    """Layers in series: the harmonic mean of a modulus 1/(1 + cos(2πx)/2) is 1, so the stress is the mean strain."""
    law = lambda x: IsotropicElastic(0.0 * x[0], 0.5 / (1 + 0.5 * jnp.cos(2 * jnp.pi * x[0])))
    pairs = {
        "left": Periodic(jnp.array([1.0, 0.0]), jump=jnp.array([0.1, 0.0])),
        "bottom": Periodic(jnp.array([0.0, 1.0])),
    }
    cell = Problem(SQUARE, law, pairs, heterogeneous=True)
    found = solve(cell, 0, method=Collocation(features=150, interior=16, boundary=20, widths=(1.5,)))
    assert np.allclose(found.stress([[0.3, 0.4], [0.8, 0.2]])[:, 0, 0], 0.1, rtol=1e-4)
    with pytest.raises(ValueError, match="'left' to its partner"):
        solve(cell, 0, method=METHOD)
    with pytest.raises(ValueError, match="not balanced"):
        solve(Problem(SQUARE, PLAIN, pairs, body=lambda x: jnp.array([1.0, 0.0])), 0)


def test_cuts_of_cuts_and_shared_edges():
    plate = Rectangle((-2, -1), (2, 1)) - Disc(0.4, (-0.9, 0.0)) - Disc(0.4, (0.9, 0.0))
    x = np.asarray(plate.interior(30).x)
    assert not np.any(np.hypot(np.abs(x[:, 0]) - 0.9, x[:, 1]) < 0.399)
    assert abs(plate.volume(60) - (8 - 2 * math.pi * 0.16)) < 0.05
    edges = lambda domain, n=60: {name: float(part.points(n).w.sum()) for name, part in domain.parts.items()}
    corner = edges(Rectangle((0, 0), (2, 1)) | Rectangle((0, 0), (1, 2)))
    assert abs(sum(corner.values()) - 8) < 0.05 and "b.left" in corner and abs(corner["b.left"] - 1) < 0.05
    notch = edges(Rectangle((0, 0), (2, 1)) - Rectangle((0.5, 0.5), (1.5, 1)))
    assert abs(notch["a.top"] - 1) < 0.05 and "b.top" not in notch and abs(notch["b.bottom"] - 1) < 1e-9
    joined = edges(Rectangle((0, 0), (1, 1)) | Rectangle((1, 0), (2, 1)))
    assert "a.right" not in joined and "b.left" not in joined and abs(sum(joined.values()) - 6) < 1e-9


def test_a_law_without_a_name_is_of_finite_strain_where_it_curves():
    """Stretched by half: the neo-Hookean square contracts to its closed form however its law is given."""
    law = NeoHookean.from_young(1.0, 0.3)
    pulled = {"left": Symmetry(), "bottom": Symmetry(), "right": Displacement(0.5, components=(0,))}
    shape = lambda stretch: law.mu * (stretch**2 - 1) + law.lam * np.log(1.5 * stretch)  # the lateral stress times λ
    low, high = 0.5, 1.0
    for _ in range(60):
        low, high = (low, (low + high) / 2) if shape((low + high) / 2) > 0 else ((low + high) / 2, high)
    for material, heterogeneous in ((lambda x: law, True), (lambda G: law(G), False)):
        problem = square(pulled, material, heterogeneous=heterogeneous)
        assert np.allclose(solve(problem, 0, method=METHOD).displacement([[1.0, 1.0]])[0, 1], low - 1, atol=1e-6)
    assert not square(pulled, lambda G: PLAIN(G)).finite
    axes = orthotropic((1.0, 2.0, 1.5), (0.2, 0.25, 0.3), (0.5, 0.4, 0.6))
    assert not square(pulled, PlaneStrain(axes)).finite and square(pulled, PlaneStrain(law)).finite


def test_von_mises_and_reactions_of_uniaxial_stress_in_plane_strain():
    """σ₁₁ = E ε/(1 − ν²), σ₃₃ = ν σ₁₁, so σ_vM = σ₁₁ √(1 − ν + ν²), however the law is given."""
    pulled = {"left": Symmetry(), "bottom": Symmetry(), "right": Displacement(1e-4, components=(0,))}
    same = orthotropic((1.0, 1.0, 1.0), (0.3, 0.3, 0.3), (1 / 2.6,) * 3)
    laws = {
        "named": PLAIN,
        "of x": lambda x: PLAIN,
        "section": PlaneStrain(same),
        "finite": NeoHookean.from_young(1.0, 0.3),
    }
    for name, law in laws.items():
        found = solve(square(pulled, law, heterogeneous=name == "of x"), 0, method=METHOD)
        assert np.allclose(found.von_mises([[0.5, 0.5]]), 1e-4 / 0.91 * math.sqrt(0.79), rtol=1e-3), name
    assert np.allclose(found.reaction("right"), [1e-4 / 0.91, 0.0], rtol=1e-3, atol=1e-9)
    assert np.allclose(found.reaction("left"), [-1e-4 / 0.91, 0.0], rtol=1e-3, atol=1e-9)


def test_bad_input_is_named():
    held = {"left": Clamped()}
    of_x = solve(square(held | {"right": Traction(lambda x: jnp.array([0.1, 0.0]))}), 0, method=METHOD)
    of_normal = solve(square(held | {"right": Traction(lambda x, n: 0.1 * n)}), 0, method=METHOD)
    assert np.allclose(of_x.displacement([[1.0, 0.5]]), of_normal.displacement([[1.0, 0.5]]))
    for wrong, said in (
        (Traction((np.nan, 0.0)), "load on 'right' is not finite"),
        (Traction((1.0, 0.0, 0.0)), "traction in 2 dimensions"),
        (Displacement(0.1, components=(2,)), r"components \(2,\) in 2 dimensions"),
        (Displacement((0.1,)), "displacement in 2 dimensions"),
    ):
        with pytest.raises(ValueError, match=said):
            solve(square(held | {"right": wrong}), 0, method=METHOD)
    with pytest.raises(ValueError, match="not a solid"):
        solve(square(held, IsotropicElastic(1.0, -1.0)), 0, method=METHOD)
    pull = lambda E: solve(square(held, IsotropicElastic(E, E)), 0, method=METHOD).displacement([[1.0, 0.5]])[0, 0]
    with pytest.raises(TypeError, match="Specimen"):
        jax.grad(pull)(1.0)


def test_solutions_that_are_not_converged_say_so():
    held = {"left": Clamped(), "right": Traction((0.1, 0.0))}
    with pytest.warns(UserWarning, match="too few points"):
        solve(square(held), 0, method=Ritz(features=60, interior=6, boundary=8))
    body = Polygon([(0, 0), (0.5, 0), (1, 0), (1, 1), (0, 1)], names=("foot", "rest", "right", "top", "left"))
    sides = dict.fromkeys(("rest", "right", "left"), Free()) | {"top": Traction((0.0, -1.0)), "foot": Clamped()}
    with pytest.warns(UserWarning, match="far from converged"):
        solve(Problem(body, PLAIN, sides), 0, method=Collocation(features=40, interior=10, boundary=12, widths=(1.0,)))
