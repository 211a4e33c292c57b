"""`enerjax md MODEL START.xyz`: molecular dynamics, resumable, with a log, a trajectory and a figure."""

from pathlib import Path
from typing import Annotated, Any

import typer

from . import common
from .common import Json, Seed

ANALYTIC = "or the name of an analytic potential: stillinger-weber, argon"


def command(
    model: Annotated[str, typer.Argument(help=f"Directory of a fitted potential, {ANALYTIC}.")],
    start: Annotated[Path, typer.Argument(help="Structure to start from: extended XYZ or anything ASE reads.")],
    ensemble: Annotated[str, typer.Option(help="nve, nvt or npt.")] = "nve",
    temperature: Annotated[float, typer.Option(help="K; of the initial momenta, and of the bath.")] = 300.0,
    timestep: Annotated[float, typer.Option(help="fs.")] = 0.5,
    steps: Annotated[int, typer.Option(help="Steps in all; a resumed run does what is left of them.")] = 1000,
    out: Annotated[Path, typer.Option(help="Trajectory (.xyz); beside it go .csv, .png and .restart.")] = Path(
        "md.xyz"
    ),
    interval: Annotated[int, typer.Option(help="Steps between samples; 8 × 0.5 fs resolve 4170 cm⁻¹.")] = 8,
    thermostat: Annotated[str, typer.Option(help="langevin, rescaling or nose-hoover, for nvt.")] = "langevin",
    relaxation: Annotated[float, typer.Option(help="Relaxation time of the thermostat, 1/friction, in fs.")] = 100.0,
    pressure: Annotated[float, typer.Option(help="GPa, for npt.")] = 0.0,
    cell_relaxation: Annotated[float, typer.Option(help="Relaxation time of the cell in fs, for npt.")] = 500.0,
    compressibility: Annotated[float, typer.Option(help="A rough value in 1/GPa, for npt.")] = 0.05,
    flexible: Annotated[bool, typer.Option(help="Let the shape of the cell change too, for npt.")] = False,
    frame: Annotated[int, typer.Option(help="Which frame of the file to start from.")] = 0,
    keep_momenta: Annotated[bool, typer.Option(help="Start with the momenta in the file.")] = False,
    skin: Annotated[
        float | None, typer.Option(help="Å beyond the cutoff in the neighbour rows.", show_default="6 % of the cutoff")
    ] = None,
    precision: Annotated[
        str, typer.Option(help="Of the potential: as-fitted or double; the state is in double.")
    ] = "as-fitted",
    seed: Seed = 0,
    json: Json = False,
):
    """Molecular dynamics with a fitted or an analytic potential.

    The same command again goes on where a killed run stopped; more --steps prolong a finished one.
    """
    settings = {"thermostat": thermostat, "relaxation": relaxation, "pressure": pressure, "flexible": flexible}
    settings |= {"cell_relaxation": cell_relaxation, "compressibility": compressibility}

    def work() -> dict[str, Any]:
        import jax

        with jax.enable_x64(True):
            import jax.random as jr

            from ..atoms.dataset import read_structure
            from ..atoms.simulation import simulate
            from ..atoms.structure import Structure
            from ..atoms.vibrations import precise

            chosen = motion(ensemble, temperature, settings)
            potential = named_potential(model)
            if precision not in ("as-fitted", "double"):
                raise ValueError(f"--precision: '{precision}' is neither as-fitted nor double.")
            if precision == "double":
                potential = precise(potential)
            atoms = read_structure(start, frame)
            structure = Structure.from_ase(atoms)
            if keep_momenta and not atoms.has("momenta"):
                raise ValueError(f"{start}, frame {frame}: has no momenta to keep.")
            run = simulate(
                potential,
                structure,
                chosen,
                timestep=timestep,
                steps=steps,
                key=jr.key(seed),
                temperature=temperature,
                momenta=jax.numpy.asarray(atoms.get_momenta()) if keep_momenta else None,
                interval=interval,
                skin=skin,
                pressure=all(structure.pbc),
                trajectory=out,
                say=common.say,
            )
            picture(run, out.with_suffix(".png"), timestep * interval)
            return summary(run, out)

    common.run(work, json)


def named_potential(name: str):
    """A fitted potential from its directory, or an analytic one by name.

    Raises:
        ValueError: if it is neither.
    """
    from ..atoms.model_io import load
    from ..atoms.pair import StillingerWeber, argon

    if Path(name).exists():
        return load(name)
    analytic = {"stillinger-weber": StillingerWeber, "argon": argon}
    if name not in analytic:
        raise ValueError(f"{name}: neither the directory of a model, nor one of {', '.join(analytic)}.")
    return analytic[name]()


def motion(ensemble: str, temperature: float, settings: dict[str, Any]):
    """The ensemble that the options name.

    Raises:
        ValueError: for a name that is not known, or a temperature or a time that is not positive.
    """
    from ..atoms import dynamics
    from ..flow.ensemble import CellRescaling, NoseHoover, VelocityRescaling
    from ..flow.phase import Bath
    from ..units import GPa, fs, kB

    if temperature < 0 or (temperature == 0 and ensemble != "nve"):
        raise ValueError(f"--temperature: {temperature:g} K is not possible here.")
    if min(settings["relaxation"], settings["cell_relaxation"], settings["compressibility"]) <= 0:
        raise ValueError("--relaxation, --cell-relaxation and --compressibility must be positive.")
    kT, time = kB * temperature, settings["relaxation"] * fs
    baths = {
        "langevin": lambda: dynamics.Langevin(Bath(1.0 / time, kT)),
        "rescaling": lambda: dynamics.Rescaled(VelocityRescaling(kT, time)),
        "nose-hoover": lambda: dynamics.Chained(NoseHoover(kT, time)),
    }
    if settings["thermostat"] not in baths:
        raise ValueError(f"--thermostat: '{settings['thermostat']}' is none of {', '.join(baths)}.")
    cell_time, soft = settings["cell_relaxation"] * fs, settings["compressibility"] / GPa
    motions = {
        "nve": dynamics.NVE,
        "nvt": baths[settings["thermostat"]],
        "npt": lambda: dynamics.NPT(
            VelocityRescaling(kT, time),
            CellRescaling(kT, settings["pressure"] * GPa, cell_time, soft, not settings["flexible"]),
        ),
    }
    if ensemble not in motions:
        raise ValueError(f"--ensemble: '{ensemble}' is none of {', '.join(motions)}.")
    return motions[ensemble]()


def summary(run, out: Path) -> dict[str, Any]:
    """The JSON object: means over the second half of the samples."""
    import numpy as np

    log, half = run.log, len(run.log["step"]) // 2
    numbers = {
        "atoms": len(run.state.species),
        "steps": int(log["step"][-1]),
        "steps_per_second": run.steps_per_second,
        "mean_temperature_k": float(np.mean(log["temperature_k"][half:])),
        "energy_drift_mev_per_atom_per_ps": run.drift,
        "conserved_std_mev_per_atom": 1e3 * float(np.std(log["conserved_ev"])) / len(run.state.species),
        "compilations": run.compilations,
        "neighbour_rebuilds": run.rebuilds,
        "trajectory": str(out),
    }
    if run.cells is not None:
        numbers["mean_pressure_gpa"] = float(np.mean(log["pressure_gpa"][half:]))
        numbers["mean_volume_a3"] = float(np.mean(log["volume_a3"][half:]))
    return numbers


def picture(run, path: Path, between: float) -> None:
    """Conserved quantity, temperature, pair distribution and vibrational spectrum of a run."""
    import numpy as np

    from ..atoms import observables
    from . import report

    log, atoms = run.log, len(run.state.species)
    if len(run.positions) < 8 or atoms < 2:
        return
    fig, (conserved, heat, pairs, vibration) = report.figure(columns=2, rows=2)
    time = log["time_fs"] / 1000.0
    conserved.plot(time, 1e3 * (log["conserved_ev"] - log["conserved_ev"][0]) / atoms, linewidth=0.9)
    conserved.set(xlabel="time (ps)", ylabel="conserved energy (meV/atom)")
    conserved.set_title(f"drift {run.drift:.2g} meV/atom/ps", fontsize=10)
    heat.plot(time, log["temperature_k"], linewidth=0.9)
    heat.set(xlabel="time (ps)", ylabel="temperature (K)")

    half = slice(len(run.positions) // 2, None, max(1, len(run.positions) // 200))
    numbers, pbc = np.asarray(run.state.species), run.state.pbc
    cells = run.cells[half] if run.cells is not None and all(pbc) else None
    if cells is None and any(pbc):
        pairs.set_axis_off()
    else:
        r, g = observables.radial_distribution(run.positions[half], cells, numbers, pbc=pbc, maximum=6.0)
        pairs.plot(r, g, linewidth=0.9)
        pairs.set(xlabel="r (Å)", ylabel="g(r)" if cells is not None else "pairs per atom and Å")
    masses = np.asarray(run.state.structure.masses())
    every = np.diff(log["step"])[-len(run.momenta) + 1 :]
    regular = slice(None) if np.all(every == every[0]) else slice(-1)  # the last stretch may be shorter
    whole = run.momenta[regular]
    if not any(pbc):
        whole = observables.internal_momenta(run.positions[regular], whole, masses)
    frequency, density = observables.spectrum(observables.velocity_autocorrelation(whole, masses), between)
    seen = density > 1e-3 * density.max()
    vibration.plot(frequency, density, linewidth=0.9)
    vibration.set(xlabel="frequency (cm⁻¹)", ylabel="spectrum (cm)", xlim=(0, 1.05 * frequency[seen].max()))
    vibration.set_title(f"sampled every {between:g} fs: faster than {frequency[-1]:.0f} cm⁻¹ is folded", fontsize=8)
    report.save(fig, path)
