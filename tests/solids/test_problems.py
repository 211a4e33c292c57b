"""Named problems against their exact solutions and references, laws of equilibrium, and refusal of bad input."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from enerjax.solids import (
    Clamped,
    Collocation,
    Displacement,
    Free,
    Pressure,
    Problem,
    Ritz,
    SolveError,
    Spring,
    Symmetry,
    Traction,
    problems,
    solve,
)
from enerjax.solids._clock import Clock
from enerjax.solids.domain import (
    Annulus,
    Box,
    Cylinder,
    Disc,
    Interval,
    PerforatedQuarter,
    Polygon,
    Rectangle,
    SphericalShell,
)
from enerjax.solids.material import IsotropicElastic, MixedElastic, NeoHookean, cauchy_stress
from enerjax.solids.singular import edge, exponents

SMALL = Collocation(features=120, interior=14, boundary=20, widths=(1.0,))


@pytest.mark.parametrize("name", ["patch_tension", "patch_shear"])
def test_patch(name):
    errors = solve(getattr(problems, name)(), 0).errors(5)
    assert max(errors.values()) < 1e-12 or getattr(problems, name)().exact(jnp.ones(2))[1] == 0
    assert max(errors.values()) < 1e-12


@pytest.fixture(scope="module")
def kirsch():
    return solve(problems.kirsch(), 0, method=dataclasses.replace(SMALL, features=200, interior=18, boundary=28))


def test_kirsch(kirsch):
    errors = kirsch.errors(15)
    assert errors["displacement_relative_l2"] < 1e-8 and errors["stress_relative_l2"] < 1e-7
    assert abs(kirsch.quantities()["stress_concentration"] - 3) < 1e-6


def test_tractions_balance_over_the_whole_boundary(kirsch):
    """∮ σ n = 0 and ∮ x × σ n = 0: no body force acts."""
    force, moment, size = jnp.zeros(2), 0.0, 0.0
    for part in kirsch.problem.domain.parts:
        p = kirsch.problem.domain.boundary(part, 16)
        t = jnp.einsum("nij,nj,n->ni", kirsch.stress(p.x), p.normal, p.w)
        force, size = force + t.sum(0), size + jnp.abs(t).sum()
        moment += jnp.sum(p.x[:, 0] * t[:, 1] - p.x[:, 1] * t[:, 0])
    assert jnp.all(jnp.abs(force) < 1e-8 * size) and abs(moment) < 1e-8 * size


def test_convergence_with_features():
    errors = []
    for size in (40, 160):
        s = solve(problems.thick_cylinder(), 0, method=dataclasses.replace(SMALL, features=size))
        errors.append(s.errors(11)["stress_relative_l2"])
    assert errors[1] < 1e-3 * errors[0] and errors[1] < 1e-6


def test_energy_and_strong_form_agree_and_work_is_reciprocal():
    """The Ritz and the collocation displacement agree, and t₁·u₂ = t₂·u₁ (Betti) for two loads."""
    plate = Rectangle((0, 0), (1.0, 1.0))
    make = lambda t: Problem(
        plate,
        IsotropicElastic.from_young(1.0, 0.3),
        {"left": Symmetry(), "bottom": Symmetry(), "right": Traction(t), "top": Free()},
    )
    # smooth shear-free tractions that fit the corners
    pull = lambda x, n: jnp.stack([jnp.cos(jnp.pi * x[1]) ** 2, jnp.zeros_like(x[1])])
    bend = lambda x, n: jnp.stack([1 + x[1] ** 2 * (1 - x[1]) ** 2, jnp.zeros_like(x[1])])
    method = Ritz(features=120, interior=24, boundary=40)
    first, second = solve(make(pull), 0, method=method), solve(make(bend), 0, method=method)
    strong = solve(make(pull), 0, method=dataclasses.replace(SMALL, features=200, interior=20, boundary=32))
    x = plate.sample(jr.key(1), 50)
    a, b = first.displacement(x), strong.displacement(x)
    assert jnp.linalg.norm(a - b) < 2e-3 * jnp.linalg.norm(b)
    p = plate.boundary("right", 40)
    work = lambda load, s: jnp.sum(p.w[:, None] * jax.vmap(load)(p.x, p.normal) * s.displacement(p.x))
    assert jnp.allclose(work(pull, second), work(bend, first), rtol=1e-9)
    energy = solve(make(pull), 0, method=method).info["energy"]
    assert jnp.allclose(-2 * energy, work(pull, first), rtol=1e-9)  # Clapeyron


def test_weak_form():
    """Virtual work vanishes at the exact solution; where it vanishes is the solution, as well as 20 features can."""
    from enerjax.energy import Misfit
    from enerjax.fit.least_squares import gauss_newton
    from enerjax.solids.collocation import basis_of
    from enerjax.solids.field import LinearField
    from enerjax.solids.residual import PotentialEnergy, WeakForm
    from enerjax.solids.survey import built_in, survey

    problem = problems.thick_cylinder()
    built, _ = built_in(survey(problem, 8, 8, Clock()), 2)
    basis = basis_of(survey(problem, 8, 8, Clock()), jr.key(0), 20, 1.0)
    field = lambda c: LinearField(basis, built, c)
    weak = WeakForm(PotentialEnergy.create(problem, 20, 20), field(jnp.zeros((2, basis.size))))
    there = eqx.filter_jit(lambda w: w.residual(problem.exact))(weak)
    away = eqx.filter_jit(lambda w: w.residual(lambda x: 1.01 * problem.exact(x)))(weak)
    assert float(jnp.abs(there).max()) < 1e-9 and float(jnp.abs(away).max()) > 1e-3
    fit = gauss_newton(Misfit(lambda c: weak.residual(field(c))), jnp.zeros((2, basis.size)), iterations=3)
    x = problem.domain.sample(jr.key(1), 30)
    exact = jax.vmap(problem.exact)(x)
    assert jnp.linalg.norm(jax.vmap(field(fit.value))(x) - exact) < 5e-3 * jnp.linalg.norm(exact)


def test_finite_strain():
    s = solve(problems.neo_hookean(), 0, method=dataclasses.replace(SMALL, features=150, interior=16, boundary=24))
    assert s.errors(13)["displacement_relative_l2"] < 1e-6
    residuals = [h["residual"] for h in s.history]
    assert residuals[-1] < 1e-6 * residuals[0]


def test_cook_against_finite_elements():
    errors = solve(problems.cook(), 0, method=Ritz(features=150, interior=22, boundary=30)).errors()
    assert errors["displacement_relative_l2"] < 1e-4 and errors["stress_relative_l2"] < 1e-2


def test_a_strip_pulled_at_finite_strain_against_finite_elements():
    errors = solve(problems.pulled_strip(), 0, method=Ritz(features=80, interior=16, boundary=24)).errors()
    assert errors["displacement_relative_l2"] < 2e-5 and errors["stress_relative_l2"] < 1e-3


def test_a_pressure_keeps_the_stress_of_a_nearly_incompressible_body():
    """Lamé's cylinder at ν = 0.4999 by the energy form; λ tr ε in its place is wrong by 2.1 with 40 features."""
    pure = problems.thick_cylinder(poisson=0.4999)
    make = lambda poisson: dataclasses.replace(pure, material=MixedElastic.from_young(1.0, poisson))
    x = pure.domain.interior(7).x
    exact = jax.vmap(lambda x: cauchy_stress(pure.material, jax.jacfwd(pure.exact)(x)))(x)
    found = solve(make(0.4999), 0, method=Ritz(features=80, interior=14, boundary=14)).stress(x)
    assert jnp.linalg.norm(found - exact) < 1e-4 * jnp.linalg.norm(exact)
    with pytest.raises(ValueError, match="1/λ > 0"):
        solve(make(0.5), 0, method=Ritz(features=20, interior=8, boundary=8))


def test_a_point_load_where_the_far_face_is_left_to_the_residual():
    """Boussinesq in coordinates of rays: with the displacement built in, twice the features reached 6e-6."""
    load = problems.boussinesq()
    errors = solve(load, 0, method=dataclasses.replace(load.method, features=200, interior=8, widths=(0.1,))).errors(6)
    assert errors["displacement_relative_l2"] < 1e-6 and errors["stress_relative_l2"] < 1e-6


def test_a_block_is_pulled_and_twisted():
    """Few smooth functions against FElupe's fine mesh: near in displacement, stiffer in torque."""
    block = problems.twisted_block()
    found = solve(dataclasses.replace(block, basis=()), 0, method=Ritz(features=25, interior=8, boundary=4))
    assert found.errors()["displacement_relative_l2"] < 0.03
    assert 0.51432 < block.quantities["torque"](found) < 0.54


def test_points_gather_at_the_faces_of_a_graded_box():
    plain, graded = (Box((0, 0, 0), (1, 2, 1), grade=g).interior(12) for g in (1.0, 2.0))
    polynomial = lambda points: jnp.sum(points.w * points.x[:, 0] ** 2 * points.x[:, 1] ** 3)
    assert jnp.allclose(polynomial(graded), 4 / 3, rtol=1e-13) and jnp.allclose(polynomial(plain), 4 / 3, rtol=1e-13)
    assert graded.x.min() < plain.x.min() / 5 and abs(graded.x[:, 0] - 1).min() < 1 - plain.x[:, 0].max()


def test_functions_of_an_edge_grow_with_their_powers():
    """Times s^λ where the distance from the edge is s times as large, polynomials along it."""
    functions = edge((0.0, 1.0), (1.0, -1.0), [0.6], 1.0, 2, (0, 2), (1, 0.0, 4.0), order=1)
    at = lambda s, y: functions(jnp.array([0.3 * s, y, 1.0 - 0.2 * s]))
    assert jnp.allclose(at(0.1, 3.0), 0.1**0.6 * at(1.0, 3.0), rtol=1e-12)
    half = functions.size // 2
    assert jnp.allclose(at(1.0, 3.0)[half:], 0.5 * at(1.0, 3.0)[:half])  # t = 1/2 at y = 3 of 0 … 4


def test_wave_in_space_and_time():
    s = solve(problems.wave(), 0, method=dataclasses.replace(SMALL, features=150, interior=18, boundary=24))
    assert s.errors(15)["displacement_relative_l2"] < 1e-6


def test_mixed_displacement_stress_form():
    method = dataclasses.replace(SMALL, form="mixed", features=150, interior=16)
    assert solve(problems.thick_cylinder(), 0, method=method).errors(11)["displacement_relative_l2"] < 1e-5


def test_memory_bound_changes_nothing():
    tight = dataclasses.replace(SMALL, features=60, memory=4e6)
    free = dataclasses.replace(tight, memory=1e9)
    x = jnp.array([[1.5, 1.0], [2.0, 2.0]])
    a, b = (solve(problems.thick_cylinder(), 0, method=m).displacement(x) for m in (tight, free))
    assert jnp.allclose(a, b, rtol=1e-5)


DOMAINS = {
    "interval": (Interval(1.0, 3.0), 2.0),
    "rectangle": (Rectangle((0, 0), (2, 3)), 6.0),
    "polygon": (Polygon([(0, 0), (2, 0), (2, 1), (1, 1), (1, 2), (0, 2)]), 3.0),
    "graded": (Polygon([(0, 0), (48, 44), (48, 60), (0, 44)], graded=True), 1440.0),
    "disc": (Disc(2.0), 4 * np.pi),
    "annulus": (Annulus(1.0, 2.0), 3 * np.pi),
    "quarter": (PerforatedQuarter(1.0, 2.0, 3.0), 6 - np.pi / 4),
    "box": (Box((0, 0, 0), (1, 2, 3)), 6.0),
    "shell": (SphericalShell(1.0, 2.0), 7 * np.pi / 6),
    "cylinder": (Cylinder(1.0, 2.0), 2 * np.pi),
}


@pytest.mark.parametrize("name", DOMAINS)
def test_quadrature_and_divergence_theorem(name):
    """∫ 1 is the volume, ∮ x·n = D × volume (so normals point outwards), points lie inside."""
    domain, volume = DOMAINS[name]
    inside = domain.interior(12)
    assert jnp.allclose(jnp.sum(inside.w), volume, rtol=1e-6)
    flux = sum(jnp.sum(p.w * jnp.sum(p.x * p.normal, 1)) for p in (domain.boundary(k, 12) for k in domain.parts))
    assert jnp.allclose(flux, domain.dimension * volume, rtol=1e-6)
    assert bool(jnp.all(domain.contains(inside.x))) and jnp.allclose(
        jnp.linalg.norm(domain.boundary(k := next(iter(domain.parts)), 5).normal, axis=1), 1.0
    ), k


def test_boolean_combinations():
    plate = Rectangle((-2, -2), (2, 2)) - Disc(1.0)
    assert abs(plate.volume(60) - (16 - np.pi)) < 0.05
    p = plate.boundary("edge", 20)
    assert jnp.allclose(jnp.sum(p.x * p.normal, 1), -1.0)  # out of the plate is into the hole
    assert not bool(plate.contains(jnp.zeros((1, 2)))[0])
    both = Disc(1.0) & Rectangle((0, 0), (2, 2))
    assert abs(both.volume(60) - np.pi / 4) < 0.05
    either = Disc(1.0) | Rectangle((0, 0), (2, 2))
    assert abs(either.volume(60) - (np.pi * 3 / 4 + 4)) < 0.1


def test_williams_exponents():
    assert abs(exponents(2 * np.pi, 0, 1.8)[0] - 0.5) < 1e-9  # a crack
    assert abs(exponents(1.5 * np.pi, 0, 1.8)[0].real - 0.544483) < 1e-6  # an L-shaped domain
    z = exponents(np.pi, 1, 2.0)[0]
    assert abs(z - complex(0.5, np.log(2.0) / (2 * np.pi))) < 1e-9  # a bonded flat punch


def plate(conditions, material=None, **options):
    material = material or IsotropicElastic.from_young(1.0, 0.3)
    return Problem(Rectangle((0, 0), (1, 1)), material, conditions, **options)


def test_rigid_motions_are_named():
    free = dict.fromkeys(("left", "right", "bottom", "top"), Free())
    with pytest.raises(ValueError, match="translation along x1.*translation along x2.*rotation.*loads balance"):
        solve(plate(free), 0)
    with pytest.raises(ValueError, match="translation along x2.*not balanced"):
        solve(plate(free | {"left": Symmetry(), "top": Traction((0.0, 1.0))}), 0)
    # springs hold: between smooth walls u = T/k + T/(λ + 2μ) x
    walls = {"left": Spring(2.0), "right": Traction((1.0, 0.0)), "bottom": Symmetry(), "top": Symmetry()}
    held = solve(plate(walls, IsotropicElastic(1.0, 0.5)), 0, method=dataclasses.replace(SMALL, features=20))
    x = jnp.array([[0.0, 0.3], [0.7, 0.9]])
    assert jnp.allclose(held.displacement(x), jnp.stack([0.5 + x[:, 0] / 2, 0 * x[:, 0]], 1), atol=1e-11)


def test_missing_and_unknown_parts_are_named():
    with pytest.raises(ValueError, match="'right'.*Free"):
        plate({"left": Clamped(), "bottom": Free(), "top": Free()})
    with pytest.raises(ValueError, match="no boundary part 'hole'"):
        plate({"hole": Free()})


def test_points_outside_are_refused(kirsch):
    with pytest.raises(ValueError, match=r"1 of 2 points lie outside.*number 1 at \(0.1, 0.1\)"):
        kirsch.displacement([[2.0, 2.0], [0.1, 0.1]])


def test_inversion_halves_the_step_then_stops_with_the_last_good_state(tmp_path):
    sides = {"left": Clamped(), "bottom": Free(), "top": Free()}
    crushed = plate(sides | {"right": Displacement((-1.4, 0.0))}, NeoHookean.from_young(1.0, 0.3), name="crushed")
    lines = []
    with pytest.raises(SolveError, match="last good state saved") as caught:
        method = Ritz(features=25, interior=8, boundary=10, iterations=8)
        solve(crushed, 0, method=method, directory=tmp_path, say=lines.append)
    assert any("step halved" in line for line in lines)
    assert caught.value.state is not None and list(tmp_path.glob("*.vtu")) and 0 <= caught.value.load < 1


def test_float64_without_the_flag():
    with jax.enable_x64(False):
        s = solve(problems.thick_cylinder(), 0, method=SMALL)
        assert s.displacement(jnp.array([[2.0, 1.0]])).dtype == jnp.float64
        assert s.errors(9)["stress_relative_l2"] < 1e-5


def test_changing_the_pressure_is_linear():
    method = dataclasses.replace(SMALL, features=60)
    x = jnp.array([[1.5, 1.0]])
    one, three = (solve(problems.thick_cylinder(pressure=p), 0, method=method).displacement(x) for p in (1.0, 3.0))
    assert jnp.allclose(three, 3 * one, rtol=1e-8)
    assert isinstance(problems.thick_cylinder().conditions["inner"], Pressure)


@pytest.mark.parametrize("name, n, bound", [("manufactured", 12, 20), ("manufactured_3d", 5, 32)])
def test_training_step_costs_few_forward_passes(name, n, bound):
    """Flops of one gradient of the strong-form loss over one forward pass, from the compiled programs."""
    from enerjax.solids import Network
    from enerjax.solids.survey import survey
    from enerjax.solids.trained import network_loss

    look = survey(getattr(problems, name)(), n, n, Clock())
    field, loss = network_loss(look, Network(hidden=(64, 64, 64, 64)), jr.key(0))
    only = eqx.tree_at(lambda c: c.terms, loss, loss.terms[:1])
    x = loss.terms[0].points.x
    flops = lambda f, *a: jax.jit(f).lower(*a).compile().cost_analysis()["flops"]
    params, static = eqx.partition(field, eqx.is_array)
    forward = flops(lambda p, x: jax.vmap(eqx.combine(p, static))(x), params, x)
    step = flops(jax.grad(lambda p: only(eqx.combine(p, static))), params)
    assert step / forward < bound, step / forward


def test_jets_through_layers_are_those_of_forward_mode():
    """The tanh layers' own jets against nested forward mode, for a trained and a linear field in three dimensions."""
    from enerjax.solids import jets
    from enerjax.solids.field import MLP, Affine, BuiltIn, LinearField, NetworkField, RandomFeatures, Stacked

    built = BuiltIn(lambda x: jnp.stack([x[0], 1 + x[1] * x[2]]), lambda x: jnp.stack([x[2] ** 2, x[0]]))
    xi = lambda x: jnp.stack([jnp.sin(x[0]), x[1] * x[2]])
    net = NetworkField(MLP.create(jr.key(0), (2, 7, 5, 2)), built, xi)
    basis = Stacked((RandomFeatures.create(jr.key(1), 6, 2, 1.0, xi), Affine(np.zeros(3), np.ones(3))))
    x = jnp.array([0.3, -0.2, 0.7])
    for field in (net, LinearField(basis, built, jr.normal(jr.key(2), (2, basis.size)))):
        for order in (0, 1, 2):
            assert jnp.allclose(jets.jet(field, x, order), jets.jet(lambda x, f=field: f(x), x, order), atol=1e-13)
