"""The vector space of pytrees of arrays: what every flow, chain and fit does arithmetic in."""

import functools
import operator

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool

from ._array import Key, PyTree, Scalar


def add(x: PyTree, y: PyTree) -> PyTree:
    """x + y."""
    return jax.tree.map(operator.add, x, y)


def sub(x: PyTree, y: PyTree) -> PyTree:
    """x − y."""
    return jax.tree.map(operator.sub, x, y)


def scale(a, x: PyTree) -> PyTree:
    """a x."""
    return jax.tree.map(lambda x: a * x, x)


def axpy(a, x: PyTree, y: PyTree) -> PyTree:
    """a x + y, for a number `a`."""
    return jax.tree.map(lambda x, y: a * x + y, x, y)


def dot(x: PyTree, y: PyTree) -> Scalar:
    """⟨x, y⟩, summed over all leaves."""
    products = jax.tree.leaves(jax.tree.map(lambda x, y: jnp.sum(x * y), x, y))
    return functools.reduce(operator.add, products)


def norm(x: PyTree) -> Scalar:
    """√⟨x, x⟩."""
    return jnp.sqrt(dot(x, x))


def zeros_like(x: PyTree) -> PyTree:
    """0."""
    return jax.tree.map(jnp.zeros_like, x)


def where(condition, x: PyTree, y: PyTree) -> PyTree:
    """x where the scalar `condition` holds, else y."""
    return jax.tree.map(lambda x, y: jnp.where(condition, x, y), x, y)


def normal_like(key: Key, x: PyTree) -> PyTree:
    """Independent standard normal numbers in the structure, shapes and dtypes of x."""
    leaves, treedef = jax.tree.flatten(x)
    # one leaf uses the key itself: then our noise is, bit for bit, that of the samplers we are compared with
    keys = jr.split(key, len(leaves)) if len(leaves) > 1 else [key]
    return jax.tree.unflatten(treedef, [jr.normal(k, v.shape, v.dtype) for k, v in zip(keys, leaves, strict=True)])


def all_finite(x: PyTree) -> Bool[Array, ""]:
    """True where every number of every floating leaf is finite."""
    leaves = [jnp.all(jnp.isfinite(v)) for v in jax.tree.leaves(x) if eqx.is_inexact_array(v)]
    return jnp.all(jnp.stack(leaves)) if leaves else jnp.array(True)
