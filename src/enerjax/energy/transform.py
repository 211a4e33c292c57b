"""Constrained parameters on the real line: bijections with their log-Jacobians.

Each maps free numbers u to a parameter x = x(u) and gives log |det ∂x/∂u|, the volume that a density must carry along.
One parameter at a time. Those of a vector [k] or matrix [k, k] take arrays [..., k] of them too, one by one.

Stan Reference Manual, Constraint Transforms; for correlations D. Lewandowski et al., J. Multivar. Anal. 100, 1989
(2009).
"""

import abc
import functools
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp

from .._array import Array, Scalar


class AbstractTransform(eqx.Module):
    """A bijection from free numbers to a constrained parameter."""

    @abc.abstractmethod
    def forward(self, u: Array) -> tuple[Array, Scalar]:
        """x(u) and log |det ∂x/∂u|."""

    @abc.abstractmethod
    def inverse(self, x: Array) -> Array:
        """u(x)."""


def _each(rank: int) -> Callable:
    """For a method on arrays of `rank` axes: arrays with more are taken one by one, their volumes summed."""

    def of(method: Callable) -> Callable:
        @functools.wraps(method)
        def batched(self, x):
            if x.ndim < rank:
                raise ValueError(
                    f"{type(self).__name__}: it takes {('a vector [k]', 'a matrix [k, k]')[rank - 1]}, or an array of "
                    f"such along its last axes; the parameter has shape {list(x.shape)}."
                )
            if x.ndim == rank:
                return method(self, x)
            out = jax.vmap(lambda one: batched(self, one))(x)
            return (out[0], jnp.sum(out[1])) if isinstance(out, tuple) else out

        return batched

    return of


class Real(AbstractTransform):
    """x = u: no constraint."""

    def forward(self, u):
        return u, jnp.zeros((), u.dtype)

    def inverse(self, x):
        return x


class Positive(AbstractTransform):
    """x = e^u > 0."""

    def forward(self, u):
        return jnp.exp(u), jnp.sum(u)

    def inverse(self, x):
        return jnp.log(x)


class Above(AbstractTransform):
    """x = bound + e^u > bound."""

    bound: float | Array

    def forward(self, u):
        return self.bound + jnp.exp(u), jnp.sum(u)

    def inverse(self, x):
        return jnp.log(x - self.bound)


class Below(AbstractTransform):
    """x = bound − e^u < bound."""

    bound: float | Array

    def forward(self, u):
        return self.bound - jnp.exp(u), jnp.sum(u)

    def inverse(self, x):
        return jnp.log(self.bound - x)


class Interval(AbstractTransform):
    """x = low + (high − low) / (1 + e^(−u))."""

    low: float | Array = 0.0
    high: float | Array = 1.0

    def forward(self, u):
        width = self.high - self.low
        steep = jax.nn.log_sigmoid(u) + jax.nn.log_sigmoid(-u) + jnp.log(width)
        return self.low + width * jax.nn.sigmoid(u), jnp.sum(steep)

    def inverse(self, x):
        return jnp.log(x - self.low) - jnp.log(self.high - x)


class Ordered(AbstractTransform):
    """x₁ = u₁, xᵢ = xᵢ₋₁ + e^(uᵢ): a rising vector [k]."""

    @_each(1)
    def forward(self, u):
        return jnp.cumsum(jnp.concatenate([u[:1], jnp.exp(u[1:])])), jnp.sum(u[1:])

    @_each(1)
    def inverse(self, x):
        return jnp.concatenate([x[:1], jnp.log(jnp.diff(x))])


class PositiveOrdered(AbstractTransform):
    """xᵢ = xᵢ₋₁ + e^(uᵢ), x₀ = 0: a rising vector of positive numbers [k]."""

    @_each(1)
    def forward(self, u):
        return jnp.cumsum(jnp.exp(u)), jnp.sum(u)

    @_each(1)
    def inverse(self, x):
        return jnp.log(jnp.diff(x, prepend=0.0))


class Simplex(AbstractTransform):
    """[k] positive numbers of sum 1 from k − 1 free ones, by breaking a stick.

    zᵢ = σ(uᵢ − log(k − i)), xᵢ = zᵢ (1 − Σ_{j<i} xⱼ): u = 0 is the centre.
    """

    @_each(1)
    def forward(self, u):
        k = u.shape[0] + 1
        v = u - jnp.log(jnp.arange(k - 1, 0, -1, dtype=u.dtype))
        log_z, log_rest = jax.nn.log_sigmoid(v), jax.nn.log_sigmoid(-v)
        left = jnp.concatenate([jnp.zeros(1, u.dtype), jnp.cumsum(log_rest)])  # log of the stick that is left
        x = jnp.exp(left + jnp.concatenate([log_z, jnp.zeros(1, u.dtype)]))
        return x, jnp.sum(log_z + log_rest + left[:-1])

    @_each(1)
    def inverse(self, x):
        k = x.shape[0]
        rest = jnp.cumsum(x[::-1])[::-1][1:]  # what is left after piece i
        return jnp.log(x[:-1]) - jnp.log(rest) + jnp.log(jnp.arange(k - 1, 0, -1, dtype=x.dtype))


class CorrelationCholesky(AbstractTransform):
    """The Cholesky factor L [k, k] of a correlation matrix, from k(k−1)/2 free numbers: rows of unit length.

    With canonical partial correlations zᵢⱼ = tanh uᵢⱼ, Lᵢⱼ = zᵢⱼ √(1 − Σ_{m<j} Lᵢₘ²). The log-Jacobian is that of
    u ↦ the strictly lower triangle of L.
    """

    size: int = eqx.field(static=True)

    @_each(1)
    def forward(self, u):
        k = self.size
        rows, columns = jnp.tril_indices(k, -1)
        z = jnp.zeros((k, k), u.dtype).at[rows, columns].set(jnp.tanh(u))
        log_tanh = 2 * (jnp.log(2.0) - u - jax.nn.softplus(-2 * u))  # log(1 − tanh²u), finite wherever u is
        log_rest = jnp.zeros((k, k), u.dtype).at[rows, columns].set(log_tanh / 2)
        left = jnp.cumsum(log_rest, axis=1) - log_rest  # log √(1 − Σ_{m<j} L²)
        lower = jnp.tril(jnp.exp(left) * (z + jnp.eye(k, dtype=u.dtype)))
        return lower, jnp.sum(log_tanh) + jnp.sum(jnp.where(jnp.tri(k, k, -1, dtype=bool), left, 0.0))

    @_each(2)
    def inverse(self, x):
        squares = jnp.cumsum(x**2, axis=1) - x**2
        z = x / jnp.sqrt(jnp.maximum(1 - squares, jnp.finfo(x.dtype).tiny))
        return jnp.arctanh(z[jnp.tril_indices(self.size, -1)])
