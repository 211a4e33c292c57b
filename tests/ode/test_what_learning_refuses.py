"""What does not fit together is refused by name; a run in a directory is that run; each path may have its own times."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from enerjax import fit, ode
from enerjax.ode.checks import starts_of


class Decay(eqx.Module):
    """ẏ = −k y."""

    k: jax.Array

    def __call__(self, t, y, args=None):
        return -self.k * y


TS = jnp.linspace(0.0, 1.0, 5)
SLOW, FAST = (jnp.exp(-k * TS)[None, :, None] for k in (1.0, 3.0))
FIXED = dict(key=jr.key(0), epochs=2, rates=0.05, solver=dict(substeps=1))


def learn(ys=SLOW, ts=TS, k=2.0, **options):
    return ode.learn(Decay(jnp.array(k)), ts, ys, **(FIXED | {"horizons": (5,)} | options))


@pytest.mark.parametrize(
    "other, named",
    [
        (dict(ys=FAST), "ys "),
        (dict(ts=2 * TS), "ts "),
        (dict(horizons=(3,)), r"horizons \[5\] there, \[3\] here"),
        (dict(k=1.0), "field "),
        (dict(noise=0.1), "noise 1.0 there, 0.1 here"),
        (dict(rates=0.1), r"rates \[0.05\] there"),
        (dict(solver=dict(substeps=2)), "solver "),
        (dict(key=jr.key(1)), "key "),
    ],
    ids=lambda v: next(iter(v)) if isinstance(v, dict) else "",
)
def test_a_directory_does_not_answer_for_another_run(tmp_path, other, named):
    """It had returned the law of the old data for the new ones."""
    first = learn(directory=tmp_path)
    assert eqx.tree_equal(learn(directory=tmp_path), first)
    with pytest.raises(ValueError, match=f"holds another run \\(.*{named}.*fresh directory"):
        learn(directory=tmp_path, **other)
    assert eqx.tree_equal(learn(directory=tmp_path), first)  # and nothing there was touched


def test_more_stages_and_longer_last_ones_go_on(tmp_path):
    learn(horizons=(3,), directory=tmp_path)
    more = learn(horizons=(3, 5), epochs=(2, 3), directory=tmp_path)
    assert eqx.tree_equal(more, learn(horizons=(3, 5), epochs=(2, 3)))
    with pytest.raises(ValueError, match=r"epochs \[2\] there, \[4\] here"):
        learn(horizons=(3, 5), epochs=(4, 3), directory=tmp_path)


def test_a_run_that_does_not_say_what_it_is_is_refused(tmp_path):
    batch = jnp.ones(2)
    loss = lambda w, batch, key: jnp.mean((w - batch) ** 2)
    train = lambda **more: fit.train(
        loss, jnp.array(0.0), lambda e, k: [batch], fit.soap(0.1), key=jr.key(0), epochs=1, directory=tmp_path, **more
    )
    train()
    train()  # none says anything: as before
    with pytest.raises(ValueError, match="does not say what it is a run of"):
        train(identity={"data": batch})


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(observe=lambda y: y[:0]), r"observe\(state\) is \[\(0,\)\], a reading is \(1,\)"),
        (dict(starts=jnp.ones((2, 1))), "not one for each of 1 paths"),
        (dict(ts=jnp.array([[0.0, 1.0, 0.5, 2.0, 3.0]])), "times of path 0 do not increase"),
    ],
)
def test_data_that_do_not_fit_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        learn(**change)


@pytest.mark.parametrize(
    "ts, ys, message", [(TS, SLOW[0], r"one path, .*ys\[None\]"), (TS[:3], SLOW, "are not the times of ys")]
)
def test_shapes_that_do_not_fit_are_named(ts, ys, message):
    """Below the types of `learn`, which tests check and users need not."""
    with pytest.raises(ValueError, match=message):
        starts_of(Decay(jnp.array(2.0)), ts, ys, None, True, lambda y: y, None)


def test_a_field_of_another_state_than_the_readings():
    """Part of a state is read, or the state is (q, p): the error says what to give, and that works."""
    ys = jnp.stack([jnp.cos(TS), -jnp.sin(TS)], axis=-1)[None]
    spring = lambda t, y, a: jnp.stack([y[1], -y[0]])
    with pytest.raises(ValueError, match=r"starts=\[paths, …\] and observe="):
        ode.learn(spring, TS, ys[..., :1], observe=lambda y: y[:1], **FIXED)
    energy = ode.Hamiltonian(ode.ScalarNetwork(ode.mlp(2, 1, 3, 1, jr.key(0)), jnp.array(1.0)))
    with pytest.raises(ValueError, match=r"starts=\(q0, p0\), observe=jnp.concatenate"):
        ode.learn(energy, TS, ys, **FIXED)
    q, p = ys[:, 0, :1], ys[:, 0, 1:]
    learned = ode.learn(energy, TS, ys, starts=(q, p), observe=jnp.concatenate, **FIXED)
    assert learned.starts[0].shape == (1, 1)
    ported = ode.PortHamiltonian(lambda y: y @ y / 2, jnp.eye(2), jnp.eye(2), jnp.ones((2, 1)))
    with pytest.raises(ValueError, match="ports G but no input"):
        ode.learn(ported, TS, ys, **FIXED)


@pytest.mark.parametrize("solver", [dict(substeps=2), dict(rtol=1e-6)], ids=["fixed", "adaptive"])
def test_each_path_has_its_own_times(solver):
    """Two paths of one law, read at times of their own, one of them from t = 1 on and in batches of one."""
    ts = jnp.stack([TS, 1.0 + TS**2])
    ys = jnp.exp(-1.5 * (ts - ts[:, :1]))[..., None] * jnp.array([1.0, 2.0])[:, None, None]
    how = dict(horizons=(3, 5), epochs=60, rates=0.1, batch=1, solver=solver)
    learned = learn(ys, ts, k=1.0, **how)
    np.testing.assert_allclose(learned.field.k, 1.5, rtol=5e-3)
    true = ode.Learned(Decay(jnp.array(1.5)), ys[:, 0])
    assert (
        float(ode.path_loss(ts, solver=dict(rtol=1e-9, atol=1e-9))(true, (jnp.array([1, 0]), ys[::-1]), None)) < 1e-15
    )


def test_a_missing_first_reading_is_started_from_the_next():
    ys = jnp.concatenate([SLOW, SLOW], axis=-1).at[0, 0, 1].set(jnp.nan).at[0, 1, 0].set(jnp.nan)
    learned = learn(ys, k=1.0, missing=True, epochs=150, rates=0.03)
    np.testing.assert_allclose(learned.starts[0], [1.0, 1.0], atol=0.02)
    with pytest.raises(ValueError, match="give starts="):
        learn(ys, missing=True, free=False)
    with pytest.raises(ValueError, match=r"no reading of component \[1\]; give starts="):
        learn(ys.at[0, :, 1].set(jnp.nan), missing=True)


def test_a_path_out_of_steps_is_named_as_the_cause():
    """It was called a learning rate too high. With the steps it needs, the same call trains."""
    fast = lambda k: dict(k=k, ts=jnp.linspace(0.0, 10.0, 3), ys=jnp.ones((1, 3, 1)), horizons=(3,))
    how = fast(200.0) | dict(rates=1e-3, free=False)
    with pytest.raises(FloatingPointError, match=r"trajectory 0 of 1.*raise max_steps.*solver=dict"):
        learn(**how, solver={})
    learn(**how, solver=dict(max_steps=1024))
