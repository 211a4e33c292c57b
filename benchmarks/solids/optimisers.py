"""One network, one loss, several optimisers: error against CPU seconds on a plate.

    python benchmarks/solids/optimisers.py [PROBLEM [SECONDS [HIDDEN ...]]]

A 2-24-24-2 tanh network (722 parameters) with boundary values built in, 400 points inside and 32 on each side, float64,
the same start for all: Adam with a falling rate, optax's L-BFGS, self-scaled Broyden (`fit.quasi_newton`),
Levenberg–Marquardt with the last layer solved inside each step (`Network`), and self-scaled Broyden after a quarter of
the time by Levenberg–Marquardt. Each has the same CPU seconds; compilation and evaluation are not counted.
"""

import sys
import time
from functools import partial

import equinox as eqx
import jax
import jax.random as jr
import optax
from race import adam

from enerjax.fit.quasi_newton import quasi_newton, start
from enerjax.solids import Network, problems, solve
from enerjax.solids._clock import Clock
from enerjax.solids.solution import Solution
from enerjax.solids.survey import survey
from enerjax.solids.trained import network_loss


def watched(run, state, budget, first=0.5):
    """Repeat `run` on `state` for `budget` CPU seconds; yields (seconds, state) at doubling times and at the end."""
    compiled = jax.jit(run).lower(state).compile()
    spent, report = 0.0, first
    while spent < budget:
        begin = time.process_time()
        state = jax.block_until_ready(compiled(state))
        spent += time.process_time() - begin
        if report < spent < budget:
            yield spent, state
            report = 2 * spent
    yield spent, state


def broyden(energy, params, budget, chunk=50):
    """Self-scaled Broyden."""
    run = lambda s: quasi_newton(energy, s, iterations=chunk, tolerance=0.0)
    for spent, state in watched(run, jax.jit(partial(start, energy))(params), budget):
        yield spent, state.x, f"{int(state.steps)} steps" + (", stuck" if state.stuck else "")


def lbfgs(energy, params, budget, chunk=50):
    """optax's L-BFGS, memory 20."""
    optimiser = optax.lbfgs(memory_size=20)
    value_and_grad = optax.value_and_grad_from_state(energy)

    def run(state):
        def body(carry, _):
            x, s, n = carry
            value, grad = value_and_grad(x, state=s)
            updates, s = optimiser.update(grad, s, x, value=value, grad=grad, value_fn=energy)
            return (optax.apply_updates(x, updates), s, n + 1), None

        return jax.lax.scan(body, state, None, length=chunk)[0]

    for spent, (x, _, n) in watched(run, (params, optimiser.init(params), jax.numpy.asarray(0)), budget):
        yield spent, x, f"{int(n)} steps"


def main():
    """Print one line per measurement."""
    name = sys.argv[1] if len(sys.argv) > 1 else "manufactured"
    budget = float(sys.argv[2]) if len(sys.argv) > 2 else 40.0
    hidden = tuple(int(n) for n in sys.argv[3:]) or (24, 24)
    problem = getattr(problems, name)()

    def line(name, spent, solution, note=""):
        e = solution.errors()
        u, s = e["displacement_relative_l2"], e["stress_relative_l2"]
        print(f"{name:34s} {spent:7.2f} CPU s   displacement {u:.1e}   stress {s:.1e}   {note}", flush=True)

    with jax.enable_x64(True):
        method = Network(hidden=hidden, interior=20, boundary=32)
        field, loss = network_loss(survey(problem, 20, 32, Clock()), method, jr.key(0))
        params, static = eqx.partition(field.network, eqx.is_array)
        rebuild = lambda p: eqx.tree_at(lambda f: f.network, field, eqx.combine(p, static))
        energy = lambda p: loss(rebuild(p))
        as_solution = lambda p: Solution(problem, rebuild(p), [])
        levenberg = lambda seconds: solve(problem, 0, method=Network(hidden=hidden, max_seconds=seconds))
        half_way = None
        for seconds in (budget / 4, budget):
            solution = levenberg(seconds)
            half_way = half_way or solution
            line("Levenberg–Marquardt", solution.seconds, solution, f"{len(solution.history)} steps")
        after = eqx.filter(half_way.field.network, eqx.is_array)
        for spent, x, note in broyden(energy, after, budget - half_way.seconds):
            line("Levenberg–Marquardt, then SSBroyden", half_way.seconds + spent, as_solution(x), note)
        for spent, x, note in broyden(energy, params, budget):
            line("SSBroyden", spent, as_solution(x), note)
        for spent, x, note in lbfgs(energy, params, budget):
            line("L-BFGS", spent, as_solution(x), note)
        if hidden == (24, 24):
            for spent, steps, solution in adam(problem, budget):
                line("Adam", spent, solution, f"{steps} steps")


if __name__ == "__main__":
    main()
