"""Run molecular dynamics to the end: blocks on the device, samples to disk, restarts exact, wrong rows never used.

Beside the trajectory TRAJ.xyz (extended XYZ, appended block by block) stand TRAJ.csv with the samples and TRAJ.restart
with the state and the lengths of both files: after a crash they are cut back to the last whole block, and the run goes
on as if nothing had happened, bit for bit.
"""

import hashlib
import io
import math
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array

from .._array import Key
from .._compile import host_jit
from ..fit import checkpoint
from ..units import GPa, fs, kB
from . import observables
from .dynamics import AbstractEnsemble, Sample, State, block, start
from .neighbours import Grid, Neighbours, grow, neighbour_list, neighbours_of
from .potential import reference_energy
from .structure import Structure

COLUMNS = ("step", "time_fs", "energy_ev", "kinetic_ev", "conserved_ev", "temperature_k", "pressure_gpa", "volume_a3")
_HASH = "sha256:"  # marks what a restart knows by its hash alone


@dataclass(frozen=True)
class Run:
    """A finished simulation.

    Attributes:
        state: the last state.
        log: `COLUMNS` → array over all samples, those of earlier parts of a resumed run included.
        positions: sampled in this process, [samples, atoms, 3]; momenta and cells likewise.
        momenta: √(amu eV).
        cells: Å, or None.
        steps_per_second: without compilation; None if nothing was left to do.
        cpu_seconds_per_step: likewise, of all threads of this process.
        compilations: how often the block was traced: 1, plus one for each time the rows had to grow.
        rebuilds: of the neighbour rows, in this process.
    """

    state: State
    log: dict[str, np.ndarray]
    positions: np.ndarray
    momenta: np.ndarray
    cells: np.ndarray | None
    steps_per_second: float | None
    cpu_seconds_per_step: float | None
    compilations: int
    rebuilds: int

    @property
    def drift(self) -> float:
        """Of the conserved energy [meV/atom/ps]."""
        return observables.drift(self.log["time_fs"], self.log["conserved_ev"], len(self.state.species))


def simulate(
    potential,
    structure: Structure,
    ensemble: AbstractEnsemble,
    *,
    timestep: float,
    steps: int,
    key: Key,
    temperature: float,
    momenta: Array | None = None,
    interval: int = 10,
    samples_per_block: int = 20,
    skin: float | None = None,
    pressure: bool = False,
    trajectory: str | Path | None = None,
    neighbours: Neighbours | None = None,
    say: Callable[[str], None] | None = None,
) -> Run:
    """Molecular dynamics of `steps` steps.

    Args:
        potential: called as `potential(structure, neighbours)`, with a `cutoff`.
        structure: the start; its positions' precision is that of the run.
        ensemble: `dynamics.NVE()`, `Langevin`, `Rescaled`, `Chained` or `NPT`.
        timestep: fs.
        steps: in all; a resumed run does what is left of them.
        key: for momenta and baths.
        temperature: of the initial momenta [K].
        momenta: initial momenta instead, √(amu eV).
        interval: steps between samples.
        samples_per_block: samples per call of the device; a restart loses at most one block.
        skin: Å added to the cutoff in the rows; 6 % of the cutoff if None: short rows make every step cheaper, and what
            builds them anew more often is cheap beside a potential of short reach.
        pressure: sample the pressure too (NPT always does).
        trajectory: TRAJ.xyz; resumed from TRAJ.restart if that is there.
        neighbours: rows to begin with; built where they are None.
        say: takes lines of progress.

    Raises:
        ValueError: for a trajectory that this run cannot continue: of another potential, start, key or motion.
        FloatingPointError: if energies or momenta stop being finite, or T exceeds 10⁶ K; the last good block is kept.
    """
    _check(timestep, steps, interval)
    degrees = ensemble.degrees(structure.atoms)
    if degrees < 1:
        raise ValueError(
            f"a single atom has no motion under {type(ensemble).__name__}, which keeps the centre of mass at rest; "
            "use Langevin (nvt)."
        )
    offset = reference_energy(potential, structure)
    if neighbours is None:
        neighbours = _roomy(structure, potential.cutoff, 0.06 * potential.cutoff if skin is None else skin)
    state = start(potential, structure, ensemble, neighbours, key, kT=kB * temperature, momenta=momenta)
    files = None
    if trajectory is not None:
        settings = {"timestep": timestep, "interval": interval, "ensemble": _describe(ensemble)}
        settings |= _identity(potential, structure, key, temperature, momenta)
        files = _Files(Path(trajectory), settings)
        state = files.resume(state)
    begun, traces, seconds, burnt, done, grown = int(state.step), 0, 0.0, 0.0, 0, 0
    with_pressure = pressure or ensemble.barostat
    to_step = timestep * fs

    def traced(potential, ensemble, state, dt, strides):
        nonlocal traces
        traces += 1
        return block(potential, ensemble, state, dt, strides, with_pressure=with_pressure)

    run = host_jit(traced)
    zeros, kept, compiled, asked = jnp.zeros(samples_per_block, jnp.int32), [], None, time.monotonic()
    plan = _plan(begun, steps, interval, fresh=begun == 0)
    while plan:
        # after an overflow the block is also shorter: what outgrew the rows gets new ones sooner
        wanted = min(len(plan), max(1, samples_per_block >> grown))
        strides = np.zeros(samples_per_block, np.int32)
        strides[:wanted] = plan[:wanted]
        state = _mark_stale(state)
        if compiled != _shapes(state):  # no steps: compiles, so that the timing below is of steps alone
            compiled = _shapes(state)
            jax.block_until_ready(run(potential, ensemble, state, to_step, zeros)[1].energy)
        clock, burning = time.perf_counter(), time.process_time()
        after, samples = jax.block_until_ready(run(potential, ensemble, state, to_step, jnp.asarray(strides)))
        seconds, burnt = seconds + time.perf_counter() - clock, burnt + time.process_time() - burning
        samples = _whole(jax.tree.map(lambda x, n=wanted: np.asarray(x[:n]), samples), offset)
        bad = _first_bad(samples, degrees)
        if bool(after.overflow) and (bad is None or grown == 0):
            grown += 1
            if grown > 8:
                raise FloatingPointError(f"step {int(state.step)}: rows overflow again and again; the atoms collapse.")
            rows = grow(state.structure, state.neighbours)
            state = eqx.tree_at(lambda s: (s.neighbours, s.overflow), state, (rows, jnp.array(False)))
            if say:
                say(f"step {int(state.step)}: neighbour rows were too small, again with {rows.width} per atom")
            continue
        if bad is not None:
            raise FloatingPointError(_cause(samples, bad, state, timestep, files))
        grown = 0
        done += int(strides.sum())
        plan, state = plan[wanted:], after
        kept.append((samples, rows_of_log := _log(samples, timestep, degrees)))
        if files is not None:
            files.append(state, samples, rows_of_log)
        if say and (time.monotonic() - asked > 5 or not plan):
            asked = time.monotonic()
            rate = done / max(seconds, 1e-9)
            last = rows_of_log[-1]
            say(
                f"step {int(state.step)}/{steps}  {last[1] / 1000:.3f} ps  T {last[5]:.0f} K  "
                f"conserved {last[4]:.6f} eV  {rate:.3g} steps/s  {(steps - last[0]) / max(rate, 1e-9):.0f} s left"
            )
    table = files.table() if files is not None else np.concatenate([log for _, log in kept] or [np.zeros((0, 8))])
    stack = lambda get: (
        np.concatenate([np.asarray(get(s)) for s, _ in kept]) if kept else np.zeros((0, structure.atoms, 3))
    )
    return Run(
        state=state,
        log={name: table[:, k] for k, name in enumerate(COLUMNS)},
        positions=stack(lambda s: s.position),
        momenta=stack(lambda s: s.momentum),
        cells=None if structure.cell is None else stack(lambda s: s.cell),
        steps_per_second=done / seconds if done else None,
        cpu_seconds_per_step=burnt / done if done else None,
        compilations=traces,
        rebuilds=int(state.rebuilds),
    )


def _roomy(structure: Structure, cutoff: float, skin: float) -> Neighbours:
    """Rows with room for what a hot run will bring in, so that none of its steps compiles anything again.

    A crystal's next shell may lie just outside: the density is counted a little further out as well, and scaled back.
    """
    rows = neighbours_of(structure, cutoff, skin=skin)
    if rows.grid is None:
        return rows
    reach, margin = cutoff + skin, 1.15
    for further in (0.2, 0.4):
        wide = neighbour_list(structure, cutoff, skin=skin + further)
        count = float(jnp.max(jnp.sum(wide.mask, axis=-1))) * (reach / (reach + further)) ** 3
        rows = neighbour_list(structure, cutoff, skin=skin, width=max(rows.width, 4 * math.ceil(margin * count / 4)))
    return rows


def _whole(samples: Sample, offset: float) -> Sample:
    energies = (samples.energy.astype(np.float64) + offset, samples.conserved.astype(np.float64) + offset)
    return eqx.tree_at(lambda s: (s.energy, s.conserved), samples, energies)


def _check(timestep, steps, interval) -> None:
    if timestep <= 0:
        raise ValueError(f"timestep must be positive, not {timestep} fs.")
    if steps < 1 or interval < 1:
        raise ValueError(f"steps and interval must be at least 1, not {steps} and {interval}.")


def _plan(begun: int, steps: int, interval: int, fresh: bool) -> list[int]:
    """Steps before each sample; a fresh run samples its start too."""
    whole, rest = divmod(max(steps - begun, 0), interval)
    return [0] * fresh + [interval] * whole + [rest] * (rest > 0)


def _mark_stale(state: State) -> State:
    """Make the next step rebuild the rows: a restart, which has none, then takes the same path, bit for bit."""
    if state.neighbours.reference is None:
        return state
    return eqx.tree_at(lambda s: s.neighbours.reference, state, jnp.full_like(state.phase.position, jnp.nan))


def _shapes(state: State):
    return jax.tree.structure(state), tuple(x.shape for x in jax.tree.leaves(state))


def _first_bad(samples: Sample, degrees: int) -> int | None:
    """The first sample that is not finite, or hotter than 10⁶ K: no potential of atoms holds there."""
    good = np.isfinite(samples.conserved) & (observables.temperature(samples.kinetic, degrees) < 1e6)
    return None if good.all() else int(np.argmin(good))


def _cause(samples: Sample, bad: int, state: State, timestep: float, files) -> str:
    force = np.asarray(state.phase.force if bad == 0 else samples.force[bad - 1])
    where = (
        f"; the state at step {int(state.step)} is kept in {files.restart}" if files and files.restart.exists() else ""
    )
    return (
        f"step {int(samples.step[bad])}: energy or momenta blew up or are not finite. Likely the time step of "
        f"{timestep:g} fs is too long or the potential was driven out of its data; the largest force at the sample "
        f"before was {np.abs(force).max():.3g} eV/Å{where}."
    )


def _log(samples: Sample, timestep: float, degrees: int) -> np.ndarray:
    nan = np.full(len(samples.step), np.nan)
    pressure = nan if samples.pressure is None else np.trace(samples.pressure, axis1=1, axis2=2) / 3.0 / GPa
    volume = nan if samples.cell is None else np.abs(np.linalg.det(samples.cell))
    heat = observables.temperature(samples.kinetic, degrees)
    columns = (
        samples.step,
        samples.step * timestep,
        samples.energy,
        samples.kinetic,
        samples.conserved,
        heat,
        pressure,
        volume,
    )
    return np.stack([np.asarray(c, float) for c in columns], axis=1)


def _identity(potential, structure: Structure, key: Key, temperature: float, momenta) -> dict[str, Any]:
    """What a run is apart from its motion: the potential, the start, and the randomness of this very run."""
    start = {"species": structure.species, "positions": structure.positions, "masses": structure.masses()}
    start |= {"cell": structure.cell, "random key (seed)": jr.key_data(key), "momenta": momenta}
    words = {"atoms": structure.atoms, "potential": _fingerprint(potential), "pbc": list(structure.pbc)}
    words |= {name: _fingerprint(value) for name, value in start.items()}
    return words | {"temperature": None if momenta is not None else float(temperature)}


def _fingerprint(tree: Any) -> str:
    """A hash of the structure and the numbers of a pytree, the same in every process."""
    # what is no number is known by its text, without the addresses that differ between processes
    text = lambda x: re.sub(r" at 0x[0-9a-f]+", "", str(x)).encode()
    leaves, structure = jax.tree.flatten(tree)
    found = hashlib.sha256(text(structure))
    for leaf in leaves:
        numbers = np.asarray(leaf) if eqx.is_array_like(leaf) else None
        found.update(text(leaf) if numbers is None else text((numbers.dtype, numbers.shape)) + numbers.tobytes())
    return _HASH + found.hexdigest()[:16]


def _describe(ensemble: AbstractEnsemble) -> str:
    numbers = ", ".join(f"{float(x):.12g}" for x in jax.tree.leaves(ensemble))
    return f"{type(ensemble).__name__}({numbers})"


class _Files:
    """TRAJ.xyz, TRAJ.csv and TRAJ.restart, always cut to the same step."""

    def __init__(self, trajectory: Path, settings: dict):
        self.trajectory, self.settings = trajectory, settings
        self.csv, self.restart = trajectory.with_suffix(".csv"), trajectory.with_suffix(".restart")
        if trajectory.suffix != ".xyz":
            raise ValueError(f"{trajectory}: the trajectory is extended XYZ; give a name that ends in .xyz.")

    def resume(self, state: State) -> State:
        if not self.restart.exists():
            if self.trajectory.exists():
                raise ValueError(f"{self.trajectory}: exists, without {self.restart} to go on from; remove it.")
            self.trajectory.parent.mkdir(parents=True, exist_ok=True)
            self.csv.write_text(",".join(COLUMNS) + "\n")
            self.trajectory.write_text("")
            return state
        words = checkpoint.words(self.restart)
        before = words["settings"]
        for name, value in self.settings.items():
            if name not in before:
                raise ValueError(
                    f"{self.restart}: comes from an earlier version, which did not record the {name} of a run; "
                    "choose another --out."
                )
            if before[name] != value:
                hashed = str(value).startswith(_HASH)
                changed = f"other {name}" if hashed else f"{name}={before[name]}, not {value}"
                raise ValueError(f"{self.restart}: was run with {changed}; choose another --out.")
        for path, length in ((self.trajectory, words["trajectory"]), (self.csv, words["csv"])):
            if not path.exists() or path.stat().st_size < length:
                raise ValueError(
                    f"{path}: is shorter than {self.restart} says; restore it, or remove both to start again."
                )
            with open(path, "r+b") as file:
                file.truncate(length)
        bare = lambda s: s.neighbours
        restored = checkpoint.load(self.restart, eqx.tree_at(bare, state, None))
        rows = state.neighbours
        if rows.grid is not None:
            kept: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in words["grid"].items()}
            grid = Grid(**kept)
            structure = Structure(restored.phase.position, state.species, restored.cell, state.pbc)
            rows = neighbour_list(structure, rows.cutoff, skin=rows.skin, width=words["width"])
            rows = eqx.tree_at(
                lambda r: (r.index, r.shift, r.mask), rows, _cut(rows, words["width"]), is_leaf=lambda x: x is None
            )
            rows = eqx.tree_at(lambda r: r.grid, rows, grid)
        return eqx.tree_at(bare, restored, rows, is_leaf=lambda x: x is None)

    def append(self, state: State, samples: Sample, log: np.ndarray) -> None:
        with open(self.trajectory, "a") as file:
            file.write(_frames(state, samples, log))
        with open(self.csv, "a") as file:
            file.writelines(f"{int(row[0])}," + ",".join(repr(float(x)) for x in row[1:]) + "\n" for row in log)
        rows = state.neighbours
        grid = (
            None
            if rows.grid is None
            else {k: getattr(rows.grid, k) for k in ("bins", "reach", "capacity", "span", "pbc")}
        )
        words = {"settings": self.settings, "width": rows.width, "grid": grid, "step": int(state.step)}
        words |= {"trajectory": self.trajectory.stat().st_size, "csv": self.csv.stat().st_size}
        checkpoint.save(self.restart, eqx.tree_at(lambda s: s.neighbours, state, None), words)

    def table(self) -> np.ndarray:
        return np.loadtxt(self.csv, delimiter=",", skiprows=1, ndmin=2)


def _cut(rows: Neighbours, width: int):
    return rows.index[:, :width], None if rows.shift is None else rows.shift[:, :width], rows.mask[:, :width]


def _frames(state: State, samples: Sample, log: np.ndarray) -> str:
    """Extended XYZ of a block, with energies, forces and momenta."""
    import ase
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.io import write

    numbers, frames = np.asarray(state.species), []
    masses = None if state.isotopes is None else np.asarray(state.isotopes, float)
    for k in range(len(samples.step)):
        cell = None if samples.cell is None else samples.cell[k]
        atoms = ase.Atoms(
            numbers, samples.position[k], cell=cell, pbc=state.pbc, momenta=samples.momentum[k], masses=masses
        )
        atoms.info = {"step": int(samples.step[k]), "time_fs": float(log[k, 1]), "temperature_k": float(log[k, 5])}
        atoms.calc = SinglePointCalculator(atoms, energy=float(samples.energy[k]), forces=samples.force[k])
        frames.append(atoms)
    text = io.StringIO()
    write(text, frames, format="extxyz")
    return text.getvalue()
