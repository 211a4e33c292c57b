"""Molecular dynamics inside one jit: ensembles, and blocks of steps that rebuild their own neighbour rows.

A step is kick, drift, (bath,) feel, kick as in `flow`; between drift and feel the rows are refreshed if an atom may
have come into the cutoff unseen. `block` runs many steps and returns samples; a row that overflowed is reported and
the block must be thrown away (`simulation.py` does, and runs it again with more room). The state is kept in the
precision of its positions, whatever that of the potential: float64 under `jax.enable_x64`, even for a float32 network.
"""

import abc
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, Int

from .._array import Key, Scalar
from .._precision import full_precision
from ..energy.response import energy_and_force, energy_forces_stress
from ..flow.ensemble import CellRescaling, Chain, NoseHoover, VelocityRescaling, stretch
from ..flow.phase import Bath, DiagonalMass, Phase, drift, kick
from .neighbours import Neighbours, refresh, stale
from .structure import Structure


class State(eqx.Module):
    """Where a simulation is: all that the next step depends on.

    Attributes:
        phase: positions [Å], momenta [√(amu eV)], forces, potential energy.
        cell: lattice vectors [Å], or None.
        stress: potential part of the stress [eV/Å³], kept where a barostat needs it.
        chain: state of a Nosé–Hoover `Chain`, or None.
        given: heat and work that baths gave to the system so far [eV].
        key: of the next step's random numbers.
        step: steps done.
        neighbours: rows valid for these positions.
        overflow: True once rows were too small; the state is then wrong.
        rebuilds: how often the rows were refreshed.
        species: atomic numbers.
        pbc: periodic or not, per lattice vector.
        isotopes: masses [amu] where they are not the standard ones, or None.
    """

    phase: Phase
    cell: Float[Array, "3 3"] | None
    stress: Float[Array, "3 3"] | None
    chain: Any
    given: Scalar
    key: Key
    step: Int[Array, ""]
    neighbours: Neighbours
    overflow: Bool[Array, ""]
    rebuilds: Int[Array, ""]
    species: Int[Array, " atoms"]
    pbc: tuple[bool, bool, bool] = eqx.field(static=True)
    isotopes: Float[Array, " atoms"] | None = None

    @property
    def structure(self) -> Structure:
        """Positions, species, cell and masses."""
        return Structure(self.phase.position, self.species, self.cell, self.pbc, self.isotopes)

    @property
    def volume(self) -> Scalar:
        """|det h| [Å³]."""
        return self.structure.volume


def respond(potential, structure: Structure, neighbours: Neighbours, with_stress: bool = False):
    """E, F and, if asked, the potential stress, in the precision of the positions; the potential works in its own.

    Energies of atoms are summed in the precision of the positions: in float32 the sum over a thousand atoms would hide
    the drift that a simulation is judged by.
    """
    energy = energy_of(potential, structure, neighbours)
    if with_stress:
        return energy_forces_stress(energy, structure.positions, structure.lattice)
    fixed = structure.cell
    return *energy_and_force(lambda R: energy(R, fixed), structure.positions), None


def energy_of(potential, structure: Structure, neighbours: Neighbours):
    """(positions, cell) ↦ E in the precision of the positions; the potential works in its own."""
    working = _dtype(potential, structure.positions.dtype)
    wide = structure.positions.dtype

    def energy(R, h=None):
        cast = Structure(R.astype(working), structure.species, None if h is None else h.astype(working), structure.pbc)
        if hasattr(potential, "energy_per_atom"):
            return jnp.sum(potential.energy_per_atom(cast, neighbours).astype(wide))
        return potential(cast, neighbours).astype(wide)

    return energy


def _dtype(potential, default):
    leaves = [leaf.dtype for leaf in jax.tree.leaves(potential) if eqx.is_inexact_array(leaf) and not leaf.weak_type]
    return jnp.result_type(*leaves) if leaves else default


class AbstractEnsemble(eqx.Module):
    """One step of a motion, and what it conserves.

    Attributes:
        momentum_is_conserved: the centre of mass stays at rest, and three degrees of freedom with it.
        barostat: the cell moves, so every step needs the stress.
    """

    momentum_is_conserved: ClassVar[bool]
    barostat: ClassVar[bool]

    @abc.abstractmethod
    def step(self, potential, state: State, dt, mass: Any) -> State:
        """One step of length dt."""

    def degrees(self, atoms: int) -> int:
        """Degrees of freedom that carry temperature."""
        return 3 * atoms - 3 * self.momentum_is_conserved

    def start(self, dtype) -> Chain | None:
        """State of the thermostat at rest."""
        del dtype

    def conserved(self, state: State, mass: Any) -> Scalar:
        """The energy that stays constant as dt → 0 [eV]."""
        return state.phase.hamiltonian(mass) - state.given


def _feel(potential, state: State, z: Phase, cell, with_stress: bool = False) -> State:
    """Refresh the rows if they may miss a pair at the new positions, then evaluate energy and forces there."""
    old = state.neighbours
    fresh = lambda _: refresh(z.position, cell, old, state.species > 0)
    # on rows of all pairs nothing can go stale, and there is no branch to compile
    due = stale(z.position, cell, old) if old.grid is not None else jnp.array(False)
    rows = jax.lax.cond(due, fresh, lambda _: old, None) if old.grid is not None else old
    structure = Structure(z.position, state.species, cell, state.pbc)
    energy, force, stress = respond(potential, structure, rows, with_stress)
    return State(
        Phase(z.position, z.momentum, force, energy),
        cell,
        stress,
        state.chain,
        state.given,
        state.key,
        state.step + 1,
        rows,
        state.overflow | rows.overflow,
        state.rebuilds + due,
        state.species,
        state.pbc,
        state.isotopes,
    )


def _with(state: State, phase: Phase, key=None, heat: Any = 0.0, chain=None) -> State:
    """The state with another phase point, the next key, and heat added to what was given."""
    at = lambda s: (s.phase, s.key, s.given, s.chain)
    new = (phase, state.key if key is None else key, state.given + heat, state.chain if chain is None else chain)
    return eqx.tree_at(at, state, new, is_leaf=lambda x: x is None)


class NVE(AbstractEnsemble):
    """Newton's equation by velocity Verlet."""

    momentum_is_conserved = True
    barostat = False

    def step(self, potential, state: State, dt, mass: Any) -> State:
        """kick, drift, feel, kick."""
        z = drift(kick(state.phase, dt / 2), dt, mass)
        state = _feel(potential, state, z, state.cell)
        return _with(state, kick(state.phase, dt / 2))


class Langevin(AbstractEnsemble):
    """NVT with friction and noise on every atom, by BAOAB: the safe choice for small molecules and stiff bonds."""

    bath: Bath
    momentum_is_conserved = False
    barostat = False

    def step(self, potential, state: State, dt, mass: Any) -> State:
        """kick, drift, bath, drift, feel, kick."""
        key, now = jr.split(state.key)
        z = drift(kick(state.phase, dt / 2), dt / 2, mass)
        after = self.bath(z, dt, now, mass)
        heat = mass.kinetic(after.momentum) - mass.kinetic(z.momentum)
        state = _feel(potential, state, drift(after, dt / 2, mass), state.cell)
        return _with(state, kick(state.phase, dt / 2), key, heat)


class Rescaled(AbstractEnsemble):
    """NVT by stochastic velocity rescaling: gentle on the dynamics, right for liquids and crystals."""

    thermostat: VelocityRescaling
    momentum_is_conserved = True
    barostat = False

    def step(self, potential, state: State, dt, mass: Any) -> State:
        """kick, drift, feel, kick, rescale."""
        key, now = jr.split(state.key)
        z = drift(kick(state.phase, dt / 2), dt, mass)
        state = _feel(potential, state, z, state.cell)
        z = kick(state.phase, dt / 2)
        after = self.thermostat(z, dt, now, mass, degrees=self.degrees(len(state.species)))
        return _with(state, after, key, mass.kinetic(after.momentum) - mass.kinetic(z.momentum))


class Chained(AbstractEnsemble):
    """NVT by a Nosé–Hoover chain: deterministic, time-reversible."""

    thermostat: NoseHoover
    momentum_is_conserved = True
    barostat = False

    def start(self, dtype) -> Chain:
        """The chain at rest."""
        return self.thermostat.start(dtype)

    def step(self, potential, state: State, dt, mass: Any) -> State:
        """chain, kick, drift, feel, kick, chain."""
        degrees = self.degrees(len(state.species))
        z, chain = self.thermostat(state.phase, state.chain, dt / 2, mass, degrees=degrees)
        z = drift(kick(z, dt / 2), dt, mass)
        state = _feel(potential, state, z, state.cell)
        z, chain = self.thermostat(kick(state.phase, dt / 2), chain, dt / 2, mass, degrees=degrees)
        return _with(state, z, chain=chain)

    def conserved(self, state: State, mass: Any) -> Scalar:
        """H plus the energy of the chain [eV]."""
        degrees = self.degrees(len(state.species))
        return state.phase.hamiltonian(mass) + self.thermostat.energy(state.chain, degrees)


class NPT(AbstractEnsemble):
    """Constant temperature and pressure: stochastic velocity rescaling and stochastic cell rescaling."""

    thermostat: VelocityRescaling
    cell: CellRescaling
    momentum_is_conserved = True
    barostat = True

    def step(self, potential, state: State, dt, mass: Any) -> State:
        """kick, drift, stretch, feel, kick, rescale."""
        key, one, two = jr.split(state.key, 3)
        z = drift(kick(state.phase, dt / 2), dt, mass)
        before, volume = internal_pressure(state.stress, state.volume, z, mass), state.volume
        E = self.cell.increment(before, volume, dt, one)
        z, cell = stretch(z, state.structure.lattice, E)
        state = _feel(potential, state, z, cell, with_stress=True)
        after = internal_pressure(state.stress, state.volume, state.phase, mass)
        work = self.cell.work(E, before, volume, after, state.volume, dt)
        z = kick(state.phase, dt / 2)
        rescaled = self.thermostat(z, dt, two, mass, degrees=self.degrees(len(state.species)))
        return _with(state, rescaled, key, work + mass.kinetic(rescaled.momentum) - mass.kinetic(z.momentum))

    def conserved(self, state: State, mass: Any) -> Scalar:
        """H + PV − (heat and work given) [eV]."""
        return state.phase.hamiltonian(mass) + self.cell.pressure * state.volume - state.given


@full_precision
def internal_pressure(stress, volume, z: Phase, mass: Any) -> Float[Array, "3 3"]:
    """P_int = (1/V) Σ p⊗p/m − σ [eV/Å³], for the potential stress σ."""
    return mass.velocity(z.momentum).T @ z.momentum / volume - stress


def start(
    potential, structure: Structure, ensemble: AbstractEnsemble, neighbours: Neighbours, key: Key, *, kT, momenta=None
) -> State:
    """A state at rest in its bath: momenta as given, else drawn at kT with the centre of mass at rest."""
    draw, key = jr.split(key)
    mass = DiagonalMass(structure.masses())
    energy, force, stress = _respond(potential, structure, neighbours, ensemble.barostat)
    if momenta is None:
        dtype = structure.positions.dtype
        momenta = jnp.sqrt(jnp.asarray(kT, dtype)) * mass.momentum(jr.normal(draw, structure.positions.shape, dtype))
        momenta = momenta - mass.mass * jnp.sum(momenta, 0, keepdims=True) / jnp.sum(mass.mass)
    return State(
        Phase(structure.positions, momenta, force, energy),
        structure.cell,
        stress,
        ensemble.start(structure.positions.dtype),
        jnp.zeros_like(energy),
        key,
        jnp.array(0),
        neighbours,
        neighbours.overflow,
        jnp.array(0),
        structure.species,
        structure.pbc,
        structure.isotopes,
    )


_respond = eqx.filter_jit(respond)


class Sample(eqx.Module):
    """What is kept of a state, stacked over the samples of a block: eV, Å, √(amu eV), fs-free internal units."""

    step: Int[Array, "..."]
    energy: Float[Array, "..."]
    kinetic: Float[Array, "..."]
    conserved: Float[Array, "..."]
    pressure: Float[Array, "... 3 3"] | None
    position: Float[Array, "... atoms 3"]
    momentum: Float[Array, "... atoms 3"]
    force: Float[Array, "... atoms 3"]
    cell: Float[Array, "... 3 3"] | None


def sample(potential, ensemble: AbstractEnsemble, state: State, mass: Any, with_pressure: bool) -> Sample:
    """Observables of a state; without a barostat the pressure costs one more evaluation of the potential."""
    z, pressure = state.phase, None
    if with_pressure:
        stress = state.stress
        if stress is None:
            stress = respond(potential, state.structure, state.neighbours, True)[2]
        pressure = internal_pressure(stress, state.volume, z, mass)
    kinetic, conserved = mass.kinetic(z.momentum), ensemble.conserved(state, mass)
    return Sample(state.step, z.energy, kinetic, conserved, pressure, z.position, z.momentum, z.force, state.cell)


def block(
    potential,
    ensemble: AbstractEnsemble,
    state: State,
    dt,
    strides: Int[Array, " samples"],
    *,
    with_pressure: bool = False,
) -> tuple[State, Sample]:
    """`strides[k]` steps, then a sample, for each k; to be jitted by the caller.

    The strides are data, so a shorter last block compiles nothing: give zeros for the samples that are not wanted.
    """
    mass = DiagonalMass(state.structure.masses())

    def stretch_of_steps(state, stride):
        state = jax.lax.fori_loop(0, stride, lambda _, s: ensemble.step(potential, s, dt, mass), state)
        return state, sample(potential, ensemble, state, mass, with_pressure)

    return jax.lax.scan(stretch_of_steps, state, strides)
