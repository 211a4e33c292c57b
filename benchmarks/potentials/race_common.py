"""What every worker of the race shares, in numpy and ASE only, so that each peer's own environment can import it.

3BPA frames (27 atoms), a box of water as a periodic system, and the protocol: a worker answers one JSON line per task
with seconds per call; `race.py` asks the workers in turn, so noise of the machine falls on all of them alike.
"""

import json
import os
import sys
import time

import numpy as np

CUTOFF = 5.0
SPECIES = (1, 6, 7, 8)
ISOLATED = {1: -13.587222780835477, 6: -1029.4889999855063, 7: -1484.9814568572233, 8: -2041.9816003861047}
GPU = os.environ.get("RACE_DEVICE") == "gpu"
OUT = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # peers print at import: stdout is for the protocol


def bpa(path):
    """3BPA: numbers [27], positions [frames, 27, 3], energies relative to isolated atoms, forces; 450/50 split."""
    from ase.io import read

    frames = read(path, ":")
    numbers = frames[0].numbers
    data = {
        "Z": numbers,
        "R": np.stack([f.positions for f in frames]),
        "E": np.array([f.get_potential_energy() for f in frames]),
        "F": np.stack([f.get_forces() for f in frames]),
    }
    data["Eint"] = data["E"] - sum(ISOLATED[int(z)] for z in numbers)
    order = np.random.default_rng(0).permutation(len(frames))
    return data, order[50:], order[:50]


def water_box(side, seed=0):
    """side³ water molecules at 1 g/cm³ on a jittered lattice: numbers, positions [Å], cell [Å]."""
    random = np.random.default_rng(seed)
    a = 3.104
    molecule = np.array([[0, 0, 0], [0.757, 0.586, 0], [-0.757, 0.586, 0]])
    positions, numbers = [], []
    for i in np.ndindex(side, side, side):
        q, _ = np.linalg.qr(random.normal(size=(3, 3)))
        positions.append((np.array(i) + 0.5) * a + random.uniform(-0.15, 0.15, 3) + molecule @ q.T)
        numbers += [8, 1, 1]
    return np.array(numbers), np.concatenate(positions), np.eye(3) * a * side


def say(record):
    """One JSON line to the driver."""
    OUT.write(json.dumps(record) + "\n")
    OUT.flush()


def verdict(library, spent, steps, energy, force):
    """The line with which a peer's training ends: errors [eV] and [eV/Å] on the test set as RMSE."""
    rmse = lambda x: float(np.sqrt(np.mean(np.square(x))) * 1e3)
    say(
        {
            "library": library,
            "cpu_seconds": spent,
            "steps": steps,
            "force_rmse_mev_per_angstrom": rmse(np.concatenate(force)),
            "energy_rmse_mev_per_frame": rmse(energy),
            "energy_spread_mev_per_frame": float(np.std(energy) * 1e3),
        }
    )


def serve(tasks, info, warm=2):
    """Answer the driver: `tasks` maps a name to a callable that does one synchronous step.

    On a CPU the clock counts the CPU seconds of this process, on a GPU those of the wall.
    """
    clock = time.perf_counter if GPU else time.process_time
    say({"ready": sorted(tasks), "info": info})
    seen = set()
    for line in sys.stdin:
        request = json.loads(line)
        if request["task"] == "quit":
            break
        step, first = tasks[request["task"]], None
        if request["task"] not in seen:
            start = clock()
            step()
            first = clock() - start
            for _ in range(warm):
                step()
            seen.add(request["task"])
        seconds = []
        for _ in range(request["reps"]):
            start = clock()
            step()
            seconds.append(clock() - start)
        say({"seconds": seconds, "first": first})
