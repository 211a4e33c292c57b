"""Minibatches of configurations as flat arrays: frames of one padded shape side by side, labels beside them.

B frames of n atoms become N = B n atoms. Small molecules use the dense layout (every atom sees every other of its own
frame: no list, no gather); anything else has neighbour rows, built once on the host. Frames are sorted into buckets of
equal shape, so a run compiles once per bucket and never again.
"""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from .._precision import full_precision
from .dataset import Dataset, Frame
from .neighbours import neighbour_list

DENSE = 32  # atoms up to which all pairs of a free molecule are cheaper than a list
_SIZES = (1, 2, 4, 6, 8, 10, 12, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256)


class Batch(eqx.Module):
    """B frames of n atoms each, padded, with their labels relative to isolated atoms.

    Attributes:
        positions: Å, [B, n, 3].
        species: atomic numbers, 0 for padding, [B, n].
        cell: Å, [B, 3, 3], or None.
        index: neighbour rows as atom numbers within the frame, [B, n, K], or None for the dense layout.
        image: lattice image of each neighbour, [B, n, K, 3], or None.
        mask: True for a real neighbour, [B, n, K], or None.
        energy: eV relative to isolated atoms, [B].
        forces: eV/Å, [B, n, 3], or None where the data have none.
        stress: eV/Å³, [B, 3, 3], or None where no frame of the data has one.
        has_stress: [B], or None.
        weight: of each frame, [B].
    """

    positions: Float[Array | np.ndarray, "B n 3"]
    species: Int[Array | np.ndarray, "B n"]
    cell: Float[Array | np.ndarray, "B 3 3"] | None
    index: Int[Array | np.ndarray, "B n K"] | None
    image: Int[Array | np.ndarray, "B n K 3"] | None
    mask: Bool[Array | np.ndarray, "B n K"] | None
    energy: Float[Array | np.ndarray, " B"]
    forces: Float[Array | np.ndarray, "B n 3"] | None
    stress: Float[Array | np.ndarray, "B 3 3"] | None
    has_stress: Float[Array | np.ndarray, " B"] | None
    weight: Float[Array | np.ndarray, " B"]

    @property
    def counts(self) -> Float[Array, " B"]:
        """Real atoms per frame."""
        return jnp.sum(jnp.asarray(self.species) > 0, axis=1).astype(self.positions.dtype)

    def at(self, rows) -> "Batch":
        """The frames `rows`."""
        return jax.tree.map(lambda x: x[rows], self)


@full_precision
def vectors(batch: Batch, positions: Float[Array, "B n 3"], cell, cutoff: float) -> Float[Array, "B*n K 3"]:
    """Neighbour vectors of all atoms; what is no neighbour lies at (2 cutoff, 0, 0), without gradient."""
    frames, n, _ = positions.shape
    rows = batch.index
    if rows is None:
        r = positions[:, None] - positions[:, :, None]
        there = jnp.asarray(batch.species) > 0
        mask = there[:, None, :] & there[:, :, None] & ~jnp.eye(n, dtype=bool)[None]
    else:
        r = jax.vmap(lambda x, i: x[i])(positions, rows) - positions[:, :, None]
        if batch.mask is None:
            raise ValueError("a batch with neighbour rows (index) needs their mask: True for a real neighbour")
        mask = batch.mask
        if batch.image is not None:
            r = r + jnp.einsum("bnki,bij->bnkj", jnp.asarray(batch.image).astype(r.dtype), cell)
    away = jnp.array([2.0 * cutoff, 0.0, 0.0], r.dtype)[None, None, None]
    return jnp.where(mask[..., None], r, away).reshape(frames * n, -1, 3)


def taker(batch: Batch):
    """x [B n, …] ↦ values of the neighbours [B n, K, …]."""
    frames, n = batch.species.shape
    if batch.index is None:

        def take(x):
            x = x.reshape(frames, 1, n, *x.shape[1:])
            return jnp.broadcast_to(x, (frames, n, *x.shape[2:])).reshape(frames * n, n, *x.shape[3:])

        return take
    index = batch.index
    flat = (index + n * np.arange(frames, dtype=np.int32)[:, None, None]).reshape(frames * n, -1)
    return lambda x: x[flat]


def energies(model, batch: Batch, positions, cell) -> Float[Array, " B"]:
    """Interaction energy of each frame [eV], as a function of positions and cells."""
    kind = model.kinds(batch.species.reshape(-1))
    r = vectors(batch, positions, cell, model.cutoff)
    return model.energies(r, kind, taker(batch)).reshape(batch.species.shape).sum(1)


@full_precision
def predict(model, batch: Batch, stress: bool) -> tuple[Array, Array, Array | None]:
    """Energies [B], forces [B, n, 3] and, if asked for, stresses [B, 3, 3], from one reverse pass."""
    if not stress:
        value, pull = jax.vjp(lambda R: energies(model, batch, R, batch.cell), batch.positions)
        return value, -pull(jnp.ones_like(value))[0], None

    def strained(R, strain):
        deformation = jnp.eye(3, dtype=R.dtype)[None] + (strain + jnp.swapaxes(strain, 1, 2)) / 2
        return energies(model, batch, R @ deformation, batch.cell @ deformation)

    value, pull = jax.vjp(strained, batch.positions, jnp.zeros_like(batch.cell))
    gradient, virial = pull(jnp.ones_like(value))
    volume = jnp.abs(jnp.linalg.det(batch.cell))
    return value, -gradient, virial / volume[:, None, None]


def _size(atoms: int) -> int:
    return next((s for s in _SIZES if s >= atoms), -(-atoms // 64) * 64)


def _padded_sizes(counts: Sequence[int], padding: float = 0.05) -> dict[int, int]:
    """Atoms of a frame ↦ atoms it is padded to.

    Every size is a program to compile, so the rarest join the next larger one as long as that adds less than `padding`
    of all atoms. Frames of one size only are not padded at all.
    """
    if len(set(counts)) == 1:
        return {counts[0]: counts[0]}
    frames = Counter(_size(n) for n in counts)
    into = {s: s for s in frames}
    left = padding * sum(counts)
    while len(frames) > 1:
        sizes = sorted(frames)
        cost, small, large = min((frames[s] * (t - s), s, t) for s, t in pairwise(sizes))
        if cost > left:
            break
        left -= cost
        frames[large] += frames.pop(small)
        into = {s: large if t == small else t for s, t in into.items()}
    return {n: into[_size(n)] for n in set(counts)}


def prepare(data: Dataset, cutoff: float, reference, dtype=np.float32) -> tuple[list[Batch], np.ndarray, np.ndarray]:
    """All frames as padded arrays, by bucket.

    Args:
        data: labelled frames, with forces all of them or none.
        cutoff: of the model, Å.
        reference: atomic numbers ↦ isolated-atom energies [eV], subtracted in float64.
        dtype: of the arrays.

    Returns:
        One `Batch` with all frames per bucket, the bucket of every frame, and its row in that bucket.
    """
    padded = _padded_sizes([len(f.numbers) for f in data])
    shapes, rows = [], []
    for frame in data:
        n = padded[len(frame.numbers)]
        dense = frame.cell is None and n <= DENSE
        row = None if dense else neighbour_list(frame.structure(np.float32), cutoff, margin=1.0)
        rows.append(row)
        shapes.append((n, 0 if row is None else -(-row.width // 4) * 4))
    widest = {}
    for n, k in shapes:  # one width per number of atoms: fewer shapes, little padding
        widest[n] = max(widest.get(n, 0), k)
    keys = sorted(widest.items())
    bucket = np.array([keys.index((n, widest[n])) for n, _ in shapes])
    batches, place = [], np.zeros(len(data), int)
    for b, (n, k) in enumerate(keys):
        members = np.flatnonzero(bucket == b).tolist()
        place[members] = np.arange(len(members))
        batches.append(_stack([data[i] for i in members], [rows[i] for i in members], n, k, reference, dtype))
    return batches, bucket, place


def _stack(frames: Sequence[Frame], rows, n: int, width: int, reference, dtype) -> Batch:
    def padded(x, *shape):
        out = np.zeros(shape, x.dtype)
        out[tuple(slice(s) for s in x.shape)] = x
        return out

    periodic = frames[0].cell is not None
    stressed = periodic and any(f.stress is not None for f in frames)
    listed = width > 0
    rectangle = lambda x: padded(np.asarray(x), n, width, *np.shape(x)[2:])
    column = lambda values, kind=dtype: np.stack([np.asarray(v, kind) for v in values])
    return Batch(
        positions=column(padded(f.positions, n, 3) for f in frames),
        species=column((padded(f.numbers, n) for f in frames), np.int32),
        cell=column(f.cell for f in frames) if periodic else None,
        index=column((rectangle(r.index) for r in rows), np.int32) if listed else None,
        image=column((rectangle(r.shift) for r in rows), np.int32) if listed and periodic else None,
        mask=column((rectangle(r.mask) for r in rows), bool) if listed else None,
        energy=column(f.energy - float(reference(f.numbers).sum()) for f in frames),
        forces=None if frames[0].forces is None else column(padded(f.forces, n, 3) for f in frames),
        stress=column(np.zeros((3, 3)) if f.stress is None else f.stress for f in frames) if stressed else None,
        has_stress=column(f.stress is not None for f in frames) if stressed else None,
        weight=column(f.info.get("weight", 1.0) for f in frames),
    )
