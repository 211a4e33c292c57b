"""Readings as an energy: E(x) = ½ ‖(y(x) − y)/σ‖², a surrogate of it, its intervals, and whether these are calibrated.

Whatever computes y(x) (a plate for its moduli, a specimen for its law), what follows is the same. Intervals are
Laplace's, x̂ ± q_p √C_kk with C = (JᵀJ)⁻¹: q_p is the normal quantile where σ is known. Where it is not, σ² is
estimated by ‖y(x̂) − y‖²/ν with ν = readings − unknowns, and q_p is Student's with ν degrees of freedom.
"""

import abc
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float
from scipy.special import ndtri, stdtrit

from .._array import Energy, Key, PyTree
from ..energy import AbstractMisfit, Sum
from ..fit.least_squares import jacobian
from ..path.assimilate import Background, gauss_newton


class AbstractReadings(AbstractMisfit):
    """E(x) = ½ ‖(y(x) − data)/noise‖²; `noise` broadcasts against the data."""

    data: eqx.AbstractVar[Array]
    noise: eqx.AbstractVar[float | Array]

    @abc.abstractmethod
    def predict(self, x: PyTree) -> Array:
        """y(x), of the shape of the data."""

    def residual(self, x: PyTree) -> Array:
        """(y(x) − data)/noise."""
        return (self.predict(x) - self.data) / self.noise

    def interpolate(self, centre: Float[Array, " K"], radius: Float[Array, " K"], degree: int = 8) -> "Interpolated":
        """The same misfit within `centre` ± `radius`, its predictions by Chebyshev interpolation in every unknown: a
        few hundred multiplications instead of a solve, so that samplers may ask millions of times.

        Raises:
            ValueError: the interpolant misses a solve by more than 1/100 of the noise somewhere: the radius is too
                large for the degree.
        """
        with jax.enable_x64(True):
            centre, radius = jnp.asarray(centre, float), jnp.asarray(radius, float)
            K, n = centre.shape[0], degree + 1
            t = np.cos((np.arange(n) + 0.5) * np.pi / n)
            grid = np.stack([g.ravel() for g in np.meshgrid(*[t] * K, indexing="ij")], axis=1)
            predict = eqx.filter_jit(lambda m, x: jax.lax.map(lambda v: m.predict(v).ravel(), x))
            values = np.asarray(predict(self, centre[None] + radius[None] * grid)).reshape(*[n] * K, -1)
            inverse = np.linalg.inv(np.cos(np.arange(n)[None, :] * np.arccos(t)[:, None]))
            for k in range(K):
                values = np.moveaxis(np.tensordot(inverse, values, axes=(1, k)), 0, k)
            noise = jnp.broadcast_to(jnp.asarray(self.noise), self.data.shape).ravel()
            data = self.data.ravel()
            made = Interpolated(coefficients=jnp.asarray(values), centre=centre, radius=radius, data=data, noise=noise)
            probes = centre[None] + radius[None] * jr.uniform(jr.key(0), (8, K), minval=-1.0, maxval=1.0)
            gap = float(jnp.max(jnp.abs(jax.vmap(made.predict)(probes) - predict(self, probes)) / noise[None]))
            if not gap <= 0.01:
                raise ValueError(f"interpolation misses by {gap:.1e} of the noise: lower the radius")
            return made


class Interpolated(AbstractReadings):
    """E(θ) = ½ ‖(u(θ) − y)/σ‖², u(θ) = Σ C_{ij…} T_i(t₁) T_j(t₂) …, t = (θ − centre)/radius; +∞ outside |t| ≤ 1.

    Attributes:
        coefficients: C, [degree + 1, …, readings].
        centre, radius: the box, [K].
        data, noise: y and σ, flat.
    """

    coefficients: Float[Array, "..."]
    centre: Float[Array, " K"]
    radius: Float[Array, " K"]
    data: Float[Array, " readings"]
    noise: float | Array

    def predict(self, x: Float[Array, " K"]) -> Float[Array, " readings"]:
        """u at the sensors."""
        t = (x - self.centre) / self.radius
        value = self.coefficients
        for k in range(x.shape[0]):
            waves = [jnp.ones_like(t[k]), t[k]]
            for _ in range(value.shape[0] - 2):
                waves.append(2 * t[k] * waves[-1] - waves[-2])
            value = jnp.tensordot(jnp.stack(waves), value, axes=1)
        return value

    def compressed(self, tolerance: float = 1e-3) -> "Interpolated":
        """The same energy but for a constant, of as few readings as it can tell apart: for samplers.

        Weighed by their noise, readings are A T(θ) with A = U S Vᵀ, and Uᵀ(y/σ) says all of them that θ depends on
        (a sufficient statistic with unit noise). Directions are dropped as long as all of them together move no
        prediction within the box by more than `tolerance` of the noise.
        """
        with jax.enable_x64(True):
            shape, noise = self.coefficients.shape[:-1], np.broadcast_to(self.noise, self.data.shape)
            A = np.asarray(self.coefficients).reshape(-1, len(noise)).T / noise[:, None]
            U, s, V = np.linalg.svd(A, full_matrices=False)
            # |V_k·T| ≤ Σ |V_k| since |T| ≤ 1
            lost = np.sqrt(np.cumsum(((s * np.sum(np.abs(V), axis=1)) ** 2)[::-1]))[::-1]
            r = max(1, int(np.sum(lost > tolerance)))
            C = (s[:r, None] * V[:r]).T.reshape(*shape, r)
            data = U[:, :r].T @ (np.asarray(self.data) / noise)
            return Interpolated(
                coefficients=jnp.asarray(C),
                centre=self.centre,
                radius=self.radius,
                data=jnp.asarray(data),
                noise=jnp.ones(r),
            )

    def residual(self, x: Float[Array, " K"]):
        """(u − y)/σ."""
        inside = jnp.all(jnp.abs(x - self.centre) <= self.radius)
        return jnp.where(inside, (self.predict(x) - self.data) / self.noise, jnp.inf)


def quantile(level: float, freedom: int | None = None) -> float:
    """q with P(|z| < q) = level for a normal z, or for Student's with `freedom` degrees."""
    p = (1 + level) / 2
    return float(ndtri(p) if freedom is None else stdtrit(freedom, p))


def intervals(energy: Energy, x: PyTree, *, level: float = 0.9, noise_known: bool = True) -> tuple[PyTree, PyTree]:
    """Lower and upper ends of Laplace's intervals about a minimum of a misfit (readings, or readings plus a prior).

    Args:
        energy: ½‖r‖² with readings weighted by their noise; of a law by virtual work (`LawMisfit`) too.
        x: its minimum: an array, or any pytree of numbers (a material), of which both ends are then one too.
        level: the probability that an interval is to hold.
        noise_known: whether the noise is the readings' own; if not, its size is estimated from the residual, to which
            virtual work adds a little by linearising what noise does: its intervals are then on the wide side.

    Raises:
        ValueError: unknown noise beside a prior (whose spread is no reading's noise), or no readings to spare.
    """
    with jax.enable_x64(True):
        flat, back = ravel_pytree(jax.tree.map(lambda v: jnp.asarray(v, float), x))
        r, J = eqx.filter_jit(jacobian)(energy, back(flat))
        if noise_known:
            half = quantile(level)
        else:
            half = quantile(level, _freedom(energy, r.size, flat.size)) * jnp.sqrt(r @ r / (r.size - flat.size))
        half = half * jnp.linalg.norm(jnp.linalg.pinv(J), axis=1)
        return back(flat - half), back(flat + half)


def _freedom(energy, readings: int, unknowns: int) -> int:
    if isinstance(energy, Sum):
        raise ValueError("unknown noise is estimated from readings alone: give the misfit without its prior")
    if readings <= unknowns:
        raise ValueError(f"{readings} readings of {unknowns} unknowns leave nothing to estimate the noise from")
    return readings - unknowns


def coverage(
    misfit: AbstractReadings,
    truth: Float[Array, " K"] | Callable[[Key], Float[Array, " K"]],
    key: Key,
    repeats: int,
    *,
    prior: Background | None = None,
    level: float = 0.9,
    steps: int = 4,
    noise_known: bool = True,
) -> Bool[Array, "repeats K"]:
    """Which synthetic data sets' Laplace intervals hold the truth, set by set and unknown by unknown.

    Their mean is `level` ± √(level (1 − level)/repeats) where the misfit is nearly quadratic within its noise. With a
    prior that promise is one over truths drawn from it: give `truth` as a function of a key that draws them. For one
    fixed truth a prior pulls every estimate the same way and no interval need be calibrated.

    Args:
        misfit: the readings; their own data are not used.
        truth: x of all data sets, or key ↦ x.
        key: of truths and noise.
        repeats: how many data sets.
        prior: of x, added to the misfit.
        level: of the intervals.
        steps: Gauss–Newton steps from the truth.
        noise_known: whether the intervals may use the noise; if not they estimate it.
    """
    with jax.enable_x64(True):

        @eqx.filter_jit
        def run(misfit, keys):
            def one(key):
                k1, k2 = jr.split(key)
                x = truth(k1) if callable(truth) else jnp.asarray(truth, float)
                clean = misfit.predict(x)
                data = clean + misfit.noise * jr.normal(k2, clean.shape, clean.dtype)
                readings = eqx.tree_at(lambda m: m.data, misfit, data)
                energy = readings if prior is None else readings + prior
                found, factor = gauss_newton(energy, x, iterations=steps)
                root = jax.scipy.linalg.solve_triangular(factor, jnp.eye(x.size, dtype=x.dtype), lower=True)
                half = jnp.linalg.norm(root, axis=0)
                if noise_known:
                    half = quantile(level) * half
                else:
                    freedom = _freedom(energy, clean.size, x.size)
                    half = quantile(level, freedom) * jnp.sqrt(2 * readings(found) / freedom) * half
                return jnp.abs(found - x) < half

            return jax.lax.map(one, keys)

        return run(misfit, jr.split(key, repeats))
