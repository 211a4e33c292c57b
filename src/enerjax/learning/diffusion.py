"""Score-based diffusion: noise is added by an Ornstein–Uhlenbeck flow and taken away by the force of a learned energy.

    forward      dx = −½ β x dt + √β dW                        xₜ = α x₀ + σ ε,  α = e^(−½∫β),  σ² = 1 − α²
    reverse      dx = (−½ β x + β ∇E) dt + √β dW̄               (t falling from 1 to 0)
    probability  ẋ = −½ β x + ½ β ∇E                            the same marginals without noise, hence likelihoods

The score ∇ log pₜ is −∇ₓE(x, t): a conservative field by construction, and E(x, 0) a potential of mean force up to a
constant. Y. Song et al., ICLR 2021 (arXiv 2011.13456), eqs. (6), (13); P. Vincent, Neural Comput. 23, 1661 (2011).
"""

from collections.abc import Callable

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from .._array import Key, Scalar
from ..path.solve import solve

TimeEnergy = Callable[[Array, Scalar], Scalar]  # E(x, t)


class Noise(eqx.Module):
    """The variance-preserving noise β(t) = β₀ + t (β₁ − β₀), t ∈ [0, 1].

    Attributes:
        slow: β₀.
        fast: β₁; ∫β = (β₀ + β₁)/2 decides how little of the data is left at t = 1.
    """

    # static: numbers, so that the dtype of the state decides
    slow: float = eqx.field(static=True, default=0.1)
    fast: float = eqx.field(static=True, default=12.0)

    def rate(self, t: float | Scalar) -> Scalar:
        """β(t)."""
        return jnp.asarray(self.slow + t * (self.fast - self.slow))

    def kernel(self, t: float | Scalar) -> tuple[Scalar, Scalar]:
        """α(t) and σ(t) of xₜ = α x₀ + σ ε."""
        integral = self.slow * t + 0.5 * t**2 * (self.fast - self.slow)
        return jnp.exp(-0.5 * integral), jnp.sqrt(-jnp.expm1(-integral))


def score(energy: TimeEnergy, x: Array, t: float | Scalar) -> Array:
    """s(x, t) = −∂E/∂x."""
    return -jax.grad(energy)(x, t)


def matching_loss(
    energy: TimeEnergy, x: Float[Array, "batch n"], key: Key, *, noise: Noise, earliest: float = 1e-3
) -> Scalar:
    """⟨|σ s(xₜ, t) + ε|²⟩ over data, noise and times: denoising score matching, weighted by σ².

    Its minimiser is the score of the noised data at every t (Vincent 2011). Times are stratified over the batch.

    Args:
        energy: E(x, t).
        x: a minibatch of data.
        key: random key of times and noise.
        noise: the forward flow.
        earliest: the smallest time, where σ is still above rounding.
    """
    times, normal = jr.split(key)
    n = x.shape[0]
    t = earliest + (1 - earliest) * jnp.mod(jr.uniform(times) + jnp.arange(n) / n, 1.0)
    eps = jr.normal(normal, x.shape, x.dtype)

    def one(x, t, eps):
        alpha, sigma = noise.kernel(t)
        return jnp.sum((sigma * score(energy, alpha * x + sigma * eps, t) + eps) ** 2)

    return jnp.mean(jax.vmap(one)(x, t, eps))


def probability_flow(
    energy: TimeEnergy,
    x: Float[Array, " n"],
    *,
    noise: Noise,
    earliest: float = 1e-3,
    backwards: bool = True,
    **options,
) -> Float[Array, " n"]:
    """The end of ẋ = −½β x + ½β ∇E: from noise at t = 1 to data at `earliest`, or the other way. One point; vmap."""

    def field(s, x, energy):
        t = 1 - s if backwards else s
        drift = -0.5 * noise.rate(t) * (x + score(energy, x, t))
        return -drift if backwards else drift

    span = jnp.array([0.0, 1 - earliest] if backwards else [earliest, 1.0], x.dtype)
    return solve(field, x, span, energy, **options)[-1]


def reverse_diffusion(
    energy: TimeEnergy,
    x: Float[Array, " n"],
    key: Key,
    *,
    noise: Noise,
    earliest: float = 1e-3,
    steps: int = 400,
) -> Float[Array, " n"]:
    """The end of the reverse SDE from noise x at t = 1, by diffrax's Euler–Maruyama with equal steps. vmap.

    Args:
        energy: E(x, t).
        x: a draw of N(0, 1).
        key: random key of the path.
        noise: the forward flow.
        earliest: where to stop.
        steps: how many; the error falls as 1/steps.
    """
    drift = lambda s, x, energy: noise.rate(1 - s) * (0.5 * x + score(energy, x, 1 - s))
    spread = lambda s, x, energy: jnp.sqrt(noise.rate(1 - s)) * jnp.eye(x.size, dtype=x.dtype)
    like = jax.ShapeDtypeStruct(x.shape, x.dtype)
    brownian = diffrax.VirtualBrownianTree(*jnp.array([0.0, 1.0], x.dtype), tol=0.2 / steps, shape=like, key=key)
    return solve(
        drift,
        x,
        jnp.array([0.0, 1 - earliest], x.dtype),
        energy,
        solver=diffrax.Euler(),
        noise=(spread, brownian),
        controller=diffrax.ConstantStepSize(),
        dt0=(1 - earliest) / steps,
        max_steps=steps + 2,
    )[-1]


def log_likelihood(
    energy: TimeEnergy, x: Float[Array, " n"], *, noise: Noise, earliest: float = 1e-3, **options
) -> Scalar:
    """log p(x) by the probability flow: log N(x₁; 0, 1) + ∫ div(ẋ) dt, with the exact divergence. One point; vmap.

    Song et al. (2021), sec. 4.3. The divergence takes n directional derivatives of the force.
    """

    def field(t, z, energy):
        x, _ = z
        velocity = lambda x: -0.5 * noise.rate(t) * (x + score(energy, x, t))
        return velocity(x), jnp.trace(jax.jacfwd(velocity)(x))

    ends, gained = solve(field, (x, jnp.zeros((), x.dtype)), jnp.array([earliest, 1.0], x.dtype), energy, **options)
    return jnp.sum(jax.scipy.stats.norm.logpdf(ends[-1])) + gained[-1]


class Mixture(eqx.Module):
    """The exact E(x, t) = −log pₜ(x) of a mixture of Gaussians under the forward flow: what a learned energy should be.

    Attributes:
        weights: of the components, summing to 1.
        means: [components, n].
        widths: standard deviations, isotropic.
        noise: the forward flow.
    """

    weights: Float[Array, " components"]
    means: Float[Array, "components n"]
    widths: Float[Array, " components"]
    noise: Noise

    def __call__(self, x: Float[Array, " n"], t: float | Scalar) -> Scalar:
        """−log pₜ(x)."""
        alpha, sigma = self.noise.kernel(t)
        variance = alpha**2 * self.widths**2 + sigma**2
        square = jnp.sum((x[None] - alpha * self.means) ** 2, 1)
        logs = jnp.log(self.weights) - 0.5 * square / variance - 0.5 * x.size * jnp.log(2 * jnp.pi * variance)
        return -jax.nn.logsumexp(logs)

    def sample(self, key: Key) -> Float[Array, " n"]:
        """One draw at t = 0."""
        which, normal = jr.split(key)
        k = jr.choice(which, len(self.weights), p=self.weights)
        return self.means[k] + self.widths[k] * jr.normal(normal, self.means[k].shape)


class EnergyNetwork(eqx.Module):
    """E(x, t) of a smooth network in x and log σ(t), scaled so that its force is of the score's size at every t.

    E = ½|x|² at large noise, where the law is normal, plus (1/σ) times a network of (x, log σ): near the data the score
    grows as 1/σ.
    """

    network: eqx.nn.MLP
    noise: Noise

    def __init__(self, n: int, width: int = 64, depth: int = 3, *, noise: Noise, key: Key):
        self.network = eqx.nn.MLP(n + 1, "scalar", width, depth, jax.nn.silu, key=key)
        self.noise = noise

    def __call__(self, x: Float[Array, " n"], t: float | Scalar) -> Scalar:
        """E(x, t)."""
        alpha, sigma = self.noise.kernel(t)
        inside = self.network(jnp.append(x, jnp.log(sigma)))
        return 0.5 * jnp.sum(x**2) + alpha / sigma * inside
