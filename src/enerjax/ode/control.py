"""Steer what has been learned.

    forward model   (state, action) ↦ next state         learned from data, any field with actions
    inverse model   (state, desired next state) ↦ action    the same data with inputs and targets swapped
    MPC             min_u Σₖ cost(yₖ, uₖ) over a horizon, by gradients through the model; apply u₀, repeat

An inverse model averages where two actions lead to the same place; minimising through the forward model does not.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from .. import fit
from .._array import Key, PyTree, Scalar
from ..path import rollout, solve


class ForwardModel(eqx.Module):
    """Next state after `dt` of ẏ = field(t, y, u) with the action u held: a step of `path.rollout`.

    Attributes:
        field: learned or known law, field(t, y, action).
        dt: time between actions.
        substeps: of the explicit solver in between.
    """

    field: Callable
    dt: float | Array
    substeps: int = eqx.field(static=True, default=1)

    def __call__(self, y: PyTree, action: Array) -> PyTree:
        """y(t + dt)."""
        ts = jnp.stack([jnp.zeros(()), jnp.asarray(self.dt)])
        return jax.tree.map(lambda v: v[-1], solve(self.field, y, ts, action, substeps=self.substeps))


class InverseModel(eqx.Module):
    """(state, what is wanted of the next one) ↦ action, a network on flat arrays of order one.

    There should be as many wanted numbers as actions: velocities for torques, the temperature for one coolant.
    """

    net: Callable

    def __call__(self, y: Float[Array, " d"], wanted: Float[Array, " w"]) -> Array:
        """The action."""
        return self.net(jnp.concatenate([y, wanted]))


def transitions(model, policy, starts, key: Key, *, length: int):
    """(y, u, y₊) of rolling `model(y, u)` from each start under u = policy(y, key): data for both models.

    Returns:
        States, actions and next states, flattened over starts and time, [n, …].
    """

    def one(y, key):
        def step(state, key):
            y, _, _ = state
            u = policy(y, key)
            return model(y, u), y, u

        shape = jax.eval_shape(policy, y, key)
        after, before, actions = rollout(
            step, (y, y, jnp.zeros(shape.shape, shape.dtype)), jax.random.split(key, length)
        )
        return before, actions, after

    rows = jax.vmap(one)(starts, jax.random.split(key, len(starts)))
    return jax.tree.map(lambda v: v.reshape(-1, *v.shape[2:]), rows)


def fit_transitions(
    model, data, key: Key, *, inverse: bool = False, epochs: int = 200, batch: int = 256, rate=3e-3, **options
):
    """Train a forward model on (y, u) ↦ y₊ or an inverse one on (y, y₊) ↦ u; errors relative to the data's spread.

    Args:
        model: `ForwardModel` or `InverseModel`.
        data: (y, u, y₊), as `transitions` gives.
        key: random key.
        inverse: which of the two.
        epochs: passes over the data.
        batch: transitions per step.
        rate: Adam's learning rate, falling as a cosine.
        options: of `fit.train`.
    """
    y, u, after = data
    given, target = (after, u) if inverse else (u, after)
    # the change is what is to be learned: scale errors by how much a state changes in one step
    spread = jnp.std(u, axis=0) if inverse else jnp.std(after - y, axis=0)
    rows = len(y) // batch * batch

    def loss(model, batch, key):
        y, given, target = batch
        error = jax.vmap(model)(y, given) - target
        return jnp.mean(jnp.mean(error**2, axis=0) / (spread**2 + 1e-12))

    def batches(epoch, key):
        order = jax.random.permutation(key, len(y))[:rows].reshape(-1, batch)
        return [(y[i], given[i], target[i]) for i in order]

    optimizer = optax.adam(rate)
    options = {"identity": dict(model=model, data=data, key=key, inverse=inverse, batch=batch, rate=rate)} | options
    return fit.train(loss, model, batches, optimizer, key=key, epochs=epochs, rate=fit.cosine, **options).model


class Controller(eqx.Module):
    """Model-predictive control: a plan of actions within bounds, improved by Gauss–Newton through the model, shifted.

    Each improvement linearises the path by as many tangents of the model as the plan has numbers, minimises the cost to
    second order in states and actions over the actions that no bound holds, and takes the best of a few step lengths,
    or leaves the plan as it is where none is better. Where the cost's curvature is not positive, as of 1 − cos θ beyond
    a quarter turn, its eigenvalues count by their size.

    Attributes:
        model: `model(y, u) -> y`.
        cost: `cost(y, u, k, reference) -> scalar` of the k-th step ahead, twice differentiable.
        low: lower bounds of the action, [m].
        high: upper bounds.
        horizon: steps ahead.
        iterations: improvements per decision.
        damping: added to the curvature, relative to the mean size of its diagonal.
    """

    model: Callable
    cost: Callable
    low: Array
    high: Array
    horizon: int = eqx.field(static=True, default=20)
    iterations: int = eqx.field(static=True, default=3)
    damping: float = 1e-4

    def start(self) -> Float[Array, "horizon m"]:
        """The plan before the first decision: the middle of the bounds."""
        return jnp.zeros((self.horizon, self.low.shape[0]), self.low.dtype)

    def actions(self, plan: Float[Array, "horizon m"]) -> Float[Array, "horizon m"]:
        """The actions of a plan in −1 … 1."""
        middle, half = (self.high + self.low) / 2, (self.high - self.low) / 2
        return middle[None] + half[None] * plan

    def _total(self, path, reference) -> Scalar:
        states, actions = path
        cost = jax.vmap(lambda y, u, k: self.cost(y, u, k, reference))
        return jnp.sum(cost(states, actions, jnp.arange(self.horizon)))

    def foreseen(self, plan: Array, y: PyTree, reference: PyTree) -> Scalar:
        """Σₖ cost along the plan."""
        u = self.actions(plan)
        return self._total((rollout(self.model, y, u), u), reference)

    def __call__(self, plan: Array, y: PyTree, reference: PyTree = None) -> tuple[Array, Array]:
        """(action now, the improved plan shifted by one step)."""

        def ahead(flat):
            u = self.actions(jnp.reshape(flat, plan.shape))
            return rollout(self.model, y, u), u

        def turn(flat, _):
            path, push = jax.linearize(ahead, flat)
            slope = jax.grad(self._total)
            J = jax.vmap(push)(jnp.eye(flat.size, dtype=flat.dtype))
            bent = jax.vmap(lambda c: jax.jvp(lambda p: slope(p, reference), (path,), (c,))[1])(J)
            rows = lambda tree: jnp.concatenate([v.reshape(flat.size, -1) for v in jax.tree.leaves(tree)], axis=1)
            g, H = rows(J) @ ravel_pytree(slope(path, reference))[0], rows(J) @ rows(bent).T
            held = ((flat <= -1.0) & (g > 0)) | ((flat >= 1.0) & (g < 0))
            free = jnp.where(held, 0.0, 1.0).astype(flat.dtype)
            ridge = self.damping * jnp.mean(jnp.abs(jnp.diagonal(H))) + 1e-12
            A = H * free[:, None] * free[None, :] + jnp.diag(ridge * free + (1.0 - free))
            step = -_downhill(A, g * free, ridge)
            step = jnp.where(jnp.all(jnp.isfinite(step)), step, 0.0)  # then the plan stays
            lengths = jnp.array([0.0, 0.1, 0.3, 1.0], flat.dtype)
            tried = jnp.clip(flat[None] + lengths[:, None] * step[None], -1.0, 1.0)
            costs = jax.vmap(lambda p: self._total(ahead(p), reference))(tried)
            return tried[jnp.argmin(jnp.where(jnp.isfinite(costs), costs, jnp.inf))], None

        flat, _ = jax.lax.scan(turn, jnp.ravel(plan), None, length=self.iterations)
        plan = jnp.reshape(flat, plan.shape)
        return self.actions(plan)[0], jnp.concatenate([plan[1:], plan[-1:]])


def _downhill(A: Float[Array, "n n"], g: Float[Array, " n"], least: Scalar) -> Float[Array, " n"]:
    """A⁻¹ g by Cholesky's factor; |A|⁻¹ g, of the absolute eigenvalues and at least `least`, where there is none.

    Both are a way uphill. Y. Dauphin et al., NeurIPS (2014): where the curvature is negative, its size says how far.
    """
    factor = jax.scipy.linalg.cho_factor(A)

    def spread(A, g):
        w, V = jnp.linalg.eigh(A)
        return V @ ((V.T @ g) / jnp.maximum(jnp.abs(w), least))

    fine = jnp.all(jnp.isfinite(factor[0]))
    return jax.lax.cond(fine, lambda A, g: jax.scipy.linalg.cho_solve(factor, g), spread, A, g)


def closed_loop(plant, controller: Controller, y: PyTree, references: PyTree = None, *, length: int | None = None):
    """States and actions of `plant(y, u)` under the controller, one reference per step or none, [length, …]."""

    def step(state, reference):
        y, plan, _ = state
        u, plan = controller(plan, y, reference)
        return plant(y, u), plan, u

    plan = controller.start()
    ys, _, us = rollout(step, (y, plan, controller.actions(plan)[0]), references, length=length)
    return ys, us


def stirred_tank(t, y: Float[Array, "2"], u: Float[Array, "1"]) -> Float[Array, "2"]:
    """A continuous stirred-tank reactor, A → B, exothermic, cooled by a jacket: unstable at its middle steady state.

    y: concentration C_A [mol/l] and temperature T [K]; u: coolant temperature [K]; t in minutes. B. W. Bequette,
    Process Dynamics (1998), module 9; D. E. Seborg et al., Process Dynamics and Control, example 2.5.
    """
    del t
    c, temperature = y
    rate = 7.2e10 * jnp.exp(-8750.0 / temperature) * c
    flow = 100.0 / 100.0
    heat = 5e4 / (1000.0 * 0.239) * rate
    jacket = 5e4 / (100.0 * 1000.0 * 0.239) * (u[0] - temperature)
    return jnp.stack([flow * (1.0 - c) - rate, flow * (350.0 - temperature) + heat + jacket])


def two_link_arm(t, y: Float[Array, "4"], u: Float[Array, "2"]) -> Float[Array, "4"]:
    """A planar two-link arm without gravity; y = (θ₁, θ₂, ω₁, ω₂), u = joint torques [N m]; links of 1 m and 1 kg.

    M(θ) ω̇ + C(θ, ω) + 0.1 ω = u. M. W. Spong et al., Robot Modeling and Control, section 7.3.
    """
    del t
    _, second, w1, w2 = y
    c, s = jnp.cos(second), jnp.sin(second)
    M = jnp.array([[5 / 3 + c, 1 / 3 + c / 2], [1 / 3 + c / 2, jnp.ones_like(c) / 3]])
    coriolis = jnp.stack([-s * (w1 * w2 + 0.5 * w2**2), 0.5 * s * w1**2])
    return jnp.concatenate([y[2:], jnp.linalg.solve(M, u - coriolis - 0.1 * y[2:])])
