"""`enerjax evaluate MODEL DATA.xyz`: the errors of a fitted potential on labelled data."""

from pathlib import Path
from typing import Annotated, Any

import typer

from . import common
from .common import Json, Seed


def command(
    model: Annotated[Path, typer.Argument(help="Directory of a fitted potential.")],
    data: Annotated[Path, typer.Argument(help="Labelled data: extended XYZ with energies, and forces as a rule.")],
    out: Annotated[Path | None, typer.Option(help="Directory for parity.png and predictions.xyz.")] = None,
    energy_key: Annotated[str | None, typer.Option(help="Name of the energy in the file.")] = None,
    forces_key: Annotated[str | None, typer.Option(help="Name of the forces in the file.")] = None,
    stress_key: Annotated[str | None, typer.Option(help="Name of the stress or virial in the file.")] = None,
    seed: Seed = 0,
    json: Json = False,
):
    """Mean absolute and RMS errors of energy, forces and stress, as far as the data have them."""
    del seed  # nothing here is random

    def work() -> dict[str, Any]:
        from ..atoms import dataset, model_io
        from ..atoms.predict import errors, predict_all

        potential = model_io.load(model)
        frames = dataset.read(data, energy_key, forces_key, stress_key, require=("energy",))
        lacking = [frame.source for frame in frames if frame.forces is None]
        if 0 < len(lacking) < len(frames):
            raise ValueError(f"{lacking[0]}: no forces, which other frames have; give all of them forces, or none.")
        if lacking:
            common.say(f"{data}: no forces; the errors are those of the energies")
        predictions = predict_all(potential, frames, progress=common.say)
        if out is not None:
            from . import atoms_figures, report

            out.mkdir(parents=True, exist_ok=True)
            report.save(atoms_figures.parity(predictions, frames), out / "parity.png")
            atoms_figures.write_predictions(predictions, frames, out / "predictions.xyz")
        return errors(predictions, frames)

    common.run(work, json)
