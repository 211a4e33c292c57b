"""Every named problem once, as `enerjax solve NAME` solves it: errors, CPU seconds, unknowns.

    python benchmarks/solids/table.py [NAME ...]

Each problem runs in a process of its own (so that none profits from what another compiled; the persistent compilation
cache is off), one thread. `solve` is CPU time without compilation, `compile` is tracing and XLA; `total` is the whole
process, imports included. Prints Markdown.
"""

import json
import os
import resource
import subprocess
import sys

ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
    "JAX_ENABLE_COMPILATION_CACHE": "false",
}


def one(name: str) -> dict:
    """`enerjax solve NAME --json` in a fresh process, with the CPU seconds of all of it."""
    environment = os.environ | ENVIRONMENT
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "enerjax", "solve", name, "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{name}: {done.stderr.strip().splitlines()[-1]}")
    total = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return json.loads(done.stdout) | {"total": total, "peak_gib": after.ru_maxrss / 2**20}


def row(name: str, r: dict) -> str:
    """One line of the table."""
    known = {"problem", "method", "seconds", "compile_seconds", "unknowns", "residual", "energy", "width", "reference"}
    known |= {"displacement_relative_l2", "stress_relative_l2", "total", "peak_gib", "parameters"}
    extra = ", ".join(f"{k.replace('_', ' ')} {v:.8g}" for k, v in r.items() if k not in known)
    error = lambda k: f"{r[k]:.1e}" if k in r else "–"
    against = "FE" if "reference" in r else "exact"
    return (
        f"| {name} | {error('displacement_relative_l2')} | {error('stress_relative_l2')} | {r['seconds']:.1f} | "
        f"{r['compile_seconds']:.1f} | {r['total']:.0f} | {r.get('unknowns', '–')} | {against} | {extra} |"
    )


def main():
    """Run the problems named on the command line, or all."""
    from enerjax.solids import problems

    names = sys.argv[1:] or list(problems.named())
    print("| problem | displacement | stress | solve CPU s | compile | total | unknowns | against | |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name in names:
        print(row(name, one(name)), flush=True)


if __name__ == "__main__":
    main()
