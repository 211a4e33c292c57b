"""Training of laws: an interrupted run resumed, L-BFGS and Gauss–Newton beside Adam."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

from enerjax import ode, path

TS = jnp.linspace(0.0, 4.0, 17)
STARTS = jnp.array([[1.0, 0.0], [0.0, 1.5], [-1.0, 1.0], [0.5, -1.0]])
HOW = dict(noise=0.02, solver=dict(substeps=1, solver=diffrax.Bosh3()))


def damped(t, y, args=None):
    return jnp.stack([y[1], -2.0 * y[0] - 0.1 * y[1]])


CLEAN = jax.vmap(lambda y: path.solve(damped, y, TS, rtol=1e-10, atol=1e-10))(STARTS)
DATA = CLEAN + 0.02 * jr.normal(jr.key(5), CLEAN.shape)


def law():
    return ode.Network(ode.mlp(2, 2, 6, 1, jr.key(1)))


def cost(learned):
    return float(ode.path_loss(TS, **HOW)(learned, (jnp.arange(4), DATA), None))


def test_an_interrupted_run_goes_on_as_if_nothing_had_happened(tmp_path):
    """Stopped inside the second of two stages, with minibatches and momenta: the same law to the bit."""
    run = lambda **more: ode.learn(
        law(), TS, DATA, key=jr.key(0), horizons=(5, 17), epochs=(4, 6), batch=2, rates=1e-2, **HOW, **more
    )
    whole = run()
    lines = []

    def stop(model, line):
        lines.append(line["loss"])
        if len(lines) == 4 + 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(directory=tmp_path, on_epoch=stop)
    assert (tmp_path / "stage-1" / "state.safetensors").exists()
    resumed = run(directory=tmp_path, on_epoch=lambda model, line: lines.append(line["loss"]))
    assert len(lines) == 4 + 6  # the first stage and three epochs of the second were not repeated
    assert eqx.tree_equal(resumed, whole)


@pytest.mark.parametrize("solver", [{}, dict(adjoint=diffrax.RecursiveCheckpointAdjoint())], ids=["replay", "diffrax"])
def test_stages_share_one_program(solver):
    """A window is the longest one with its later times at its end: the same steps, and no second compilation."""
    traces = []

    class Counted(ode.Network):
        def __call__(self, t, y, args=None):
            traces.append(t)
            return super().__call__(t, y, args)

    how = dict(key=jr.key(0), epochs=5, batch=2, noise=0.02, free=False, solver=dict(rtol=1e-4) | solver)
    field = Counted(ode.mlp(2, 2, 6, 1, jr.key(1)))
    first = ode.learn(field, TS[:5], DATA[:, :5], horizons=(5,), rates=1e-2, **how)
    once = len(traces)
    # a rate of zero: what the second stage is given is what comes out
    both = ode.learn(field, TS, DATA, horizons=(5, 17), rates=(1e-2, 0.0), **how)
    arrays = lambda learned: jax.tree.leaves(eqx.filter(learned.field, eqx.is_array))
    for one, other in zip(arrays(first), arrays(both), strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-9, atol=1e-11)
    traces.clear()
    ode.learn(field, TS, DATA, horizons=(5, 9, 17), rates=1e-2, **how)
    assert len(traces) <= once, "a longer window compiled again"


def test_the_law_that_extrapolates_best_is_returned():
    """Trained on the first five points at a rate that makes it jump about, judged on the path beyond them."""
    whole = ode.path_loss(TS, **HOW)
    beyond = eqx.filter_jit(lambda field: whole(ode.Learned(field, STARTS), (jnp.arange(4), DATA), None))
    seen = []

    def validate(learned):
        seen.append(float(beyond(learned.field)))
        return {"loss": seen[-1]}

    found = ode.learn(
        law(), TS, DATA, key=jr.key(0), horizons=(5,), epochs=20, rates=0.1, schedule=None, free=False,
        validate=validate, **HOW,
    )  # fmt: skip
    assert len(seen) == 10 and seen[-1] > min(seen)
    assert float(beyond(found.field)) == min(seen)


def test_lbfgs_gets_further_than_adam_in_as_many_steps():
    one = dict(key=jr.key(0), horizons=(17,), epochs=40, **HOW)
    adam = ode.learn(law(), TS, DATA, rates=1e-2, **one)
    quasi_newton = ode.learn(law(), TS, DATA, optimizer=lambda rate: optax.lbfgs(), schedule=None, **one)
    assert cost(quasi_newton) < 0.1 * cost(adam)


@pytest.mark.parametrize("matrix_free", [False, True], ids=["dense", "matrix-free"])
def test_gauss_newton_reaches_the_noise(matrix_free):
    """32 weights and 8 starts against 136 readings: at the bottom the loss is about 1 − 40/136 = 0.71."""
    first = ode.learn(law(), TS, DATA, key=jr.key(0), horizons=(5,), epochs=150, rates=1e-2, **HOW)
    steps = dict(steps=25, matrix_free=matrix_free)
    found = ode.refine(first, TS, DATA, ridge=0.1, **steps, **HOW)
    assert cost(found) < 1.1 < 10 < cost(first)
    still = ode.refine(first, TS, DATA, ridge=0.1, free=False, **steps, **HOW)
    np.testing.assert_array_equal(still.starts, first.starts)
