"""What a solution costs: CPU seconds and peak memory against points and unknowns, and under a bound on memory.

    python benchmarks/solids/cost.py

Haghighat's plate, one width. Each line is a process of its own, so that the peak is that of one solution; the memory of
a process that has only imported the library is taken off. One thread.
"""

import json
import os
import resource
import subprocess
import sys

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", XLA_FLAGS="--xla_cpu_multi_thread_eigen=false")


def one(features: int, interior: int, memory: float) -> None:
    """Solve and print the numbers as JSON."""
    import jax

    from enerjax.solids import Collocation, problems, solve

    with jax.enable_x64(True):
        problem = problems.manufactured()
        jax.block_until_ready(jax.numpy.linalg.qr(jax.numpy.eye(4)))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        method = Collocation(features=features, interior=interior, boundary=44, widths=(1.0,), memory=memory)
        solution = solve(problem, 0, method=method)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        error = solution.errors()["displacement_relative_l2"]
        numbers = {"seconds": solution.seconds, "compile": solution.compile_seconds, "mib": peak / 2**10}
        print(json.dumps(numbers | {"unknowns": solution.info["unknowns"], "error": error}))


def main():
    """One line per number of features, of points, and per bound."""
    cases = [(n, 40, 3e9) for n in (100, 200, 400, 800, 1600)]
    cases += [(400, n, 3e9) for n in (30, 60, 120, 240)]
    cases += [(400, 120, bound) for bound in (1e9, 3e8, 1e8, 3e7)]
    print("| unknowns | points inside | bound, MB | CPU s | compile | peak, MiB | displacement |\n" + 7 * "|---" + "|")
    for features, interior, memory in cases:
        command = [sys.executable, __file__, str(features), str(interior), str(memory)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        r = json.loads(done.stdout.splitlines()[-1])
        print(
            f"| {r['unknowns']} | {interior**2} | {memory / 1e6:.0f} | {r['seconds']:.2f} | {r['compile']:.1f} | "
            f"{r['mib']:.0f} | {r['error']:.1e} |",
            flush=True,
        )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        one(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
    else:
        main()
