"""A posterior over a fitted potential: error bars for energies and forces, and draws that are potentials themselves.

The energy is linear in the last weights θ of its readouts and in the per-element offsets, E = φ(R)·θ + …, so with the
other weights held the posterior given energies and forces is Gaussian and known exactly:

    p(θ | data) = N(θ̂, α² A⁻¹),    A = Σ φ φᵀ/σ_E² + Σ (∂φ/∂R)(∂φ/∂R)ᵀ/σ_F² + 10⁻⁶ tr(A)/n
    var E = α² φᵀA⁻¹φ,    var F = α² (∂φ/∂R)ᵀA⁻¹(∂φ/∂R)

σ_E and σ_F are the errors on the validation set, and α makes 68.3 % of the force errors there lie within one standard
deviation, as those of a Gaussian do: the weights beneath are not known any better than that. (The mean square would be
set by a few large errors, and make the intervals of all others too wide.) A draw of θ is a potential at the same cost
as the fitted one, so an uncertainty can be carried through anything: dynamics, relaxation, frequencies.

F. Bigi, S. Chong, M. Ceriotti and F. Grasselli, A prediction rigidity formalism for low-cost uncertainties in trained
neural networks, Mach. Learn.: Sci. Technol. 5, 045018 (2024), eqs. (8) and (14).
"""

from collections.abc import Callable, Iterator

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from .._array import Key
from .._compile import host_jit
from . import batch as _batches
from .dataset import Dataset
from .equivariant import Equivariant
from .model_io import parts
from .neighbours import Neighbours, neighbours_of
from .potential import AbstractPotential
from .predict import predict_all, refuse_unknown
from .structure import Structure

WITHIN = 0.6827  # of a Gaussian lies within one standard deviation


class Posterior(eqx.Module):
    """N(θ̂, L Lᵀ) over the last weights of a fitted potential.

    Attributes:
        potential: the fitted potential, whose θ is the mean.
        factor: L = α A^(−½), [n, n].
    """

    potential: AbstractPotential
    factor: Float[Array, "n n"]

    def draw(self, key: Key) -> AbstractPotential:
        """A potential with θ drawn from the posterior; core repulsion, if there is one, stays."""
        learned, repulsion = parts(self.potential)
        mean, unravel = _last(learned)
        moved = mean + self.factor @ jr.normal(key, mean.shape, self.factor.dtype)
        drawn = _with(learned, unravel(moved))
        return drawn if repulsion is None else drawn + repulsion

    def deviation(self, structure) -> tuple[float, np.ndarray]:
        """Standard deviations of the energy [eV] and of each force component [atoms, 3] (eV/Å).

        Args:
            structure: a `Structure` or `ase.Atoms`.

        Raises:
            ValueError: for an element that the potential does not know.
        """
        if not isinstance(structure, Structure):
            structure = Structure.from_ase(structure, moves=False)
        learned, _ = parts(self.potential)
        learned.kinds(np.asarray(structure.species))
        phi, slope = _of_structure(learned, structure, neighbours_of(structure, learned.cutoff))
        spread = lambda x: np.linalg.norm(np.asarray(x, float) @ np.asarray(self.factor, float), axis=-1)
        return float(spread(phi)), spread(slope).reshape(-1, 3)


def posterior(
    potential: AbstractPotential,
    train: Dataset,
    valid: Dataset,
    *,
    frames: int = 500,
    progress: Callable[[str], None] | None = None,
) -> Posterior:
    """The posterior over the last weights of a fitted potential.

    Args:
        potential: what `fit` returned.
        train: the data it was fitted to.
        valid: data it was not fitted to; sets σ_E, σ_F and α.
        frames: training frames used at most, evenly spread; each costs as much as a few n energies and forces, n being
            the number of last weights (52 in the medium size with four elements).
        progress: receives a line now and then.

    Raises:
        ValueError: if the data have an element that the potential does not know, or fewer than two validation frames.
        TypeError: for a potential that is not a learned one.
    """
    learned, _ = parts(potential)
    for data in (train, valid):
        refuse_unknown(learned, data)
    if len(valid) < 2:
        raise ValueError(f"posterior: {valid.source} has {len(valid)} frames; errors need at least two.")
    pairs = list(zip(predict_all(potential, valid), valid, strict=True))
    energy_noise = np.mean([(p.energy - f.energy) ** 2 for p, f in pairs])
    force_error = np.concatenate([(p.forces - f.forces).ravel() for p, f in pairs])
    force_noise = np.mean(force_error**2)
    used = train.subset(np.linspace(0, len(train) - 1, min(frames, len(train))).round().astype(int).tolist())
    precision = np.zeros(())
    for k, (phi, slope) in enumerate(_features(learned, used)):
        precision = precision + np.outer(phi, phi) / energy_noise + slope.T @ slope / force_noise
        if progress and (k + 1) % 100 == 0:
            progress(f"posterior: {k + 1} of {len(used)} configurations")
    n = len(precision)
    precision = precision + 1e-6 * np.trace(precision) / n * np.eye(n)
    factor = np.linalg.inv(np.linalg.cholesky(precision)).T  # times its transpose: A⁻¹
    variance = np.concatenate([np.sum((slope @ factor) ** 2, 1) for _, slope in _features(learned, valid)])
    scale = np.quantile(np.abs(force_error) / np.sqrt(variance), WITHIN)
    return Posterior(potential, jnp.asarray(scale * factor, learned.shift.dtype))


def _last(model: Equivariant) -> tuple[Float[Array, " n"], Callable]:
    """The parameters in which the energy is linear, as one vector, and the way back."""
    return ravel_pytree(_where(model))


def _where(model):  # not annotated: `tree_at` asks with stand-ins for the leaves
    return (*(readout.weights[-1] for readout in model.readouts), model.shift)


def _with(model: Equivariant, last) -> Equivariant:
    return eqx.tree_at(_where, model, last)


def _features(model: Equivariant, data: Dataset) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """φ [n] and ∂φ/∂R [3 atoms, n] of each frame; one compilation per bucket."""
    buckets, bucket, row = _batches.prepare(data, model.cutoff, model.reference, np.dtype(model.shift.dtype))
    for k, frame in enumerate(data):
        phi, slope = _of_batch(model, buckets[bucket[k]].at(row[k : k + 1]))
        yield np.asarray(phi, float), np.asarray(slope, float)[: 3 * len(frame.numbers)]


def _slopes(model: Equivariant, energy: Callable, positions: Array) -> tuple[Array, Array]:
    """φ = ∂E/∂θ and its derivatives by position, [3 atoms, n]; eight rows of them at a time bound the memory."""
    theta, unravel = _last(model)
    gradient = jax.grad(lambda t, R: energy(_with(model, unravel(t)), R))
    phi, pull = jax.vjp(lambda R: gradient(theta, R), positions)
    slope = jax.lax.map(lambda one: pull(one)[0].ravel(), jnp.eye(len(theta), dtype=theta.dtype), batch_size=8)
    return phi, slope.T


@host_jit
def _of_batch(model: Equivariant, batch: _batches.Batch):
    """Of a batch that holds one frame."""
    return _slopes(model, lambda m, R: _batches.energies(m, batch, R, batch.cell)[0], jnp.asarray(batch.positions))


@host_jit
def _of_structure(model: Equivariant, structure: Structure, rows: Neighbours):
    return _slopes(model, lambda m, R: m.interaction(structure.at(R), rows), structure.positions)
