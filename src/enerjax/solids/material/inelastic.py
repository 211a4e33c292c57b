"""Small-strain J2 plasticity and viscoelasticity as incremental potentials with internal variables.

Over one time step the stored energy plus what is dissipated is minimised over the internal variables, which leaves a
potential W(ε; state) whose derivative is the stress at the end of the step: the same solvers apply, and the
consistent tangent is its second derivative. Ortiz & Stainier (1999), CMAME 171, 419; Simo & Hughes (1998),
Computational Inelasticity, boxes 3.1–3.2.
"""

from typing import ClassVar, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..._array import Scalar
from .. import kinematics as kin
from ..kinematics import Tensor
from .base import AbstractMaterial


def _deviator(epsilon: Float[Array, "3 3"]) -> Float[Array, "3 3"]:
    return epsilon - jnp.trace(epsilon) / 3 * jnp.eye(3, dtype=epsilon.dtype)


class PlasticState(NamedTuple):
    """ε_p, the deviatoric plastic strain, and α, the equivalent plastic strain √(2/3)∫|ε̇_p|."""

    plastic: Float[Array, "3 3"]
    alpha: Scalar


class J2(AbstractMaterial):
    """Von Mises plasticity with linear isotropic hardening, as the potential of one increment from `state`:

        W = κ/2 (tr ε)² + |s*|²/4μ − ⟨f*⟩²/(2(2μ + ⅔H)),   s* = 2μ(dev ε − ε_p),   f* = |s*| − √⅔(σ_y + Hα)

    In the plane this is plane strain. Boxes 3.1 and 3.2 of Simo & Hughes in closed form.
    """

    bulk: float | jax.Array
    mu: float | jax.Array
    yield_stress: float | jax.Array
    hardening: float | jax.Array
    state: PlasticState
    finite: ClassVar[bool] = False

    @classmethod
    def virgin(cls, bulk, mu, yield_stress, hardening=0.0, dtype=float) -> "J2":
        """A material that has never yielded."""
        return cls(bulk, mu, yield_stress, hardening, PlasticState(jnp.zeros((3, 3), dtype), jnp.zeros((), dtype)))

    def _trial(self, G: Tensor):
        e = kin.strain(kin.embed(G))
        s = 2 * self.mu * (_deviator(e) - self.state.plastic)
        # the norm's derivative at s = 0 is set to 0
        square = jnp.sum(s * s)
        size = jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1.0)), 0.0)
        f = size - jnp.sqrt(2 / 3) * (self.yield_stress + self.hardening * self.state.alpha)
        return e, s, square, size, f

    def __call__(self, G: Tensor) -> Scalar:
        """W(ε; state)."""
        e, _, square, _, f = self._trial(G)
        excess = jnp.maximum(f, 0.0)
        elastic = self.bulk / 2 * jnp.trace(e) ** 2 + square / (4 * self.mu)
        return elastic - excess**2 / (2 * (2 * self.mu + 2 * self.hardening / 3))

    def update(self, G: Tensor) -> "J2":
        """The material at the end of the increment: Δγ = ⟨f*⟩/(2μ + ⅔H), ε_p += Δγ s*/|s*|, α += √⅔ Δγ."""
        _, s, _, size, f = self._trial(G)
        step = jnp.maximum(f, 0.0) / (2 * self.mu + 2 * self.hardening / 3)
        flow = s / jnp.where(size > 0, size, 1.0)
        state = PlasticState(self.state.plastic + step * flow, self.state.alpha + jnp.sqrt(2 / 3) * step)
        return eqx.tree_at(lambda m: m.state, self, state)


class Viscoelastic(AbstractMaterial):
    """Generalised Maxwell solid with K deviatoric branches, as the potential of one backward-Euler step of length dt:

        W = κ/2 (tr ε)² + μ∞|e|² + Σ_k μ_k/(1 + dt/τ_k) |e − q_k|²,   e = dev ε,   τ_k q̇_k = e − q_k

    Attributes:
        bulk, mu: κ and μ∞.
        branch_mu, times: μ_k and τ_k, [K].
        state: q_k, the branches' viscous strains, [K, 3, 3].
        dt: length of the step.
    """

    bulk: float | jax.Array
    mu: float | jax.Array
    branch_mu: Float[Array, " K"]
    times: Float[Array, " K"]
    state: Float[Array, "K 3 3"]
    dt: float | jax.Array
    finite: ClassVar[bool] = False

    @classmethod
    def relaxed(cls, bulk, mu, branch_mu, times, dt) -> "Viscoelastic":
        """A material at rest."""
        branch_mu = jnp.asarray(branch_mu, float)
        return cls(bulk, mu, branch_mu, jnp.asarray(times, float), jnp.zeros((*branch_mu.shape, 3, 3)), dt)

    def __call__(self, G: Tensor) -> Scalar:
        """W(ε; q)."""
        epsilon = kin.strain(kin.embed(G))
        e = _deviator(epsilon)
        branches = self.branch_mu / (1 + self.dt / self.times) * jnp.sum((e[None] - self.state) ** 2, axis=(1, 2))
        return self.bulk / 2 * jnp.trace(epsilon) ** 2 + self.mu * jnp.sum(e * e) + jnp.sum(branches)

    def update(self, G: Tensor) -> "Viscoelastic":
        """The material at the end of the step: q_k = (q_k + dt/τ_k e)/(1 + dt/τ_k)."""
        e, ratio = _deviator(kin.strain(kin.embed(G))), (self.dt / self.times)[:, None, None]
        return eqx.tree_at(lambda m: m.state, self, (self.state + ratio * e[None]) / (1 + ratio))

    def relax(self, strain, ts: Float[Array, " T"], rtol=1e-8, atol=1e-10) -> Float[Array, "T 3 3"]:
        """The stress along a history of strain ε(t) [3, 3], the branches integrated by diffrax instead of Euler
        steps.
        """

        def rate(t, q, args):
            del args
            return (_deviator(strain(t))[None] - q) / self.times[:, None, None]

        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(rate),
            diffrax.Tsit5(),
            ts[0],
            ts[-1],
            None,
            self.state,
            saveat=diffrax.SaveAt(ts=ts),
            stepsize_controller=diffrax.PIDController(rtol=rtol, atol=atol),
            max_steps=100_000,
        )

        def stress(t, q):
            epsilon = strain(t)
            e = _deviator(epsilon)
            volumetric = self.bulk * jnp.trace(epsilon) * jnp.eye(3, dtype=e.dtype)
            return volumetric + 2 * self.mu * e + 2 * jnp.einsum("k,kij->ij", self.branch_mu, e[None] - q)

        return jax.vmap(stress)(ts, solution.ys)
