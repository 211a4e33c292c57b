"""Bad input is refused by name; a failure says when and where."""

import diffrax
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optimistix
import pytest

from enerjax import path

decay = lambda t, y, args: -y
blow = lambda t, y, args: y**2  # y₀ = 1 reaches infinity at t = 1


@pytest.mark.parametrize(
    "ts, t0, message",
    [
        ([0.0, 1.0, 1.0], None, r"times must increase, but ts\[2\]"),
        ([0.0, 2.0, 1.0], None, r"times must increase, but ts\[2\]"),
        ([0.0, np.nan], None, r"ts\[1\] is not finite"),
        ([0.0, 1.0], 0.5, r"observation at ts\[0\] = 0.0 lies before the start t0 = 0.5"),
        ([[0.0, 1.0]], None, "vmap for a batch"),
    ],
)
def test_bad_times(ts, t0, message):
    with pytest.raises(ValueError, match=message):
        path.solve(decay, jnp.ones(2), jnp.array(ts), t0=t0)


def test_known_times_are_checked_inside_jit_as_well():
    with pytest.raises(ValueError, match=r"times must increase, but ts\[1\]"):
        jax.jit(lambda y: path.solve(decay, y, np.array([1.0, 0.5])))(jnp.ones(2))


def test_fixed_steps_start_at_the_first_time_or_before_it():
    ts = jnp.array([1.0, 1.5, 2.0])
    run = lambda **start: path.solve(decay, jnp.ones(1), ts, substeps=20, **start)[:, 0]
    np.testing.assert_allclose(run(), np.exp(1.0 - ts), rtol=1e-8)
    np.testing.assert_allclose(run(t0=0.25), np.exp(0.25 - ts), rtol=1e-8)


def test_field_of_another_structure():
    with pytest.raises(ValueError, match="they must agree"):
        path.solve(lambda t, y, a: (y["a"],), {"a": jnp.ones(2)}, jnp.array([0.0, 1.0]))
    with pytest.raises(ValueError, match="real floating"):
        path.solve(decay, jnp.arange(3), jnp.array([0.0, 1.0]))


@pytest.mark.parametrize("solver", [diffrax.Tsit5(), diffrax.Kvaerno3()], ids=["explicit", "implicit"])
def test_failure_says_when_and_where(solver):
    ts = jnp.array([0.0, 0.5, 2.0])
    solution = path.integrate(blow, jnp.ones(1), ts, solver=solver, max_steps=400)
    assert int(solution.code) != 0
    assert 0.9 < float(solution.stopped_at) < 1.01
    np.testing.assert_allclose(solution.ys[:2, 0], [1.0, 2.0], rtol=1e-3)
    assert np.isnan(solution.ys[2, 0])
    with pytest.raises(RuntimeError, match=r"stopped at t = (0.9|1).*y = "):
        path.solve(blow, jnp.ones(1), ts, solver=solver, max_steps=400)
    last = lambda y: path.solve(blow, y, ts, solver=solver, max_steps=400)[-1, 0]
    value, gradient = jax.jit(jax.value_and_grad(last))(jnp.ones(1))
    assert np.isnan(value)  # inside jit a failure is NaN, never a finite number
    assert np.isnan(gradient[0]) or isinstance(solver, diffrax.Kvaerno3)


def test_one_failure_of_a_batch_is_named():
    starts = jnp.array([[0.1], [1.0], [0.2]])
    solution = jax.vmap(lambda y: path.integrate(blow, y, jnp.array([0.0, 2.0]), max_steps=64))(starts)
    assert "trajectory 1 of 3, 1 failed" in solution.reason
    np.testing.assert_allclose(solution.ys[::2, -1, 0], [1 / (10 - 2), 1 / (5 - 2)], rtol=1e-4)


def test_bad_start_and_nan_data_are_named():
    with pytest.raises(RuntimeError, match="initial state or the field there is not finite"):
        path.solve(decay, jnp.array([jnp.nan]), jnp.array([0.0, 1.0]))
    with pytest.raises(ValueError, match=r"data\['x'\]\[1, 0\] is not finite"):
        path.strong(lambda x: x, {"x": jnp.array([[1.0], [jnp.nan]])}, 0.1)


def test_eager_solve_finds_more_steps():
    ys = path.solve(lambda t, y, a: jnp.stack([y[1], -y[0]]), jnp.array([1.0, 0.0]), jnp.array([0.0, 200.0]), rtol=1e-9)
    np.testing.assert_allclose(ys[-1], [np.cos(200.0), -np.sin(200.0)], atol=1e-5)


def test_event_stops_the_path():
    """A ball dropped from 1 m reaches the floor at √(2/g)."""
    fall = lambda t, y, a: jnp.stack([y[1], jnp.array(-9.81)])
    event = diffrax.Event(lambda t, y, args, **kw: y[0], optimistix.Newton(1e-8, 1e-8))
    how = dict(event=event, rtol=1e-8, atol=1e-8, dense=True)
    solution = path.integrate(fall, jnp.array([1.0, 0.0]), jnp.linspace(0.0, 1.0, 5), **how)
    np.testing.assert_allclose(solution.stopped_at, np.sqrt(2 / 9.81), rtol=1e-6)
    assert np.isnan(solution.ys[-1, 0]) and int(solution.code) == 0
    np.testing.assert_allclose(solution.dense(0.3), [1 - 9.81 * 0.045, -9.81 * 0.3], rtol=1e-6)
    assert np.isnan(solution.dense(0.5)[0])


def test_noise_has_the_stationary_law(key):
    """Ornstein–Uhlenbeck: variance σ²/2θ (1 − e^(−2θt))."""
    W = lambda k: diffrax.VirtualBrownianTree(0.0, 2.0, 1e-3, (), k)
    run = lambda k: path.solve(
        decay,
        jnp.array(0.0),
        jnp.array([0.0, 2.0]),
        solver=diffrax.EulerHeun(),
        noise=(lambda t, y, a: jnp.array(0.7), W(k)),
        controller=diffrax.ConstantStepSize(),
        dt0=0.02,
    )[-1]
    draws = jax.jit(jax.vmap(run))(jr.split(key, 4000))
    np.testing.assert_allclose(jnp.var(draws), 0.49 / 2 * (1 - np.exp(-4.0)), rtol=4 * np.sqrt(2 / 4000))


def test_a_path_of_one_time_is_its_start():
    last = lambda y: jnp.sum(path.solve(decay, y, jnp.array([0.7]))[-1] ** 2)
    value, gradient = jax.value_and_grad(last)(jnp.array([2.0, 1.0]))
    np.testing.assert_allclose([value, *gradient], [5.0, 4.0, 2.0])
    with pytest.raises(ValueError, match="dt0 must be positive"):
        path.solve(decay, jnp.ones(2), jnp.array([0.0, 1.0]), dt0=0.0)


def test_times_that_run_backwards_are_told_from_unsorted_ones():
    with pytest.raises(ValueError, match="time runs forwards: −f .* −ts"):
        path.solve(decay, jnp.ones(2), jnp.array([2.0, 1.0, 0.0]))


def test_a_batch_finds_more_steps_and_says_when_it_fails():
    """An eager vmap had let the trajectories that need more steps be NaN, without a word."""
    spring = lambda t, y, w: jnp.stack([y[1], -(w**2) * y[0]])
    ts, w = jnp.array([0.0, 50.0]), jnp.array([0.5, 5.0])
    run = lambda w: path.solve(spring, jnp.array([1.0, 0.0]), ts, w, rtol=1e-8)[-1, 0]
    np.testing.assert_allclose(jax.vmap(run)(w), jnp.cos(50.0 * w), atol=1e-4)
    slope = jax.vmap(jax.grad(run))(w)
    np.testing.assert_allclose(slope, -50.0 * jnp.sin(50.0 * w), atol=1e-2)
    ends = lambda **how: jax.vmap(lambda y: path.solve(blow, y, jnp.array([0.0, 2.0]), **how)[-1])
    starts = jnp.array([[0.1], [1.0], [0.2]])
    with pytest.raises(RuntimeError, match=r"stopped at t = (0.9|1).*trajectory 1 of 3, 1 failed.*underflowed"):
        ends()(starts)
    np.testing.assert_allclose(ends(throw=False)(starts)[:, 0], [1 / 8, np.nan, 1 / 3], rtol=1e-4)


def test_inside_jit_a_failure_raises_when_asked_to():
    run = lambda **how: jax.jit(jax.vmap(lambda y: path.solve(blow, y, jnp.array([0.0, 2.0]), **how)[-1, 0]))
    starts = jnp.array([[0.1], [1.0]])
    assert np.isnan(run()(starts)).tolist() == [False, True]
    with pytest.raises(Exception, match="the step size underflowed"):
        jax.block_until_ready(run(throw=True)(starts))
    np.testing.assert_allclose(run(throw=True)(starts[:1]), 1 / 8, rtol=1e-4)


def test_noise_and_a_step_are_enough_and_mean_ito(key):
    """Ornstein–Uhlenbeck's moments, and a martingale's: dX = σ X dW keeps its mean (e^(σ²t/2) as Stratonovich's)."""
    W = lambda k: diffrax.VirtualBrownianTree(0.0, 2.0, 1e-2, (2,), k)
    drift = lambda t, y, a: jnp.stack([-y[0], jnp.zeros(())])
    noise = lambda t, y, a: jnp.diag(jnp.stack([jnp.array(0.7), 0.6 * y[1]]))
    ts = jnp.array([0.0, 2.0])
    run = lambda k, **how: path.solve(drift, jnp.ones(2), ts, noise=(noise, W(k)), dt0=0.02, **how)[-1]
    draws = jax.jit(jax.vmap(run))(jr.split(key, 4000))
    mean, variance = np.exp(-2.0), 0.49 / 2 * (1 - np.exp(-4.0))
    np.testing.assert_allclose(jnp.mean(draws[:, 0]), mean, atol=4 * np.sqrt(variance / 4000) + 0.003)
    np.testing.assert_allclose(jnp.var(draws[:, 0]), variance, rtol=4 * np.sqrt(2 / 4000) + 0.02)
    spread = np.sqrt((np.exp(0.36 * 2) - 1) / 4000)
    np.testing.assert_allclose(jnp.mean(draws[:, 1]), 1.0, atol=4 * spread)
    assert np.exp(0.18 * 2) - 1 > 8 * spread
    np.testing.assert_allclose(run(key, solver=diffrax.Euler()), run(key))
    with pytest.raises(ValueError, match="noise= needs dt0="):
        path.solve(drift, jnp.ones(2), ts, noise=(noise, W(key)))
