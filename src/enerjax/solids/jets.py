"""Values and derivatives of a field at a point, by forward mode, and the product rule on them.

A jet holds f, ∂f/∂x_i and the unique ∂²f/∂x_i∂x_j (i ≤ j): S = 1, 1 + D or 1 + D + D(D+1)/2 numbers for order 0, 1, 2.
Forward mode over the unique pairs was 2.6–4.5 times faster than nested reverse mode and took 4–7 times less memory.
Fields and bases that know their own jets (tanh layers) propagate all S numbers through each layer at once.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def pairs(D: int) -> list[tuple[int, int]]:
    """(i, j) with i ≤ j: the unique second derivatives."""
    return [(i, j) for i in range(D) for j in range(i, D)]


def length(D: int, order: int) -> int:
    """S, the numbers in a jet."""
    return 1 + (D if order > 0 else 0) + (len(pairs(D)) if order > 1 else 0)


def jet(f: Callable, x: Float[Array, " D"], order: int) -> Float[Array, "S ..."]:
    """f and its derivatives up to `order` at x, stacked in front of f's own shape; by f's own `jet` if it has one."""
    if hasattr(f, "jet"):
        return f.jet(x, order)
    D = x.shape[0]
    e = jnp.eye(D, dtype=x.dtype)
    if order == 0:
        return f(x)[None]
    along = lambda v: lambda x: jax.jvp(f, (x,), (v,))
    if order == 1:
        rows = [along(e[i])(x) for i in range(D)]
        return jnp.stack([rows[0][0], *(r[1] for r in rows)])
    first, second, value = [None] * D, [], None
    for i, j in pairs(D):
        (value, first[j]), (_, ddf) = jax.jvp(along(e[j]), (x,), (e[i],))
        second.append(ddf)
    return jnp.stack([value, *first, *second])  # pyright: ignore[reportArgumentType]


def product(a: Float[Array, "S ..."], b: Float[Array, "S N"], D: int, order: int) -> Float[Array, "S N"]:
    """The jet of a b from the jets of a (one function, or N) and b (N functions)."""
    rows = [a[0] * b[0]]
    if order > 0:
        rows += [a[0] * b[1 + i] + a[1 + i] * b[0] for i in range(D)]
    if order > 1:
        for s, (i, j) in enumerate(pairs(D), start=1 + D):
            rows.append(a[0] * b[s] + a[1 + i] * b[1 + j] + a[1 + j] * b[1 + i] + a[s] * b[0])
    return jnp.stack(rows)


def shift(a: Float[Array, "S N"], b: Float[Array, " N"]) -> Float[Array, "S N"]:
    """The jets of a + b, b constant."""
    return jnp.concatenate([a[:1] + b[None], a[1:]])


def tanh(a: Float[Array, "S N"], D: int, order: int) -> Float[Array, "S N"]:
    """The jets of tanh a: t, t' a_i and t' a_ij + t'' a_i a_j, with t' = 1 − t², t'' = −2tt'."""
    # split, not indexed: slices transpose to one padded array each, S² sums in every gradient
    value, *rest = (row[0] for row in jax.lax.split(a, [1] * a.shape[0]))
    t = jnp.tanh(value)
    rows, slope = [t], 1 - t * t
    first = rest[:D]
    rows += [slope * da for da in first]
    if order > 1:
        bend = -2 * t * slope
        rows += [slope * dda + bend * first[i] * first[j] for dda, (i, j) in zip(rest[D:], pairs(D), strict=True)]
    return jnp.stack(rows)


def unpack(z: Float[Array, "m S"], D: int, order: int):
    """u [m], ∇u [m, D] and ∇∇u [m, D, D] of the jets of m components (None beyond `order`)."""
    u = z[:, 0]
    du = z[:, 1 : 1 + D] if order > 0 else None
    if order < 2:
        return u, du, None
    where = {p: 1 + D + k for k, p in enumerate(pairs(D))}
    index = jnp.array([[where[min(i, j), max(i, j)] for j in range(D)] for i in range(D)])
    return u, du, z[:, index]
