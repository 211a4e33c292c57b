"""Collocation points that follow the residual: drawn with density p(x) ∝ |r(x)|ᵏ / mean|r|ᵏ + c, weights ∝ 1/p.

C. Wu, M. Zhu, Q. Tan, Y. Kartha, L. Lu, CMAME 403 (2023) 115671: RAD (eq. 2: every point drawn anew) and RAR-D (some
added to those at hand). `method.Collocation(refine=…)` adds: drawn anew, points left the smooth part unseen and
errors grew. There all points weigh the same; here the weights are those of importance sampling, so Σ w f still
estimates ∫ f and the loss goes on meaning ½ ∫ |r|². Among M uniform candidates the i-th is taken with probability π_i
= min(1, s p_i), Σ π_i = n, and weighs |Ω| / (M π_i) (Horvitz & Thompson 1952). The draw is systematic along a space-
filling curve: no point twice, and one in each stretch of equal mass, which evens the points out in space.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float

from .._array import Key
from ._clock import run
from .domain import AbstractDomain, Points, join
from .residual import Term, mean_weights

BATCH = 256  # candidates whose residual is formed at once


def refine(
    residual: Callable[[Float[Array, "M D"]], Array],
    points: Points,
    domain: AbstractDomain,
    key: Key,
    *,
    power: float | int = 1.0,
    floor: float | int = 1.0,
    candidates: int | None = None,
    add: int | None = None,
) -> Points:
    """Quadrature points of a domain where the residual is large: ∫ f ≈ Σ w f still holds, in expectation.

    Args:
        residual: r at points [M, D]: [M], or [M, q] of which the norm is taken.
        points: those at hand: as many new ones replace them (RAD), unless `add` is given.
        domain: where; any that can `sample`: Boolean combinations and meshes too.
        key: of the candidates and of the draw.
        power: k ≥ 0; 0 is uniform.
        floor: c ≥ 0: the share that is uniform. Where p ≈ 0 no point falls: with c = 0, Σ w f misses what f has there.
        candidates: M, 16 per point by default.
        add: how many to draw beside `points`, which stay (RAR-D; the paper's are k = 2, c = 0). Both sets are
            quadratures of their own, so each counts by its number of points.

    Raises:
        ValueError: k or c negative, fewer candidates than points, no candidates inside the domain, or a residual that
            is not finite (the point is named).
    """
    n = len(points) if add is None else add
    M = 16 * n if candidates is None else candidates
    if not (np.isfinite(power) and power >= 0):
        raise ValueError(f"refine: power k must be finite and not negative, not {power}")
    if not (np.isfinite(floor) and floor >= 0):
        raise ValueError(f"refine: floor c must be finite and not negative, not {floor}")
    if n < 1 or n > M:
        raise ValueError(f"refine: {M} candidates for {n} new points; draw at least one point, from more candidates")
    k1, k2 = jr.split(key)
    x = domain.sample(k1, M)
    size = np.asarray(residual(x))
    if size.shape[:1] != (M,):
        raise ValueError(
            f"refine: the residual of {M} points has shape {list(size.shape)}: one row per point is needed"
        )
    size = np.abs(size) if size.ndim == 1 else np.linalg.norm(size.reshape(M, -1), axis=1)
    bad = np.flatnonzero(~np.isfinite(size))
    if len(bad):
        where = ", ".join(f"{v:.6g}" for v in np.asarray(x[bad[0]]))
        raise ValueError(
            f"refine: the residual is not finite at {len(bad)} of {M} candidates, the first at ({where}); "
            "a singular point there, or a field that diverged"
        )
    order = _curve((np.asarray(x) - domain.lower) / (domain.upper - domain.lower))
    chance = _chances(size[order], n, float(power), float(floor))
    edges = np.cumsum(chance)
    ticks = (np.arange(n) + float(jr.uniform(k2))) * (edges[-1] / n)
    chosen = np.minimum(np.searchsorted(edges, ticks, side="right"), M - 1)
    new = x[order[chosen]]
    fresh = Points(new, jnp.asarray(domain.volume() / (M * chance[chosen]), new.dtype), jnp.zeros_like(new))
    if add is None:
        return fresh
    share = len(points) / (len(points) + n)
    scaled = lambda p, by: Points(p.x, by * p.w, p.normal)
    return join([scaled(points, share), scaled(fresh, 1 - share)])


def refine_terms(
    terms: tuple[Term, ...], field: Callable, domain: AbstractDomain, key: Key, *, call: Callable = run, **options
) -> tuple:
    """The terms of a loss with the points inside the domain drawn anew by the residual of `field`; boundaries stay.

    Shapes stay too (unless `add` is given), so nothing that was compiled for the terms is compiled again.

    Args:
        terms: from `residual.strong` or `residual.mixed`, or `Collocation.terms` of `trained.network_loss`.
        field: where the solver stands.
        domain: the problem's.
        key: of the draw.
        call: how to run the residual: `Clock.call` counts its compilation apart.
        **options: `power`, `floor`, `candidates`, `add` of `refine`.
    """
    inside = [t for t in terms if not np.any(np.asarray(t.points.normal))]  # boundary points have normals
    if not inside:
        raise ValueError("refine: no term has points inside the domain")
    points = refine(lambda x: call(pointwise, tuple(inside), field, x), inside[0].points, domain, key, **options)
    points = mean_weights(points)
    replaced = lambda t: eqx.tree_at(lambda t: t.points, t, points)
    return tuple(replaced(t) if any(t is i for i in inside) else t for t in terms)


@eqx.filter_jit
def pointwise(terms: tuple[Term, ...], field: Callable, x: Float[Array, "M D"]) -> Float[Array, " M"]:
    """√Σ|r|² over terms, dimensionless and without weights, at any points."""

    def one(x):
        at = Points(x[None], jnp.ones((1,), x.dtype), jnp.zeros_like(x)[None])
        values = [eqx.tree_at(lambda t: t.points, term, at).evaluate(field) for term in terms]
        return jnp.sqrt(sum(jnp.sum(v**2) for v in values))

    pieces = -(-len(x) // BATCH)
    index = np.minimum(np.arange(pieces * BATCH), len(x) - 1)
    found = jax.lax.map(jax.vmap(one), x[index].reshape(pieces, BATCH, -1))
    return found.reshape(-1)[: len(x)]


def _chances(size: np.ndarray, n: int, power: float, floor: float) -> np.ndarray:
    """π_i = min(1, s p_i) with Σ π = n: what is too likely is taken for certain, the rest shared out anew."""
    scale = np.max(size)
    p = (size / scale) ** power if scale > 0 else np.ones_like(size)
    p = p / np.mean(p) + floor
    if np.sum(p > 0) < n:
        raise ValueError(
            f"refine: {np.sum(p > 0)} of {len(p)} candidates have a positive density, {n} points are wanted: give "
            "floor > 0, or more candidates"
        )
    chance = np.minimum(1.0, n * p / np.sum(p))
    while True:
        sure = chance >= 1.0
        rest = p * ~sure
        if sure.sum() >= n:
            return chance
        again = np.where(sure, 1.0, (n - sure.sum()) * rest / np.sum(rest))
        if np.all(again <= 1.0):
            return again
        chance = np.minimum(1.0, again)


def _curve(unit: np.ndarray) -> np.ndarray:
    """The order of points of the unit cube along Morton's curve: bits of the coordinates interleaved."""
    D = unit.shape[1]
    bits = min(20, 62 // D)
    cell = np.clip(unit * 2**bits, 0, 2**bits - 1).astype(np.int64)
    code = np.zeros(len(unit), np.int64)
    for b in range(bits):
        for d in range(D):
            code |= ((cell[:, d] >> b) & 1) << (b * D + d)
    return np.argsort(code, kind="stable")
