"""Error against CPU seconds: train on 3BPA (or any data) for a budget of CPU seconds, test, print one JSON line.

    python benchmarks/potentials/accuracy.py --train train_300K.extxyz --isolated isolated_atoms.extxyz \
        --test test_300K.extxyz --size medium --seconds 300 --seed 0

450 of the 500 frames train, 50 validate (seed 0, the same for the peers in `accuracy_mace.py`). One thread.
"""

import argparse
import json
import os
import time

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")

import dataclasses

import jax
import jax.random as jr

import enerjax
from enerjax.atoms import dataset, errors, predict_all, training


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", required=True)
    parser.add_argument("--test", required=True)
    parser.add_argument("--isolated", help="file with the energies of isolated atoms")
    parser.add_argument("--size", default="medium")
    parser.add_argument("--seconds", type=float, default=300.0, help="(CPU) seconds of training, compilation excluded")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--wall", action="store_true", help="count seconds of the wall: on a GPU")
    parser.add_argument("--valid", type=int, default=50, help="frames set aside")
    parser.add_argument("--frames", type=int, help="use only so many training frames")
    parser.add_argument("--model", default="{}", help="JSON with fields of the model's configuration")
    parser.add_argument("--recipe", default="{}", help="JSON with fields of the recipe")
    a = parser.parse_args()
    enerjax.keep_freed_memory()  # as `enerjax fit` does; the peer gets MALLOC_TRIM_THRESHOLD_, MALLOC_MMAP_THRESHOLD_
    data = dataset.read(a.train)
    if a.isolated:
        data = dataset.Dataset(data.frames, dataset.isolated_energies(a.isolated), data.source)
    valid, train = dataset.split(data, a.valid, seed=0)
    if a.frames:
        train = train.subset(range(a.frames))
    test = dataset.read(a.test)
    model = training.configure(train, **({"size": a.size} | json.loads(a.model)))
    recipe = training.Recipe(**json.loads(a.recipe))
    clock = time.perf_counter if a.wall else time.process_time
    start = clock()
    fitted, run = training.fit(
        train,
        valid,
        key=jr.key(a.seed),
        model=model,
        recipe=recipe,
        core_repulsion=False,
        max_seconds=a.seconds,
        timer=clock,
        progress=lambda line: print(line, flush=True),
    )
    total = clock() - start
    found = errors(predict_all(fitted, test), test)
    parameters = sum(x.size for x in jax.tree.leaves(fitted))
    print(
        json.dumps(
            {
                "library": "enerjax",
                "model": dataclasses.asdict(model),
                "recipe": dataclasses.asdict(recipe),
                "parameters": parameters,
                "seed": a.seed,
                "clock": "wall" if a.wall else "cpu",
                "seconds": run.seconds,
                "compile_seconds": run.compile_seconds,
                "seconds_with_everything": total,
                "steps": run.steps,
                "test": found,
                "energy_rmse_mev_per_frame": found["energy_rmse_mev_per_atom"] * len(test[0].numbers),
                "valid": run.metrics[-1],
            }
        )
    )


if __name__ == "__main__":
    main()
