"""Which inputs a model's answer rests on: derivatives by the input, and the path integral that accounts for all of it.

saliency               |∂f/∂x|
gradient × input       x ∂f/∂x
integrated gradients   (x − x₀) ∫₀¹ ∂f/∂x (x₀ + s(x − x₀)) ds,   which sums to f(x) − f(x₀)
in-silico mutagenesis  f(mutant) − f(wild type), for every single change of a one-hot sequence
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .. import _tree as tree
from .._array import PyTree, Scalar

Model = Callable[[PyTree], Scalar]


def saliency(model: Model, x: PyTree) -> PyTree:
    """|∂f/∂x|, entry by entry."""
    return jax.tree.map(jnp.abs, jax.grad(model)(x))


def gradient_times_input(model: Model, x: PyTree) -> PyTree:
    """x ∂f/∂x: exact shares for a model homogeneous of degree one (sums to f by Euler's theorem)."""
    return jax.tree.map(jnp.multiply, x, jax.grad(model)(x))


def integrated_gradients(model: Model, x: PyTree, baseline: PyTree, *, nodes: int = 32) -> PyTree:
    """(x − x₀) ∫₀¹ ∂f/∂x (x₀ + s(x − x₀)) ds by Gauss–Legendre quadrature.

    Complete: the attributions sum to f(x) − f(x₀), to the error of the quadrature (`completeness` measures it; relus
    converge as 1/nodes², smooth models exponentially). M. Sundararajan, A. Taly and Q. Yan, ICML 2017.
    """
    s, w = np.polynomial.legendre.leggauss(nodes)
    dtype = jnp.result_type(*jax.tree.leaves(x))
    s, w = jnp.asarray((s + 1) / 2, dtype), jnp.asarray(w / 2, dtype)
    change = tree.sub(x, baseline)
    slopes = jax.lax.map(lambda s: jax.grad(model)(tree.axpy(s, change, baseline)), s)
    return jax.tree.map(lambda d, g: d * jnp.tensordot(w, g, 1), change, slopes)


def completeness(model: Model, x: PyTree, baseline: PyTree, attributions: PyTree) -> Scalar:
    """Σ attributions − (f(x) − f(x₀)): zero for an account that leaves nothing out."""
    total = sum(jnp.sum(a) for a in jax.tree.leaves(attributions))
    return total - (model(x) - model(baseline))


def source_norms(model: Model, sources: dict[str, PyTree]) -> dict[str, Scalar]:
    """|∂f/∂source| of every source of a model of several: which of two inputs it listens to.

    Args:
        model: takes the dictionary.
        sources: named inputs, each a pytree of arrays in comparable units (standardise them first).
    """
    return {name: tree.norm(g) for name, g in jax.grad(model)(sources).items()}


def mutagenesis(
    model: Callable[[Float[Array, "sites symbols"]], Scalar], x: Float[Array, "sites symbols"]
) -> Float[Array, "sites symbols"]:
    """f(x with site i set to symbol a) − f(x), for every i and a; zero where a is the symbol already there."""
    sites, symbols = x.shape
    letters = jnp.eye(symbols, dtype=x.dtype)
    mutant = lambda i, a: model(x.at[i].set(letters[a]))
    change = jax.vmap(lambda i: jax.vmap(lambda a: mutant(i, a))(jnp.arange(symbols)))(jnp.arange(sites))
    return change - model(x)
