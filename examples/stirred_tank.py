"""A stirred-tank reactor held at an unstable state and moved about, by a model learned from its records.

    python examples/stirred_tank.py

Concentration and temperature are recorded with noise while the coolant is changed at random; a Neural ODE with the
coolant as input is fitted to the transitions (forward model), a second network to the coolant that leads from a state
to the next temperature (inverse model). Model-predictive control by gradients through the learned model is then
compared with the same controller that knows the true law, with the inverse model alone, and with no control at all.
"""

import sys
import time

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr

from enerjax import ode, path

MIDDLE, SPREAD = jnp.array([0.5, 350.0]), jnp.array([0.1, 10.0])  # mol/l, K: the units below are deviations from it
NOISE = jnp.array([0.02, 0.01])  # 0.002 mol/l and 0.1 K
DT = 0.05  # minutes between decisions


def reactor(t, x, a):
    """The true law in deviations; the coolant is 300 K + 10 K a, |a| ≤ 1."""
    return ode.stirred_tank(t, MIDDLE + SPREAD * x, 300.0 + 10.0 * a) / SPREAD


def records(plant, key):
    """64 stretches of 24 decisions at random, from random states around the middle one."""
    start, act, before, after = jr.split(key, 4)
    starts = jr.uniform(start, (64, 2), minval=-2.0, maxval=2.0)
    y, a, y1 = ode.transitions(plant, lambda y, key: jr.uniform(key, (1,), minval=-1, maxval=1), starts, act, length=24)
    inside = jnp.all(jnp.abs(jnp.concatenate([y, y1], axis=1)) < 4.0, axis=1)  # what ran away is of no use here
    noisy = lambda y, key: (y + NOISE * jr.normal(key, y.shape))[inside]
    return noisy(y, before), a[inside], noisy(y1, after)


def main():
    begin = time.process_time()
    data_key, one, two, train = jr.split(jr.key(0), 4)
    plant = ode.ForwardModel(reactor, DT, substeps=4)
    y, a, after = records(plant, data_key)
    law = ode.Network(ode.mlp(3, 2, 24, 2, one, final=0.3))
    learned = ode.fit_transitions(ode.ForwardModel(law, DT), (y, a, after), train, epochs=200, rate=1e-2)
    inverse = ode.fit_transitions(
        ode.InverseModel(ode.mlp(3, 1, 24, 2, two)), (y, a, after[:, 1:]), train, inverse=True, epochs=150
    )
    print(f"{len(y)} transitions; two networks trained, {time.process_time() - begin:.0f} CPU-s")

    # temperature: 350 K, then 355, then 345, two minutes each
    wanted = jnp.repeat(jnp.array([0.0, 0.5, -0.5]), 40)
    start = jnp.array([0.5, -0.5])  # 0.55 mol/l, 345 K
    cost = lambda y, a, k, wanted: (y[1] - wanted) ** 2 + 1e-3 * jnp.sum(a**2)
    bounds = -jnp.ones(1), jnp.ones(1)

    @eqx.filter_jit
    def steered(model):
        controller = ode.Controller(model, cost, *bounds, horizon=15)
        return ode.closed_loop(plant, controller, start, wanted)[0]

    def inverted(y, wanted):
        return plant(y, jnp.clip(inverse(y, y[1:] + 0.5 * (wanted - y[1:])), *bounds))

    runs = {
        "no control": path.rollout(lambda y, _: plant(y, jnp.zeros(1)), start, length=120),
        "inverse model": path.rollout(inverted, start, wanted),
        "MPC, learned model": steered(learned),
        "MPC, true model": steered(plant),
    }
    error = {name: 10.0 * float(jnp.sqrt(jnp.mean((ys[:, 1] - wanted) ** 2))) for name, ys in runs.items()}
    for name, ys in runs.items():
        late = 10.0 * float(jnp.max(jnp.abs((ys[:, 1] - wanted).reshape(3, 40)[:, -10:])))
        print(f"{name:19s} temperature off by {error[name]:6.2f} K (RMS), {late:6.2f} K at most when settled")
    print(f"{time.process_time() - begin:.0f} CPU-s")
    if error["MPC, learned model"] > 1.1 * error["MPC, true model"] or error["no control"] < 10:
        sys.exit("the learned model steers worse than 1.1 times the true one")


if __name__ == "__main__":
    main()
