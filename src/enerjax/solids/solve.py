"""`solve(problem, key)`: checks the problem, runs its method in float64, and returns a `Solution`."""

import time
import warnings
from collections.abc import Callable
from numbers import Integral
from pathlib import Path

import jax
import jax.random as jr
import numpy as np
from jax.core import Tracer

from .._array import Key
from ._clock import Clock
from .collocation import System, basis_of, choose_width
from .field import LinearField
from .method import Collocation, Network, Ritz
from .problem import Problem
from .refine import refine_terms
from .ritz import solve_ritz
from .solution import Solution, SolveError, stopped
from .survey import check_support, survey
from .trained import solve_network

POOR = 0.05  # of the residual at rest, beyond which a linear solution is called unconverged


def solve(
    problem: Problem,
    key: Key | int = 0,
    *,
    method: Collocation | Ritz | Network | None = None,
    max_seconds: float | None = None,
    directory: str | Path | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Solution:
    """Solve a problem of solid mechanics in float64, whatever the ambient precision.

    Args:
        problem: domain, material, loads, conditions.
        key: of the random features, or an integer seed.
        method: `Collocation`, `Ritz` or `Network`; by default the problem's own.
        max_seconds: CPU seconds after which iterations stop with the best state so far.
        directory: where a failed load step leaves its last good state (VTU).
        say: receives lines of progress.

    Returns:
        The solution: `displacement(points)`, `stress(points)`, `history`, `errors()`.

    Raises:
        ValueError: free rigid-body motions, missing conditions, contradictory arguments, loads that are not finite.
        TypeError: inside `jax.grad`, `vmap` or `jit` over the material or the conditions.
        SolveError: load steps had to be halved below 1/1024, or a NaN with its likely cause.

    Warns:
        UserWarning: the basis leaves a good part of the loads unbalanced, or has more unknowns than quadrature sees.
    """
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((problem.material, dict(problem.conditions)))):
        raise TypeError(
            f"{problem.name}: solve runs on the host and cannot be differentiated or batched by JAX; "
            "Specimen.create(problem, points, key) can, over materials"
        )
    if isinstance(key, Integral):
        key = jr.key(int(key))
    chosen = method or problem.method or Collocation()
    runner = {Collocation: solve_collocation, Ritz: solve_ritz, Network: solve_network}.get(type(chosen))
    if runner is None:
        raise ValueError(f"unknown method {type(chosen).__name__}: give Collocation, Ritz or Network")
    if isinstance(chosen, Collocation) and chosen.refine < 0:
        raise ValueError(f"Collocation: refine counts rounds; it cannot be {chosen.refine}")
    deadline = time.process_time() + (max_seconds if max_seconds is not None else float("inf"))
    with jax.enable_x64(True):
        clock = Clock()
        look = survey(problem, chosen.interior, chosen.boundary, clock)
        check_support(look)
        try:
            return runner(look, key, chosen, clock, deadline, say)
        except SolveError as error:
            if directory is not None and error.state is not None:
                path = error.state.write_vtu(Path(directory) / f"{problem.name}_last_good_state.vtu")
                raise SolveError(f"{error}; last good state saved in {path}", error.state, error.load) from None
            raise


def solve_collocation(look, key, method: Collocation, clock: Clock, deadline, say) -> Solution:
    """Gauss–Newton over the coefficients of random features in the strong or mixed form."""
    problem = look.problem
    if method.form == "mixed" and (problem.finite or problem.mixed):
        raise ValueError("the displacement–stress form is for small strain: use Collocation(form='strong')")
    system = System(look, method, clock)
    linear = not problem.finite
    width = choose_width(system, key, method, say)
    history, load, step = [], 0.0, 1.0 / method.load_steps
    if linear:
        basis, c, norm, start = system.first(key, method.features, width)
        if not np.all(np.isfinite(c)):
            raise SolveError(f"{problem.name}: the solution is not finite; is the body force, or a prescribed value?")
        history.append({"load": 1.0, "seconds": clock.seconds, "residual": float(norm), "start": float(start)})
        load = 1.0
    else:
        basis = basis_of(look, key, method.features, width, clock.call)
        found = system.prepare(basis)
        c = jax.device_put(np.zeros((system.components, basis.size)))
    while load < 1.0:
        target = min(1.0, load + step)
        good = c
        c, done, trail = _gauss_newton(system, basis, found, c, target, method, method.iterations, deadline, say)
        history += [{"load": target, "seconds": clock.seconds, **entry} for entry in trail]
        if done:
            load = target
            continue
        step, c = step / 2, good
        say(f"load {target:g} failed (inverted or no decrease): step halved to {step:g}")
        if step < 1 / 1024:
            state = Solution(problem, LinearField(basis, system.built, good), history, clock.seconds, clock.compile)
            raise SolveError(
                f"{problem.name}: no equilibrium beyond load fraction {load:.4g}: the deformation inverts or buckles. "
                "Lower the load, add features, or use a stabilising material",
                state,
                load,
            )
    add = len(look.inside) // 2
    for k in jr.split(jr.fold_in(key, 7), method.refine) if method.refine else ():
        system.terms = refine_terms(
            system.terms, LinearField(basis, system.built, c), problem.domain, k, call=clock.call, add=add
        )
        start = np.zeros_like(c) if linear else c  # nothing of the first answer's rounding is carried on
        c, _, trail = _gauss_newton(
            system, basis, system.prepare(basis), start, 1.0, method, 1 if linear else method.iterations, deadline, say
        )
        if not np.all(np.isfinite(c)):
            raise SolveError(f"{problem.name}: the solve on refined points is not finite", None, 1.0)
        history += [{"load": 1.0, "seconds": clock.seconds, "refined": True, **entry} for entry in trail]
        if time.process_time() > deadline:
            history[-1]["stopped"] = "max_seconds"
            break
    info = {"width": width, "unknowns": int(c.size), "residual": history[-1]["residual"], "method": "collocation"}
    info |= stopped(history)
    left = history[-1]["residual"] / max(float(history[0].get("start", 0.0)), 1e-300)
    if linear and left > POOR:
        warnings.warn(
            f"{problem.name}: {left:.1%} of the loads' residual is left, the solution is far from converged: give more "
            "features, `basis=` functions for singular corners (`solids.singular.corner`), or use Ritz",
            stacklevel=3,
        )
    return Solution(problem, LinearField(basis, system.built, c), history, clock.seconds, clock.compile, info)


def _gauss_newton(system: System, basis, found, c, load, method, iterations, deadline, say):
    """Iterate at one load. Returns coefficients, whether they are good, and the history."""
    load, trail = np.asarray(load), []
    start = 0.0
    for iteration in range(iterations):
        norm, R = system.triangle(basis, found, c, load)
        norm = float(norm)
        start = norm if iteration == 0 else start
        if not np.isfinite(norm):
            return c, False, trail
        ridge = 1e-14 if iterations == 1 else float(np.clip(1e-10 * norm / start, 1e-14, 1e-10))
        target, predicted = system.solve(R, ridge)
        predicted = float(predicted)
        if iterations == 1:
            return target, bool(np.all(np.isfinite(target))), [{"iteration": 0, "residual": predicted, "start": start}]
        step = target - c
        # the linear model promises next to nothing: this is the floor of the basis
        floor = iteration > 0 and (predicted > 0.5 * norm or norm < method.tolerance * start)
        length, after = 1.0, np.nan
        while not floor and length > 1e-3:
            after = system.norm(basis, found, c + length * step, load)
            if np.isfinite(after) and after < norm * (1 - 1e-4 * length):
                break
            length /= 2
        else:
            return c, floor or (iteration > 0 and norm < 1e-6 * start), trail
        c = c + length * step
        trail.append({"iteration": iteration, "residual": after, "step": length, "seconds": system.clock.seconds})
        say(f"load {float(load):g} iteration {iteration}: residual {after:.3e} (step {length:g})")
        if time.process_time() > deadline:
            trail[-1]["stopped"] = "max_seconds"
            return c, True, trail
    return c, bool(trail and trail[-1]["residual"] < 1e-3 * start), trail
