"""Fit a potential energy surface to energies, forces and stresses.

    L = w_F ⟨|ΔF|²⟩/s² + w_E ⟨(ΔE/n)²⟩/s² + w_S ⟨|Δσ V/n|²⟩/s²

with ΔF per component, ΔE per atom, the virial per atom ΔσV/n, and s the RMS force of the data, so that weights and
learning rate mean the same for every system. Forces and stress are derivatives of the predicted energy.
"""

import dataclasses
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax

from .. import fit as _fit
from .._array import Key
from . import batch as _batches
from .dataset import Dataset, atomic_energies, check_neighbours, default_cutoff, statistics
from .equivariant import SIZES, Config, Equivariant
from .pair import CoreRepulsion
from .potential import AbstractPotential
from .predict import errors, predict_all, refuse_unknown


@dataclass(frozen=True)
class Recipe:
    """How a potential is trained; the defaults were found on 3BPA (benchmarks/potentials).

    Attributes:
        batch_atoms: atoms per minibatch, about; at least one frame.
        learning_rate: of the optimiser, at its highest.
        forces_weight, energy_weight, stress_weight: w_F, w_E, w_S at the start.
        late_energy_weight: w_E at the end; between them it grows geometrically over the budget.
        huber: errors beyond this many s count linearly instead of squared; None for plain squares.
        ema: decay of the parameter average that is validated and kept.
        clip: largest norm of a gradient.
    """

    batch_atoms: int = 54
    learning_rate: float = 0.005
    forces_weight: float = 1.0
    energy_weight: float = 0.02
    stress_weight: float = 0.1
    late_energy_weight: float = 1.0
    huber: float | None = None
    ema: float = 0.99
    clip: float = 10.0

    def optimizer(self) -> optax.GradientTransformation:
        """SOAP with clipped gradients."""
        return optax.chain(optax.clip_by_global_norm(self.clip), _fit.soap(self.learning_rate))


def loss(model: Equivariant, batch, recipe: Recipe, energy_weight) -> tuple:
    """The loss above on a `Batch`, and its parts as RMS errors (meV/atom, meV/Å)."""
    stressed = batch.stress is not None
    energy, forces, stress = _batches.predict(model, batch, stressed)
    if batch.forces is None:
        raise ValueError("training needs forces, and these data have none.")
    s, n = model.config.scale, batch.counts
    weight = batch.weight / jnp.mean(batch.weight)
    there = (batch.species > 0)[..., None]
    square = _penalty(recipe.huber)
    force_error = jnp.where(there, forces - batch.forces, 0.0) / s
    energy_error = (energy - batch.energy) / (n * s)
    by_frame = jnp.sum(square(force_error), (1, 2)) / (3 * n)
    total = recipe.forces_weight * jnp.mean(weight * by_frame)
    total += energy_weight * jnp.mean(weight * square(energy_error))
    if stressed:
        volume = jnp.abs(jnp.linalg.det(batch.cell))
        virial_error = (stress - batch.stress) * (volume / (n * s))[:, None, None]
        total += recipe.stress_weight * jnp.mean(weight * batch.has_stress * jnp.mean(square(virial_error), (1, 2)))
    rms = lambda x: 1e3 * s * jnp.sqrt(jnp.mean(x))
    parts = {"energy_mev_per_atom": rms(energy_error**2)}
    parts["force_mev_per_angstrom"] = rms(jnp.sum(force_error**2, (1, 2)) / (3 * n))
    return total, parts


def _penalty(huber: float | None) -> Callable:
    if huber is None:
        return jnp.square
    return lambda x: 2.0 * optax.losses.huber_loss(x, delta=huber)


class _Epoch:
    """One epoch's minibatches, cut out of the prepared arrays when they are asked for."""

    def __init__(self, buckets, row, chosen):
        self.buckets, self.row, self.chosen = buckets, row, chosen

    def __len__(self):
        return len(self.chosen)

    def __getitem__(self, i):
        bucket, members = self.chosen[i]
        return self.buckets[bucket].at(self.row[members])


def configure(data: Dataset, size: str = "medium", **changes) -> Config:
    """A configuration for this data: its elements, atomic energies, cutoff, scale and mean number of neighbours.

    Args:
        data: training data.
        size: "small", "medium" or "large" (`SIZES`).
        changes: fields of `Config` set by hand.

    Raises:
        ValueError: for an unknown size or field, or an atom without neighbours.
    """
    if size not in SIZES:
        raise ValueError(f"unknown size '{size}': choose one of {', '.join(SIZES)}.")
    unknown = sorted(set(changes) - set(Config.__dataclass_fields__))
    if unknown:
        raise ValueError(f"unknown field '{unknown[0]}' of a model: {', '.join(Config.__dataclass_fields__)}.")
    cutoff = float(changes["cutoff"]) if "cutoff" in changes else default_cutoff(data)
    check_neighbours(data, cutoff)
    stats = statistics(data, cutoff)
    energies = atomic_energies(data)
    species = data.species
    found = {
        "species": species,
        "cutoff": cutoff,
        "atomic_energies": tuple(energies[z] for z in species),
        "mean_neighbours": max(round(stats["mean_neighbours"], 3), 1.0),
        "scale": round(stats["force_rms"], 6) or 1.0,
    }
    chosen = SIZES[size] | found | changes
    if "l_node" in chosen and "l_node" not in changes:
        chosen["l_node"] = min(chosen["l_node"], chosen["l_max"])
    return Config(**chosen)


def fit(
    train: Dataset,
    valid: Dataset,
    *,
    key: Key,
    model: Equivariant | Config | None = None,
    recipe: Recipe | None = None,
    core_repulsion: bool = True,
    dtype=jnp.float32,
    **options,
) -> tuple[AbstractPotential, _fit.Fitted]:
    """Train a potential.

    Args:
        train: labelled data.
        valid: labelled data whose errors pick the best model.
        key: random key of initial parameters and minibatches.
        model: what to start from: a potential (fine-tuning), a configuration, or None for the medium size.
        recipe: weights, learning rate, averaging.
        core_repulsion: add the Ziegler–Biersack–Littmark repulsion below the shortest distances of the data, so that
            dynamics cannot fall into the core.
        dtype: of parameters and arithmetic.
        options: of `fit.train`: `max_seconds`, `epochs`, `directory`, `progress`, `place`, `on_epoch`, …

    Returns:
        The potential (parameters averaged, per-element offsets refitted exactly) and the record of the run.
    """
    recipe = Recipe() if recipe is None else recipe
    init, shuffle = jr.split(key)
    model = configure(train) if model is None else model
    if isinstance(model, Config):
        model = Equivariant(model, key=init)
    for data in (train, valid):
        refuse_unknown(model, data)
        check_neighbours(data, model.cutoff)
    model = _cast(model, dtype)
    buckets, bucket, row = _batches.prepare(train, model.cutoff, model.reference, np.dtype(dtype))
    frames = max(1, round(recipe.batch_atoms / np.mean([len(f.numbers) for f in train])))
    frames = min(frames, len(train))
    growth = recipe.late_energy_weight / recipe.energy_weight

    def validate(current):
        found = errors(predict_all(current, valid), valid)
        score = found["force_rmse_mev_per_angstrom"] + 3.0 * found["energy_rmse_mev_per_atom"]
        return {"loss": score} | {k: v for k, v in found.items() if "rmse" in k}

    identity = {"train": _content(train), "valid": _content(valid), "recipe": dataclasses.asdict(recipe)}
    run = _fit.train(
        lambda m, b, _: loss(m, b[0], recipe, b[1]),
        model,
        lambda epoch, k: _Epoch(buckets, row, _fit.bucketed(bucket, frames, k)),
        recipe.optimizer(),
        key=shuffle,
        rate=_fit.cosine,
        attach=lambda s: np.asarray(recipe.energy_weight * growth ** min(s, 1.0), dtype),
        ema=recipe.ema,
        validate=validate,
        validate_every=max(1, round(5 * len(valid) / len(train))),
        identity=identity | {"model": model, "key": key},
        **options,
    )
    fitted = refit_shift(run.model, train)
    if not core_repulsion:
        return fitted, run
    return fitted + CoreRepulsion(scale=_core_scale(train), cutoff=model.cutoff), run


def _content(data: Dataset) -> np.ndarray:
    """All numbers of a data set, one after the other: what a run on it is known by."""
    parts = ((f.numbers, f.positions, f.cell, f.energy, f.forces, f.stress, f.info["weight"]) for f in data.frames)
    return np.concatenate([np.ravel(np.asarray(v, float)) for frame in parts for v in frame if v is not None])


def retarget(model: Equivariant, data: Dataset) -> Equivariant:
    """The same potential for data of another level of theory: its isolated atoms where given, offsets refitted.

    Raises:
        ValueError: for an element that the model does not know.
    """
    refuse_unknown(model, data)
    if set(data.species) <= set(data.isolated):
        species, old = model.config.species, dict(zip(model.config.species, model.config.atomic_energies, strict=True))
        energies = tuple(data.isolated.get(z, old[z]) for z in species)
        config = dataclasses.replace(model.config, atomic_energies=energies)
        model = eqx.tree_at(lambda m: m.config, model, config)
    return refit_shift(model, data)


def refit_shift(model: Equivariant, data: Dataset) -> Equivariant:
    """The same potential with its per-element offsets solved for exactly: ridge least squares on the energies.

    Removes what is left of a constant energy error at no cost; forces are untouched.
    """
    residual = np.array([f.energy - p.energy for p, f in zip(predict_all(model, data), data, strict=True)])
    counts = np.array([[Counter(f.numbers.tolist())[z] for z in model.config.species] for f in data], float)
    size = counts.sum(1)
    a, b = counts / size[:, None], residual / size
    shift = np.linalg.solve(a.T @ a + 1e-6 * len(b) * np.eye(a.shape[1]), a.T @ b)
    moved = model.shift + jnp.asarray(shift / model.config.scale, model.shift.dtype)
    return eqx.tree_at(lambda m: m.shift, model, moved)


def _core_scale(data: Dataset) -> float:
    """The largest fraction of the covalent radii's sum at which the repulsion ends before the data begin."""
    from ase.data import covalent_radii

    nearest = 0.8
    for frame in data:
        r = frame.positions[None] - frame.positions[:, None]
        if frame.cell is not None:
            fractional = r @ np.linalg.inv(frame.cell)
            r = (fractional - np.where(frame.pbc, np.round(fractional), 0.0)) @ frame.cell
        reach = covalent_radii[frame.numbers][:, None] + covalent_radii[frame.numbers][None]
        ratio = np.linalg.norm(r, axis=-1) / reach
        nearest = min(nearest, (ratio + 9.0 * np.eye(len(ratio))).min())
    return round(0.98 * float(nearest), 4)


def _cast(model: Equivariant, dtype) -> Equivariant:
    return jax.tree.map(lambda x: x.astype(dtype) if eqx.is_inexact_array(x) else x, model)
