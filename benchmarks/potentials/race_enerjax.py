"""Worker of `race.py`: enerjax."""

import functools
import sys

from race_common import CUTOFF, ISOLATED, SPECIES, bpa, serve, water_box  # first: it takes stdout

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax

from enerjax._compile import quickly
from enerjax.atoms import Config, Equivariant, Structure, batch, dataset, training
from enerjax.atoms.neighbours import neighbours_of
from enerjax.atoms.potential import energy_forces

data, train, _ = bpa(sys.argv[1])
channels = int(sys.argv[2])
scale = float(np.sqrt((data["F"] ** 2).mean()))
config = Config(SPECIES, tuple(ISOLATED[z] for z in SPECIES), CUTOFF, channels, mean_neighbours=16.717, scale=scale)
model = Equivariant(config, key=jr.key(0))
frames = dataset.read(sys.argv[1])
(everything,), _, row = batch.prepare(frames, CUTOFF, model.reference)
recipe = training.Recipe()
params, static = eqx.partition(model, eqx.is_inexact_array)
# as the peers: AMSGrad with clipped gradients and an average of the parameters; compiled as `fit` and `predict` do
optimizer = optax.chain(optax.clip_by_global_norm(10.0), optax.amsgrad(0.01))


@functools.partial(jax.jit, compiler_options=quickly())
def step(state, b):
    params, average, moments = state
    gradient = jax.grad(lambda p: training.loss(eqx.combine(p, static), b, recipe, 0.02)[0])(params)
    updates, moments = optimizer.update(gradient, moments, params)
    params = optax.apply_updates(params, updates)
    return params, jax.tree.map(lambda a, p: 0.99 * a + 0.01 * p, average, params), moments


def training_step(size):
    state = [(params, params, optimizer.init(params))]
    batches = [everything.at(row[train[k * size : (k + 1) * size]]) for k in range(4)]
    count = [0]

    def run():
        state[0] = jax.block_until_ready(step(state[0], batches[count[0] % 4]))
        count[0] += 1

    return run


def evaluation(numbers, positions, cell=None):
    pbc = (cell is not None,) * 3
    cell = None if cell is None else jnp.asarray(cell, jnp.float32)
    structure = Structure(jnp.asarray(positions, jnp.float32), numbers, cell, pbc)
    rows = neighbours_of(structure, CUTOFF)
    leaves, tree = jax.tree.flatten(params)  # once, as the calculator does
    whole = lambda leaves: eqx.combine(jax.tree.unflatten(tree, leaves), static)
    of = lambda leaves, structure, rows: energy_forces(whole(leaves), structure, rows)
    run = jax.jit(of, compiler_options=quickly())
    return lambda: jax.block_until_ready(run(leaves, structure, rows))


tasks = {
    "ef_molecule": evaluation(data["Z"], data["R"][0]),
    "train_batch5": training_step(5),
    "train_batch64": training_step(64),
    "ef_water192": evaluation(*water_box(4)),
    "ef_water648": evaluation(*water_box(6)),
    "ef_water5184": evaluation(*water_box(12)),
}
serve(tasks, {"channels": channels, "parameters": sum(x.size for x in jax.tree.leaves(params))})
