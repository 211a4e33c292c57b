"""Identification: moduli and their intervals, a modulus field, a law from full fields; trained networks."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import pytest

from enerjax.fit.least_squares import levenberg_marquardt
from enerjax.solids import (
    Collocation,
    Displacement,
    Free,
    Network,
    Problem,
    Symmetry,
    Traction,
    inverse,
    law,
    problems,
    readings,
    solve,
)
from enerjax.solids.domain import Rectangle
from enerjax.solids.material import IsotropicElastic, NeoHookean, stress
from enerjax.solids.problems.plane import minus_divergence

SQUARE = Rectangle((0, 0), (1, 1))
METHOD = Collocation(features=60, interior=12, boundary=16, widths=(1.0,))


@pytest.fixture(scope="module")
def lame_misfit():
    problem = problems.manufactured()
    points = jr.uniform(jr.key(1), (30, 2), minval=0.05, maxval=0.95)
    data = jax.vmap(problem.exact)(points)
    family = lambda q: IsotropicElastic(q[0], q[1])
    return inverse.moduli_misfit(problem, family, 2, points, data, 0.01, jr.key(0), METHOD)


def test_moduli_from_exact_readings_and_their_derivatives(lame_misfit):
    fit, _ = inverse.identify(lame_misfit, [3.0, 3.0])
    assert jnp.allclose(jnp.exp(fit.value), jnp.array([1.0, 0.5]), rtol=2e-2)  # 60 features
    x, d = jnp.log(jnp.array([1.0, 0.5])), jnp.array([0.6, -0.8])
    slope = jax.jvp(lame_misfit.predict, (x,), (d,))[1]
    finite = (lame_misfit.predict(x + 1e-5 * d) - lame_misfit.predict(x - 1e-5 * d)) / 2e-5
    assert jnp.linalg.norm(slope - finite) < 1e-2 * jnp.linalg.norm(finite)
    back = jax.grad(lambda x: jnp.sum(lame_misfit.predict(x)))(x) @ d
    assert jnp.allclose(back, jnp.sum(slope), rtol=1e-9)


def test_intervals_are_calibrated(lame_misfit):
    """600 data sets: 0.9 ± 0.012; the interpolated posterior is the same energy."""
    x = jnp.log(jnp.array([1.0, 0.5]))
    quick = lame_misfit.interpolate(x, jnp.array([0.05, 0.05]), 8)
    near = x + jnp.array([0.02, -0.03])
    assert jnp.allclose(quick(near), lame_misfit(near), rtol=1e-6)
    assert float(quick(x + 1.0)) == jnp.inf
    quick = eqx.tree_at(lambda m: m.noise, quick, jnp.asarray(0.002))
    assert jnp.all(jnp.abs(readings.coverage(quick, x, jr.key(2), 600).mean(axis=0) - 0.9) < 0.05)
    with pytest.raises(ValueError, match="lower the radius"):
        lame_misfit.interpolate(x, jnp.array([3.0, 3.0]), 2)


def test_modulus_field_comes_back():
    sides = {"left": Symmetry(), "bottom": Symmetry(), "right": Traction((1.0, 0.0)), "top": Traction((0.0, 0.5))}
    plate = Problem(SQUARE, lambda x: IsotropicElastic(1.0, 0.5), sides, heterogeneous=True)
    family = inverse.modulus_field(SQUARE, (2, 2), 0.3)
    points = SQUARE.sample(jr.key(3), 60)
    misfit = inverse.moduli_misfit(plate, family, 4, points, jnp.zeros((60, 2)), 1e-3, jr.key(0), METHOD)
    truth = jnp.log(jnp.array([0.8, 1.0, 1.3, 0.9]))
    known = eqx.tree_at(lambda m: m.data, misfit, misfit.predict(truth))
    fit, _ = inverse.identify(known, jnp.ones(4))
    assert jnp.allclose(fit.value, truth, atol=1e-6)
    assert jnp.allclose(family(jnp.exp(truth))(jnp.array([1.0, 0.0])).mu * 2.6, 1.3)  # a corner is its coefficient


def test_a_law_from_full_fields_and_a_reaction():
    """Uniaxial tension by 20 %: neo-Hookean constants come back, whitened noise is of unit size, and the deformation
    adjusted to equilibrium is nearer to the true one than the measured.
    """
    truth = NeoHookean(1.2, 0.5)
    sides = {"left": Symmetry(), "right": Free(), "bottom": Symmetry(), "top": Displacement((0.0, 0.2), (1,))}
    specimen = Problem(SQUARE, truth, sides)
    P = lambda g: stress(truth, jnp.diag(jnp.stack([g, jnp.asarray(0.2)])))
    side = lambda g: P(g)[0, 0]
    across = jax.lax.fori_loop(0, 30, lambda _, g: g - side(g) / jax.grad(side)(g), jnp.asarray(0.0))  # free side
    points = SQUARE.sample(jr.key(1), 100)
    u = points * jnp.stack([across, jnp.asarray(0.2)])[None]
    pull = P(across)[1, 1]
    prepared = law.setting(specimen, points, jr.key(0), smooth=12, tests=6, interior=8)
    misfit = prepared.misfit(u[None], {"top": jnp.stack([0 * pull, pull])[None]}, (1e-4, 1e-3)).weigh(truth)
    assert float(jnp.abs(misfit.imbalance(truth)).max()) < 1e-6
    fit = levenberg_marquardt(misfit, NeoHookean(jnp.asarray(0.5), jnp.asarray(1.0)))
    assert jnp.allclose(fit.value.mu, 0.5, rtol=1e-4) and jnp.allclose(fit.value.lam, 1.2, rtol=1e-4)

    @jax.jit
    def size(key):
        k1, k2 = jr.split(key)
        f = jnp.stack([0 * pull, pull])[None] + 1e-3 * jr.normal(k2, (1, 1))
        noisy = prepared.misfit(u[None] + 1e-4 * jr.normal(k1, (1, *u.shape)), {"top": f}, (1e-4, 1e-3))
        made = noisy.weigh(truth, adjust=True)
        true = jnp.diag(jnp.stack([across, jnp.asarray(0.2)]))
        off = lambda G: jnp.mean((G - true[None, None]) ** 2)
        plain, square = (jnp.mean(m.residual(truth) ** 2) for m in (noisy.weigh(truth), made))
        return plain, square, off(made.adjusted), off(made.gradients)

    plain, squares, after, before = jax.lax.map(size, jr.split(jr.key(4), 100))
    assert abs(float(jnp.mean(plain)) - 1) < 0.1
    assert abs(float(jnp.mean(squares)) - 1) < 0.1
    assert jnp.mean(after) < 0.8 * jnp.mean(before)
    # intervals of a law are laws; with unknown noise they are wider by Student's quantile and √(χ²/freedom)
    top = {"top": jnp.stack([0 * pull, pull])[None]}
    noisy = prepared.misfit(u[None] + 1e-4 * jr.normal(jr.key(5), (1, *u.shape)), top, (1e-4, 1e-3))
    noisy = noisy.weigh(truth, adjust=True)
    fit = levenberg_marquardt(noisy, truth)
    known, unknown = (readings.intervals(noisy, fit.value, noise_known=k) for k in (True, False))
    freedom = noisy.residual(truth).size - 2
    wider = (2 * noisy(fit.value) / freedom) ** 0.5 * readings.quantile(0.9, freedom) / readings.quantile(0.9)
    for name in ("lam", "mu"):
        low, high = (getattr(end, name) for end in known)
        assert low < getattr(truth, name) < high and isinstance(known[0], NeoHookean)
        assert jnp.allclose(getattr(unknown[1], name) - getattr(unknown[0], name), wider * (high - low), rtol=1e-9)
    with pytest.raises(ValueError, match="'right'"):
        prepared.misfit(u[None], {"right": jnp.zeros((1, 2))}, (1e-4, 1e-3))


def test_a_trained_network_beats_its_frozen_start():
    """20 tanh functions: variable projection takes the same network further."""
    exact = lambda x: jnp.stack([jnp.sin(2 * x[0]) * jnp.cos(x[1]), x[0] * x[1] ** 2])
    material = IsotropicElastic(1.0, 0.5)
    pull = Traction(lambda x, n: stress(material, jax.jacfwd(exact)(x)) @ n)
    sides = {"left": Displacement(exact), "right": pull, "bottom": pull, "top": pull}
    plate = Problem(SQUARE, material, sides, body=minus_divergence(material, exact), exact=exact)
    method = Network(hidden=(20,), interior=10, boundary=12, iterations=60)
    trained = solve(plate, 0, method=method)
    frozen = solve(plate, 0, method=Collocation(features=20, interior=10, boundary=12, widths=(1.0,)))
    a, b = (s.errors(11)["stress_relative_l2"] for s in (trained, frozen))
    assert a < 1e-3 and a < b / 3
    residuals = [h["residual"] for h in trained.history]
    assert residuals == sorted(residuals, reverse=True)
