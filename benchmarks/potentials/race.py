"""Energy + forces, training step, first call: ours against mace-torch and mlip, asked in turn, CPU milliseconds.

    python benchmarks/potentials/race.py --data train_300K.extxyz --rounds 5 \
        --ours python --mace env-mace/bin/python --mlip env-mlip/bin/python

All have two layers, correlation 3, l_max 3, 8 Bessel functions, cutoff 5 Å, single precision, one thread, CHANNELS
channels with vectors (32x0e + 32x1o). With `--gpu` on one GPU instead, wall-clock milliseconds;
`--cueq` is a mace-torch whose environment has cuequivariance too.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
ONE_THREAD = {
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
    "PJRT_NPROC": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "JAX_PLATFORMS": "cpu",
}


# several processes share the GPU, so none takes all of its memory
ONE_GPU = {"RACE_DEVICE": "gpu", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}


class Worker:
    """A live process that does one task at a time."""

    def __init__(self, label, python, script, arguments, environment):
        self.label = label
        command = [python, str(HERE / script), *arguments]
        pipe = subprocess.PIPE
        errors = open(f"/tmp/race_{label}.err", "w")  # noqa: SIM115 (lives as long as the process)
        self.process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=errors, text=True, env=os.environ | environment
        )
        self.ready = self.read()

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.label} died: see /tmp/race_{self.label}.err")
        return json.loads(line)

    def ask(self, task, reps):
        self.send(task, reps)
        return self.read()

    def send(self, task, reps):
        self.process.stdin.write(json.dumps({"task": task, "reps": reps}) + "\n")
        self.process.stdin.flush()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--channels", default="32")
    parser.add_argument("--tasks", default="ef_molecule,train_batch5,ef_water192")
    parser.add_argument("--ours", default=sys.executable)
    parser.add_argument("--mace")
    parser.add_argument("--mlip")
    parser.add_argument("--cueq", help="mace-torch with cuequivariance (GPU)")
    parser.add_argument("--gpu", action="store_true", help="on a GPU, wall-clock time")
    parser.add_argument("--keep-memory", action="store_true", help="all workers keep freed memory (glibc)")
    parser.add_argument("--seconds", type=float, default=0.6, help="seconds per task and round")
    a = parser.parse_args()
    arguments = [a.data, a.channels]
    if a.keep_memory:  # what enerjax.keep_freed_memory() does, for everybody
        os.environ |= dict.fromkeys(("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"), "1073741824")
        os.environ["MALLOC_TOP_PAD_"] = "67108864"  # else a thread's arena gives its last 64 MB back all the same
    environment = ONE_GPU if a.gpu else ONE_THREAD
    candidates = (
        ("enerjax", a.ours, "race_enerjax.py", []),
        ("mace", a.mace, "race_mace.py", []),
        ("mace+cueq", a.cueq, "race_mace.py", ["cueq"]),
        ("mlip", a.mlip, "race_mlip.py", []),
    )
    workers = [
        Worker(label, python, script, arguments + more, environment)
        for label, python, script, more in candidates
        if python
    ]
    times, first, reps = {}, {}, {}
    tasks = a.tasks.split(",")
    together = workers if a.gpu else []  # a GPU's machine has cores enough to compile side by side
    for worker in together:
        for task in tasks:
            worker.send(task, 1)
    for worker in workers:
        for task in tasks:
            answer = worker.read() if together else worker.ask(task, 1)
            first[task, worker.label] = answer["first"]
            print(f"{worker.label} {task}: first call {answer['first']:.1f} s", file=sys.stderr, flush=True)
            reps[task, worker.label] = int(np.clip(a.seconds / max(answer["seconds"][0], 1e-4), 1, 200))
    for k in range(a.rounds):
        for task in tasks:
            for worker in workers if k % 2 == 0 else workers[::-1]:
                answer = worker.ask(task, reps[task, worker.label])
                # the mean of a round: the kernel counts CPU time in ticks longer than one call
                times.setdefault((task, worker.label), []).append(float(np.mean(answer["seconds"])))
    clock = "wall" if a.gpu else "CPU"
    print(
        f"load {os.getloadavg()[0]:.1f}, {a.rounds} rounds, {clock} ms: median (least … most), first call in {clock} s"
    )
    for worker in workers:
        print(f"{worker.label:9s} {worker.ready['info']}")
    for task in tasks:
        ours = np.array(times[task, workers[0].label])
        for worker in workers:
            t = np.array(times[task, worker.label])
            ratio = np.median(t / ours)
            print(
                f"{task:14s} {worker.label:9s} {1e3 * np.median(t):9.2f} ({1e3 * t.min():.2f} … {1e3 * t.max():.2f})"
                f"  first {first[task, worker.label]:6.2f}  x{ratio:.1f}"
            )
    for worker in workers:
        worker.process.stdin.write('{"task": "quit"}\n')
        worker.process.stdin.close()
        worker.process.wait()


if __name__ == "__main__":
    main()
