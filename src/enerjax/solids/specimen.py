"""What a specimen would show: displacements at points and reactions of its held parts, its equilibrium solved exactly.

    a(W) = argmin_a Π(a; W),    y(W) = (u(x_p; a), δΠ(a; W)[v_part]),    E = ½ ‖(y(W) − y)/σ‖²

for a material W, a field of moduli x ↦ W, or a law with a network inside. Nothing measured is smoothed or
differentiated, and noise enters only where it arose, in the readings: E is −log of the likelihood to all orders, not
to the first as where measured fields are put into the balance of virtual work (`law`), so its intervals can be
calibrated. (Finite-element model updating; Avril et al., Exp. Mech. 48 (2008) 381.)

a(W) is found by Newton over the energy-orthonormal basis; its derivative is that of one more Newton step with the
stiffness frozen, −H⁻¹ ∂(∂Π/∂a)/∂W: exact at the solution, in forward and in reverse mode.
"""

import dataclasses
from collections.abc import Callable
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._array import Key, PyTree
from ._clock import Clock
from .law import held, lifts
from .method import Ritz
from .problem import Problem
from .readings import AbstractReadings
from .ritz import System, _energy, discretise, fields, hessian, newton, potential
from .survey import check_support, survey


def minimise(problem: Problem, system: System, a, load, iterations: int = 30, tolerance: float = 1e-10):
    """argmin Π by Newton with a halving line search, under jit; NaN where none is found."""

    def advance(state):
        a, E, _, k = state
        step, decrement = newton(problem, system, a, load)

        def shorter(trial):
            length, _ = trial
            return length / 2, _energy(problem, system, a + length / 2 * step, load)

        rounding = 1e-13 * (jnp.abs(E) + decrement)
        poor = lambda trial: (trial[0] > 1e-3) & ~(trial[1] <= E - 1e-4 * trial[0] * decrement + rounding)
        length, after = jax.lax.while_loop(poor, shorter, (jnp.ones(()), _energy(problem, system, a + step, load)))
        return a + length * step, after, decrement, k + 1

    going = lambda s: (s[3] < iterations) & jnp.isfinite(s[1]) & (s[2] > tolerance * jnp.abs(s[1]))
    start = (a, _energy(problem, system, a, load), jnp.asarray(jnp.inf), jnp.asarray(0))
    a, _, decrement, _ = jax.lax.while_loop(going, advance, start)
    return jnp.where(jnp.isfinite(decrement), a, jnp.nan)


class Specimen(eqx.Module):
    """A body, its supports and its sensors: everything but the material.

    Attributes:
        problem: domain and conditions; its material gives the basis and the first guess.
        system: the body in its basis.
        sensors, lifted: u_i(x_p) = sensors a + load · lifted, [readings, d, K] and [readings, d].
        virtual: fields that move one held part along one axis: ∇v inside, v inside, v on the boundary.
        supports: (part, axis) of each of these.
    """

    problem: Problem = eqx.field(static=True)
    system: System
    sensors: Float[Array, "readings d K"]
    lifted: Float[Array, "readings d"]
    virtual: tuple[Array, Array | None, Array]
    supports: tuple[tuple[str, int], ...] = eqx.field(static=True)

    @classmethod
    def create(
        cls, problem: Problem, points: Float[Array, "readings d"], key: Key, *, method: Ritz | None = None
    ) -> "Specimen":
        """With displacement sensors at `points` and a load cell on every held part.

        Raises:
            ValueError: a rigid motion is free, displacement cannot be built in, or the material has a pressure.
        """
        method = method or Ritz(features=100, interior=16, boundary=24, cut=1e-8)
        if problem.mixed:
            raise ValueError(f"{problem.name}: the energy of a material with pressure has no minimum")
        with jax.enable_x64(True):
            look, d = survey(problem, method.interior, method.boundary, Clock()), problem.dimension
            check_support(look)
            built, basis, system = discretise(look, key, method, Clock())
            directions = system.T.reshape(d, basis.size, -1)
            u = lambda x: (built.factor(x)[:, None] * jnp.einsum("N,iNa->ia", basis(x), directions), built.lift(x))
            sensors, lifted = jax.jit(jax.vmap(u))(jnp.asarray(points, float))
            parts = held(look, d)
            shapes, names = lifts(look, parts), tuple((part, i) for part in parts for i in parts[part])
            edge = jnp.concatenate([p.x for p in system.edges.values()])

            def along(i, f):
                axis = jnp.eye(d)[i]
                return (
                    jax.vmap(lambda x: jnp.outer(axis, jax.grad(f)(x)))(system.inside.x),
                    None if problem.body is None else jax.vmap(f)(system.inside.x)[:, None] * axis[None],
                    jax.vmap(f)(edge)[:, None] * axis[None],
                )

            moved = [jax.jit(partial(along, i, f))() for (_, i), f in zip(names, shapes, strict=True)]
            return cls(problem, system, sensors, lifted, jax.tree.map(lambda *v: jnp.stack(v), *moved), names)

    def of(self, material) -> Problem:
        """The problem with this material: a module, or a function x ↦ module."""
        hetero = not isinstance(material, eqx.Module)
        return dataclasses.replace(self.problem, material=material, heterogeneous=hetero)

    def states(self, family: Callable, x: PyTree, loads: Float[Array, " steps"]) -> Float[Array, "steps K"]:
        """a at each load in turn for the material family(x), differentiable in x; NaN where equilibrium is lost."""
        problem, frozen = self.of(family(x)), self.of(family(jax.tree.map(jax.lax.stop_gradient, x)))
        iterations = 30 if frozen.finite else 1

        def one(carry, load):
            before, last = carry
            a = jax.lax.stop_gradient(minimise(frozen, self.system, before * (load / last), load, iterations))
            factor = jax.scipy.linalg.cho_factor(hessian(frozen, self.system, a, load))
            force = jax.grad(partial(_energy, problem), 1)(self.system, a, load)
            return (a, load), a - jax.scipy.linalg.cho_solve(factor, force)

        start = (jnp.zeros(self.system.T.shape[1]), jnp.ones(()))
        return jax.lax.scan(one, start, jnp.asarray(loads, float))[1]

    def readings(self, material, a: Float[Array, " K"], load) -> Float[Array, " all"]:
        """Displacements at the sensors, then the reactions of the supports, in the state a."""
        problem = self.of(material)
        at = fields(problem, self.system, a, load)
        pushed = lambda v: jax.jvp(lambda *f: potential(problem, self.system, load, *f), at, v)[1]
        u = load * self.lifted + jnp.einsum("ria,a->ri", self.sensors, a)
        return jnp.concatenate([u.ravel(), jax.vmap(pushed)(self.virtual)])


class SpecimenMisfit(AbstractReadings):
    """E(x) = ½ Σ_loads ‖(readings of family(x) − data)/noise‖².

    Attributes:
        specimen: body and sensors.
        loads: what the prescribed displacements and tractions are multiplied by in each step.
        data, noise: [steps, all].
        family: unknowns ↦ material, or ↦ (x ↦ material).
    """

    specimen: Specimen
    loads: Float[Array, " steps"]
    data: Float[Array, "steps all"]
    noise: Float[Array, "steps all"]
    family: Callable = eqx.field(static=True)

    def predict(self, x: PyTree) -> Float[Array, "steps all"]:
        """Displacements, then reactions, load by load."""
        specimen, material = self.specimen, self.family(x)
        states = specimen.states(self.family, x, self.loads)
        return jax.vmap(lambda a, load: specimen.readings(material, a, load))(states, self.loads)


def specimen_misfit(
    specimen: Specimen,
    family: Callable,
    displacements: Float[Array, "steps readings d"],
    noise: tuple[float, float],
    *,
    loads=(1.0,),
    reactions: dict[str, Float[Array, "steps d"]] | None = None,
) -> SpecimenMisfit:
    """The misfit of one experiment.

    Args:
        specimen: body and sensors.
        family: unknowns ↦ material, a module with its parameters (`lambda law: law` where the law itself is
            unknown) or ↦ (x ↦ material) as `inverse.modulus_field` gives.
        displacements: what the sensors read at each load.
        noise: standard deviations of a displacement reading and of a reaction.
        loads: factors of the loads and prescribed displacements.
        reactions: {part: resultant force on it [steps, d]} where load cells were read.

    Raises:
        ValueError: a part that holds nothing.
    """
    with jax.enable_x64(True):
        reactions = reactions or {}
        unknown = [part for part in reactions if part not in {p for p, _ in specimen.supports}]
        if unknown:
            raise ValueError(f"no displacement is prescribed on {unknown[0]!r}: its reaction says nothing")
        read = [k for k, (part, _) in enumerate(specimen.supports) if part in reactions]
        supports = tuple(specimen.supports[k] for k in read)
        virtual = jax.tree.map(lambda v: v[jnp.asarray(read, int)], specimen.virtual)
        specimen = dataclasses.replace(specimen, virtual=virtual, supports=supports)
        u = jnp.asarray(displacements, float).reshape(len(loads), -1)
        forces = [jnp.asarray(reactions[part], float)[:, axis] for part, axis in supports]
        data = jnp.concatenate([u, *(f[:, None] for f in forces)], axis=1)
        sigma = jnp.concatenate([jnp.full(u.shape[1], noise[0]), jnp.full(len(read), noise[1])])
        loads, sigma = jnp.asarray(loads, float), jnp.broadcast_to(sigma, data.shape)
        return SpecimenMisfit(specimen=specimen, loads=loads, data=data, noise=sigma, family=family)
