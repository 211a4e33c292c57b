"""Constant matrices: Clebsch–Gordan couplings and the sphere grid of Gaunt products.

Only couplings of natural parity occur (l₁ + l₂ + l₃ even), and those are, up to their norm, integrals of three
spherical harmonics. A Lebedev rule gives them exactly in microseconds, where a general coupling table takes seconds; a
test holds them equal to `e3nn_jax.clebsch_gordan`.
"""

import functools

import numpy as np
from scipy.integrate import lebedev_rule

from .constant import Matrix
from .harmonics import degrees, spherical_harmonics

_RULES = (3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31, 35, 41, 47, 53, 59, 65, 71, 77, 83, 89, 95)


@functools.cache
def sphere(degree: int, l_max: int) -> tuple[np.ndarray, np.ndarray]:
    """Harmonics [points, (l_max+1)²] and weights [points] (sum 1) of a rule that is exact up to `degree`."""
    (x, y, z), weights = lebedev_rule(next(n for n in _RULES if n >= degree))
    return np.stack(spherical_harmonics(x, y, z, l_max), -1), weights / weights.sum()


@functools.cache
def coupling(l1: int, l2: int, l3: int) -> np.ndarray:
    """C[m₁, m₂, m₃] of unit Frobenius norm times √(2l₃+1): components of unit variance couple to unit variance."""
    if (l1 + l2 + l3) % 2 or not abs(l1 - l2) <= l3 <= l1 + l2:
        raise ValueError(f"coupling: ({l1}, {l2}, {l3}) is not a coupling of natural parity.")
    y, w = sphere(l1 + l2 + l3, max(l1, l2, l3))
    block = lambda l: y[:, l * l : (l + 1) * (l + 1)]
    gaunt = np.einsum("g,ga,gb,gc->abc", w, block(l1), block(l2), block(l3), optimize=True)
    gaunt[np.abs(gaunt) < 1e-12] = 0.0
    return gaunt * np.sqrt(2 * l3 + 1) / np.linalg.norm(gaunt)


def paths(l_edge: int, l_node: int, l_out: int) -> list[int]:
    """The degrees l₁ ≤ l_edge, ascending, that couple with l_node to l_out at natural parity."""
    return [l for l in range(l_edge + 1) if abs(l - l_node) <= l_out <= l + l_node and (l + l_node + l_out) % 2 == 0]


@functools.cache
def couplings(l_edge: int, l_node: int, l_out: int) -> tuple[Matrix, ...]:
    """All couplings (l_edge, l_node) → l_out of natural parity, a matrix for each degree of the second factor.

    Returns:
        For l₂ = 0 … l_node: [paths (l_out+1)², (l_edge+1)² (2l₂+1)]: the q-th path (`paths`) into each output degree,
        zero rows where a degree has fewer than the most. One matrix for all l₂ would be mostly zeros.
    """
    outputs = range(l_out + 1)
    count = [sum(len(paths(l_edge, l2, l3)) for l2 in range(l_node + 1)) for l3 in outputs]
    tables = []
    for l2 in range(l_node + 1):
        most = max(len(paths(l_edge, l2, l3)) for l3 in outputs)
        table = np.zeros((most, (l_out + 1) ** 2, (l_edge + 1) ** 2, 2 * l2 + 1))
        for l3 in outputs:
            for q, l1 in enumerate(paths(l_edge, l2, l3)):
                rows, columns = (slice(l * l, (l + 1) * (l + 1)) for l in (l3, l1))
                table[q, rows, columns] = coupling(l1, l2, l3).transpose(2, 0, 1) / np.sqrt(count[l3])
        tables.append(Matrix(table.reshape(most * (l_out + 1) ** 2, -1)))
    return tuple(tables)


@functools.cache
def gaunt(l_in: int, l_out: int, order: int) -> tuple[Matrix, list[Matrix]]:
    """The sphere grid on which functions of degree l_in are multiplied up to `order` times.

    Returns:
        The synthesis matrix [points, (l_in+1)²], scaled so that unit-variance components give unit-variance values,
        and for each number of factors 2 … order the analysis matrix [(l_out+1)², points], scaled so that products of
        independent factors have components of unit mean variance in each degree. Exact for every product.
    """
    y, w = sphere(order * l_in + l_out, max(l_in, l_out))
    synthesis = y[:, : (l_in + 1) ** 2] / (l_in + 1)
    raw = y[:, : (l_out + 1) ** 2].T * w
    sample = np.random.default_rng(0).normal(size=(order, (l_in + 1) ** 2, 4096))
    analysis, product = [], synthesis @ sample[0]
    for factor in sample[1:]:
        product = product * (synthesis @ factor)
        variance = ((raw @ product) ** 2).mean(1)
        mean = np.array([variance[l * l : (l + 1) * (l + 1)].mean() for l in range(l_out + 1)])
        analysis.append(raw / np.sqrt(mean)[degrees(l_out)][:, None])
    return Matrix(synthesis), [Matrix(a) for a in analysis]
