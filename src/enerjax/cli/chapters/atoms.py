"""A potential energy surface fitted to malonaldehyde at DF-MP2, its frequencies, and dynamics on it."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from ...atoms import dataset, dynamics, errors, fit, predict_all, simulation, training, vibrations
from ...atoms.structure import Structure
from .. import atoms_figures
from ..report import Chapter, figure
from ..shipped import shipped

TRAIN_SECONDS = 30.0
OXYGENS, PROTON = (3, 4), 8


def chapter(seed: int, say: Callable[[str], None]) -> Chapter:
    """Fit, test, frequencies of the minimum, and 2 ps of NVE: all on shipped data."""
    folder = shipped("malonaldehyde")
    train, valid, test = (dataset.read(folder / f"{name}.xyz") for name in ("train", "valid", "test"))
    valid = valid.subset(range(100))
    with jax.enable_x64(False):
        model = training.configure(train, "small")
        potential, run = fit(train, valid, key=jr.key(seed), model=model, max_seconds=TRAIN_SECONDS, progress=say)
        predictions = predict_all(potential, test)
    found = errors(predictions, test)
    say(f"test: {found['force_rmse_mev_per_angstrom']:.1f} meV/Å; relaxing, frequencies, 2 ps of dynamics")
    reference = np.load(folder / "reference.npz")
    with jax.enable_x64(True):
        sharp = vibrations.precise(potential)
        start = Structure(jnp.asarray(reference["minimum_positions"]), reference["numbers"])
        minimum = vibrations.relax(sharp, start, fmax=1e-3).structure
        waves, _ = vibrations.frequencies(sharp, minimum)
        # 600 K: half of it goes into the stretched bonds of the minimum, half stays
        moved = simulation.simulate(
            potential,
            minimum,
            dynamics.NVE(),
            timestep=0.5,
            steps=4000,
            key=jr.key(seed),
            temperature=600.0,
            interval=4,
        )
    truth = reference["minimum_frequencies_cm1"][6:]
    rms = float(np.sqrt(np.mean((np.asarray(waves)[-len(truth) :] - truth) ** 2)))
    numbers = {
        "training_configurations": len(train),
        "training_seconds": run.seconds,
        "compile_seconds": run.compile_seconds,
        "energy_rmse_mev_per_atom": found["energy_rmse_mev_per_atom"],
        "force_rmse_mev_per_angstrom": found["force_rmse_mev_per_angstrom"],
        "frequency_rms_error_cm1": rms,
        "md_steps_per_second": moved.steps_per_second,
        "energy_drift_mev_per_atom_per_ps": moved.drift,
        "mean_temperature_k": float(moved.log["temperature_k"].mean()),
    }
    text = [
        f"An equivariant energy with {model.channels} channels was trained for {TRAIN_SECONDS:.0f} seconds on "
        f"{len(train)} configurations of malonaldehyde (DF-MP2/def2-SVP, shipped); forces are its gradient. The test "
        "configurations come from trajectories that the training never saw.",
        "The Hessian is the same energy differentiated twice: harmonic frequencies of the relaxed minimum against "
        "DF-MP2 finite differences. The dynamics conserve the energy because the force is exactly its derivative.",
    ]
    return Chapter(
        "atoms",
        "A potential energy surface, and motion on it",
        text,
        numbers,
        [
            ("Validation error while training.", atoms_figures.learning(run.metrics)),
            ("Prediction against DF-MP2 on the test configurations.", atoms_figures.parity(predictions, test)),
            (
                "Harmonic frequencies, conserved energy, and distances of the proton to its oxygens.",
                _motion(waves, truth, moved),
            ),
        ],
    )


def _motion(waves, truth, moved):
    fig, (left, middle, right) = figure(3)
    left.plot([200, 3500], [200, 3500], color="0.6", linewidth=0.8)
    left.plot(truth, np.asarray(waves)[-len(truth) :], ".")
    left.set(xlabel="DF-MP2 frequency (cm⁻¹)", ylabel="model (cm⁻¹)")
    atoms = moved.positions.shape[1]
    time = moved.log["time_fs"] / 1000.0
    for name, label in (("energy_ev", "potential"), ("conserved_ev", "total")):
        values = moved.log[name]
        middle.plot(time, 1e3 * (values - moved.log["conserved_ev"][0]) / atoms, label=label, linewidth=0.9)
    middle.set(xlabel="time (ps)", ylabel="energy (meV/atom)")
    middle.legend(frameon=False)
    near = np.linalg.norm(moved.positions[:, [PROTON]] - moved.positions[:, list(OXYGENS)], axis=-1)
    bins = np.linspace(0.8, 2.6, 73)
    for distances, label in ((near.min(1), "O–H"), (near.max(1), "O···H")):
        right.hist(distances, bins, density=True, alpha=0.7, label=label)
    right.set(xlabel="distance (Å)", ylabel="density (1/Å)")
    right.legend(frameon=False)
    return fig
