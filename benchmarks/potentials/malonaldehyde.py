"""Proton transfer of a fitted potential against DF-MP2: errors, frequencies of the minimum, barrier, the two wells.

    enerjax fit data/malonaldehyde/train.xyz --valid data/malonaldehyde/valid.xyz --max-seconds 600 --out run/mal
    python benchmarks/potentials/malonaldehyde.py run/mal

Wanted: frequencies within 10 cm⁻¹ RMS, barrier within 5 meV of 144.3 meV, both wells equal.
"""

import json
import pathlib
import sys

import jax
import numpy as np

from enerjax.atoms import Structure, dataset, errors, frequencies, load, predict, predict_all, relax
from enerjax.atoms.vibrations import hessian, precise

FOLDER = pathlib.Path(__file__).parents[2] / "data" / "malonaldehyde"


def saddle(potential, structure, steps=30):
    """Newton's method on the forces from nearby: it converges to the stationary point of the same index."""
    for _ in range(steps):
        gradient = -np.asarray(predict(potential, structure).forces, float).ravel()
        if np.abs(gradient).max() < 1e-5:
            return structure
        values, vectors = np.linalg.eigh(np.asarray(hessian(potential, structure)))
        inverse = np.where(np.abs(values) > 0.05, 1.0 / values, 0.0)  # rigid motions stay (eV/Å²)
        step = -vectors @ (inverse * (vectors.T @ gradient))
        step *= min(1.0, 0.2 / np.abs(step).max())
        structure = structure.at(structure.positions + step.reshape(-1, 3))
    sys.exit("no stationary point near the reference transition state")


def main(directory):
    potential = precise(load(directory))
    reference = np.load(FOLDER / "reference.npz")
    test, near = (dataset.read(FOLDER / f"{name}.xyz") for name in ("test", "test_barrier"))
    found = {"test": errors(predict_all(potential, test), test)}
    found["test_barrier"] = errors(predict_all(potential, near), near)

    well, top = (
        Structure(reference[f"{name}_positions"], reference["numbers"]) for name in ("minimum", "transition_state")
    )
    low = relax(potential, well, fmax=1e-4)
    high = saddle(potential, top)
    ours, exact = frequencies(potential, low.structure)[0], reference["minimum_frequencies_cm1"][-21:]
    found["frequencies_rms_cm1"] = float(np.sqrt(np.mean((ours - exact) ** 2)))
    found["frequencies_largest_cm1"] = float(np.abs(ours - exact).max())
    modes, shapes = frequencies(potential, high)
    found["imaginary_cm1"] = float(modes[0]), float(reference["transition_state_frequencies_cm1"].min())
    barrier = predict(potential, high).energy - low.energy
    exact = reference["transition_state_energy"] - reference["minimum_energy"]
    found["barrier_mev"] = float(1e3 * barrier), float(1e3 * exact)
    ends = [relax(potential, high.at(high.positions + s * shapes[0]), fmax=1e-4).energy for s in (0.1, -0.1)]
    found["wells_differ_mev"] = float(1e3 * abs(ends[0] - ends[1]))
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    main(sys.argv[1])
