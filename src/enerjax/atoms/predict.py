"""Energy, forces and stress of a structure or of a whole data set, and the errors against labels."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from .._compile import host_jit
from .batch import predict as _predict
from .batch import prepare
from .dataset import Dataset
from .equivariant import Equivariant
from .neighbours import neighbours_of
from .potential import SumPotential, energy_forces, energy_forces_stress, reference_energy
from .structure import Structure

_energy_forces = host_jit(energy_forces)
_energy_forces_stress = host_jit(energy_forces_stress)
_batch = host_jit(_predict)


class Prediction(NamedTuple):
    """What a potential says of one structure: energy [eV], forces [atoms, 3] (eV/Å), stress [3, 3] (eV/Å³) or None."""

    energy: float
    forces: np.ndarray
    stress: np.ndarray | None


def predict(model, structure) -> Prediction:
    """Total energy, forces and, in a periodic crystal, stress.

    Args:
        model: any potential, or anything called as `model(structure, neighbours)` that has a `cutoff`.
        structure: a `Structure` or `ase.Atoms`.

    Returns:
        `energy, forces, stress`: eV (float64, isolated-atom energies included), eV/Å, eV/Å³ (positive in tension; None
        unless the structure is periodic in three directions).

    Raises:
        ValueError: for an element that the model does not know, or inside `jax.jit`, `grad` or `vmap`.
    """
    # under jit whatever is made is traced, even where all that came in are constants
    if any(isinstance(x, Tracer) for x in (jnp.zeros(()), *jax.tree.leaves((model, structure)))):
        raise ValueError(
            "predict runs on the host: inside jit, grad or vmap call `model.interaction(structure, neighbours)`, or "
            "`energy_forces` of `atoms.potential`, on rows that `neighbours_of` built outside."
        )
    if not isinstance(structure, Structure):
        structure = Structure.from_ase(structure, moves=False)
    reference = reference_energy(model, structure)
    neighbours = neighbours_of(structure, model.cutoff)
    if all(structure.pbc):
        energy, forces, stress = _energy_forces_stress(_Interaction(model), structure, neighbours)
        return Prediction(float(energy) + reference, np.asarray(forces), np.asarray(stress))
    energy, forces = _energy_forces(_Interaction(model), structure, neighbours)
    return Prediction(float(energy) + reference, np.asarray(forces), None)


class _Interaction(eqx.Module):
    """The part of the energy that float32 resolves; the reference is added on the host in float64."""

    model: Any

    def __call__(self, structure, neighbours):
        if hasattr(self.model, "interaction"):
            return self.model.interaction(structure, neighbours)
        return self.model(structure, neighbours)


def predict_all(
    model: Any, data: Dataset, *, batch: int = 16, progress: Callable[[str], None] | None = None
) -> list[Prediction]:
    """Predictions for every frame, in batches of equal shape: one compilation per bucket.

    Raises:
        ValueError: for an element that the model does not know, naming file and frame.
    """
    if isinstance(model, SumPotential):  # each term in its fastest way; the widest cutoff is each term's own
        parts = [predict_all(term, data, batch=batch, progress=progress) for term in model.terms]
        return [_sum(terms) for terms in zip(*parts, strict=True)]
    if not isinstance(model, Equivariant):
        return [predict(model, frame.structure()) for frame in data]
    refuse_unknown(model, data)
    buckets, bucket, row = prepare(data, model.cutoff, model.reference, np.dtype(model.shift.dtype))
    out: list[Prediction | None] = [None] * len(data)
    done = 0
    for b, frames in enumerate(buckets):
        members = np.flatnonzero(bucket == b)
        stressed = frames.cell is not None and all(data[int(members[0])].pbc)
        for start in range(0, len(members), batch):
            chosen = members[start : start + batch]
            filled = np.resize(chosen, batch) if len(members) > batch else chosen  # one shape per bucket
            energy, forces, stress = _batch(model, frames.at(row[filled]), stressed)
            energy, forces = np.asarray(energy, float), np.asarray(forces)
            stress = None if stress is None else np.asarray(stress)
            for k, i in enumerate(chosen.tolist()):
                n = len(data[i].numbers)
                total = energy[k] + float(model.reference(data[i].numbers).sum())
                out[i] = Prediction(total, forces[k, :n], None if stress is None else stress[k])
            before, done = done, done + len(chosen)
            tenths = 10 * done // len(data)
            if progress and 10 * before // len(data) < tenths < 10:
                progress(f"{done} of {len(data)} configurations")
    return [p for p in out if p is not None]


def _sum(terms: tuple[Prediction, ...]) -> Prediction:
    energy, forces = sum(t.energy for t in terms), np.sum([t.forces for t in terms], axis=0)
    stresses = [t.stress for t in terms if t.stress is not None]
    return Prediction(energy, forces, np.sum(stresses, axis=0) if len(stresses) == len(terms) else None)


def refuse_unknown(model: Equivariant, data: Dataset) -> None:
    """Raise ValueError for the first frame with an element that the model was not trained on."""
    for frame in data:
        unknown = sorted(set(frame.numbers.tolist()) - set(model.config.species))
        if unknown:
            raise ValueError(
                f"{frame.source}: element Z={unknown[0]} is unknown to the model, which knows {model.config.species}."
            )


def errors(predictions: list[Prediction], data: Dataset) -> dict[str, float | int]:
    """Mean absolute and root mean square errors: energy per atom [meV], force components [meV/Å], stress [meV/Å³].

    Forces and stress are left out where the data have none.
    """
    pairs = list(zip(predictions, data, strict=True))
    energy = np.array([(p.energy - f.energy) / len(f.numbers) for p, f in pairs])
    force = [(p.forces - f.forces).ravel() for p, f in pairs if f.forces is not None]
    stress = [(p.stress - f.stress).ravel() for p, f in pairs if p.stress is not None and f.stress is not None]
    out: dict[str, float | int] = {"configurations": len(pairs)}
    quantities = {"energy": (energy, "mev_per_atom")}
    if force:
        quantities["force"] = (np.concatenate(force), "mev_per_angstrom")
    if stress:
        quantities["stress"] = (np.concatenate(stress), "mev_per_angstrom3")
    for name, (error, unit) in quantities.items():
        out[f"{name}_mae_{unit}"] = float(np.abs(error).mean() * 1e3)
        out[f"{name}_rmse_{unit}"] = float(np.sqrt((error**2).mean()) * 1e3)
    return out
