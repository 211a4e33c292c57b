"""A law of motion learned from noisy paths of a pendulum, followed far beyond its data."""

from collections.abc import Callable

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from ... import ode, path
from ..report import Chapter, figure

PATHS, POINTS, SPAN, FAR, NOISE = 10, 24, 4.0, 40.0, 0.05
STIFFNESS = 2.25


def pendulum(t, y, args):
    """q̇ = p, ṗ = −2.25 sin q."""
    q, p = y
    return p, -STIFFNESS * jnp.sin(q)


def energy(y):
    """p²/2 + 2.25 (1 − cos q)."""
    q, p = y
    return np.sum(p**2 / 2 + STIFFNESS * (1 - np.cos(q)), axis=-1)


def _nothing(x):
    return jnp.zeros((), x.dtype)


def _split(y):
    return y[..., :1], y[..., 1:]


def _join(y):
    return jnp.concatenate(y)


class _Plain(ode.Network):
    """The same state, no structure: (q̇, ṗ) is a network of (q, p)."""

    def __call__(self, t, y, args=None):
        rate = self.net(_join(y))
        return rate[:1], rate[1:]


def chapter(seed: int, say: Callable[[str], None]) -> Chapter:
    """Ten short noisy paths; a Hamiltonian law and a plain one; both followed ten times as long."""
    with jax.enable_x64(True):
        key = jr.key(seed)
        ts = jnp.linspace(0.0, SPAN, POINTS)
        far = jnp.linspace(0.0, FAR, 241)
        starts = jr.uniform(key, (PATHS, 2), minval=-1.0, maxval=1.0) * jnp.array([2.0, 1.5])[None]
        exact = jax.jit(lambda ts, y: path.solve(pendulum, _split(y), ts, rtol=1e-9, atol=1e-9, max_steps=1024))
        clean = jnp.stack([jnp.concatenate(exact(ts, y), axis=-1) for y in starts])
        data = clean + NOISE * jr.normal(jr.fold_in(key, 1), clean.shape)

        solver = dict(substeps=1, solver=diffrax.Bosh3())
        how = dict(observe=_join, noise=NOISE, solver=solver)
        potential = ode.ScalarNetwork(ode.mlp(1, 1, 8, 2, jr.fold_in(key, 2), final=0.3), jnp.array(1.0))
        mechanics = ode.Hamiltonian(ode.Separable(potential, ode.ScalarNetwork(_nothing, jnp.array(0.7))))
        laws = {"Hamiltonian": mechanics, "plain": _Plain(ode.mlp(2, 2, 12, 1, jr.fold_in(key, 3), final=0.3))}
        learned = {}
        for name, law in laws.items():
            say(f"{name} law: growing windows, then Levenberg–Marquardt")
            first = ode.learn(
                law, ts, data, key=key, horizons=(6, 12), epochs=80, rates=1e-2, starts=_split(data[:, 0]), **how
            )
            learned[name] = ode.refine(first, ts, data, ridge=0.3, steps=12, **how)

        start = jnp.array([1.6, 0.0])
        truth = exact(far, start)
        run = eqx.filter_jit(lambda law: path.solve(law, _split(start), far, rtol=1e-8, atol=1e-8, max_steps=1024))
        futures = {name: run(model.field) for name, model in learned.items()}
    true_energy = energy(tuple(np.asarray(v) for v in truth))
    numbers: dict = {"paths": PATHS, "points_per_path": POINTS, "noise": NOISE, "times_beyond_the_data": FAR / SPAN}
    misses, drifts = {}, {}
    for name, future in futures.items():
        states = tuple(np.asarray(v) for v in future)
        misses[name] = float(np.sqrt(np.mean((states[0] - np.asarray(truth[0])) ** 2)))
        drifts[name] = float(np.max(np.abs(energy(states) - true_energy)) / true_energy[0])
        numbers[f"angle_rmse_{name.lower()}"] = misses[name]
        numbers[f"largest_energy_error_{name.lower()}"] = drifts[name]
    law = learned["Hamiltonian"].field.energy
    angles = jnp.linspace(-1.8, 1.8, 61)
    with jax.enable_x64(True):
        # only V/m is determined by positions and velocities together with p = q̇: the mass comes out of it
        mass = 1.0 / float(law.kinetic.stiffness)
        shape = jax.vmap(lambda q: law.potential(q[None]))(angles)
    well = np.asarray(shape - shape[30])
    expected = STIFFNESS * (1 - np.cos(np.asarray(angles)))
    numbers["mass"] = mass
    numbers["potential_relative_error"] = float(np.linalg.norm(well - expected) / np.linalg.norm(expected))

    paths, (left, right) = figure(2)
    left.plot(far, truth[0][:, 0], color="0.6", linewidth=3, label="true")
    for name, future in futures.items():
        left.plot(far, future[0][:, 0], linewidth=1.1, label=name)
    left.axvspan(0, SPAN, color="0.93", zorder=0)
    left.set(xlabel="time", ylabel="angle")
    left.legend(fontsize=8)
    right.plot(far, true_energy, color="0.6", linewidth=3, label="true")
    for name, future in futures.items():
        right.plot(far, energy(tuple(np.asarray(v) for v in future)), linewidth=1.1, label=name)
    right.set(xlabel="time", ylabel="energy")
    valley, (axis,) = figure()
    axis.plot(angles, expected, color="0.6", linewidth=3, label="2.25 (1 − cos q)")
    axis.plot(angles, well, label="learned")
    axis.set(xlabel="angle", ylabel="potential")
    axis.legend(fontsize=8)
    good, bad = (f"{misses[k]:.2g} (root mean square) and its energy by at most {100 * drifts[k]:.2g} %" for k in laws)
    text = [
        f"A pendulum was seen {PATHS} times for {SPAN:g} time units, {POINTS} points each, with {NOISE:g} of noise. "
        "Two laws were fitted to those paths by the same means: a Hamiltonian one, whose energy is a network and whose "
        "motion is that energy's gradient, and a plain one, whose rate is a network.",
        f"Followed for {FAR:g} time units from a new start, the Hamiltonian law's angle is off by {good}; the plain "
        f"law's angle by {bad}.",
    ]
    figures = [
        ("Angle and energy; the grey band is how long the data last.", paths),
        ("The potential it found.", valley),
    ]
    return Chapter("motion", "Laws of motion: a pendulum learned from glimpses", text, numbers, figures)
