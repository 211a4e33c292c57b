"""A two-link arm follows a figure by torques found through a learned model of its dynamics.

    python examples/two_link_arm.py

The arm is shaken by random torques; a Neural ODE learns its accelerations from the recorded transitions (forward
model), a second network the torques that lead from a state to the wanted joint velocities (inverse model). Both then
drive the true arm along a figure that was not in the records: model-predictive control by gradients through the
learned model, the same controller with the true law, the inverse model alone, and no control.
"""

import sys
import time

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr

from enerjax import ode, path

DT, STEPS, TORQUE = 0.05, 120, 4.0


class Joints(eqx.Module):
    """θ̇ = ω, ω̇ = net(sin θ, cos θ, ω, u): angles enter as angles; nothing else is known of the arm."""

    net: eqx.nn.MLP

    def __call__(self, t, y, u):
        q, w = y[:2], y[2:]
        return jnp.concatenate([w, 5.0 * self.net(jnp.concatenate([jnp.sin(q), jnp.cos(q), w / 3, u / TORQUE]))])


class Torques(eqx.Module):
    """Input (θ, ω, wanted ω): torques from sines, velocities and the change of velocity that is wanted."""

    net: eqx.nn.MLP

    def __call__(self, x):
        q, w, wanted = x[:2], x[2:4], x[4:]
        return TORQUE * self.net(jnp.concatenate([jnp.sin(q), jnp.cos(q), w / 3, (wanted - w) / DT / 5]))


def hand(q):
    """Where the hand is; links of one metre."""
    both = q[..., 0] + q[..., 1]
    return jnp.stack([jnp.cos(q[..., 0]) + jnp.cos(both), jnp.sin(q[..., 0]) + jnp.sin(both)], axis=-1)


def figure(t):
    """Joint angles of the reference at time t."""
    return jnp.stack([0.6 * jnp.sin(1.1 * t), 1.2 + 0.6 * jnp.sin(1.7 * t)])


def main():
    begin = time.process_time()
    states, shake, one, two, train = jr.split(jr.key(0), 5)
    plant = ode.ForwardModel(ode.two_link_arm, DT, substeps=2)
    low, high = -TORQUE * jnp.ones(2), TORQUE * jnp.ones(2)
    starts = jr.uniform(states, (256, 4), minval=-1.0, maxval=1.0) * jnp.array([3.2, 3.2, 2.0, 2.0])
    policy = lambda y, key: jr.uniform(key, (2,), minval=-TORQUE, maxval=TORQUE)
    y, u, after = ode.transitions(plant, policy, starts, shake, length=12)
    law = Joints(ode.mlp(8, 2, 48, 2, one, final=0.3))
    learned = ode.fit_transitions(ode.ForwardModel(law, DT), (y, u, after), train, epochs=150)
    net = Torques(ode.mlp(8, 2, 48, 2, two))
    inverse = ode.fit_transitions(ode.InverseModel(net), (y, u, after[:, 2:]), train, inverse=True, epochs=150)
    print(f"{len(y)} transitions; two networks trained, {time.process_time() - begin:.0f} CPU-s")

    ts = DT * jnp.arange(1, STEPS + 15 + 1)
    angles, rates = jax.vmap(figure)(ts), jax.vmap(jax.jacfwd(figure))(ts)
    wanted = jnp.concatenate([angles, rates], axis=1)
    ahead = jnp.stack([wanted[k : k + 15] for k in range(STEPS)])  # what each decision sees of the reference
    start = jnp.array([0.2, 1.0, 0.0, 0.0])

    def cost(y, u, k, ahead):
        miss = y - ahead[k]
        return jnp.sum(miss[:2] ** 2) + 0.02 * jnp.sum(miss[2:] ** 2) + 1e-5 * jnp.sum(u**2)

    @eqx.filter_jit
    def steered(model):
        controller = ode.Controller(model, cost, low, high, horizon=15)
        return ode.closed_loop(plant, controller, start, ahead)[0]

    def inverted(y, wanted):
        velocity = wanted[2:] + 6.0 * (wanted[:2] - DT * wanted[2:] - y[:2])  # of the reference, plus back towards it
        return plant(y, jnp.clip(inverse(y, velocity), low, high))

    runs = {
        "no control": path.rollout(lambda y, _: plant(y, jnp.zeros(2)), start, length=STEPS),
        "inverse model": path.rollout(inverted, start, wanted[:STEPS]),
        "MPC, learned model": steered(learned),
        "MPC, true model": steered(plant),
    }
    error = {}
    for name, ys in runs.items():
        miss = jnp.linalg.norm(hand(ys[:, :2]) - hand(angles[:STEPS]), axis=1)[STEPS // 4 :]  # after catching up
        error[name] = 1e3 * float(jnp.sqrt(jnp.mean(miss**2)))
        print(f"{name:19s} hand off by {error[name]:7.1f} mm (RMS)")
    print(f"{time.process_time() - begin:.0f} CPU-s")
    if error["MPC, learned model"] > 30 or error["no control"] < 300:
        sys.exit("the learned model does not steer the arm")


if __name__ == "__main__":
    main()
