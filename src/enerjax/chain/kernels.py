"""Markov kernels, each a pure `(energy, state, key) -> (state, info)` that leaves e^(−E/kT) invariant, or nearly so.

A state is a `flow.Phase`; positions are any pytree, of free parameters: an energy's `constrain` and `unconstrain` are
left to the caller. The moves are those of `flow`: `verlet` and its relatives propose, Metropolis' test decides;
`diffuse` with the test is MALA, without it SGLD; `baoab` without it is Langevin's dynamics.

    Hmc           Newton for a while, fixed or jittered length, then the test      exact
    Mala          one step of Brownian motion, then the test                       exact
    Sgld          Brownian motion, the energy a minibatch's                        error O(dt²), and of the minibatch
    Langevin      underdamped motion, the energy may be a minibatch's              error O(dt²)
    Nuts          Newton until it turns back                                       exact

S. Duane et al., Phys. Lett. B 195, 216 (1987); G. O. Roberts and R. L. Tweedie, Bernoulli 2, 341 (1996); M. Welling and
Y. W. Teh, ICML (2011).
"""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr

from .. import _tree as tree
from .._array import Array, Energy, Key, PyTree
from ..flow.phase import AbstractMass, Bath, Phase, as_mass
from ..flow.splitting import baoab, diffuse, verlet
from .metric import AbstractMetric, DiagonalMetric
from .nuts import Point, alive, begin, growing, leaf, merge, sprout


class Info(NamedTuple):
    """What a kernel did.

    Attributes:
        acceptance: probability with which the proposal was taken (1 for kernels without a test).
        accepted: whether it was.
        error: H(proposal) − H(start), in units of kT.
        steps: gradient evaluations.
    """

    acceptance: Array
    accepted: Array
    error: Array
    steps: Array


def metropolis(start: Phase, proposal: Phase, error, steps, key: Key) -> tuple[Phase, Info]:
    """Take the proposal with probability min(1, e^(−error)); a non-finite error is a refusal, never a NaN."""
    error = jnp.where(jnp.isfinite(error), error, jnp.inf)
    acceptance = jnp.exp(-jnp.maximum(error, 0.0))
    accepted = jr.uniform(key, (), acceptance.dtype) < acceptance
    return tree.where(accepted, proposal, start), Info(acceptance, accepted, error, jnp.asarray(steps))


def hamiltonian(z: Phase, mass: AbstractMass, kT) -> Array:
    """(E + ½ pᵀM⁻¹p)/kT."""
    return z.hamiltonian(mass) / kT


class Hmc(eqx.Module):
    """Hybrid Monte Carlo: fresh momenta at kT, `steps` steps of Newton's equation, Metropolis' test.

    Attributes:
        dt: time step.
        steps: number of steps; with `jitter` the largest one.
        mass: number, pytree or mass object.
        kT: temperature in units of energy; 1 for a posterior, `units.kB * T` for a molecule.
        jitter: draw the number of steps uniformly from 1 … steps, which no period of the motion can resonate with.
        integrator: a reversible, volume-preserving step of `flow`.
    """

    dt: float | Array
    steps: int | Array
    mass: PyTree = 1.0
    kT: float | Array = 1.0
    jitter: bool = eqx.field(static=True, default=False)
    integrator: Callable = eqx.field(static=True, default=verlet)

    def __call__(self, energy: Energy, state: Phase, key: Key) -> tuple[Phase, Info]:
        """One draw."""
        k1, k2, k3 = jr.split(key, 3)
        mass = as_mass(self.mass)
        noise = mass.momentum(tree.normal_like(k1, state.position))
        start = Phase(state.position, tree.scale(jnp.sqrt(self.kT), noise), state.force, state.energy)
        count = jr.randint(k3, (), 1, self.steps + 1) if self.jitter else jnp.asarray(self.steps)
        step = lambda i, z: self.integrator(energy, z, self.dt, mass)
        z = jax.lax.fori_loop(0, count, step, start)
        error = hamiltonian(z, mass, self.kT) - hamiltonian(start, mass, self.kT)
        return metropolis(start, z, error, count, k2)


class Mala(eqx.Module):
    """Metropolis-adjusted Brownian motion: `flow.diffuse` proposes, i.e. one Verlet step from fresh momenta.

    Seen as phase space motion, the ratio of proposal densities is a difference of kinetic energies: the test needs the
    momentum after the second half of the kick, and nothing else.
    """

    dt: float | Array
    mass: PyTree = 1.0
    kT: float | Array = 1.0

    def __call__(self, energy: Energy, state: Phase, key: Key) -> tuple[Phase, Info]:
        """One draw."""
        return Hmc(self.dt, 1, self.mass, self.kT)(energy, state, key)


class Sgld(eqx.Module):
    """Stochastic gradient Langevin: q ← q + (dt²/2m) F + dt √(kT/m) ξ, no test.

    With `energy` of a minibatch scaled to the whole data it samples the posterior up to an error that grows with dt and
    with the minibatch's noise: compare with `Nuts` where that is affordable, and decrease dt as a schedule.
    """

    dt: float | Array
    mass: PyTree = 1.0
    kT: float | Array = 1.0

    def __call__(self, energy: Energy, state: Phase, key: Key) -> tuple[Phase, Info]:
        """One draw."""
        return _untested(diffuse(energy, state, self.dt, self.kT, key, self.mass))


class Langevin(eqx.Module):
    """Underdamped Langevin dynamics at friction γ, by BAOAB, no test; momenta persist in the state."""

    dt: float | Array
    friction: float | Array = 1.0
    mass: PyTree = 1.0
    kT: float | Array = 1.0

    def __call__(self, energy: Energy, state: Phase, key: Key) -> tuple[Phase, Info]:
        """One draw."""
        return _untested(baoab(energy, state, self.dt, Bath(self.friction, self.kT), key, self.mass))


def _untested(z: Phase) -> tuple[Phase, Info]:
    one = jnp.ones_like(z.energy)
    return z, Info(one, jnp.array(True), jnp.zeros_like(one), jnp.ones((), jnp.int32))


class Nuts(eqx.Module):
    """The no-U-turn sampler on flat vectors, multinomial, with the criterion across sub-trees; see `nuts`.

    `sample` runs the same pieces with warm-up, streaming and diagnostics; this is the bare kernel.
    """

    dt: float | Array
    metric: AbstractMetric | None = None
    max_depth: int = eqx.field(static=True, default=10)
    max_error: float = eqx.field(static=True, default=1000.0)
    integrator: Callable = eqx.field(static=True, default=verlet)

    def __call__(self, energy: Energy, state: Phase, key: Key) -> tuple[Phase, Info]:
        """One draw; the position of `state` is a vector [d]."""
        q = state.position
        metric = DiagonalMetric(jnp.ones_like(q)) if self.metric is None else self.metric
        k1, k2 = jr.split(key)
        point = Point(jnp.stack([q, state.force]), state.energy)
        t = begin(point, jr.normal(k1, q.shape, q.dtype), jr.bits(k2, (2,), jnp.uint32), metric, self.max_depth)
        grow = lambda t: leaf(energy, self.integrator, t, self.dt, metric, self.max_error)
        double = lambda t: merge(jax.lax.while_loop(growing, grow, sprout(t)))
        t = jax.lax.while_loop(lambda t: alive(t, self.max_depth), double, t)
        z = Phase(t.draw.position, jnp.zeros_like(q), t.draw.force, t.draw.energy)
        steps = t.count[1]
        return z, Info(t.tally[3] / steps, jnp.any(z.position != q), z.energy - state.energy, steps)


def walk(
    kernel: Callable, energies: Energy, state: Phase, key: Key, draws: int, *, batched: bool = False
) -> tuple[Phase, PyTree, Info]:
    """`draws` applications of a kernel: the last state, all positions [draws, …] and all infos.

    Args:
        kernel: one of this file.
        energies: the energy; with `batched`, its array leaves carry a leading axis of length `draws` (minibatches).
        state: where to start, `Phase.at(energy, x)`.
        key: randomness.
        draws: how many.
        batched: whether each draw has its own energy.
    """
    arrays, static = eqx.partition(energies, eqx.is_array)

    def one(z, x):
        k, leaves = x
        z, info = kernel(eqx.combine(leaves if batched else arrays, static), z, k)
        return z, (z.position, info)

    last, (positions, infos) = jax.lax.scan(one, state, (jr.split(key, draws), arrays if batched else None))
    return last, positions, infos
