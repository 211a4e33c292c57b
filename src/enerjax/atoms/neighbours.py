"""Who is near whom: a padded row of neighbours per atom, with lattice images as integers so that cells can be strained.

    r_ij = R_j + n @ h − R_i,    |r_ij| < cutoff + skin

`neighbour_list` builds the rows on the host (vesin: any cell, also triclinic, also smaller than the cutoff), `refresh`
builds the same rows inside jit in time linear in the atoms, and `stale` says when that is due. Shapes are fixed: a row
that does not fit raises the flag `overflow`, which whoever runs the steps must read. `all_pairs` is the layout of small
molecules: no list, no gather.

M. P. Allen and D. J. Tildesley, Computer Simulation of Liquids, 2nd ed., section 5.3.
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int

from .._precision import full_precision
from .pairs import pairs
from .structure import Structure


class Grid(eqx.Module):
    """How `refresh` bins space: all of it static.

    Attributes:
        bins: bins along each lattice vector.
        reach: how many bins away a neighbour may be, images included.
        capacity: atoms a bin can hold.
        span: length of the binned range in units of the lattice vector; 1 along periodic directions.
        pbc: periodic or not, per lattice vector.
    """

    bins: tuple[int, int, int] = eqx.field(static=True)
    reach: tuple[int, int, int] = eqx.field(static=True)
    capacity: int = eqx.field(static=True)
    span: tuple[float, float, float] = eqx.field(static=True)
    pbc: tuple[bool, bool, bool] = eqx.field(static=True)


class Neighbours(eqx.Module):
    """Rows of neighbours, padded to K.

    Attributes:
        index: neighbour atom j, [atoms, K]; a padded entry points at the atom itself.
        shift: lattice image n of that neighbour as integers, [atoms, K, 3]; None where nothing is periodic.
        mask: True for a real neighbour, [atoms, K].
        reference: positions at which the rows were built, [atoms, 3]; None for all pairs.
        reference_cell: the cell at which they were built.
        overflow: True if a row, a bin or the grid was too small: the rows are then wrong and must not be used.
        cutoff, skin: Å; pairs up to cutoff + skin are listed.
        grid: how `refresh` bins space; None if the rows never change (all pairs).
    """

    index: Int[Array, "atoms K"]
    shift: Int[Array, "atoms K 3"] | None
    mask: Bool[Array, "atoms K"]
    reference: Float[Array, "atoms 3"] | None
    reference_cell: Float[Array, "3 3"] | None
    overflow: Bool[Array, ""]
    cutoff: float = eqx.field(static=True)
    skin: float = eqx.field(static=True)
    grid: Grid | None

    @property
    def width(self) -> int:
        """K, entries per row."""
        return self.index.shape[-1]

    @property
    def dense(self) -> bool:
        """True for the all-pairs layout: row i lists atoms 0 … n−1 in order, itself masked."""
        return self.grid is None


@full_precision
def displacements(
    positions: Float[Array, "atoms 3"], cell: Float[Array, "3 3"] | None, neighbours: Neighbours
) -> Float[Array, "atoms K 3"]:
    """r_ij = R_j + n @ h − R_i [Å]. Padded entries are (2 cutoff, 0, 0): beyond the cutoff, without gradient."""
    r = gather(positions, neighbours) - positions[:, None]
    if neighbours.shift is not None and cell is not None:
        r = r + neighbours.shift.astype(r.dtype) @ cell
    return jnp.where(neighbours.mask[..., None], r, jnp.array([[[2.0 * neighbours.cutoff, 0.0, 0.0]]], r.dtype))


def gather(x: Array, neighbours: Neighbours) -> Array:
    """x_j for every entry (i, j), [atoms, …] to [atoms, K, …]: a view without a gather for all pairs."""
    if neighbours.dense:
        return jnp.broadcast_to(x[None], (x.shape[0], *x.shape))
    return x[neighbours.index]


def all_pairs(atoms: int, cutoff: float, present: Bool[Array, " atoms"] | None = None) -> Neighbours:
    """Every atom sees every other: the fastest layout of molecules up to about thirty atoms.

    Args:
        atoms: number of atoms n; K = n, with the diagonal masked.
        cutoff: of the model, Å. Pairs beyond it are listed; the model's envelope is zero there.
        present: True for real atoms where some are padded.
    """
    mask = ~jnp.eye(atoms, dtype=bool)
    if present is not None:
        mask = mask & present[:, None] & present[None, :]
    index = jnp.broadcast_to(jnp.arange(atoms, dtype=jnp.int32), (atoms, atoms))
    return Neighbours(index, None, mask, None, None, jnp.array(False), float(cutoff), 0.0, None)


def _bucket(count: int, margin: float) -> int:
    return 4 * max(1, math.ceil(count * margin / 4))


def neighbour_list(
    structure: Structure,
    cutoff: float,
    *,
    skin: float = 0.0,
    like: Neighbours | None = None,
    margin: float = 1.1,
    width: int = 0,
    capacity: int = 0,
    shrink: float = 0.95,
) -> Neighbours:
    """Rows of neighbours on the host, any cell.

    Args:
        structure: concrete (not traced); atoms with species 0 have no neighbours.
        cutoff: of the model, Å.
        skin: extra Å listed, so that the rows stay right until an atom has moved skin/2.
        like: rows whose shapes to keep if the new ones fit into them, so that nothing is compiled again.
        margin: growth allowance of K, which is then rounded up to a multiple of four.
        width: the least K.
        capacity: the least number of atoms that a bin of `refresh` can hold.
        shrink: the factor by which the cell may shrink before `refresh` needs another grid.

    Raises:
        ValueError: inside jit, or where positions are not finite.
    """
    if isinstance(structure.positions, Tracer):
        raise ValueError(
            "neighbour_list runs on the host: build it outside jit and pass it in, or call `refresh` inside."
        )
    positions = np.asarray(structure.positions, float)
    if not np.isfinite(positions).all():
        raise ValueError("neighbour_list: positions are not finite.")
    there = np.flatnonzero(np.asarray(structure.species) > 0)
    box = np.eye(3) if structure.cell is None else np.asarray(structure.cell, float)
    i, j, images = pairs(positions[there], box, structure.pbc, cutoff + skin, "ijS")
    i, j, images = there[i], there[j], images.astype(np.int32)

    atoms = len(positions)
    count = np.bincount(i, minlength=atoms)
    widest = int(count.max(initial=0))
    grid = _grid(structure, box, float(cutoff + skin), margin, capacity, shrink)
    width = max(width, _bucket(widest, margin))
    if like is not None and like.grid is not None and like.index.shape[0] == atoms:
        width = like.width if widest <= like.width else max(width, like.width)
        grid = like.grid if _fits(like.grid, grid) else grid
    order = np.argsort(i, kind="stable")
    column = np.arange(len(i)) - np.repeat(np.cumsum(count) - count, count)
    index = np.repeat(np.arange(atoms, dtype=np.int32)[:, None], width, 1)
    mask = np.zeros((atoms, width), bool)
    index[i[order], column] = j[order]
    mask[i[order], column] = True
    shift = None
    if any(structure.pbc):
        shift = np.zeros((atoms, width, 3), np.int32)
        shift[i[order], column] = images[order]
        shift = jnp.asarray(shift)
    return Neighbours(
        jnp.asarray(index),
        shift,
        jnp.asarray(mask),
        structure.positions,
        structure.cell,
        jnp.array(False),
        float(cutoff),
        float(skin),
        grid,
    )


def grow(structure: Structure, neighbours: Neighbours, factor: float = 1.3) -> Neighbours:
    """Rows for the same cutoff and skin with more room, after an overflow: K and the bins grow by `factor` at least."""
    if neighbours.grid is None:
        return neighbours
    width, capacity = _bucket(neighbours.width, factor), _bucket(neighbours.grid.capacity, factor)
    cutoff, skin = neighbours.cutoff, neighbours.skin
    return neighbour_list(structure, cutoff, skin=skin, width=width, capacity=capacity, shrink=0.8)


def neighbours_of(
    structure: Structure, cutoff: float, *, skin: float = 0.0, like: Neighbours | None = None
) -> Neighbours:
    """The layout that is fastest for this structure: all pairs of a free molecule of up to 32 atoms, else a list."""
    if structure.cell is None and structure.atoms <= 32:
        return all_pairs(structure.atoms, cutoff, structure.species > 0)
    return neighbour_list(structure, cutoff, skin=skin, like=like, margin=1.1 if skin else 1.0)


def _grid(structure: Structure, box: np.ndarray, reach: float, margin: float, least: int, shrink: float) -> Grid:
    """Bins a little wider than the reach, so that the cell may shrink."""
    inverse = np.linalg.inv(box)
    widths = 1.0 / np.linalg.norm(inverse, axis=0)  # distances between opposite faces
    scaled = np.asarray(structure.positions, float) @ inverse
    lengths = np.where(structure.pbc, 1.0, np.ptp(scaled, axis=0) * 1.05 + 1e-3)
    bins = np.maximum(1, np.floor(shrink * widths * lengths / reach)).astype(int)
    # a hundred atoms are cheaper without bins than with a stencil of nearly empty ones
    bins = np.minimum(bins, max(1, round((len(scaled) / 4) ** (1 / 3))))
    reaches = np.where(
        structure.pbc | (bins > 1), np.ceil(reach * bins / (shrink * widths * lengths) - 1e-9), 0
    ).astype(int)
    place = scaled - np.where(structure.pbc, np.floor(scaled), scaled.min(axis=0))
    column = np.clip((place / lengths * bins).astype(int), 0, bins - 1)
    full = int(np.bincount(np.ravel_multi_index(tuple(column.T), tuple(bins))).max())
    capacity = len(scaled) if bins.prod() == 1 else min(len(scaled), max(least, _bucket(full, margin) + 4))
    tuple3 = lambda x: (x[0].item(), x[1].item(), x[2].item())
    return Grid(tuple3(bins), tuple3(reaches), capacity, tuple3(np.round(lengths, 3)), structure.pbc)


def _fits(old: Grid, new: Grid) -> bool:
    """True if the old grid, compiled already, serves where `new` would be chosen today."""
    same = old.bins == new.bins and old.pbc == new.pbc and old.capacity >= new.capacity
    return same and all(a >= b for a, b in zip(old.reach, new.reach, strict=True)) and old.span == new.span


@full_precision
def stale(
    positions: Float[Array, "atoms 3"], cell: Float[Array, "3 3"] | None, neighbours: Neighbours
) -> Bool[Array, ""]:
    """True when a pair inside the cutoff may be missing from the rows.

    With the deformation D = h₀⁻¹h and the displacements u = R − R₀D without their mean, a pair that was not listed is
    now at least σ_min(D)(cutoff + skin) − 2 max|u| away; σ_min(D) ≥ 1 − ‖D − 1‖. In a fixed cell: max|u| > skin/2.
    """
    if neighbours.reference is None:
        return jnp.array(False)
    shrink, affine = 1.0, neighbours.reference
    if cell is not None and neighbours.reference_cell is not None:
        deformation = jnp.linalg.solve(neighbours.reference_cell, cell)
        shrink = 1.0 - jnp.linalg.norm(deformation - jnp.eye(3, dtype=cell.dtype))
        affine = affine @ deformation
    u = positions - affine
    moved = jnp.sqrt(jnp.max(jnp.sum((u - jnp.mean(u, axis=0, keepdims=True)) ** 2, axis=-1)))
    # ~(a <= b) rather than a > b: positions that are not finite count as stale
    return ~(2 * moved <= shrink * (neighbours.cutoff + neighbours.skin) - neighbours.cutoff)


@full_precision
def refresh(
    positions: Float[Array, "atoms 3"],
    cell: Float[Array, "3 3"] | None,
    neighbours: Neighbours,
    present: Bool[Array, " atoms"] | None = None,
) -> Neighbours:
    """The rows at new positions, inside jit, in the same shapes; O(atoms).

    Atoms are sorted into bins along the lattice vectors; the candidates of an atom are the bins within reach, counted
    with their lattice images, so one scheme serves large boxes and cells smaller than the cutoff.

    Returns:
        New rows, with `overflow` set if a row or a bin was too small, or the cell has become too small for the grid.
    """
    grid = neighbours.grid
    if grid is None:
        return neighbours
    positions, cell = jax.lax.stop_gradient((positions, cell))
    atoms, reach = positions.shape[0], neighbours.cutoff + neighbours.skin
    box = jnp.eye(3, dtype=positions.dtype) if cell is None else cell
    inverse = jnp.linalg.inv(box)
    pbc, bins, span = (np.array(x)[None] for x in (grid.pbc, np.array(grid.bins, np.int32), grid.span))

    scaled = positions @ inverse
    wrap = jnp.where(pbc, jnp.floor(scaled), jnp.zeros_like(scaled)).astype(jnp.int32)
    place = scaled - wrap
    place = place - jnp.where(pbc, 0.0, jnp.min(place, axis=0, keepdims=True)).astype(place.dtype)
    # along open directions atoms beyond the span count to the last bin: clipping never moves two atoms apart
    column = jnp.clip((place * (bins / span).astype(place.dtype)).astype(jnp.int32), 0, bins - 1)
    strides = np.array([grid.bins[1] * grid.bins[2], grid.bins[2], 1], np.int32)
    total = int(bins.prod())
    flat = column @ strides
    if present is not None:
        flat = jnp.where(present, flat, total)  # padded atoms go to a bin that nobody looks into

    order = jnp.argsort(flat).astype(jnp.int32)
    start = jnp.searchsorted(flat[order], jnp.arange(total + 1), side="left").astype(jnp.int32)
    rank = jnp.arange(atoms, dtype=jnp.int32) - start[flat[order]]
    table = jnp.full((total, grid.capacity), -1, jnp.int32).at[flat[order], rank].set(order, mode="drop")
    crowded = jnp.any(start[1:] - start[:-1] > grid.capacity)

    offsets = np.stack(np.meshgrid(*[np.arange(-s, s + 1) for s in grid.reach], indexing="ij"), -1).reshape(-1, 3)
    target = column[:, None] + offsets.astype(np.int32)[None]  # [atoms, stencil, 3]
    image = jnp.where(pbc[None], jnp.floor_divide(target, bins[None]), 0).astype(jnp.int32)
    inside = jnp.all((target >= 0) & (target < bins[None]) | pbc[None], axis=-1)
    target = jnp.clip(target - image * bins[None], 0, bins[None] - 1)
    other = jnp.where(inside[..., None], table[target @ strides], -1)  # [atoms, stencil, capacity]
    image = image + wrap[:, None]

    j = jnp.maximum(other, 0)
    move = image.astype(positions.dtype) @ box - positions[:, None]  # [atoms, stencil, 3]
    r = (positions - wrap.astype(positions.dtype) @ box)[j] + move[:, :, None]
    me = jnp.arange(atoms, dtype=jnp.int32)[:, None]
    itself = (j == me[..., None]) & jnp.all(image == wrap[:, None], axis=-1, keepdims=True)
    near = (other >= 0) & ~itself & (jnp.sum(r * r, axis=-1) < reach**2)
    if present is not None:
        near = near & present[:, None, None]

    near = near.reshape(atoms, -1)
    filled = jnp.cumsum(near, axis=1, dtype=jnp.int32)
    width, candidates = neighbours.width, near.shape[1]
    wanted = jnp.arange(1, width + 1, dtype=jnp.int32)
    pick = jax.vmap(lambda row: jnp.searchsorted(row, wanted, side="left"))(filled).astype(jnp.int32)
    mask = pick < candidates
    pick = jnp.minimum(pick, candidates - 1)
    index = jnp.where(mask, jnp.take_along_axis(j.reshape(atoms, -1), pick, axis=1), me)
    shift = None
    if neighbours.shift is not None:
        # r_ij = (R_j − w_j h) + n h − R_i with n = image, hence the image of the unwrapped R_j is n − w_j
        shift = image[me, pick // grid.capacity] - wrap[index]
        shift = jnp.where(mask[..., None], shift, 0)

    faces = 1.0 / jnp.linalg.norm(inverse, axis=0, keepdims=True)
    searched = jnp.all((faces * (np.array(grid.reach) * span / bins) >= reach) | ((bins == 1) & ~pbc))
    overflow = jnp.any(filled[:, -1] > width) | crowded | ~searched | ~jnp.all(jnp.isfinite(positions))
    return Neighbours(index, shift, mask, positions, cell, overflow, neighbours.cutoff, neighbours.skin, grid)
