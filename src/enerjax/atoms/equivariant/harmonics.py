"""Functions of one edge: real spherical harmonics of its direction, Bessel functions of its length.

Both are written for XLA on CPU: few operations, whole arrays of edges, no gathers. The harmonics are e3nn's (order
m = −l … l, y as the polar axis, 'component' normalisation Σₘ Yₗₘ² = 2l + 1), held by a test against
`e3nn_jax.spherical_harmonics`, which spends ten times as many operations on them.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def spherical_harmonics(x, y, z, l_max: int) -> list:
    """Yₗₘ(x, y, z) for a unit vector, l = 0 … l_max, m = −l … l, as a list of (l_max + 1)² arrays like x.

    Yₗ,±ₘ = Nₗₘ Πₗᵐ(y) {Re, Im}(z + ix)ᵐ with the derivative Πₗᵐ = dᵐPₗ/dyᵐ by upward recursion in l; polynomials of
    x, y, z, so every derivative exists. Works on numpy and jax arrays alike.
    """
    one = x * 0 + 1.0
    cosines, sines = [one], [x * 0]  # (z + ix)^m
    for _ in range(l_max):
        c, s = cosines[-1], sines[-1]
        cosines.append(z * c - x * s)
        sines.append(z * s + x * c)
    legendre = {}
    for m in range(l_max + 1):
        legendre[m, m] = one * float(math.prod(range(1, 2 * m, 2)))
        if m < l_max:
            legendre[m + 1, m] = (2 * m + 1) * y * legendre[m, m]
        for l in range(m + 2, l_max + 1):
            legendre[l, m] = ((2 * l - 1) * y * legendre[l - 1, m] - (l + m - 1) * legendre[l - 2, m]) / (l - m)
    out = []
    for l in range(l_max + 1):
        norm = lambda m, l=l: math.sqrt((2 * l + 1) * math.factorial(l - m) / math.factorial(l + m) * (1 + (m > 0)))
        out += [norm(m) * legendre[l, m] * sines[m] for m in range(l, 0, -1)]
        out += [norm(m) * legendre[l, m] * cosines[m] for m in range(l + 1)]
    return out


def envelope(t: Array, p: int = 5) -> Array:
    """1 − (p+1)(p+2)/2 tᵖ + p(p+2) tᵖ⁺¹ − p(p+1)/2 tᵖ⁺², zero beyond t = 1, twice differentiable there.

    J. Gasteiger et al., Directional message passing for molecular graphs (2020), eq. (8).
    """
    tp = t**p
    value = 1.0 + tp * (-(p + 1) * (p + 2) / 2 + t * (p * (p + 2) - t * (p * (p + 1) / 2)))
    return jnp.where(t < 1.0, value, 0.0)


def bessel(r: Float[Array, "..."], cutoff: float, count: int) -> list[Array]:
    """√(2/c) sin(nπr/c)/r · envelope(r/c), n = 1 … count, with one sine and one cosine: Chebyshev's recurrence.

    Gasteiger et al. (2020), eq. (7). Zero beyond the cutoff with two continuous derivatives.
    """
    t = r / cutoff
    s, c = jnp.sin(math.pi * t), jnp.cos(math.pi * t)
    factor = envelope(t) * (math.sqrt(2.0 / cutoff) / r)
    waves, before = [s], s * 0.0
    for _ in range(count - 1):
        waves.append(2.0 * c * waves[-1] - before)
        before = waves[-2]
    return [factor * w for w in waves]


def degrees(l_max: int) -> np.ndarray:
    """The degree l of each component: [0, 1, 1, 1, 2, …]."""
    return np.repeat(np.arange(l_max + 1), 2 * np.arange(l_max + 1) + 1)


def per_component(x: Array, axis: int) -> Array:
    """One entry per degree → one per component along `axis`: x₀, x₁, x₁, x₁, x₂, …

    Slices and broadcasts, because their transposes are sums; a gather's transpose is a scatter, which XLA on CPU does
    row by row: a quarter of the time of energy and forces of a box of water.
    """
    axis %= x.ndim
    parts = []
    for l in range(x.shape[axis]):
        one = jax.lax.slice_in_dim(x, l, l + 1, axis=axis)
        parts.append(jnp.broadcast_to(one, (*x.shape[:axis], 2 * l + 1, *x.shape[axis + 1 :])))
    return jnp.concatenate(parts, axis)
