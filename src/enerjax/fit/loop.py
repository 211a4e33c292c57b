"""The one training loop: every gradient-trained thing in this library goes through `train`.

It knows nothing of what is trained. A loss, a model, batches and an optax transformation go in; averaging, schedules
over a budget of epochs or seconds, validation, early stop, atomic checkpoints, exact resume, progress with ETA and a
stop at the first non-finite number come out.
"""

import functools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax

from .. import _tree as tree
from .._array import Key, PyTree
from .._compile import quickly
from .journal import Clock, Journal

Loss = Callable[[PyTree, PyTree, Key], Any]


class Fitted(NamedTuple):
    """What `train` returns.

    Attributes:
        model: the best validated model (averaged if asked for), or the last one without validation.
        metrics: one dictionary per epoch, as written to metrics.jsonl.
        epochs: completed epochs, those before a resume included.
        steps: optimiser steps taken.
        seconds: wall-clock seconds of training, compilation and validation excluded.
        compile_seconds: seconds spent in first calls.
        stopped: why it ended: "epochs", "max_seconds", "patience" or "callback".
    """

    model: PyTree
    metrics: list[dict[str, float | int]]
    epochs: int
    steps: int
    seconds: float
    compile_seconds: float
    stopped: str


class _State(eqx.Module):
    params: PyTree
    average: PyTree
    best: PyTree
    optimiser: PyTree
    step: jax.Array
    alive: jax.Array  # False from the first non-finite step on: later steps change nothing


def cosine(progress: float) -> float:
    """½(1 + cos πs): the factor on the learning rate at the fraction s of the budget."""
    return 0.5 * (1.0 + math.cos(math.pi * min(progress, 1.0)))


def flat_then_cosine(flat: float = 0.5, warmup: float = 0.01) -> Callable[[float], float]:
    """Linear warm-up, constant until the fraction `flat` of the budget, then a cosine to zero."""

    def rate(progress: float) -> float:
        if progress < warmup:
            return (progress + 0.1 * warmup) / (1.1 * warmup)
        return 1.0 if progress < flat else cosine((progress - flat) / (1.0 - flat))

    return rate


def train(
    loss: Loss,
    model: PyTree,
    batches: Callable[[int, Key], Sequence[PyTree]],
    optimizer: optax.GradientTransformation,
    *,
    key: Key,
    epochs: int | None = None,
    max_seconds: float | None = None,
    rate: Callable[[float], float] | None = None,
    attach: Callable[[float], PyTree] | None = None,
    gradient: Callable | None = None,
    ema: float | None = None,
    trainable: Callable | PyTree = eqx.is_inexact_array,
    validate: Callable[[PyTree], Any] | None = None,
    validate_every: int = 1,
    patience: int | None = None,
    directory: str | Path | None = None,
    identity: dict[str, Any] | None = None,
    diagnose: Callable[[PyTree, PyTree], str | None] | None = None,
    checkpoint_every: float = 30.0,
    place: Callable[[PyTree], PyTree] | None = None,
    on_epoch: Callable[[PyTree, dict[str, float | int]], bool | None] | None = None,
    progress: Callable[[str], None] | None = None,
    timer: Callable[[], float] = time.monotonic,
    programs: dict | None = None,
) -> Fitted:
    """Minimise the mean of `loss` over batches.

    Args:
        loss: `loss(model, batch, key)`, a scalar, or a scalar and a dictionary of scalars to record.
        model: a pytree; the arrays that `trainable` marks are trained.
        batches: `batches(epoch, key)` gives the epoch's minibatches, pytrees of arrays, as a sequence (which may make
            them when indexed). It must be a function of its arguments alone: that makes a resumed run identical to
            one that was never stopped. Every distinct shape compiles once.
        optimizer: any optax transformation, gradient clipping included (`optax.chain`). One that searches along a
            line (`optax.lbfgs()`) is given the loss of the batch; it sets its own step, so leave `rate` alone.
        key: random key of the run, folded with epoch and batch.
        epochs: stop after so many.
        max_seconds: stop after so many seconds of training (compilation and validation not counted). Give this or
            `epochs`, or both.
        rate: factor on the optimiser's updates at the fraction s ∈ [0, 1] of the budget, for instance `cosine`.
        attach: what the loss sees beside the batch at the fraction s of the budget, such as weights that change: the
            loss then gets `(batch, attach(s))`.
        gradient: replaces differentiation of `loss`: `gradient(model, batch, key) -> ((value, metrics), gradients)`.
        ema: decay per step of an exponential moving average of the parameters, which is then what is validated and
            returned. It starts as a running mean, so early epochs are not held back by the initial values.
        trainable: filter, or pytree of booleans like `model` (frozen leaves stay as they are to the bit).
        validate: `validate(model)` after every `validate_every`-th epoch: a loss, which picks the best model, or a
            dictionary of numbers, the loss among them as "loss".
        validate_every: epochs between validations.
        patience: stop after so many validations without improvement.
        directory: where `state.safetensors` (atomic, every `checkpoint_every` seconds and at the end) and
            `metrics.jsonl` are kept. If a state is there, the run goes on from it.
        identity: what decides the result beside the budget, as a dictionary: data, options, the first parameters.
            Arrays and modules in it are hashed. It is kept in `directory`, and a run with another one is refused.
        diagnose: `diagnose(model, batch)`: why the loss of a step is not finite, in words, or None; for the error.
        checkpoint_every: seconds between checkpoints.
        place: puts a batch on devices, for instance `fit.data_parallel()`.
        on_epoch: called with the current (averaged) model and the epoch's metrics; True stops.
        progress: receives one line every few seconds.
        timer: what seconds are; `time.process_time` budgets CPU seconds, on a machine that others use too.
        programs: a dictionary that keeps compiled steps. Calls that are given the same one, and the same loss,
            optimizer, averaging and frozen leaves, compile once.

    Raises:
        ValueError: if no budget is given, nothing is trainable, patience has no validation or that no loss, batches
            are no sequence or an epoch has none, or the directory holds another model's state, or a run of another
            `identity` or of none where one is given.
        FloatingPointError: at the first non-finite loss or gradient, with step, epoch, batch and likely cause. The
            state before that step is kept.
    """
    if epochs is None and max_seconds is None:
        raise ValueError("train: give a budget, epochs=… or max_seconds=….")
    if patience is not None and validate is None:
        raise ValueError("train: patience counts validations without improvement; give validate=… too.")
    same = jax.tree.structure(trainable) == jax.tree.structure(model)  # a mask of a callable model is itself callable
    params, static = eqx.partition(model, trainable if same else jax.tree.map(trainable, model))
    if not jax.tree.leaves(params):
        raise ValueError(
            "train: the model has no trainable leaves: they are arrays of floats that `trainable` marks, "
            "jnp.asarray(0.0) and not 0.0."
        )
    params = jax.tree.map(lambda v: jnp.asarray(v, v.dtype), params)  # jnp.array(1.0) is weakly typed, a step's is not
    step = _step_of({} if programs is None else programs, loss, gradient, optimizer, static, ema)
    zero = jnp.zeros((), jnp.int32)
    journal = Journal(directory, checkpoint_every, progress, identity)
    state, clock = journal.open(_State(params, params, params, optimizer.init(params), zero, jnp.array(True)))
    state = eqx.tree_at(lambda s: s.alive, state, jnp.array(True))
    current = lambda: state.params if ema is None else state.average
    spent = lambda: clock.spent(epochs, max_seconds)
    why = lambda batch: None if diagnose is None else diagnose(eqx.combine(state.params, static), batch)
    known: set = set()
    compile_seconds = 0.0
    pace = 1 if jax.default_backend() == "cpu" else 16  # an accelerator works while the next steps are prepared
    stopped = None
    try:
        while spent() < 1.0 and stopped is None:
            epoch_key = jr.fold_in(key, clock.epoch)
            todo = batches(clock.epoch, epoch_key)
            if not hasattr(todo, "__len__") or not hasattr(todo, "__getitem__"):
                raise ValueError(f"train: batches must return a sequence, such as a list, not {type(todo).__name__}.")
            clock.of = len(todo)
            if not clock.of:
                raise ValueError(f"train: epoch {clock.epoch} has no batches; is the batch larger than the data?")
            seen = []
            factor = 1.0
            for i in range(clock.batch, clock.of):
                start = timer()
                batch = todo[i] if place is None else place(todo[i])
                factor = 1.0 if rate is None else rate(spent())
                seen_by_loss = batch if attach is None else (batch, attach(spent()))
                state, *outcome = step(state, seen_by_loss, epoch_key, i, factor)
                clock.batch, clock.steps = i + 1, clock.steps + 1
                seen.append((i, *outcome))
                if (shape := _shape(batch)) not in known:
                    jax.block_until_ready(state)
                    known.add(shape)
                    compile_seconds += timer() - start
                    start = timer()
                if (max_seconds is not None and i % pace == 0) or i % 32 == 0 or i + 1 == clock.of:
                    jax.block_until_ready(state)  # an honest clock needs the work to be done
                clock.seconds += timer() - start
                if journal.quiet():
                    _refuse_nan(seen, clock, todo, factor, why)
                    left = clock.seconds * (1.0 / max(spent(), 1e-9) - 1.0)
                    journal.say(
                        f"epoch {clock.epoch} step {clock.steps} loss {float(outcome[0]):.4g}, about {left:.0f} s left"
                    )
                if journal.due():
                    _refuse_nan(seen, clock, todo, factor, why)
                    journal.save(state, clock)
                if spent() >= 1.0:
                    break
            _refuse_nan(seen, clock, todo, factor, why)
            clock.epoch, clock.batch = clock.epoch + 1, 0
            line = {"epoch": clock.epoch, "step": clock.steps, "seconds": clock.seconds, "rate": factor}
            line |= {"loss": float(np.mean([float(s[1]) for s in seen]))}
            line |= {name: float(np.mean([float(s[2][name]) for s in seen])) for name in seen[0][2]}
            if validate is not None and (clock.epoch % validate_every == 0 or spent() >= 1.0):
                line |= _validation(validate(eqx.combine(current(), static)))
                if _improved(clock, line):
                    state = eqx.tree_at(lambda s: s.best, state, current())
                if patience is not None and clock.stale >= patience:
                    stopped = "patience"
            clock.metrics.append(line)
            if journal.quiet() or spent() >= 1.0:
                journal.say(" ".join(f"{k} {v:.5g}" for k, v in line.items()))
            if on_epoch is not None and on_epoch(eqx.combine(current(), static), line):
                stopped = "callback"
    finally:
        journal.save(state, clock)
    if stopped is None:
        stopped = "max_seconds" if max_seconds is not None and clock.seconds >= max_seconds else "epochs"
    final = eqx.combine(current() if clock.best is None else state.best, static)
    return Fitted(final, clock.metrics, clock.epoch, clock.steps, clock.seconds, compile_seconds, stopped)


def _gradient_of(loss: Loss, static: PyTree) -> Callable:
    """Differentiation of the trainable leaves only: nothing is propagated into frozen ones."""

    def value_and_metrics(params, batch, key):
        return _value_and_metrics(loss, eqx.combine(params, static), batch, key)

    def gradient(model, batch, key):
        params = jax.tree.map(lambda s, m: m if s is None else None, static, model, is_leaf=_is_none)
        return jax.value_and_grad(value_and_metrics, has_aux=True)(params, batch, key)

    return gradient


def _value_and_metrics(loss: Loss, model, batch, key):
    """What the loss says; it may leave the metrics out."""
    out = loss(model, batch, key)
    return out if isinstance(out, tuple) else (out, {})


def _step_of(programs: dict, loss, gradient, optimizer, static, ema) -> Callable:
    """The compiled step of these parts, made if it is not among the programs."""
    parts = (loss, gradient, optimizer, ema, *jax.tree.leaves(static))
    key = (jax.tree.structure(static), *map(id, parts))
    if key not in programs:  # the parts are kept beside it: another object would otherwise get one's identity
        programs[key] = _compiled_step(gradient or _gradient_of(loss, static), loss, optimizer, static, ema), parts
    return programs[key][0]


def _compiled_step(gradient, loss, optimizer, static, ema):
    """(state, batch, key, i, factor) -> (state, loss, metrics, finite): one step, which a NaN leaves undone."""
    optimizer = optax.with_extra_args_support(optimizer)  # a line search asks for the loss; others do not see it

    @functools.partial(jax.jit, compiler_options=quickly())
    def step(state: _State, batch, key: Key, i, factor):
        model = eqx.combine(state.params, static)
        (value, recorded), gradients = gradient(model, batch, jr.fold_in(key, i))
        gradients = jax.tree.map(lambda p, g: None if p is None else g, state.params, gradients, is_leaf=_is_none)
        along = lambda params: _value_and_metrics(loss, eqx.combine(params, static), batch, jr.fold_in(key, i))[0]
        updates, optimiser = optimizer.update(
            gradients, state.optimiser, state.params, value=value, grad=gradients, value_fn=along
        )
        params = jax.tree.map(lambda p, u: p + (factor * u).astype(p.dtype), state.params, updates)
        average = state.average
        if ema is not None:
            decay = jnp.minimum(ema, (1.0 + state.step) / (10.0 + state.step))
            average = jax.tree.map(lambda a, p: a + (1.0 - decay).astype(p.dtype) * (p - a), average, params)
        fine = jnp.isfinite(value) & tree.all_finite(gradients) & state.alive
        new = _State(params, average, state.best, optimiser, state.step + 1, fine)
        kept = tree.where(fine, new, state)
        return eqx.tree_at(lambda s: s.alive, kept, fine), value, recorded, fine

    return step


def _is_none(leaf) -> bool:
    return leaf is None


def _shape(batch) -> tuple:
    return tuple((x.shape, x.dtype) if hasattr(x, "dtype") else type(x) for x in jax.tree.leaves(batch))


def _validation(found) -> dict[str, float]:
    """What `validate` said, for the epoch's line."""
    found = found if isinstance(found, Mapping) else {"loss": found}
    if "loss" not in found:
        raise ValueError(f'train: validate must return a number, or a dictionary with "loss"; it has {list(found)}.')
    return {f"valid_{k}": float(v) for k, v in found.items()}


def _improved(clock: Clock, line: dict[str, float | int]) -> bool:
    score = line.get("valid_loss", math.nan)
    if math.isfinite(score) and (clock.best is None or score < clock.best):
        clock.best, clock.stale = score, 0
        return True
    clock.stale += 1
    return False


def _refuse_nan(seen, clock: Clock, batches, factor: float, why: Callable[[PyTree], str | None]) -> None:
    """Raise for the first non-finite step among `seen`, with the clock set back to just before it."""
    for position, (i, value, _, fine) in enumerate(seen):
        if bool(fine):
            continue
        clock.steps -= len(seen) - position
        clock.batch = i
        if said := why(batches[i]):
            cause = said
        elif bool(tree.all_finite(jax.tree.map(jnp.asarray, batches[i]))):
            cause = f"the step diverged at rate factor {factor:.3g}: lower the learning rate or clip the gradients"
        else:
            cause = "the batch itself contains NaN or infinity: check the data"
        raise FloatingPointError(
            f"loss {float(value)} or its gradient is not finite at step {clock.steps + 1} "
            f"(epoch {clock.epoch}, batch {i} of {len(batches)}); {cause}. The state before it is kept."
        )
