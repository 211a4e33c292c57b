"""Pictures of a fit: learning curve, parity plots; and predictions as extended XYZ."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from .report import figure


def learning(metrics: list[dict]) -> Figure:
    """Validation errors of force and energy against seconds of training."""
    fig, (left, right) = figure(2)
    rows = [m for m in metrics if "valid_force_rmse_mev_per_angstrom" in m]
    seconds = [m["seconds"] for m in rows]
    left.loglog(seconds, [m["valid_force_rmse_mev_per_angstrom"] for m in rows])
    left.set(xlabel="seconds of training", ylabel="validation force RMSE (meV/Å)")
    right.loglog(seconds, [m["valid_energy_rmse_mev_per_atom"] for m in rows], color="C1")
    right.set(xlabel="seconds of training", ylabel="validation energy RMSE (meV/atom)")
    return fig


def parity(predictions, frames) -> Figure:
    """Predicted against reference: energy per atom relative to its mean, and force components where there are any."""
    fig, (left, right) = figure(2)
    size = np.array([len(f.numbers) for f in frames])
    reference = np.array([f.energy for f in frames]) / size
    predicted = np.array([p.energy for p in predictions]) / size
    _diagonal(left, reference - reference.mean(), predicted - reference.mean(), "energy (eV/atom)")
    pairs = [(f.forces, p.forces) for f, p in zip(frames, predictions, strict=True) if f.forces is not None]
    if not pairs:
        right.set_axis_off()
        return fig
    reference, predicted = (np.concatenate([x[k].ravel() for x in pairs]) for k in (0, 1))
    _diagonal(right, reference, predicted, "force component (eV/Å)")
    return fig


def _diagonal(ax, x, y, label) -> None:
    low, high = min(x.min(), y.min()), max(x.max(), y.max())
    ax.plot([low, high], [low, high], color="0.6", linewidth=0.8)
    ax.plot(x, y, ".", markersize=2, alpha=0.5, rasterized=True)
    rmse = 1e3 * np.sqrt(np.mean((x - y) ** 2))
    ax.set(
        xlabel=f"reference {label}", ylabel=f"predicted {label}", title=f"RMSE {rmse:.2f} m{label.split('(')[1][:-1]}"
    )


def write_predictions(predictions, frames, path: Path) -> None:
    """Frames with predicted labels under `energy`, `forces`, `stress`, for anything that reads extended XYZ."""
    from ase import Atoms
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.io import write

    images = []
    for p, f in zip(predictions, frames, strict=True):
        atoms = Atoms(f.numbers, f.positions, cell=f.cell, pbc=f.pbc)
        results = {"energy": p.energy, "forces": p.forces} | ({} if p.stress is None else {"stress": p.stress})
        atoms.calc = SinglePointCalculator(atoms, **results)
        images.append(atoms)
    part = path.with_name(f".{path.name}.part")
    write(part, images, format="extxyz")
    part.replace(path)
