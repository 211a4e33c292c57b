"""Pairs of atoms within a distance, found on the host: any cell, also triclinic, also smaller than the distance."""

import numpy as np


def pairs(positions, cell, pbc, cutoff: float, wanted: str = "ijd"):
    """i, j and the distance [Å] (or what else vesin's letters ask for) of all pairs, each both ways.

    Args:
        positions: [atoms, 3], Å.
        cell: rows are the lattice vectors, Å; None without one.
        pbc: periodic or not, per lattice vector.
        cutoff: Å.
        wanted: letters of `vesin.NeighborList.compute`: i, j, S (lattice shifts), d, D.
    """
    import vesin

    box = np.eye(3) if cell is None else np.asarray(cell, float)
    finder = vesin.NeighborList(cutoff=float(cutoff), full_list=True)
    i, j, *rest = finder.compute(np.asarray(positions, float), box, np.asarray(pbc), wanted)
    return i.astype(int), j.astype(int), *rest


def count(frame, cutoff: float) -> np.ndarray:
    """How many neighbours each atom of a frame has."""
    return np.bincount(_of(frame, cutoff)[0], minlength=len(frame.numbers))


def connected(frame, cutoff: float) -> bool:
    """Whether one can get from any atom to any other by steps within the cutoff."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    (i, j, _), n = _of(frame, cutoff), len(frame.numbers)
    return connected_components(coo_array((np.ones(len(i)), (i, j)), (n, n)))[0] == 1


def closest(frame, cutoff: float) -> tuple[int, int, float]:
    """The closest pair of a frame and its distance; infinite where none lies within the cutoff."""
    i, j, d = _of(frame, cutoff)
    if not len(d):
        return 0, 0, np.inf
    k = int(np.argmin(d))
    return int(i[k]), int(j[k]), float(d[k])


def _of(frame, cutoff: float):
    return pairs(frame.positions, frame.cell, frame.pbc, cutoff)
