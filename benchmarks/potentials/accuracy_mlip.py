"""Peer of `accuracy.py`: mlip on the same split for the same CPU seconds, its own optimiser, the rate falling to zero.

env-mlip/bin/python benchmarks/potentials/accuracy_mlip.py train_300K.extxyz 32 test_300K.extxyz 300

Its schedules count steps, so thirty steps are timed first to know how many the budget buys. XLA on one thread:
XLA_FLAGS="--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1".
"""

import sys
import time

import jax
import numpy as np
import race_common
from mlip.training.ema import get_debiased_params
from race_mlip import (
    MSELoss,
    OptimizerConfig,
    batch,
    bpa,
    exponentially_moving_average,
    field,
    get_default_mlip_optimizer,
    graph,
    init_training_state,
    make_train_step,
    pad_with_graphs,
    predict,
    single,
    train,
)

BATCH, RATE, DECAY = 5, 0.01, 0.99
budget = float(sys.argv[4])
test, _, _ = bpa(sys.argv[3])
loss = MSELoss(energy_weight_schedule=lambda _: 15.0, forces_weight_schedule=lambda _: 1000.0)
average = exponentially_moving_average(DECAY)


def trained(steps, seconds=np.inf):
    """A training state after so many steps, and the CPU seconds of each step after the first, which compiles."""
    config = OptimizerConfig(
        grad_norm=10.0,
        warmup_steps=0,
        init_learning_rate=RATE,
        peak_learning_rate=RATE,
        final_learning_rate=1e-3 * RATE,
        transition_steps=steps,
    )
    optimizer = get_default_mlip_optimizer(config)
    step = make_train_step(field.predictor, loss, optimizer, average, BATCH)
    state, spent, random = init_training_state(field.params, optimizer, average), [], np.random.default_rng(0)
    while len(spent) < steps and sum(spent[1:]) < seconds:
        order = random.permutation(train)
        for start in range(0, len(order), BATCH):
            chosen = batch(order[start : start + BATCH])
            clock = time.process_time()
            state, _ = step(state, chosen, 0)
            jax.block_until_ready(state.params)
            spent.append(time.process_time() - clock)
            if len(spent) >= steps or sum(spent[1:]) >= seconds:
                break
    return state, spent[1:]


per_step = float(np.median(trained(30)[1]))
state, spent = trained(round(budget / per_step), 1.05 * budget)
params = get_debiased_params(state.ema_state, DECAY)
energy, force = [], []
atoms = len(test["Z"])
for k in range(0, len(test["E"]), 4):
    g = pad_with_graphs(graph(test["R"][k], test["Z"]), atoms + 1, atoms * (atoms - 1), 2)
    e, f = predict(params, jax.device_put(single(g)))
    energy.append(float(e[0]) - test["E"][k])
    force.append(np.asarray(f)[:atoms] - test["F"][k])
race_common.verdict("mlip", sum(spent), len(spent) + 1, energy, force)
