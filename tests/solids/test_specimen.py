"""A specimen's readings against closed forms, their derivatives, and the intervals they give."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import pytest

from enerjax.path.assimilate import Background
from enerjax.solids import Displacement, Free, Problem, Ritz, Symmetry, inverse, readings
from enerjax.solids.domain import Rectangle
from enerjax.solids.material import IsotropicElastic, NeoHookean, stress
from enerjax.solids.specimen import Specimen, specimen_misfit

SQUARE = Rectangle((0, 0), (1, 1))
SIDES = {"left": Symmetry(), "right": Free(), "bottom": Symmetry(), "top": Displacement((0.0, 0.2), (1,))}
METHOD = Ritz(features=16, interior=14, boundary=14, cut=1e-11)
POINTS = SQUARE.sample(jr.key(1), 20)
LOADS = (0.5, 1.0)


@pytest.fixture(scope="module")
def pulled():
    """A square pulled by 10 and 20 %; its readings are exact, from the closed form of uniaxial tension."""
    truth = NeoHookean(1.2, 0.5)
    side = lambda g, pull: stress(truth, jnp.diag(jnp.stack([g, pull])))[0, 0]

    @jax.jit
    def closed(pull):
        newton = lambda _, g: g - side(g, pull) / jax.grad(side)(g, pull)
        across = jax.lax.fori_loop(0, 30, newton, jnp.zeros(()))
        return POINTS * jnp.stack([across, pull])[None], stress(truth, jnp.diag(jnp.stack([across, pull])))[1, 1]

    u, force = (jnp.stack(v) for v in zip(*(closed(jnp.asarray(0.2 * load)) for load in LOADS), strict=True))
    body = Specimen.create(Problem(SQUARE, NeoHookean(1.0, 1.0), SIDES), POINTS, jr.key(0), method=METHOD)
    family = lambda x: NeoHookean(x[0], x[1])
    reaction = {"top": jnp.stack([0 * force, force], axis=1)}
    return specimen_misfit(body, family, u, (1e-3, 1e-3), loads=LOADS, reactions=reaction)


def test_readings_are_those_of_uniaxial_tension_and_the_law_comes_back(pulled):
    truth = jnp.array([1.2, 0.5])
    predict = eqx.filter_jit(lambda m, x: m.predict(x))
    assert float(jnp.abs(predict(pulled, truth) - pulled.data).max()) < 1e-9
    fit, covariance = inverse.identify(pulled, jnp.array([1.0, 1.0]), logarithm=False)
    assert jnp.allclose(fit.value, truth, rtol=1e-7)
    x, d = jnp.array([1.1, 0.6]), jnp.array([0.6, -0.8])
    slope = eqx.filter_jit(lambda m: jax.jvp(m.predict, (x,), (d,))[1])(pulled)
    finite = (predict(pulled, x + 1e-5 * d) - predict(pulled, x - 1e-5 * d)) / 2e-5
    assert jnp.linalg.norm(slope - finite) < 1e-7 * jnp.linalg.norm(finite)
    back = eqx.filter_jit(lambda m: jax.grad(lambda x: jnp.sum(m.predict(x)))(x))(pulled)
    assert jnp.allclose(back @ d, jnp.sum(slope), rtol=1e-9)
    low, high = readings.intervals(pulled, fit.value)
    assert jnp.allclose((high - low) / 2, 1.6448536 * jnp.sqrt(jnp.diag(covariance)), rtol=1e-6)


def test_intervals_of_a_law_are_calibrated_whether_or_not_the_noise_is_known(pulled):
    """800 data sets: 0.9 ± 0.011. With few readings Student's quantile matters: by a normal one it would be 0.83."""
    truth = jnp.array([1.2, 0.5])
    quick = pulled.interpolate(truth, jnp.array([0.1, 0.05]), 5)
    few = eqx.tree_at(
        lambda m: (m.coefficients, m.data, m.noise),
        quick,
        (quick.coefficients[..., -6:], quick.data[-6:], quick.noise[-6:]),
    )
    for misfit, known in ((quick, True), (few, False)):
        share = readings.coverage(misfit, truth, jr.key(2), 800, noise_known=known).mean(axis=0)
        assert jnp.all(jnp.abs(share - 0.9) < 0.035), share
    with pytest.raises(ValueError, match="without its prior"):
        readings.intervals(quick + Background(truth, 0.1), truth, noise_known=False)


def test_a_modulus_field_with_a_prior_is_calibrated_over_it():
    """ln E with 3 × 3 coefficients that the readings alone do not determine: truths drawn from the prior."""
    body = Specimen.create(Problem(SQUARE, IsotropicElastic(0.5, 0.4), SIDES), POINTS, jr.key(0), method=METHOD)
    family = inverse.log_modulus_field(SQUARE, (3, 3), 0.3)
    assert jnp.allclose(family(jnp.ones(9))(jnp.array([0.3, 0.6])).mu * 2.6, jnp.e)
    misfit = specimen_misfit(body, family, jnp.zeros((1, 20, 2)), (4e-3, 1.0))
    draw = lambda key: 0.3 * jr.normal(key, (9,))
    share = readings.coverage(misfit, draw, jr.key(4), 80, prior=Background(jnp.zeros(9), 0.3))
    assert 0.86 < float(share.mean()) < 0.94  # 720 intervals, ± 0.012 or so
    with pytest.raises(ValueError, match="'right'"):
        specimen_misfit(body, family, jnp.zeros((1, 20, 2)), (1.0, 1.0), reactions={"right": jnp.zeros((1, 2))})
