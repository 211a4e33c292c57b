"""Starts on the way to a mode: L-BFGS from scattered points, Gaussians along the way, the best by free energy.

Each path descends from a proposed start. At a step the curvature that L-BFGS has seen gives the Gaussian
q = N(x − H∇E, H), and F = ⟨E + log q⟩_q, estimated from a few draws, is an upper bound of −log Z. The step of lowest F
is neither far out, where E is high, nor down a funnel, where the entropy of q is low; its draws start chains, and the
diagonal of H is their first metric. Paths whose F is far above the best one's ended in modes without weight.

L. Zhang, B. Carpenter, A. Gelman and A. Vehtari, Pathfinder, JMLR 23, 306 (2022): algorithms 1 to 4, with the median
over draws in place of the mean, since one draw outside the support of a model says nothing about the others.
Line search: A. S. Lewis and M. L. Overton, Math. Program. 141, 135 (2013).
"""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from .driver import Draws, Request, evaluate
from .failure import LOST
from .metric import AbstractMetric
from .program import Chain
from .start import AbstractStart


@dataclass(frozen=True)
class Pathfinder(AbstractStart):
    """Chains start from draws of the best Gaussians along several paths, which all chains share.

    Attributes:
        paths: how many; path i starts where chain i would.
        steps: evaluations of each descent at most.
        draws: evaluations for the free energy of each Gaussian, of which a path has eight at most.
    """

    paths: int = 8
    steps: int = 60
    draws: int = 5


class Step(NamedTuple):
    """A point of a path with what L-BFGS knows there."""

    x: np.ndarray
    gradient: np.ndarray
    energy: float
    alpha: np.ndarray  # diagonal of the first inverse Hessian
    s: np.ndarray  # [d, pairs] changes of position
    z: np.ndarray  # [d, pairs] changes of gradient


@dataclass(frozen=True)
class Approximation:
    """N(x − H∇E, H) with H = diag(α) + βγβᵀ, as H = A (1 + Q (LLᵀ − 1) Qᵀ) A, A = diag(√α)."""

    mean: np.ndarray
    root: np.ndarray  # √α
    q: np.ndarray  # [d, r], orthonormal columns
    cholesky: np.ndarray  # L [r, r]

    @classmethod
    def of(cls, step: Step) -> "Approximation":
        """From L-BFGS' pairs. Byrd, Nocedal and Schnabel (1994), equation 3.1."""
        root = np.sqrt(step.alpha)
        if not step.s.shape[1]:
            empty = np.zeros((step.x.size, 0))
            return cls(step.x - step.alpha * step.gradient, root, empty, np.zeros((0, 0)))
        sz = step.s.T @ step.z
        r = np.triu(sz)
        inverse = np.linalg.inv(r)
        corner = inverse.T @ (np.diag(np.diag(sz)) + step.z.T @ (step.alpha[:, None] * step.z)) @ inverse
        gamma = np.block([[np.zeros_like(r), -inverse], [-inverse.T, corner]])
        beta = np.concatenate([root[:, None] * step.z, step.s / root[:, None]], axis=1)
        q, upper = np.linalg.qr(beta)
        inner = upper @ gamma @ upper.T
        cholesky = np.linalg.cholesky(np.eye(len(inner)) + 0.5 * (inner + inner.T))
        new = cls(step.x, root, q, cholesky)
        return cls(step.x - new.times(step.gradient), root, q, cholesky)

    def times(self, v: np.ndarray) -> np.ndarray:
        """H v."""
        v = self.root * v
        inside = self.q.T @ v
        return self.root * (v + self.q @ (self.cholesky @ (self.cholesky.T @ inside) - inside))

    def draw(self, noise: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Draws [n, d] and their log densities [n] from normal noise [n, d]."""
        inside = noise @ self.q
        x = self.mean + self.root * (noise + (inside @ self.cholesky.T - inside) @ self.q.T)
        volume = np.log(self.root).sum() + np.log(np.diag(self.cholesky)).sum()
        return x, -0.5 * (noise**2).sum(1) - 0.5 * noise.shape[1] * np.log(2 * np.pi) - volume

    @property
    def scale(self) -> np.ndarray:
        """√diag H."""
        rows = self.q @ self.cholesky
        return self.root * np.sqrt(np.maximum(1 + (rows**2).sum(1) - (self.q**2).sum(1), 1e-12))


@dataclass(frozen=True)
class Path:
    """What a path leaves to the chains.

    Attributes:
        draws: draws [n, d] of its best Gaussian.
        log_weight: log p/q of each, up to the constant that all share.
        free_energy: F, the median of −log p/q.
        energy: median of E over the draws: the level at which a chain should move.
        scale: standard deviations, the first metric.
        gradients: evaluations spent.
    """

    draws: np.ndarray
    log_weight: np.ndarray
    free_energy: float
    energy: float
    scale: np.ndarray
    gradients: int


def descend(
    first: Draws, metric: AbstractMetric, steps: int, memory: int = 6, enough: float = 0.02
) -> Generator[Request, Draws, tuple[list[Step], int]]:
    """L-BFGS from an evaluated point, at most `steps` evaluations: the path and how many were made.

    It stops after two steps that each gained less than `enough`.
    """
    x, gradient = first.draws[0].astype(np.float64), -first.forces[0].astype(np.float64)
    energy, dtype = float(first.potential[0]), first.draws.dtype
    none = np.zeros((x.size, 0))
    # the first step is one unit long; gradients of any size are told apart by their changes only
    at = Step(x, gradient, energy, np.full(x.size, 1 / max(np.linalg.norm(gradient), 1e-10)), none, none)
    path, spent, idle = [at], 0, 0
    while spent < steps and idle < 2:
        direction = -_inverse_hessian(at, at.gradient)
        slope = float(direction @ at.gradient)
        if not slope < 0:
            break
        low, high, length = 0.0, np.inf, 1.0
        found = None
        while spent < steps:
            trial = yield from evaluate(first.chain, (at.x + length * direction)[None].astype(dtype), metric)
            spent += 1
            new, value = -trial.forces[0].astype(np.float64), float(trial.potential[0])
            if not (value < LOST and value <= at.energy + 1e-4 * length * slope and np.all(np.isfinite(new))):
                high = length
            elif direction @ new < 0.9 * slope:
                low, found = length, (trial.draws[0].astype(np.float64), new, value)  # descends, but could go on
            else:
                found = (trial.draws[0].astype(np.float64), new, value)
                break
            length = 0.5 * (low + high) if np.isfinite(high) else 2 * low
            if length < 1e-12 or (found is not None and high - low < 0.05 * low):
                break
        if found is None:
            break
        idle = idle + 1 if at.energy - found[2] < enough else 0
        at = _learn(at, *found, memory)
        path.append(at)
    return path, spent


def _inverse_hessian(at: Step, v: np.ndarray) -> np.ndarray:
    """H v by the two-loop recursion. D. C. Liu and J. Nocedal, Math. Program. 45, 503 (1989)."""
    v, back = v.copy(), []
    pairs = [(s, z, 1 / (s @ z)) for s, z in zip(at.s.T, at.z.T, strict=True)]
    for s, z, rho in reversed(pairs):
        back.append(rho * (s @ v))
        v -= back[-1] * z
    v *= at.alpha
    for (s, z, rho), a in zip(pairs, reversed(back), strict=True):
        v += s * (a - rho * (z @ v))
    return v


def _learn(old: Step, x: np.ndarray, gradient: np.ndarray, energy: float, memory: int) -> Step:
    """The pair of the last step, where it shows positive curvature; α by Gilbert and Lemaréchal (1989)."""
    s, z = x - old.x, gradient - old.gradient
    alpha, b = old.alpha, float(s @ z)
    if not b > 1e-10 * np.sqrt((s @ s) * (z @ z)):
        return Step(x, gradient, energy, alpha, old.s, old.z)
    if not old.s.shape[1]:
        alpha = np.full_like(alpha, b / float(z @ z))
    a, c = float(z @ (alpha * z)), float(s @ (s / alpha))
    alpha = 1 / (a / (b * alpha) + z**2 / b - a * s**2 / (b * c * alpha**2))
    alpha = np.clip(np.where(np.isfinite(alpha) & (alpha > 0), alpha, old.alpha), 1e-20, 1e20)
    join = lambda many, one: np.concatenate([many, one[:, None]], axis=1)[:, -memory:]
    return Step(x, gradient, energy, alpha, join(old.s, s), join(old.z, z))


def learned_scale(path: list[Step]) -> np.ndarray | None:
    """√diag H of the last step that has a Gaussian; None where nothing was learned on the way."""
    for step in reversed(path[1:]):
        try:
            return Approximation.of(step).scale
        except np.linalg.LinAlgError:  # curvature lost to rounding
            continue
    return None


def explore(
    how: Pathfinder, first: Draws, metric: AbstractMetric, rng: np.random.Generator, rows: int
) -> Generator[Request, Draws, Path]:
    """A path from an evaluated start: descend, draw at its steps, keep the one of lowest free energy.

    Args:
        how: lengths.
        first: the start, evaluated.
        metric: any of the kind that sampling will use.
        rng: randomness of the draws.
        rows: evaluations that one call of the program can make.
    """
    path, spent = yield from descend(first, metric, how.steps)
    draws = min(how.draws, rows)
    # steps further and further apart towards the start, which is rarely of use, but is in a funnel
    back = [i for i in (0, 1, 2, 4, 7, 12, 20, 33) if i < len(path)][: rows // draws]
    found: list[tuple[Step, Approximation]] = []
    for step in (path[-1 - i] for i in back):
        try:
            found.append((step, Approximation.of(step)))
        except np.linalg.LinAlgError:  # curvature lost to rounding: this step has no Gaussian
            continue
    noise = rng.standard_normal((len(found), draws, path[0].x.size))
    points, log_q = zip(*(a.draw(n) for (_, a), n in zip(found, noise, strict=True)), strict=True)
    dtype = first.draws.dtype
    result = yield from evaluate(first.chain, np.concatenate(points).astype(dtype), metric)
    spent += len(result.draws)
    usable = np.all(np.isfinite(result.forces), axis=1) & (result.potential < LOST)
    energies = np.where(usable, result.potential, np.inf).reshape(len(found), draws).astype(np.float64)
    free = np.median(energies + np.stack(log_q), axis=1)
    if not np.any(np.isfinite(free)):  # no Gaussian fits: the lowest point itself
        step, fit = min(found, key=lambda f: f[0].energy)
        return Path(step.x[None], np.zeros(1), step.energy - _entropy(fit), step.energy, fit.scale, spent)
    i = int(np.argmin(free))
    good = np.isfinite(energies[i])
    weight = -(energies[i] + log_q[i])[good]
    return Path(points[i][good], weight, float(free[i]), float(np.median(energies[i])), found[i][1].scale, spent)


def chorus(
    parts: list[Generator[Request, Draws, Any]], metric: AbstractMetric, rows: int, chain: Chain
) -> Generator[Request, Draws, list[Any]]:
    """Several coroutines that ask for evaluations only, as one that asks for all of them at once; returns all results.

    An evaluation does not depend on those beside it, so the results do not depend on how paths are grouped.
    """
    results: list[Any] = [None] * len(parts)
    asked: dict[int, np.ndarray] = {}

    def go_on(i: int, answer: Draws | None) -> None:
        try:
            request = next(parts[i]) if answer is None else parts[i].send(answer)
            assert request.points is not None
            asked[i] = request.points
        except StopIteration as stop:
            results[i] = stop.value

    for i in range(len(parts)):
        go_on(i, None)
    while asked:
        now, asked = asked, {}
        points = np.concatenate(list(now.values()))
        answers = []
        for i in range(0, len(points), rows):
            answers.append((yield from evaluate(chain, points[i : i + rows], metric)))
        fields = [np.concatenate([getattr(a, f) for a in answers]) for f in ("draws", "forces", "ends", "stats")]
        cuts = np.cumsum([len(p) for p in now.values()])[:-1]
        for i, *own in zip(now, *(np.split(f, cuts) for f in fields), strict=True):
            go_on(i, Draws(chain, *own))
    return results


def _entropy(q: Approximation) -> float:
    return 0.5 * q.mean.size * np.log(2 * np.pi * np.e) + float(
        np.log(q.root).sum() + np.log(np.diag(q.cholesky)).sum()
    )


@dataclass(frozen=True)
class Pool:
    """The paths of a run. They depend on the key alone, so a chain's start does not depend on how many chains run."""

    paths: list[Path]

    @property
    def margin(self) -> float:
        """Free energy above the best path's beyond which a mode has no weight: e⁻¹⁰, and the error of F beside it."""
        return 10.0 + self.paths[0].draws.shape[1]

    @property
    def ceiling(self) -> float:
        """Mean energy above which a chain that has come to rest is not where the weight is."""
        return min(p.energy for p in self.good) + self.margin

    @property
    def good(self) -> list[Path]:
        """Paths that ended where the weight is."""
        best = min(p.free_energy for p in self.paths)
        return [p for p in self.paths if p.free_energy <= best + self.margin]

    def start(self, chain: int, rng: np.random.Generator, *, other: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """(position, scale) for a chain: a draw of its own path if that is good, else of a good one at random.

        Args:
            chain: its number.
            rng: its randomness.
            other: never its own path, where there is another.
        """
        good = self.good
        own = self.paths[chain] if chain < len(self.paths) else None
        path: Any = own if not other and any(own is p for p in good) else None
        if path is None:
            path = good[rng.integers(len(good))]
        weight = np.exp(path.log_weight - path.log_weight.max())
        return path.draws[rng.choice(len(weight), p=weight / weight.sum())], path.scale
