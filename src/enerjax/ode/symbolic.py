"""A sparse reading of a field: which few terms of a library say the same?

    Ẏ ≈ Θ(Y) Ξ, Ξ sparse: least squares, drop what is small, repeat.

S. L. Brunton, J. L. Proctor and J. N. Kutz, PNAS 113, 3932 (2016). The field can be a learned one, evaluated where it
was trained, so derivatives come from it and not from differences of noisy data.
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Reading(NamedTuple):
    """A sparse law.

    Attributes:
        coefficients: Ξ, [terms, d].
        exponents: of each term, [terms, d].
        names: names of the coordinates.
        residual: relative error ‖Ẏ − ΘΞ‖/‖Ẏ‖ of each coordinate, [d]; 0 of one whose rates are all zero.
    """

    coefficients: np.ndarray
    exponents: np.ndarray
    names: tuple[str, ...]
    residual: np.ndarray

    def __call__(self, y) -> np.ndarray:
        """ẏ of the sparse law at y, [..., d]."""
        return _library(np.asarray(y, float), self.exponents) @ self.coefficients

    def equations(self, digits: int = 3) -> list[str]:
        """One line per coordinate."""
        lines = []
        for name, column in zip(self.names, self.coefficients.T, strict=True):
            terms = [
                f"{c:+.{digits}g} {self._term(e)}".strip() for c, e in zip(column, self.exponents, strict=True) if c
            ]
            lines.append(f"d{name}/dt = " + (" ".join(terms) if terms else "0"))
        return lines

    def _term(self, powers) -> str:
        return " ".join(n if k == 1 else f"{n}^{k}" for n, k in zip(self.names, powers, strict=True) if k)


def _library(y: np.ndarray, exponents: np.ndarray) -> np.ndarray:
    return np.prod(y[..., None, :] ** exponents, axis=-1)


def sparse_law(
    ys, rates, *, degree: int = 2, threshold: float = 0.05, names: Sequence[str] | None = None, rounds: int = 20
) -> Reading:
    """The sparse polynomial law ẏ ≈ Θ(y) Ξ.

    Args:
        ys: states, [n, d].
        rates: their rates, from a learned field or exact, [n, d].
        degree: of the monomials.
        threshold: terms whose contribution, in root mean square over the data, is below this fraction of the
            coordinate's own are dropped: no units enter.
        names: of the coordinates; y0, y1, … by default.
        rounds: of dropping and refitting.

    Raises:
        ValueError: states or rates that are not finite, fewer states than library terms, or another number of names
            than of coordinates.
    """
    ys, rates = np.asarray(ys, float), np.asarray(rates, float)
    if ys.shape != rates.shape or ys.ndim != 2:
        raise ValueError(f"sparse_law: states {ys.shape} and rates {rates.shape} must both be [n, d].")
    if not (np.all(np.isfinite(ys)) and np.all(np.isfinite(rates))):
        raise ValueError("sparse_law: states or rates are not finite; mask them first.")
    d = ys.shape[1]
    names = tuple(f"y{i}" for i in range(d)) if names is None else tuple(names)
    if len(names) != d:
        raise ValueError(f"sparse_law: {len(names)} names {names} for {d} coordinates.")
    exponents = np.array([e for e in itertools.product(range(degree + 1), repeat=d) if sum(e) <= degree])
    exponents = exponents[np.argsort(exponents.sum(1), kind="stable")]
    features = _library(ys, exponents)
    if len(ys) < features.shape[1]:
        raise ValueError(f"sparse_law: {len(ys)} states cannot determine {features.shape[1]} terms; lower the degree.")
    size = np.sqrt(np.mean(features**2, axis=0))
    moving = np.any(rates != 0, axis=0)  # a coordinate that does not change has the law 0, exactly
    keep = np.ones((features.shape[1], d), bool) & moving
    coefficients = np.zeros(keep.shape)
    for _ in range(rounds):
        for j in range(d):
            coefficients[:, j] = 0.0
            chosen = keep[:, j]
            scaled = features[:, chosen] / size[chosen]
            coefficients[chosen, j] = np.linalg.lstsq(scaled, rates[:, j], rcond=1e-12)[0] / size[chosen]
        weight = np.abs(coefficients) * size[:, None] / np.where(moving, np.sqrt(np.mean(rates**2, axis=0)), 1.0)
        smaller = keep & (weight >= threshold)
        if np.array_equal(smaller, keep):
            break
        keep = smaller
    coefficients = np.where(keep, coefficients, 0.0)
    missed = np.linalg.norm(rates - features @ coefficients, axis=0)
    missed = missed / np.where(moving, np.linalg.norm(rates, axis=0), 1.0)
    return Reading(coefficients, exponents, names, missed)
