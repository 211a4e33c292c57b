"""Peer of `accuracy.py`: mace-torch on the same split for the same CPU seconds, cosine schedule over the budget.

env-mace/bin/python benchmarks/potentials/accuracy_mace.py train_300K.extxyz 32 test_300K.extxyz 300
"""

import math
import sys
import time

import numpy as np
import race_common
from race_mace import (
    ExponentialMovingAverage,
    bpa,
    build,
    collate,
    frame,
    graph,
    modules,
    take_step,
    torch,
    train,
)

BATCH, RATE = 5, 0.01
budget = float(sys.argv[4])
test, _, _ = bpa(sys.argv[3])
model = build()
loss = modules.WeightedEnergyForcesLoss(15.0, 1000.0)
optimizer = torch.optim.Adam(model.parameters(), lr=RATE, amsgrad=True)
average = ExponentialMovingAverage(model.parameters(), decay=0.99)
graphs = {k: frame(k) for k in train}
wanted = {"forces": True, "virials": False, "stress": False}
spent, steps, random = 0.0, 0, np.random.default_rng(0)
while spent < budget:
    order = random.permutation(train)
    for start in range(0, len(order), BATCH):
        clock = time.process_time()
        for group in optimizer.param_groups:
            group["lr"] = RATE * 0.5 * (1 + math.cos(math.pi * min(spent / budget, 1)))
        chosen = collate([graphs[k] for k in order[start : start + BATCH]])
        take_step(model, loss, chosen, optimizer, average, wanted, 10.0, torch.device("cpu"))
        spent += time.process_time() - clock
        steps += 1
        if spent >= budget:
            break
energy, force = [], []
with average.average_parameters():
    for k in range(0, len(test["E"]), 4):
        out = model(collate([graph(test["R"][k], test["Z"])]).to_dict(), training=False, compute_force=True)
        energy.append(out["energy"].detach().numpy()[0] - test["E"][k])
        force.append(out["forces"].detach().numpy() - test["F"][k])
race_common.verdict("mace-torch", spent, steps, energy, force)
