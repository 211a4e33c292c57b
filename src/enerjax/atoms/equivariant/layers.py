"""The parts of the message-passing potential: channel mixing, density, many-body product.

Node features are arrays [components, atoms, channels], components first: then channel mixing is one batched matrix
product over components, a Clebsch–Gordan coupling or a change to the sphere grid is one matrix product over everything
else, and no step transposes inside a loop. All algebra of angular momentum runs per atom on what has been summed over
neighbours, never per edge.
"""

import functools
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from ..._array import Key
from .harmonics import per_component
from .tables import couplings, gaunt


def _normal(key: Key, *shape: int, fan_in: int) -> Array:
    return jr.normal(key, shape) / fan_in**0.5


class Mix(eqx.Module):
    """Channel mixing with one matrix per degree: xₗₘ ↦ xₗₘ Wₗ. The only linear map that rotations allow."""

    weight: Float[Array, "degrees inputs outputs"]

    def __init__(self, l_max: int, inputs: int, outputs: int, *, key: Key):
        self.weight = _normal(key, l_max + 1, inputs, outputs, fan_in=inputs)

    def __call__(self, x: Float[Array, "components atoms inputs"]) -> Float[Array, "components atoms outputs"]:
        """One product of [atoms, inputs] and [inputs, outputs] per component."""
        return self.parts(x, 1)[0]

    def parts(self, x: Float[Array, "components atoms inputs"], count: int) -> list[Array]:
        """The outputs in equal parts, a product for each: slices of one would be padded arrays in the gradient."""
        return [x @ w for w in jnp.split(per_component(self.weight, 0), count, -1)]


class Perceptron(eqx.Module):
    """A small MLP with SiLU, without biases: zero in, zero out, so what is zero at the cutoff stays zero."""

    weights: tuple[Array, ...]

    def __init__(self, sizes: Sequence[int], *, key: Key):
        keys = jr.split(key, len(sizes) - 1)
        self.weights = tuple(_normal(k, a, b, fan_in=a) for k, a, b in zip(keys, sizes, sizes[1:], strict=False))

    def __call__(self, x: Array) -> Array:
        """Acts on the last axis."""
        for w in self.weights[:-1]:
            x = 1.6765 * jax.nn.silu(x @ w)  # unit variance for unit-variance input
        return x @ self.weights[-1]


class ManyBody(eqx.Module):
    """Products of a density with itself up to `order`: the many-body features of an atom.

    Three differently mixed copies of the density are multiplied on a sphere grid (Gaunt product): two matrix products
    and pointwise arithmetic in place of a table of coupling coefficients. The rule is exact for the product, so
    equivariance is exact. Each order and degree has weights per species and channel.

    S. Luo, T. Chen and A. Krishnapriyan, Gaunt tensor products (2024); I. Batatia et al., MACE (2022), eq. (10), is the
    many-body product whose place it takes.
    """

    copies: Mix
    weight: Float[Array, "kinds orders degrees channels"]
    out: Mix
    l_in: int = eqx.field(static=True)
    l_out: int = eqx.field(static=True)
    order: int = eqx.field(static=True)

    def __init__(self, l_in: int, l_out: int, order: int, inputs: int, channels: int, kinds: int, *, key: Key):
        k1, k2, k3 = jr.split(key, 3)
        self.l_in, self.l_out, self.order = l_in, l_out, order
        self.copies = Mix(l_in, inputs, order * channels, key=k1)
        self.weight = _normal(k2, kinds, order, l_out + 1, channels, fan_in=order)
        self.out = Mix(l_out, channels, channels, key=k3)

    def __call__(self, density: Float[Array, "m atoms q"], kind: Float[Array, "atoms kinds"]) -> Array:
        """From summed densities [(l_in+1)², atoms, inputs] to features [(l_out+1)², atoms, channels]."""
        synthesis, analysis = gaunt(self.l_in, self.l_out, self.order)
        components = (self.l_out + 1) ** 2
        copies = self.copies.parts(density, self.order)
        weight = per_component(jnp.tensordot(kind, self.weight, 1), 2)  # [atoms, orders, components, channels]
        weight = jnp.moveaxis(weight, (1, 2), (0, 1))
        total = weight[0] * copies[0][:components]
        if self.order > 1:
            product = synthesis @ copies[0]  # [points, atoms, channels]
            for w, project, copy in zip(weight[1:], analysis, copies[1:], strict=True):
                product = product * (synthesis @ copy)
                total = total + w * (project @ product)
        return self.out(total)


class Convolution(eqx.Module):
    """Sum over neighbours of (edge harmonics) ⊗ (features of the neighbour) × (learned radial function).

    Aₗₘ = Σ_paths w_path Σ_j C(l₁ l₂ l) Y_l₁(r̂ᵢⱼ) R_l₂(rᵢⱼ) h_l₂,ⱼ. The sum over j is one batched matrix product per
    atom and l₂, and runs before the coupling.
    """

    radial: Perceptron
    up: Mix
    path: Float[Array, "paths degrees channels"]
    l_edge: int = eqx.field(static=True)
    l_node: int = eqx.field(static=True)

    def __init__(self, l_edge: int, l_node: int, channels: int, basis: int, hidden: Sequence[int], *, key: Key):
        k1, k2, k3 = jr.split(key, 3)
        self.l_edge, self.l_node = l_edge, l_node
        self.radial = Perceptron((basis, *hidden, (l_node + 1) * channels), key=k1)
        self.up = Mix(l_node, channels, channels, key=k2)
        count = sum(len(table.values) for table in couplings(l_edge, l_node, l_edge)) // (l_edge + 1) ** 2
        self.path = jr.normal(k3, (count, l_edge + 1, channels))

    def __call__(self, features, edges, basis, gather) -> Array:
        """From features [(l_node+1)², atoms, channels] to densities [(l_edge+1)², atoms, channels].

        Args:
            features: of every atom.
            edges: harmonics [atoms, (l_edge+1)², K].
            basis: radial functions [atoms, K, basis].
            gather: x [atoms, …] ↦ the neighbours' values [atoms, K, …].
        """
        atoms, components, k = edges.shape
        tables = couplings(self.l_edge, self.l_node, self.l_edge)
        # split, because its transpose is one concatenation; a slice's transpose is a padded array per slice
        widths = [2 * l + 1 for l in range(self.l_node + 1)]
        per_degree = zip(
            jax.lax.split(jnp.swapaxes(self.up(features), 0, 1), widths, 1),
            jax.lax.split(self.radial(basis).reshape(atoms, k, len(widths), -1), [1] * len(widths), 2),
            jax.lax.split(self.path, [len(table.values) // components for table in tables], 0),
            tables,
            strict=True,
        )
        densities = []
        for h, r, path, table in per_degree:
            summed = edges @ (gather(h) * r).reshape(atoms, k, -1)  # [atoms, (l_edge+1)², (2l₂+1) channels]
            summed = jnp.swapaxes(summed.reshape(atoms, -1, h.shape[2]), 0, 1)
            coupled = (table @ summed).reshape(len(path), components, atoms, -1)
            densities.append(jnp.sum(coupled * per_component(path, 1)[:, :, None], 0))
        return functools.reduce(jnp.add, densities)
