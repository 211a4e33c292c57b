"""Variational free energy: the Gaussian q that minimises F[q] = ⟨E⟩_q − T S[q] ≥ −T log Z.

F is a free energy like any other (`energy.free`): its minimum over all densities is −T log Z at q = e^(−E/T)/Z. Over
mean-field or full-rank Gaussians x = m + Lξ its gradient comes by differentiating through the draw. With a fixed set of
draws ξ (antithetic, whitened, so that mean and covariance are exact) F is deterministic, and L-BFGS finds its minimum;
on a Gaussian target it is −log Z to rounding.

A. Kucukelbir et al., JMLR 18, 14 (2017); R. Giordano et al., JMLR 25 (2024) for the fixed draws.
"""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.flatten_util
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from .._array import Array, Energy, Float, Key, PyTree, Scalar
from .diagnostics import pareto_k
from .failure import Guarded, split
from .flat import Layout, as_key, check_energy, layout, proposer


class Gaussian(eqx.Module):
    """q = N(m, L Lᵀ): L diagonal (mean field) or lower triangular (full rank), with a log-parameterised diagonal."""

    mean: Float[Array, " d"]
    log_scale: Float[Array, " d"]
    below: Float[Array, "d d"] | None

    def __call__(self, noise: Float[Array, " d"]) -> Float[Array, " d"]:
        """m + L ξ."""
        x = self.mean + jnp.exp(self.log_scale) * noise
        return x if self.below is None else x + jnp.tril(self.below, -1) @ noise

    def entropy(self) -> Scalar:
        """S = ½ d (1 + log 2π) + log det L."""
        return 0.5 * self.mean.size * (1 + jnp.log(2 * jnp.pi)) + jnp.sum(self.log_scale)

    def log_density(self, noise) -> Scalar:
        """log q at the point that `noise` becomes."""
        return -0.5 * jnp.sum(noise**2) - 0.5 * noise.size * jnp.log(2 * jnp.pi) - jnp.sum(self.log_scale)


def whitened(key: Key, draws: int, d: int, dtype) -> Float[Array, "draws d"]:
    """Standard normal draws in ± pairs, rotated and scaled to unit covariance exactly where draws ≥ 2d."""
    half = jr.normal(key, (draws // 2, d), dtype)
    if draws // 2 >= d:
        covariance = half.T @ half / half.shape[0]
        half = jax.scipy.linalg.solve_triangular(jnp.linalg.cholesky(covariance), half.T, lower=True).T
    return jnp.concatenate([half, -half])


def free_energy(energy: Energy, q: Gaussian, noise: Float[Array, "draws d"], temperature=1.0) -> Scalar:
    """F[q] = mean of E(m + Lξ) over the draws − T S[q]."""
    return jnp.mean(jax.vmap(lambda n: energy(q(n)))(noise)) - temperature * q.entropy()


class Variational(NamedTuple):
    """The fitted Gaussian.

    Attributes:
        q: in flat, unconstrained coordinates.
        free_energy: F on fresh draws.
        error: its standard error.
        pareto_k: shape of the importance ratios p/q: below 0.7 q may stand for the posterior, above it must not.
        draws: draws of q in the user's space, leaves [draws, …].
        layout: names of the coordinates.
        constrain: free parameters -> the user's space.
    """

    q: Gaussian
    free_energy: float
    error: float
    pareto_k: float
    draws: PyTree
    layout: Layout
    constrain: Callable[[PyTree], PyTree] = lambda x: x

    def initial(self, key: Key) -> PyTree:
        """A start for `sample`, drawn from q, in the user's space."""
        return self.constrain(self.layout(self.q(jr.normal(key, self.q.mean.shape, self.q.mean.dtype))))


def variational(
    energy: Energy,
    initial: PyTree | Callable[[Key], PyTree],
    key: Key,
    *,
    full_rank: bool = True,
    temperature: float = 1.0,
    draws: int | None = None,
    steps: int = 500,
    check: int = 2000,
) -> Variational:
    """Minimise F = U − TS over Gaussians by L-BFGS on fixed draws.

    Args:
        energy: E(x), as for `sample`; with `constrain`, E is on the real line, while `initial` and the draws are in the
            user's space.
        initial: where the mean starts, or `initial(key) -> start point`.
        key: randomness.
        full_rank: correlations or only scales.
        temperature: T.
        draws: size of the fixed set; default max(32, 4d).
        steps: iterations at most.
        check: fresh draws for F, its error and the Pareto-k.

    Raises:
        ValueError: if the energy is not a finite scalar at the start.
        TypeError: if `key` is none.
    """
    key = as_key(key)
    free = proposer(energy, initial)(key)
    shape = layout(free)
    check_energy(energy, shape)
    x0 = jnp.asarray(shape.ravel(free))
    d, dtype = x0.size, x0.dtype
    guarded = Guarded(energy, shape)
    if not bool(jnp.isfinite(split(energy(shape(x0)))[0])):
        raise ValueError("variational: the energy is not finite at the initial point; give another.")
    fixed, fresh = jr.split(key)
    noise = whitened(fixed, draws or max(32, 4 * d), d, dtype)
    q = Gaussian(x0, jnp.full(d, -1.0, dtype), jnp.zeros((d, d), dtype) if full_rank else None)
    objective = lambda q: free_energy(guarded, q, noise, temperature)
    q = _minimise(objective, q, steps)
    # E/T + log q at the same draws: its mean is F/T, and it is constant where q is exact
    ratios, x = jax.lax.map(
        lambda n: (-guarded(q(n)) / temperature - q.log_density(n), q(n)),
        jr.normal(fresh, (check, d), dtype),
        batch_size=256,
    )
    constrain = getattr(energy, "constrain", lambda x: x)
    values = -temperature * ratios
    out = jax.vmap(lambda x: constrain(shape(x)))(x)
    k = pareto_k(np.asarray(ratios, np.float64))
    return Variational(q, float(values.mean()), float(values.std() / np.sqrt(check)), k, out, shape, constrain)


def _minimise(objective, q: Gaussian, steps: int) -> Gaussian:
    """L-BFGS-B of SciPy in float64 on the flattened parameters, one compiled value and gradient."""
    import scipy.optimize  # a slow import, and needed here only

    flat, unravel = jax.flatten_util.ravel_pytree(q)
    evaluate = jax.jit(jax.value_and_grad(lambda v: objective(unravel(v))))

    def both(v):
        value, gradient = evaluate(jnp.asarray(v, flat.dtype))
        return float(value), np.asarray(gradient, np.float64)

    options = {"maxiter": steps, "maxcor": 20, "ftol": 1e-15, "gtol": 1e-9}
    result = scipy.optimize.minimize(both, np.asarray(flat, np.float64), jac=True, method="L-BFGS-B", options=options)
    return unravel(jnp.asarray(result.x, flat.dtype))
