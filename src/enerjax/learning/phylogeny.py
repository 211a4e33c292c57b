"""Honest evaluation of related data: hold out whole groups, and read the relations back from what a model has learned.

Sequences of one species resemble each other, so a random split tests memory: hold out species (`leave_one_group_out`).
And if hidden states carry the relations, neighbour joining of their distances gives the tree of the species.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

Tree = int | tuple  # a leaf's number, or a tuple of sub-trees


def evolve(tree: Tree, state: Any, branch: Callable[[Any], Any]) -> dict[int, Any]:
    """{leaf: its state} after `branch` has acted on the parent's state along every branch, the root's own included.

    Branches are taken depth first, children in order, so a seeded `branch` gives the same leaves again.
    """
    state = branch(state)
    if isinstance(tree, int):
        return {tree: state}
    return {leaf: found for child in tree for leaf, found in evolve(child, state, branch).items()}


def leave_one_group_out(groups: Sequence | np.ndarray) -> Iterator[tuple[object, np.ndarray, np.ndarray]]:
    """(held-out group, training indices, test indices) for every group, in sorted order.

    Raises:
        ValueError: with fewer than two groups.
    """
    labels = np.asarray(groups)
    names = np.unique(labels)
    if len(names) < 2:
        raise ValueError(f"leave_one_group_out: needs at least two groups, found {len(names)}.")
    for name in names:
        yield name, np.flatnonzero(labels != name), np.flatnonzero(labels == name)


def group_distances(features: np.ndarray, groups: Sequence | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Euclidean distances between the mean features of the groups, and the groups' names in order."""
    labels = np.asarray(groups)
    names = np.unique(labels)
    means = np.stack([np.asarray(features)[labels == name].mean(0) for name in names])
    return np.linalg.norm(means[:, None] - means[None], axis=-1), names


def neighbour_joining(distances: np.ndarray) -> Tree:
    """The unrooted tree of a distance matrix, as nested tuples of leaf numbers; exact for distances along a tree.

    N. Saitou and M. Nei, Mol. Biol. Evol. 4, 406 (1987); Q-criterion of J. Studier and K. Keppler (1988).

    Raises:
        ValueError: unless the matrix is square, symmetric and at least 3 × 3.
    """
    D = np.array(distances, float)
    if D.ndim != 2 or D.shape[0] != D.shape[1] or len(D) < 3 or not np.allclose(D, D.T):
        raise ValueError(f"neighbour_joining: needs a symmetric matrix of 3 or more leaves, got shape {D.shape}.")
    nodes: list[Tree] = list(range(len(D)))
    while len(nodes) > 3:
        n = len(nodes)
        Q = (n - 2) * D - D.sum(0)[:, None] - D.sum(0)[None]
        np.fill_diagonal(Q, np.inf)
        i, j = sorted(np.unravel_index(np.argmin(Q), Q.shape))
        joined = (D[i] + D[j] - D[i, j]) / 2
        keep = [k for k in range(n) if k not in (i, j)]
        D = np.block([[D[np.ix_(keep, keep)], joined[keep][:, None]], [joined[keep][None], np.zeros((1, 1))]])
        nodes = [*(nodes[k] for k in keep), (nodes[i], nodes[j])]
    return tuple(nodes)


def leaves(tree: Tree) -> frozenset[int]:
    """The leaves of a tree."""
    return frozenset([tree]) if isinstance(tree, int) else frozenset().union(*map(leaves, tree))


def splits(tree: Tree) -> set[frozenset[int]]:
    """The bipartitions of the leaves that the inner branches make, each by its side without the first leaf."""
    everything = leaves(tree)
    first = min(everything)
    found = set()

    def visit(node):
        below = leaves(node)
        if 1 < len(below) < len(everything) - 1:
            found.add(below if first not in below else everything - below)
        if not isinstance(node, int):
            for child in node:
                visit(child)

    visit(tree)
    return found


def robinson_foulds(one: Tree, other: Tree) -> int:
    """How many inner branches the two unrooted trees do not share: 0 for the same topology.

    D. F. Robinson and L. R. Foulds, Math. Biosci. 53, 131 (1981).

    Raises:
        ValueError: if the trees have different leaves.
    """
    if leaves(one) != leaves(other):
        raise ValueError("robinson_foulds: the trees have different leaves.")
    return len(splits(one) ^ splits(other))
