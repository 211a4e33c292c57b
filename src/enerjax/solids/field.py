"""Fields: what an unknown displacement (pressure, stress) is made of, with boundary values built in.

    u_i(x) = lift_i(x) + factor_i(x) v_i(x)

where factor_i vanishes on the parts that prescribe u_i and lift_i takes the prescribed values there, so no weight has
to enforce them. v is linear in its coefficients (random features: a frozen first layer and a free last one), a
trained network, or a nodal grid; all through the same interface `field(x) -> [m]`.
"""

import abc
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float

from .._array import Key
from . import jets

Point = Float[Array, " D"]


class AbstractBasis(eqx.Module):
    """N functions of a point: φ(x) [N]."""

    @abc.abstractmethod
    def __call__(self, x: Point) -> Float[Array, " N"]:
        """φ(x)."""

    @property
    @abc.abstractmethod
    def size(self) -> int:
        """N."""


def draw_weights(key: Key, size: int, inputs: int, width) -> tuple[Float[Array, "K N"], Float[Array, " N"]]:
    """w and b of `RandomFeatures`, uniform in [−R, R]."""
    draw = width * jr.uniform(key, (inputs + 1, size), minval=-1.0, maxval=1.0, dtype=float)
    return draw[:-1], draw[-1]


class RandomFeatures(AbstractBasis):
    """φ_n(x) = tanh(w_n·ξ(x) + b_n): a hidden layer with frozen random weights, over the coordinates ξ of the domain.

    With w, b uniform in [−R, R] the width R sets the wave length; the solver chooses it by the residual.
    """

    weights: Float[Array, "K N"]
    bias: Float[Array, " N"]
    coordinates: Callable

    @classmethod
    def create(cls, key: Key, size: int, inputs: int, width, coordinates: Callable) -> "RandomFeatures":
        """N features of K coordinates with width R."""
        return cls(*draw_weights(key, size, inputs, width), coordinates)

    def __call__(self, x: Point) -> Float[Array, " N"]:
        """tanh(ξ·w + b)."""
        return jnp.tanh(self.coordinates(x) @ self.weights + self.bias)

    def jet(self, x: Point, order: int) -> Float[Array, "S N"]:
        """φ and its derivatives."""
        a = jets.jet(self.coordinates, x, order) @ self.weights
        return jets.tanh(jets.shift(a, self.bias), x.shape[0], order)

    @property
    def size(self) -> int:
        """N."""
        return self.bias.shape[0]


class FourierFeatures(AbstractBasis):
    """cos(w_n·ξ + b_n): for waves and periodic fields."""

    weights: Float[Array, "K N"]
    bias: Float[Array, " N"]
    coordinates: Callable

    @classmethod
    def create(cls, key: Key, size: int, inputs: int, width, coordinates: Callable) -> "FourierFeatures":
        """N waves of K coordinates, wave numbers uniform in [−πR, πR]."""
        draw = jr.uniform(key, (inputs + 1, size), minval=-1.0, maxval=1.0, dtype=float)
        return cls(jnp.pi * width * draw[:-1], jnp.pi * draw[-1], coordinates)

    def __call__(self, x: Point) -> Float[Array, " N"]:
        """cos(ξ·w + b)."""
        return jnp.cos(self.coordinates(x) @ self.weights + self.bias)

    @property
    def size(self) -> int:
        """N."""
        return self.bias.shape[0]


class Enrichment(AbstractBasis):
    """Functions known to be in the solution: a corner's r^λ, a hole's decay, a rigid motion."""

    functions: Callable  # x -> [N]
    count: int

    def __call__(self, x: Point) -> Float[Array, " N"]:
        """The functions at x."""
        return self.functions(x)

    @property
    def size(self) -> int:
        """N."""
        return self.count


class Affine(AbstractBasis):
    """1 and the coordinates scaled to [−1, 1]: constant strain."""

    lower: np.ndarray = eqx.field(converter=np.asarray)
    upper: np.ndarray = eqx.field(converter=np.asarray)

    def __call__(self, x: Point) -> Float[Array, " N"]:
        """(1, ξ)."""
        lower, upper = jnp.asarray(self.lower, x.dtype), jnp.asarray(self.upper, x.dtype)
        return jnp.concatenate([jnp.ones((1,), x.dtype), (2 * x - lower - upper) / (upper - lower)])

    @property
    def size(self) -> int:
        """1 + D."""
        return 1 + len(self.lower)


class Stacked(AbstractBasis):
    """Several bases as one."""

    bases: tuple[AbstractBasis, ...]

    def __call__(self, x: Point) -> Float[Array, " N"]:
        """(φ₁, φ₂, …)."""
        return jnp.concatenate([basis(x) for basis in self.bases])

    def jet(self, x: Point, order: int) -> Float[Array, "S N"]:
        """(φ₁, φ₂, …) and their derivatives."""
        return jnp.concatenate([jets.jet(basis, x, order) for basis in self.bases], axis=1)

    @property
    def size(self) -> int:
        """Σ N."""
        return sum(basis.size for basis in self.bases)


class BuiltIn(eqx.Module):
    """The boundary values of a field: `factor` and `lift`, x ↦ [m]."""

    factor: Callable
    lift: Callable

    def jet(self, x: Point, order: int, inner: Float[Array, "S m"]) -> Float[Array, "S m"]:
        """The jets of lift + factor v from those of v."""
        lift, factor = jets.jet(self.lift, x, order), jets.jet(self.factor, x, order)
        return lift + jets.product(factor, inner, x.shape[0], order)


class LinearField(eqx.Module):
    """u_i(x) = lift_i(x) + factor_i(x) Σ_n c_in φ_n(x)."""

    basis: AbstractBasis
    built_in: BuiltIn
    coefficients: Float[Array, "m N"]

    def __call__(self, x: Point) -> Float[Array, " m"]:
        """u(x)."""
        return self.built_in.lift(x) + self.built_in.factor(x) * (self.coefficients @ self.basis(x))

    def jet(self, x: Point, order: int) -> Float[Array, "S m"]:
        """u and its derivatives."""
        return self.built_in.jet(x, order, jets.jet(self.basis, x, order) @ self.coefficients.T)


class NetworkField(eqx.Module):
    """u_i(x) = lift_i(x) + factor_i(x) N_i(ξ(x)), N any trained network."""

    network: Callable
    built_in: BuiltIn
    coordinates: Callable = eqx.field(static=True)

    def __call__(self, x: Point) -> Float[Array, " m"]:
        """u(x)."""
        return self.built_in.lift(x) + self.built_in.factor(x) * self.network(self.coordinates(x))

    def jet(self, x: Point, order: int) -> Float[Array, "S m"]:
        """u and its derivatives: through the layers at once where the network knows how, else by forward mode."""
        if not hasattr(self.network, "push"):
            return self.built_in.jet(x, order, jets.jet(lambda x: self.network(self.coordinates(x)), x, order))
        inner = self.network.push(jets.jet(self.coordinates, x, order), x.shape[0], order)
        return self.built_in.jet(x, order, inner)


class GridField(eqx.Module):
    """u_i(x) = lift_i(x) + factor_i(x) Σ_a h_a(ξ) c_ia: values at the nodes of a grid over [−1, 1]^K, multilinear
    between.

    The same energies and solvers run on it as on a network: a finite element by another name.
    """

    values: Float[Array, "..."]  # [m, n₁, …, n_K]
    built_in: BuiltIn
    coordinates: Callable = eqx.field(static=True)

    def __call__(self, x: Point) -> Float[Array, " m"]:
        """u(x)."""
        xi = self.coordinates(x)
        value = self.values
        for k in range(xi.shape[0]):  # one direction at a time: the first axis after the components
            n = self.values.shape[1 + k]
            t = jnp.clip((xi[k] + 1) / 2 * (n - 1), 0.0, n - 1.0)
            i = jnp.clip(jax.lax.stop_gradient(jnp.floor(t)).astype(int), 0, n - 2)
            low, high = jnp.take(value, i, axis=1), jnp.take(value, i + 1, axis=1)
            value = low + (t - i) * (high - low)
        return self.built_in.lift(x) + self.built_in.factor(x) * value


class MLP(eqx.Module):
    """tanh layers with Glorot weights and a linear last layer, x [K] ↦ [m]: the usual PINN network, in the ambient
    dtype.
    """

    weights: tuple[Array, ...]
    biases: tuple[Array, ...]

    @classmethod
    def create(cls, key: Key, sizes: tuple[int, ...]) -> "MLP":
        """`sizes` from input to output, such as (2, 24, 24, 2)."""
        layers = list(zip(jr.split(key, len(sizes) - 1), sizes[:-1], sizes[1:], strict=True))
        weights = tuple(jr.normal(k, (a, b), dtype=float) * jnp.sqrt(2.0 / (a + b)) for k, a, b in layers)
        return cls(weights, tuple(jnp.zeros(b) for _, _, b in layers))

    def hidden(self, x: Array) -> Array:
        """The last hidden layer: the basis that variable projection solves over."""
        for W, b in zip(self.weights[:-1], self.biases[:-1], strict=True):
            x = jnp.tanh(x @ W + b)
        return x

    def __call__(self, x: Array) -> Array:
        """The output."""
        return self.hidden(x) @ self.weights[-1] + self.biases[-1]

    def push(self, z: Float[Array, "S K"], D: int, order: int) -> Float[Array, "S m"]:
        """The output's jets from those of the input: each layer's matrix meets all S numbers at once, so a gradient
        of second derivatives costs about 3 S forward passes.
        """
        for W, b in zip(self.weights[:-1], self.biases[:-1], strict=True):
            z = jets.tanh(jets.shift(z @ W, b), D, order)
        return jets.shift(z @ self.weights[-1], self.biases[-1])
