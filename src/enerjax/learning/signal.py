"""How a signal and its gradient travel through depth: mean field theory of random networks, and waves in residual ones.

A wide random network x ← φ(σ_w W x/√n + σ_b b) carries a variance q and a correlation c from layer to layer,

    q ← σ_w² E[φ(√q z)²] + σ_b²        χ = σ_w² E[φ'(√q z)²],    z ~ N(0, 1)

and its back-propagated gradient grows by χ in every layer: it vanishes below 1, explodes above. B. Poole et al.,
NeurIPS 2016 (arXiv 1606.05340); S. Schoenholz et al., ICLR 2017 (arXiv 1611.01232). He's initialisation of a relu
network is σ_w² = 2, where χ = 1 whatever q.

A deep linear residual network whose layers are steps of Newton's equation for ½c²∫|∂q|² carries a wave instead: neither
its signal nor its gradient decays, both obey g_tt = c² g_ss.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float

from .._array import Key, Scalar
from ..energy.base import AbstractEnergy
from ..flow.phase import Phase
from ..flow.splitting import verlet
from ..path.rollout import rollout

Activation = Callable[[Scalar], Scalar]

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(48)
_REACH = 9.0  # standard deviations; the mass beyond is 2e-19


def _panel(low, high) -> tuple[Array, Array]:
    """Gauss–Legendre nodes and weights on [low, high] times the standard normal density."""
    half = (high - low) / 2
    z = (low + high) / 2 + half * _NODES
    return z, half * _WEIGHTS * jnp.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)


def _mean(function, kink=0.0) -> Scalar:
    """E[f(z)], z ~ N(0, 1), exact to rounding for f smooth on either side of `kink` (relu has one at 0)."""
    kink = jnp.clip(kink, -_REACH, _REACH)
    edges = [-_REACH, (kink - _REACH) / 2, kink, (kink + _REACH) / 2, _REACH]
    total = 0.0
    for low, high in zip(edges, edges[1:], strict=False):
        z, w = _panel(low, high)
        total = total + w @ jax.vmap(function)(z)
    return jnp.asarray(total)


class MeanField(NamedTuple):
    """A random network of infinite width: activation φ, weights N(0, σ_w²/width), biases N(0, σ_b²)."""

    activation: Activation
    sigma_w: float | Scalar
    sigma_b: float | Scalar = 0.0

    def variance(self, q: float | Scalar) -> Scalar:
        """q of the next layer's pre-activations from this one's."""
        return self.sigma_w**2 * _mean(lambda z: self.activation(jnp.sqrt(q) * z) ** 2) + self.sigma_b**2

    def chi(self, q: float | Scalar) -> Scalar:
        """χ(q) = σ_w² E[φ'(√q z)²]: growth of the squared gradient, and of small differences, through one layer."""
        slope = jax.grad(self.activation)
        return self.sigma_w**2 * _mean(lambda z: slope(jnp.sqrt(q) * z) ** 2)

    def correlation(self, c: float | Scalar, q: float | Scalar) -> Scalar:
        """c of the next layer for two inputs of equal variance q and correlation c; its slope at c = 1 is χ."""
        root, s = jnp.sqrt(q), jnp.sqrt(jnp.maximum(1 - c**2, 1e-30))

        def inner(z):
            mixed = lambda y: self.activation(root * (c * z + s * y))
            return self.activation(root * z) * _mean(mixed, kink=-c * z / s)

        return (self.sigma_w**2 * _mean(inner) + self.sigma_b**2) / self.variance(q)

    def fixed_point(self, q: float | Scalar = 1.0, *, iterations: int = 200) -> Scalar:
        """q* = variance(q*), by iterating the map."""
        return rollout(lambda q, _: self.variance(q), jnp.asarray(q, float), length=iterations)[-1]

    def profile(self, q: float | Scalar, depth: int) -> tuple[Float[Array, " depth"], Float[Array, " depth"]]:
        """q and χ of every layer for pre-activations that start with variance q."""
        after = rollout(lambda q, _: self.variance(q), jnp.asarray(q, float), length=depth - 1) if depth > 1 else []
        q = jnp.concatenate([jnp.asarray(q, float)[None], jnp.asarray(after)])
        return q, jax.lax.map(self.chi, q)


def critical_sigma(activation: Activation, q: float | Scalar) -> Scalar:
    """σ_w at which χ(q) = 1: √2 (He) for relu at any q, 1 for tanh as q → 0."""
    return 1 / jnp.sqrt(MeanField(activation, 1.0).chi(q))


def gradient_norms(
    field: MeanField, key: Key, *, depth: int, width: int, q: float | Scalar = 1.0
) -> tuple[Float[Array, " depth"], Float[Array, " depth"]]:
    """Squared pre-activations and squared gradients, per unit, of every layer of one random network.

    The input's pre-activations have variance q; the gradient enters the last layer as unit normal noise.

    Args:
        field: activation and standard deviations.
        key: random key of weights, biases, input and gradient.
        depth: layers, the first pre-activations included.
        width: units in each.
        q: variance of the first pre-activations.
    """
    weights, start, end = jr.split(key, 3)
    h = jnp.sqrt(q) * jr.normal(start, (width,))

    def layer(z, x):
        h, _ = z
        key, probe = x
        w, b = jr.split(key)
        W = jr.normal(w, (width, width)) * field.sigma_w / np.sqrt(width)
        h = W @ field.activation(h) + field.sigma_b * jr.normal(b, (width,)) + probe
        return h, jnp.mean(h**2)

    def forward(h, probes):
        states, q = rollout(layer, (h, jnp.mean(h**2)), (jr.split(weights, depth - 1), probes))
        return states[-1], q

    # the gradient by a zero added to a layer's pre-activation is the signal that arrives there
    probes = jnp.zeros((depth - 1, width))
    _, pull, q_after = jax.vjp(forward, h, probes, has_aux=True)
    at_input, at_layers = pull(jr.normal(end, (width,)))
    g = jnp.concatenate([at_input[None], at_layers])
    return jnp.concatenate([jnp.mean(h**2)[None], q_after]), jnp.mean(g**2, 1)


class WaveEnergy(AbstractEnergy):
    """½ c² Σ ((q_{i+1} − q_i)/Δs)² on a ring: Newton's equation is q_tt = c² q_ss, a Verlet step one residual block."""

    speed: float | Scalar
    spacing: float | Scalar

    def __call__(self, x: Float[Array, " sites"]) -> Scalar:
        """½ c² |∂q|²."""
        return 0.5 * jnp.sum((self.speed * (jnp.roll(x, -1) - x) / self.spacing) ** 2)


def residual_wave(
    speed: float | Scalar, spacing: float | Scalar, dt: float | Scalar, blocks: int
) -> Callable[[tuple[Array, Array]], tuple[Array, Array]]:
    """A deep linear residual network: `blocks` of q ← q + dt p, p ← p − dt c² DᵀD q, written as `flow.verlet`."""
    energy = WaveEnergy(speed, spacing)

    def network(x):
        z = Phase.at(energy, *x)
        z = rollout(lambda z, _: verlet(energy, z, dt), z, length=blocks, stride=blocks)
        return z.position[-1], z.momentum[-1]

    return network


def backward_signal(network, x: tuple[Array, Array], g: tuple[Array, Array]) -> tuple[Array, Array]:
    """The gradient that arrives at the input of `network` when g leaves its output."""
    return jax.vjp(network, x)[1](g)[0]
