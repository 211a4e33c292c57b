"""Error against CPU seconds on Haghighat's plate: ours, and a plain Adam PINN on the same loss and machine.

    python benchmarks/solids/manufactured.py [seconds for Adam]

The Adam PINN has the boundary values built in as ours has: a 2-24-24-2 tanh network in float64, Adam with cosine decay.
Compilation is left out of both times. Peers in other frameworks: see README.md.
"""

import sys
import time

import equinox as eqx
import jax
import jax.random as jr
import optax

from enerjax.solids import Collocation, Network, problems, solve
from enerjax.solids._clock import Clock
from enerjax.solids.solution import Solution
from enerjax.solids.survey import survey
from enerjax.solids.trained import network_loss


def adam(problem, budget, rate=3e-3, chunk=50, total=6000):
    """Train until `budget` CPU seconds; yields (seconds, steps, solution)."""
    method = Network(hidden=(24, 24), interior=20, boundary=32)
    field, loss = network_loss(survey(problem, 20, 32, Clock()), method, jr.key(0))
    params, static = eqx.partition(field.network, eqx.is_array)
    rebuild = lambda p: eqx.tree_at(lambda f: f.network, field, eqx.combine(p, static))
    optimiser = optax.adam(optax.cosine_decay_schedule(rate, total))

    @jax.jit
    def run(state):
        def body(state, _):
            p, o = state
            updates, o = optimiser.update(jax.grad(lambda p: loss(rebuild(p)))(p), o, p)
            return (optax.apply_updates(p, updates), o), None

        return jax.lax.scan(body, state, None, length=chunk)[0]

    state = (params, optimiser.init(params))
    jax.block_until_ready(run(state))
    spent, steps, report = 0.0, 0, 1.0
    while spent < budget and steps < total:
        begin = time.process_time()
        state = jax.block_until_ready(run(state))
        spent, steps = spent + time.process_time() - begin, steps + chunk
        if spent > report:
            yield spent, steps, Solution(problem, rebuild(state[0]), [])
            report *= 2
    yield spent, steps, Solution(problem, rebuild(state[0]), [])


def main():
    budget = float(sys.argv[1]) if len(sys.argv) > 1 else 25.0
    problem = problems.manufactured()
    line = lambda name, s, e: print(
        f"{name:34s} {s:8.2f} CPU s   displacement {e['displacement_relative_l2']:.1e}"
        f"   stress {e['stress_relative_l2']:.1e}",
        flush=True,
    )
    for features in (50, 100, 200, 400):
        solution = solve(problem, 0, method=Collocation(features=features, widths=(1.0,)))
        line(f"enerjax, {features} features", solution.seconds, solution.errors())
    with jax.enable_x64(True):
        for spent, steps, solution in adam(problem, budget):
            line(f"Adam PINN, {steps} steps", spent, solution.errors())


if __name__ == "__main__":
    main()
