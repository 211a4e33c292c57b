"""Worker of `race.py`: mace-torch (its own environment), as it comes or with the kernels of cuequivariance."""

import sys
import warnings

from race_common import CUTOFF, GPU, ISOLATED, SPECIES, bpa, serve, water_box  # first: it takes stdout

warnings.filterwarnings("ignore")
import mace  # noqa: F401 (sets what e3nn needs to import)
import numpy as np
import torch
from e3nn import o3
from mace import data as mace_data
from mace import modules, tools
from mace.tools import torch_geometric
from mace.tools.train import take_step
from torch_ema import ExponentialMovingAverage

torch.set_num_threads(1)
torch.set_default_dtype(torch.float32)
if GPU:  # as NequIP sets it: else every new shape is compiled for a minute
    torch.jit.set_fusion_strategy([("DYNAMIC", 3)])
data, train, _ = bpa(sys.argv[1])
channels = int(sys.argv[2])
device = torch.device("cuda" if GPU else "cpu")
table = tools.AtomicNumberTable(list(SPECIES))


def build():
    torch.manual_seed(0)
    model = modules.ScaleShiftMACE(
        r_max=CUTOFF,
        num_bessel=8,
        num_polynomial_cutoff=5,
        max_ell=3,
        interaction_cls_first=modules.interaction_classes["RealAgnosticInteractionBlock"],
        interaction_cls=modules.interaction_classes["RealAgnosticResidualInteractionBlock"],
        num_interactions=2,
        num_elements=4,
        hidden_irreps=o3.Irreps(f"{channels}x0e + {channels}x1o"),
        MLP_irreps=o3.Irreps("16x0e"),
        gate=torch.nn.functional.silu,
        atomic_energies=np.array([ISOLATED[z] for z in SPECIES]),
        avg_num_neighbors=16.717,
        atomic_numbers=list(SPECIES),
        correlation=3,
        radial_type="bessel",
        atomic_inter_scale=float(data["F"].std()),
        atomic_inter_shift=float(data["Eint"][train].mean() / 27),
    ).to(device)
    if "cueq" in sys.argv:
        from mace.cli.convert_e3nn_cueq import run

        model = run(model, device=str(device)).to(device)
    return model


def graph(positions, numbers, energy=0.0, forces=None, cell=None):
    configuration = mace_data.Configuration(
        atomic_numbers=numbers,
        positions=positions,
        properties={"energy": energy, "forces": np.zeros_like(positions) if forces is None else forces},
        property_weights={"energy": 1.0, "forces": 1.0},
        cell=np.eye(3) * 50.0 if cell is None else cell,
        pbc=(cell is not None,) * 3,
    )
    return mace_data.AtomicData.from_config(configuration, z_table=table, cutoff=CUTOFF)


def collate(graphs):
    return next(iter(torch_geometric.dataloader.DataLoader(graphs, batch_size=len(graphs), shuffle=False))).to(device)


def finished():
    if GPU:
        torch.cuda.synchronize()


def frame(k):
    return graph(data["R"][k], data["Z"], data["E"][k], data["F"][k])


def training_step(model, size):
    loss = modules.WeightedEnergyForcesLoss(15.0, 1000.0)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, amsgrad=True)
    average = ExponentialMovingAverage(model.parameters(), decay=0.99)
    batches = [collate([frame(k) for k in train[i * size : (i + 1) * size]]) for i in range(4)]
    count = [0]
    wanted = {"forces": True, "virials": False, "stress": False}

    def run():
        take_step(model, loss, batches[count[0] % 4], optimizer, average, wanted, 10.0, device)
        finished()
        count[0] += 1

    return run


def evaluation(model, numbers, positions, cell=None):
    one = collate([graph(positions, numbers, cell=cell)]).to_dict()

    def run():
        model(one, training=False, compute_force=True)
        finished()

    return run


if __name__ == "__main__":
    model = build()
    tasks = {
        "ef_molecule": evaluation(model, data["Z"], data["R"][0]),
        "train_batch5": training_step(model, 5),
        "train_batch64": training_step(model, 64),
        "ef_water192": evaluation(model, *water_box(4)),
        "ef_water648": evaluation(model, *water_box(6)),
        "ef_water5184": evaluation(model, *water_box(12)),
    }
    serve(tasks, {"channels": channels, "parameters": sum(p.numel() for p in model.parameters())}, warm=4)
