"""Thermostats and a barostat: motions that keep e^(−H/kT), or e^(−(H + PV)/kT), invariant.

Each is a sub-step to be composed with `splitting.verlet`, as the bath is. What each gives to the system is known, so

    conserved = H − (heat and work given so far)        or, with a chain,    H + energy of the chain

stays constant up to the error of the time step; what it drifts by is what the time step costs.

G. Bussi, D. Donadio and M. Parrinello, J. Chem. Phys. 126, 014101 (2007): velocity rescaling.
G. J. Martyna, M. L. Klein and M. Tuckerman, J. Chem. Phys. 97, 2635 (1992); Mol. Phys. 87, 1117 (1996): chains.
M. Bernetti and G. Bussi, J. Chem. Phys. 153, 114107 (2020); V. Del Tatto et al., Appl. Sci. 12, 1139 (2022): the cell.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from .. import _tree as tree
from .._array import Key, Scalar
from .phase import Phase, as_mass


def _scaled(z: Phase, factor) -> Phase:
    return Phase(z.position, tree.scale(factor, z.momentum), z.force, z.energy)


class VelocityRescaling(eqx.Module):
    """Canonical sampling by one random scale of all momenta: the stochastic partner of Berendsen's thermostat.

    dK = (K̄ − K) dt/τ + 2 √(K K̄/(N_f τ)) dW with K̄ = N_f kT/2, solved exactly over a step (Bussi 2007, eq. A7). Momentum
    and angular momentum at zero stay there, and dynamics on times shorter than τ is hardly disturbed.

    Attributes:
        kT: energy.
        time: relaxation time τ.
    """

    kT: float | Array
    time: float | Array

    def __call__(self, z: Phase, dt, key: Key, mass: Any = 1.0, *, degrees: int) -> Phase:
        """One exact step of length dt for `degrees` degrees of freedom N_f."""
        first, rest = jr.split(key)
        K = as_mass(mass).kinetic(z.momentum)
        c = jnp.exp(-jnp.asarray(dt / self.time, K.dtype))
        share = jnp.asarray(0.5 * self.kT, K.dtype)  # K̄/N_f
        R = jr.normal(first, (), K.dtype)
        S = 2.0 * jr.gamma(rest, jnp.asarray(0.5 * (degrees - 1), K.dtype), dtype=K.dtype)  # N_f − 1 squared normals
        new = c * K + (1.0 - c) * share * (R * R + S) + 2.0 * R * jnp.sqrt(c * (1.0 - c) * share * K)
        # the sign of the scale, eq. A8 in the appendix: it matters for very few degrees of freedom only
        sign = jnp.where(R + jnp.sqrt(c * K / ((1.0 - c) * share)) < 0, -1.0, 1.0).astype(K.dtype)
        return _scaled(z, sign * jnp.sqrt(new / K))


class Chain(eqx.Module):
    """State of a Nosé–Hoover chain: dimensionless positions ξ and velocities ξ̇, [length]."""

    position: Float[Array, " length"]
    velocity: Float[Array, " length"]


class NoseHoover(eqx.Module):
    """Deterministic canonical sampling by a chain of thermostats.

    Masses Q₁ = N_f kT τ², Q_j = kT τ². A sub-step scales the momenta and moves the chain by a fourth-order
    Suzuki–Yoshida splitting, as in Martyna et al. (1996), section 2.

    Attributes:
        kT: energy.
        time: period τ of the chain; about a hundred time steps.
        length: number of thermostats in the chain.
    """

    kT: float | Array
    time: float | Array
    length: int = eqx.field(static=True, default=3)

    def start(self, dtype=float) -> Chain:
        """The chain at rest."""
        zero = jnp.zeros(self.length, jax.dtypes.canonicalize_dtype(dtype))
        return Chain(zero, zero)

    def _masses(self, degrees, dtype):
        weights = jnp.ones(self.length, dtype).at[0].set(degrees)
        return weights, weights * jnp.asarray(self.kT * self.time**2, dtype)

    def energy(self, chain: Chain, degrees: int) -> Scalar:
        """½ Σ Q_j ξ̇_j² + kT (N_f ξ₁ + Σ_{j>1} ξ_j): with it H is conserved."""
        weights, Q = self._masses(degrees, chain.position.dtype)
        return 0.5 * jnp.sum(Q * chain.velocity**2) + self.kT * jnp.sum(weights * chain.position)

    def __call__(self, z: Phase, chain: Chain, dt, mass: Any = 1.0, *, degrees: int) -> tuple[Phase, Chain]:
        """A sub-step of length dt; compose two of dt/2 around a Verlet step."""
        K = as_mass(mass).kinetic(z.momentum)
        weights, Q = self._masses(degrees, chain.position.dtype)
        kT = jnp.asarray(self.kT, chain.position.dtype)
        w = 1.0 / (2.0 - 2.0 ** (1.0 / 3.0))
        M, scale = self.length, jnp.ones((), K.dtype)
        x, v = chain.position, [chain.velocity[j] for j in range(M)]

        def force(j, v, K):
            return ((2.0 * K if j == 0 else Q[j - 1] * v[j - 1] ** 2) - weights[j] * kT) / Q[j]

        for h in (w * dt, (1.0 - 2.0 * w) * dt, w * dt):
            v[M - 1] = v[M - 1] + h / 4 * force(M - 1, v, K)
            for j in reversed(range(M - 1)):
                half = jnp.exp(-h / 8 * v[j + 1])
                v[j] = (v[j] * half + h / 4 * force(j, v, K)) * half
            s = jnp.exp(-h / 2 * v[0])
            scale, K = scale * s, K * s * s
            x = x + h / 2 * jnp.stack(v)
            for j in range(M - 1):
                half = jnp.exp(-h / 8 * v[j + 1])
                v[j] = (v[j] * half + h / 4 * force(j, v, K)) * half
            v[M - 1] = v[M - 1] + h / 4 * force(M - 1, v, K)
        return _scaled(z, scale), Chain(x, jnp.stack(v))


class CellRescaling(eqx.Module):
    """The constant-pressure ensemble by first-order stochastic motion of the cell, isotropic or fully flexible.

    Volume, through λ = √V, whose noise does not depend on the state (Bernetti and Bussi 2020, section II C):

        dλ = (β/4τ) [2λ (P_int − P) + kT/λ] dt + √(β kT/2τ) dW

    Shape, h ← h e^E with a symmetric traceless E (Del Tatto et al. 2022), whose noise depends on the volume alone:

        dE = (β/3τ) dev P_int dt + √(2 β kT/(3 V τ)) dW

    Positions follow the cell, momenta go against it (`stretch`). The density kept invariant is e^(−(H + PV)/kT) dV.

    Attributes:
        kT: energy.
        pressure: P, energy per volume.
        time: relaxation time τ of the cell.
        compressibility: β, volume per energy; a rough value serves, only β/τ enters.
        isotropic: keep the shape of the cell.
    """

    kT: float | Array
    pressure: float | Array
    time: float | Array
    compressibility: float | Array
    isotropic: bool = eqx.field(static=True, default=True)

    def _volume_drift(self, internal, root) -> Scalar:
        """(β/4τ) [2λ (P_int − P) + kT/λ]."""
        rate = self.compressibility / (4.0 * self.time)
        return rate * (2.0 * root * (jnp.trace(internal) / 3.0 - self.pressure) + self.kT / root)

    def _shape_drift(self, internal) -> Float[Array, "3 3"]:
        """(β/3τ) dev P_int."""
        return self.compressibility / (3.0 * self.time) * _deviator(internal)

    def _diffusion(self, volume) -> tuple[Scalar, Scalar]:
        """Of λ and of the shape, β kT/4τ and β kT/(3Vτ)."""
        rate = jnp.asarray(self.compressibility * self.kT / self.time, volume.dtype)
        return rate / 4.0, rate / (3.0 * volume)

    def increment(self, internal: Float[Array, "3 3"], volume, dt, key: Key) -> Float[Array, "3 3"]:
        """E of one step, symmetric; its trace is ln V′/V."""
        one, two = jr.split(key)
        root = jnp.sqrt(volume)
        noise = jnp.sqrt(2.0 * self._diffusion(volume)[0] * dt) * jr.normal(one, (), internal.dtype)
        new = jnp.abs(root + self._volume_drift(internal, root) * dt + noise)  # no cell turns inside out
        E = 2.0 / 3.0 * jnp.log(new / root) * jnp.eye(3, dtype=internal.dtype)
        if self.isotropic:
            return E
        spread = jnp.sqrt(2.0 * self._diffusion(new**2)[1] * dt)
        return E + self._shape_drift(internal) * dt + spread * _deviator(jr.normal(two, (3, 3), internal.dtype))

    def work(self, E, before, volume_before, after, volume_after, dt) -> Scalar:
        """What the barostat gave to H + PV over a step: kT ln [T(back)/T(there)] + kT ln(λ′/λ).

        T are the transition densities there and back. Detailed balance says that H + PV changes by just this, so
        H + PV − Σ work is conserved as dt → 0.
        """
        log = lambda move, drift, diffusion: -jnp.sum((move - drift * dt) ** 2) / (4.0 * diffusion * dt)
        old, new = jnp.sqrt(volume_before), jnp.sqrt(volume_after)
        volume, shape = self._diffusion(volume_after)
        ratio = log(old - new, self._volume_drift(after, new), volume)
        ratio = ratio - log(new - old, self._volume_drift(before, old), volume) + jnp.log(new / old)
        if not self.isotropic:
            E = _deviator(E)
            ratio = ratio + log(-E, self._shape_drift(after), shape) - log(E, self._shape_drift(before), shape)
        return self.kT * ratio


def _deviator(x: Float[Array, "3 3"]) -> Float[Array, "3 3"]:
    """Symmetric and traceless part."""
    return 0.5 * (x + x.T) - jnp.trace(x) / 3.0 * jnp.eye(3, dtype=x.dtype)


def stretch(z: Phase, cell: Float[Array, "3 3"], E: Float[Array, "3 3"]) -> tuple[Phase, Float[Array, "3 3"]]:
    """q ← q e^E, h ← h e^E, p ← p e^(−E) for a symmetric increment E; positions are [atoms, 3]."""
    values, vectors = jnp.linalg.eigh(E)
    grow = (vectors * jnp.exp(values)[None]) @ vectors.T
    shrink = (vectors * jnp.exp(-values)[None]) @ vectors.T
    return Phase(z.position @ grow, z.momentum @ shrink, z.force, z.energy), cell @ grow
