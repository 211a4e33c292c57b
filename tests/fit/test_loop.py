"""The training loop: exact resume, NaN stop, frozen leaves, early stop, data parallel."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

from enerjax import fit

X = jr.normal(jr.key(1), (64, 3))
Y = X @ jnp.array([1.0, 2.0, 3.0]) + 0.5


def loss(model, batch, key):
    x, y = batch
    return jnp.mean((jax.vmap(model)(x) - y) ** 2)


def batches(epoch, key):
    return [(X[i], Y[i]) for i in fit.minibatches(64, 16, key)]


def run(**options):
    model = eqx.nn.Linear(3, "scalar", key=jr.key(2))
    defaults = {"key": jr.key(0), "ema": 0.9, "rate": fit.cosine, "epochs": 6}
    return fit.train(loss, model, options.pop("batches", batches), optax.adam(0.1), **(defaults | options))


def test_it_fits():
    fitted = run(epochs=60, validate=lambda m: {"loss": loss(m, (X, Y), None)})
    assert fitted.metrics[-1]["valid_loss"] < 1e-3
    assert np.allclose(fitted.model.weight, [[1.0, 2.0, 3.0]], atol=0.03)
    assert fitted.stopped == "epochs" and fitted.steps == 240


@pytest.mark.parametrize("where", ["between epochs", "within an epoch"])
def test_a_resumed_run_is_the_run_that_was_never_stopped(tmp_path, where):
    whole = run()

    def stop(model, line):
        if line["epoch"] == 3:
            raise KeyboardInterrupt

    class Interrupted(list):
        def __getitem__(self, i):
            if i == 2:
                raise KeyboardInterrupt
            return super().__getitem__(i)

    cut = lambda epoch, key: Interrupted(batches(epoch, key)) if epoch == 3 else batches(epoch, key)
    with pytest.raises(KeyboardInterrupt):
        if where == "between epochs":
            run(directory=tmp_path, on_epoch=stop)
        else:
            run(directory=tmp_path, batches=cut)
    resumed = run(directory=tmp_path)
    assert eqx.tree_equal(resumed.model, whole.model)
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 6


def test_nan_names_step_batch_and_cause_and_keeps_the_state_before(tmp_path):
    def poisoned(epoch, key):
        todo = batches(epoch, key)
        if epoch == 1:
            todo[2] = (todo[2][0].at[0, 0].set(jnp.nan), todo[2][1])
        return todo

    with pytest.raises(FloatingPointError, match=r"step 7 \(epoch 1, batch 2 of 4\); the batch itself contains NaN"):
        run(directory=tmp_path, batches=poisoned)
    assert eqx.tree_equal(run(directory=tmp_path).model, run().model)  # healed data: as if nothing had happened


def test_divergence_is_told_from_bad_data():
    with pytest.raises(FloatingPointError, match="lower the learning rate"):
        model = eqx.nn.Linear(3, "scalar", key=jr.key(2))
        fit.train(loss, model, batches, optax.sgd(1e30), key=jr.key(0), epochs=50)


def test_frozen_leaves_stay_to_the_bit():
    model = eqx.nn.Linear(3, "scalar", key=jr.key(2))
    mask = eqx.tree_at(lambda m: m.weight, jax.tree.map(eqx.is_array, model), False)
    fitted = fit.train(loss, model, batches, optax.adam(0.1), key=jr.key(0), epochs=2, trainable=mask)
    assert jnp.array_equal(fitted.model.weight, model.weight)
    assert not jnp.array_equal(fitted.model.bias, model.bias)


def test_early_stop_returns_the_best_model():
    scores = iter([3.0, 1.0, 2.0, 2.0, 2.0, 2.0])
    kept = []

    def validate(model):
        kept.append(model)
        return {"loss": next(scores)}

    fitted = run(validate=validate, patience=2)
    assert fitted.stopped == "patience" and fitted.epochs == 4
    assert eqx.tree_equal(fitted.model, kept[1])


def test_one_trace_for_all_batches_of_a_shape():
    traces = []

    def counted(model, batch, key):
        traces.append(1)
        return loss(model, batch, key)

    fit.train(counted, eqx.nn.Linear(3, "scalar", key=jr.key(2)), batches, optax.adam(0.1), key=jr.key(0), epochs=5)
    assert len(traces) == 1


def test_a_kept_program_serves_the_next_call_and_no_other():
    """Two calls with one dictionary compile once; another optimiser is another program; results are those without."""
    traces, programs, optimizer = [], {}, optax.adam(0.1)

    def counted(model, batch, key):
        traces.append(batch)
        return loss(model, batch, key)

    def go(optimizer, **kept):
        model = eqx.nn.Linear(3, "scalar", key=jr.key(2))
        return fit.train(counted, model, batches, optimizer, key=jr.key(0), epochs=2, **kept).model

    first, second = go(optimizer, programs=programs), go(optimizer, programs=programs)
    assert len(traces) == 1 and len(programs) == 1
    other = go(optax.adam(0.2), programs=programs)
    assert len(traces) == 2 and len(programs) == 2
    assert eqx.tree_equal(first, second) and eqx.tree_equal(first, go(optimizer))
    assert not eqx.tree_equal(first, other)


def test_data_parallel_equals_one_device():
    place = fit.data_parallel()
    assert eqx.tree_equal(run(place=place).model, run().model)
    if len(jax.devices()) > 1:
        with pytest.raises(ValueError, match="can't be split"):
            place(jnp.ones(len(jax.devices()) + 1))


def test_no_budget_and_no_batches_are_refused():
    with pytest.raises(ValueError, match="budget"):
        run(epochs=None)
    with pytest.raises(ValueError, match="no batches"):
        run(batches=lambda epoch, key: [])


def test_bucketed_batches_have_one_shape_per_bucket_and_miss_nothing(key):
    buckets = np.array([4] * 7 + [8] * 3 + [12])
    drawn = fit.bucketed(buckets, 4, key)
    assert all(len(index) == 4 and (buckets[index] == bucket).all() for bucket, index in drawn)
    assert set(np.concatenate([index for _, index in drawn])) == set(range(11))


def test_a_weakly_typed_number_compiles_as_often_as_another():
    """`jnp.array(1.0)` is weakly typed, what a step returns is not: each such leaf had cost two more compilations."""
    traced = []

    def one(model, batch, key):
        traced.append(model)
        return (model * batch - 1.0) ** 2

    made = {}
    for start in (jnp.array(2.0), jnp.array(2.0, jnp.result_type(float))):
        traced.clear()
        fit.train(one, start, lambda e, k: [jnp.array([3.0])[0]], optax.adam(0.1), key=jr.key(0), epochs=3)
        made[start.weak_type] = len(traced)
    assert made[True] == made[False]


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(patience=2), "patience counts validations"),
        (dict(validate=lambda m: {"error": 1.0}), r"or a dictionary with \"loss\"; it has \['error'\]"),
        (dict(batches=lambda epoch, key: (b for b in batches(epoch, key))), "must return a sequence.*not generator"),
    ],
)
def test_what_was_a_silent_mistake_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        run(**options)


def test_numbers_of_python_are_not_parameters():
    """They came back untrained, without a word."""
    square = lambda p, b, k: (p["w"] - 1.0) ** 2
    with pytest.raises(ValueError, match="no trainable leaves.*jnp.asarray"):
        fit.train(square, {"w": 0.0}, batches, optax.adam(0.1), key=jr.key(0), epochs=1)


def test_a_validation_may_be_a_number():
    score = lambda m: loss(m, (X, Y), None)
    one, other = run(validate=score), run(validate=lambda m: {"loss": score(m)})
    assert eqx.tree_equal(one.model, other.model)
    assert one.metrics[-1]["valid_loss"] == other.metrics[-1]["valid_loss"]
