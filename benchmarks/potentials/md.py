"""Molecular dynamics: one jit against the same potential through ASE; cost against atoms; compilations counted.

    python benchmarks/potentials/md.py ase    --model DIR --start X.xyz     steps per second, in-jit and through ASE
    python benchmarks/potentials/md.py atoms  [--model DIR --start X.xyz]   cost per step and atom against the atoms
    python benchmarks/potentials/md.py traces [--steps 10000]               compilations and row rebuilds of a hot run

Without --model the potential is Stillinger–Weber silicon. Times are CPU seconds (time.process_time), the two sides of
`ase` in turn; the environment is the package's own.
"""

import argparse
import time

import ase.build
import ase.units
import jax
import jax.random as jr
import numpy as np
from ase.io import read
from ase.md.verlet import VelocityVerlet

from enerjax.atoms import NPT, NVE, Calculator, Langevin, StillingerWeber, Structure, load, simulate
from enerjax.atoms.vibrations import precise
from enerjax.flow import Bath, CellRescaling, VelocityRescaling
from enerjax.units import GPa, fs, kB


def start(arguments):
    """The potential and the atoms to start from."""
    if arguments.model:
        potential = load(arguments.model)
        return precise(potential) if arguments.double else potential, read(arguments.start)
    return StillingerWeber(), ase.build.bulk("Si", cubic=True, a=5.431) * (2, 2, 2)


def in_jit(potential, structure, steps):
    """The run in one jit; it times its steps itself, without compilation."""
    options = {"timestep": 0.5, "key": jr.key(0), "interval": 50, "temperature": 300.0}
    return simulate(potential, structure, NVE(), steps=steps, **options)


def through_ase(potential, atoms, momenta, steps):
    """CPU seconds per step of ASE's velocity Verlet with our calculator, after a first call."""
    atoms = atoms.copy()
    atoms.calc = Calculator(potential)
    atoms.set_momenta(momenta)
    motion = VelocityVerlet(atoms, 0.5 * ase.units.fs)
    motion.run(2)
    begin = time.process_time()
    motion.run(steps)
    return (time.process_time() - begin) / steps, atoms.calc


def against_ase(arguments):
    potential, atoms = start(arguments)
    structure = Structure.from_ase(atoms)
    ours, theirs = [], []
    for _ in range(arguments.rounds):
        run = in_jit(potential, structure, arguments.steps)
        ours.append(run.cpu_seconds_per_step)
        per_step, calculator = through_ase(potential, atoms, run.momenta[0], arguments.steps)
        theirs.append(per_step)
    a, b = min(ours), min(theirs)
    print(f"{len(atoms)} atoms, NVE, {arguments.rounds} rounds of {arguments.steps} steps, least CPU seconds per step")
    print(f"  one jit      {1e3 * a:9.3f} ms   compilations {run.compilations}, row rebuilds {run.rebuilds}")
    print(f"  through ASE  {1e3 * b:9.3f} ms   compilations {calculator.traces}, rows built {calculator.builds}")
    print(f"  ratio        {b / a:9.2f}")


def against_atoms(arguments):
    potential, atoms = start(arguments)
    rows = []
    for n in arguments.repeat:
        large = atoms * (n, n, n) if atoms.pbc.all() else atoms
        run = in_jit(potential, Structure.from_ase(large), max(50, arguments.steps // n**3))
        per_step = run.cpu_seconds_per_step
        rows.append((len(large), per_step))
        print(f"{len(large):7d} atoms  {1e3 * per_step:9.3f} ms/step  {1e6 * per_step / len(large):8.3f} µs/step/atom")
        print(f"               rows of {run.state.neighbours.width}, {run.rebuilds} rebuilds", flush=True)
    if len(rows) > 1:
        n, t = np.log(np.array(rows)).T
        print(f"cost ∝ atoms^{np.polyfit(n, t, 1)[0]:.2f}")


def traces(arguments):
    potential, atoms = start(arguments)
    structure, kT = Structure.from_ase(atoms), arguments.temperature * kB
    scale = VelocityRescaling(kT, 50 * fs)
    ensembles = {"NVT, Langevin": Langevin(Bath(1 / (50 * fs), kT))}
    if atoms.pbc.all():
        ensembles["NPT, flexible"] = NPT(scale, CellRescaling(kT, 0.0, 300 * fs, 0.01 / GPa, False))
    for name, ensemble in ensembles.items():
        run = simulate(
            potential,
            structure,
            ensemble,
            timestep=1.0,
            steps=arguments.steps,
            key=jr.key(0),
            temperature=2 * arguments.temperature,
            say=print,
        )
        print(
            f"{name}: {arguments.steps} steps at {arguments.temperature:g} K: {run.compilations} compilation(s), "
            f"{run.rebuilds} row rebuilds, drift of the conserved energy {run.drift:.4f} meV/atom/ps"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("ase", "atoms", "traces"))
    parser.add_argument("--model")
    parser.add_argument("--start")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeat", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--temperature", type=float, default=1500.0)
    parser.add_argument("--double", action="store_true", help="the potential in float64 too (the state always is)")
    arguments = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    {"ase": against_ase, "atoms": against_atoms, "traces": traces}[arguments.what](arguments)
