"""Trees from distances, groups held out: a planted confounder fools the random split and not the honest one."""

import numpy as np
import pytest

from enerjax.learning.phylogeny import (
    group_distances,
    leave_one_group_out,
    leaves,
    neighbour_joining,
    robinson_foulds,
    splits,
)


def _additive(tree, lengths, rng):
    """Distances along a nested-tuple tree with random branch lengths."""
    n = len(leaves(tree))
    D = np.zeros((n, n))

    def visit(node):
        side = sorted(leaves(node))
        others = [k for k in range(n) if k not in side]
        D[np.ix_(side, others)] += (b := rng.uniform(*lengths))
        D[np.ix_(others, side)] += b
        if not isinstance(node, int):
            for child in node:
                visit(child)

    for child in tree:
        visit(child)
    return D


def test_saitou_and_nei_worked_example():
    """The five-taxon matrix of the literature: ((a, b), c) against (d, e)."""
    D = np.array([[0, 5, 9, 9, 8], [5, 0, 10, 10, 9], [9, 10, 0, 8, 7], [9, 10, 8, 0, 3], [8, 9, 7, 3, 0]])
    assert splits(neighbour_joining(D)) == {frozenset({2, 3, 4}), frozenset({3, 4})}


@pytest.mark.parametrize("seed", range(5))
def test_additive_distances_give_back_their_tree(seed):
    rng = np.random.default_rng(seed)
    nodes = list(range(9))
    while len(nodes) > 3:
        i, j = sorted(rng.choice(len(nodes), 2, replace=False))
        nodes = [*(node for k, node in enumerate(nodes) if k not in (i, j)), (nodes[i], nodes[j])]
    tree = tuple(nodes)
    D = _additive(tree, (0.1, 1.0), rng)
    assert robinson_foulds(neighbour_joining(D), tree) == 0
    noise = rng.normal(0, 0.01, D.shape)
    assert robinson_foulds(neighbour_joining(D + (noise + noise.T) * (1 - np.eye(9))), tree) == 0


def test_robinson_foulds_is_a_metric_of_topologies():
    one, rotated, other = ((0, 1), (2, 3), 4), (4, (3, 2), (1, 0)), ((0, 2), (1, 3), 4)
    assert robinson_foulds(one, rotated) == 0 and robinson_foulds(one, other) == 4
    with pytest.raises(ValueError, match="different leaves"):
        robinson_foulds(one, (0, 1, 2))
    with pytest.raises(ValueError, match="symmetric"):
        neighbour_joining(np.arange(9.0).reshape(3, 3))


def test_groups_are_held_out_whole():
    groups = ["b", "a", "b", "c", "a"]
    seen = []
    for name, train, test in leave_one_group_out(groups):
        assert {groups[i] for i in test} == {name} and name not in {groups[i] for i in train}
        assert len(train) + len(test) == 5
        seen.append(name)
    assert seen == ["a", "b", "c"]
    with pytest.raises(ValueError, match="two groups"):
        list(leave_one_group_out(["a", "a"]))


def test_random_split_is_fooled_by_a_phylogenetic_confounder_and_leave_one_out_is_not():
    """Features carry a species' fingerprint and one weak cause; a species' mean is most of the target's variance.

    Ridge regression looks right on a random split (it remembers species) and is shown wrong by holding species out.
    """
    rng = np.random.default_rng(0)
    species = np.repeat(np.arange(8), 40)
    fingerprint = rng.normal(size=(8, 30))
    cause = rng.normal(size=320)
    X = np.c_[fingerprint[species] + 0.3 * rng.normal(size=(320, 30)), cause]
    y = rng.normal(0, 2.0, 8)[species] + 0.5 * cause + 0.1 * rng.normal(size=320)

    def r2(train, test):
        mean = X[train].mean(0), y[train].mean()
        A = X[train] - mean[0]
        w = np.linalg.solve(A.T @ A + np.eye(31), A.T @ (y[train] - mean[1]))
        error = y[test] - (X[test] - mean[0]) @ w - mean[1]
        return error @ error

    order = rng.permutation(320)
    folds = np.array_split(order, 8)
    spread = np.sum((y - y.mean()) ** 2)
    random = 1 - sum(r2(np.setdiff1d(order, fold), fold) for fold in folds) / spread
    honest = 1 - sum(r2(train, test) for _, train, test in leave_one_group_out(species)) / spread
    assert random > 0.9 and honest < 0.3
    distances, names = group_distances(X[:, :30], species)
    exact = np.linalg.norm(fingerprint[:, None] - fingerprint[None], axis=-1)
    assert np.corrcoef(distances[np.triu_indices(8, 1)], exact[np.triu_indices(8, 1)])[0, 1] > 0.99
    assert list(names) == list(range(8))
