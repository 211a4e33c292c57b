"""Worker of `race.py`: mlip (its own environment)."""

import sys
import warnings

from race_common import CUTOFF, ISOLATED, SPECIES, bpa, serve, water_box  # first: it takes stdout

warnings.filterwarnings("ignore")
import jax
import numpy as np
from mlip.data import ChemicalSystem
from mlip.data.dataset_info import DatasetInfo
from mlip.graph import Graph
from mlip.graph.batching_helpers import batch_graphs, pad_with_graphs
from mlip.models import ForceField
from mlip.models.loss import MSELoss
from mlip.models.mace.network import Mace
from mlip.training.ema import exponentially_moving_average
from mlip.training.optimizer import get_default_mlip_optimizer
from mlip.training.optimizer_config import OptimizerConfig
from mlip.training.training_state import init_training_state
from mlip.training.training_step import make_train_step

data, train, _ = bpa(sys.argv[1])
channels = int(sys.argv[2])
info = DatasetInfo(
    atomic_energies_map={z: ISOLATED[z] for z in SPECIES},
    graph_cutoff_angstrom=CUTOFF,
    avg_num_neighbors=16.717,
    avg_r_min_angstrom=1.0,
)
config = Mace.Config(
    num_channels=channels,
    node_symmetry=1,
    l_max=3,
    correlation=3,
    num_layers=2,
    num_rbf=8,
    radial_mlp_hidden=[64, 64, 64],
)
field = ForceField.from_mlip_network(Mace(config, info), seed=0)


def graph(positions, numbers, energy=0.0, forces=None, cell=None):
    system = ChemicalSystem(
        atomic_numbers=numbers,
        positions=positions,
        energy=energy,
        forces=np.zeros_like(positions) if forces is None else forces,
        cell=cell,
        pbc=None if cell is None else (True,) * 3,
    )
    return Graph.from_chemical_system(system, CUTOFF)


def single(g):
    return jax.tree.map(lambda x: x.astype(np.float32) if getattr(x, "dtype", None) == np.float64 else x, g)


def batch(frames):
    graphs = [graph(data["R"][k], data["Z"], data["E"][k], data["F"][k]) for k in frames]
    count, atoms = len(graphs), len(data["Z"])
    return jax.device_put(single(pad_with_graphs(batch_graphs(graphs), count * atoms + 1, count * 500, count + 1)))


def training_step(size):
    optimizer = get_default_mlip_optimizer(OptimizerConfig(grad_norm=10.0, warmup_steps=0))
    average = exponentially_moving_average(0.99)
    loss = MSELoss(energy_weight_schedule=lambda _: 15.0, forces_weight_schedule=lambda _: 1000.0)
    step = make_train_step(field.predictor, loss, optimizer, average, size)
    batches = [batch(train[k * size : (k + 1) * size]) for k in range(4)]
    state, count = [init_training_state(field.params, optimizer, average)], [0]

    def run():
        state[0], _ = step(state[0], batches[count[0] % 4], 0)
        jax.block_until_ready(state[0].params)
        count[0] += 1

    return run


@jax.jit
def predict(params, g):
    out = field.predictor.apply(params, g).to_prediction()
    return out.energy, out.forces


def evaluation(numbers, positions, cell=None):
    g = graph(positions, numbers, cell=cell)
    g = jax.device_put(single(pad_with_graphs(g, len(numbers) + 1, int(len(g.senders) * 1.07), 2)))
    return lambda: jax.block_until_ready(predict(field.params, g))


if __name__ == "__main__":
    tasks = {
        "ef_molecule": evaluation(data["Z"], data["R"][0]),
        "train_batch5": training_step(5),
        "train_batch64": training_step(64),
        "ef_water192": evaluation(*water_box(4)),
        "ef_water648": evaluation(*water_box(6)),
        "ef_water5184": evaluation(*water_box(12)),
    }
    serve(tasks, {"channels": channels, "parameters": int(sum(x.size for x in jax.tree.leaves(field.params)))})
