"""`enerjax frequencies MODEL START.xyz`: relax, differentiate twice, print the harmonic frequencies."""

from pathlib import Path
from typing import Annotated, Any

import typer

from . import common
from .common import Json, Seed
from .md import ANALYTIC, named_potential


def command(
    model: Annotated[str, typer.Argument(help=f"Directory of a fitted potential, {ANALYTIC}.")],
    start: Annotated[Path, typer.Argument(help="Structure near the stationary point.")],
    relax: Annotated[bool, typer.Option(help="Relax first; --no-relax for a transition state.")] = True,
    fmax: Annotated[float, typer.Option(help="Largest force left after relaxation, in eV/Å.")] = 1e-4,
    steps: Annotated[int, typer.Option(help="Most relaxation steps.")] = 5000,
    frame: Annotated[int, typer.Option(help="Which frame of the file.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Write the relaxed structure here (extended XYZ).")] = None,
    seed: Seed = 0,
    json: Json = False,
):
    """Harmonic frequencies in cm⁻¹ without translations and rotations; imaginary ones are negative."""
    del seed  # nothing here is random

    def work() -> dict[str, Any]:
        import jax

        with jax.enable_x64(True):
            import numpy as np

            from ..atoms import vibrations
            from ..atoms.calculator import Calculator
            from ..atoms.dataset import read_structure
            from ..atoms.structure import Structure
            from ..fit.checkpoint import write_atomically

            potential = vibrations.precise(named_potential(model))
            structure = Structure.from_ase(read_structure(start, frame))
            count = 0
            if relax:
                relaxed = vibrations.relax(potential, structure, fmax=fmax, steps=steps)
                structure, count = relaxed.structure, relaxed.steps
                common.say(f"relaxed in {count} steps, largest force {relaxed.largest_force:.2g} eV/Å")
            atoms = structure.to_ase()
            atoms.calc = Calculator(potential)
            waves, _ = vibrations.frequencies(potential, structure)
            largest = float(np.sqrt((atoms.get_forces() ** 2).sum(1).max()))
            if not relax and largest > 0.05:
                common.say(f"the largest force is {largest:.3g} eV/Å: this is not a stationary point of the model")
            if out is not None:
                import io

                from ase.io import write

                text = io.StringIO()
                write(text, atoms, format="extxyz")
                write_atomically(out, text.getvalue())
            return {
                "frequencies_cm1": waves,
                "imaginary": int((waves < 0).sum()),
                "energy_ev": float(atoms.get_potential_energy()),
                "largest_force_ev_per_angstrom": largest,
                "relaxation_steps": count,
                "atoms": len(atoms),
            }

    common.run(work, json)
