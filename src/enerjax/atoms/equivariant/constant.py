"""y = C x along the leading axis, for a constant matrix C; its transpose is Cᵀy in the same layout.

JAX writes the transpose of a product with the cotangent as the left factor, [N, p] · [p, m], so that XLA moves the long
array [p, N] from rows to columns and back: on a CPU a fifth of the time of energy and forces of a box of water
(benchmarks/potentials). Here it is Cᵀ[m, p] · [p, N], rows as they are. A primitive of its own, because custom rules
for reverse mode would lose forward mode, and all derivatives of an energy are wanted.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array

from ..._precision import chosen_precision


class Matrix:
    """A constant matrix [n, m], the same object wherever it is used: it is compiled in."""

    def __init__(self, values: np.ndarray, transposed: "Matrix | None" = None):
        self.values = values
        self.T: Matrix = transposed or Matrix(np.ascontiguousarray(values.T), self)

    def __matmul__(self, x: Array) -> Array:
        """C x, contracted over the leading axis of x: [m, …] to [n, …]."""
        # what a matrix product of JAX would be given here; the transpose may be taken elsewhere
        return product.bind(x, matrix=self, precision=chosen_precision())


def _product(x, *, matrix: Matrix, precision):
    values = jnp.asarray(matrix.values, x.dtype)
    if len(values) == 1 and jax.default_backend() == "cpu":
        # a row by itself is no matrix product to XLA, which then runs down the columns of x: two rows are
        return jnp.tensordot(jnp.concatenate([values, jnp.zeros_like(values)]), x, 1, precision=precision)[:1]
    return jnp.tensordot(values, x, 1, precision=precision)


def _batched(arguments, axes, **how):
    (x,), (axis,) = arguments, axes
    return product.bind(jnp.moveaxis(x, axis, -1), **how), x.ndim - 1


def _transposed(cotangent, _, *, matrix: Matrix, precision):
    return [product.bind(cotangent, matrix=matrix.T, precision=precision)]


product = Primitive("constant_product")
product.def_impl(_product)
product.def_abstract_eval(lambda x, *, matrix, **_: ShapedArray((len(matrix.values), *x.shape[1:]), x.dtype))
mlir.register_lowering(product, mlir.lower_fun(_product, multiple_results=False))
ad.deflinear2(product, _transposed)
batching.primitive_batchers[product] = _batched
