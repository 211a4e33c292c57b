"""Points added by residual against as many Gauss points: a bar with a layer of width 0.002, exact solution known.

    python benchmarks/solids/refine.py [plate]

The basis has 20 features over the bar and 40 over a zoom ξ = (x − 0.37)/0.005: that there is a layer is known, where
the points belong is not told. Same basis, same total number of points; prints relative L2 errors. `plate`: in two
dimensions, a plate with an oblique layer, by trained networks and by frozen features.
"""

import dataclasses
import sys

import jax
import jax.numpy as jnp
import jax.random as jr

from enerjax.solids import Collocation, Displacement, Network, Problem, domain, material, solve
from enerjax.solids.field import RandomFeatures
from enerjax.solids.problems.plane import minus_divergence


def layer(seed: int, width=0.002, zoom=0.005, at=0.37) -> Problem:
    """u = x (1 − x) (1 + tanh((x − a)/ε)) in a bar held at both ends."""
    law = material.IsotropicElastic(0.0, 0.5)
    exact = lambda x: x * (1 - x) * (1 + jnp.tanh((x - at) / width))
    near = RandomFeatures.create(jr.key(100 + seed), 40, 1, 3.0, lambda x: (x - at) / zoom)
    ends = {"left": Displacement(0.0), "right": Displacement(0.0)}
    body = minus_divergence(law, exact)
    return Problem(domain.Interval(0.0, 1.0), law, ends, name="layer", body=body, exact=exact, basis=(near,))


def compare(seed: int, points: int):
    """Solutions on `points` Gauss points, and on half as many with two rounds that add a quarter each."""
    with jax.enable_x64(True):
        problem = layer(seed)
        method = lambda n, rounds: Collocation(features=20, interior=n, widths=(2.0,), refine=rounds)
        return solve(problem, seed, method=method(points, 0)), solve(problem, seed, method=method(points // 2, 2))


def layered_plate() -> Problem:
    """A plate with an oblique layer of width 0.03, exact solution known, held on all sides."""
    law = material.IsotropicElastic(1.0, 0.5)
    step = lambda x: jnp.tanh((x[0] + 0.6 * x[1] - 0.7) / 0.03)
    exact = lambda x: jnp.stack([0.1 * step(x) + x[0] * x[1], 0.05 * step(x) * x[1]])
    sides = dict.fromkeys(("left", "right", "bottom", "top"), Displacement(exact))
    plate = domain.Rectangle((0, 0), (1, 1))
    return Problem(plate, law, sides, name="layered_plate", body=minus_divergence(law, exact), exact=exact)


def plate(seed: int, points: int, seconds: float):
    """Trained networks (`Network`), fixed Gauss points and drawn anew three times; then frozen features whose basis has
    a zoom across the layer, Gauss points and half as many with two rounds that add a quarter each.
    """
    with jax.enable_x64(True):
        problem = layered_plate()
        trained = lambda n: Network(hidden=(40,), interior=points, max_seconds=seconds, width=4.0, refine=n)
        across = lambda x: jnp.stack([(x[0] + 0.6 * x[1] - 0.7) / 0.1, 2 * x[1] - 1])
        near = RandomFeatures.create(jr.key(100 + seed), 150, 2, 3.0, across)
        zoomed = dataclasses.replace(problem, basis=(near,))
        frozen = lambda n, rounds: Collocation(features=50, interior=n, widths=(2.0,), refine=rounds)
        yield "trained, Gauss", solve(problem, seed, method=trained(0))
        yield "trained, drawn anew 3 times", solve(problem, seed, method=trained(3))
        yield "frozen, Gauss", solve(zoomed, seed, method=frozen(points, 0))
        yield "frozen, points added", solve(zoomed, seed, method=frozen(round(points / 2**0.5), 2))


def main():
    """One line per number of points and seed."""
    if "plate" in sys.argv:
        for seed in (0, 1):
            for name, solution in plate(seed, 24, 20.0):
                e = solution.errors(60)
                u, s = e["displacement_relative_l2"], e["stress_relative_l2"]
                numbers = f"displacement {u:.1e}  stress {s:.1e}  {solution.seconds:.1f} CPU s"
                print(f"{name:28s} seed {seed}  {numbers}", flush=True)
        return
    print("points  seed  displacement: Gauss   refined   stress: Gauss   refined")
    for points in (120, 160):
        for seed in (0, 1):
            a, b = (s.errors(600) for s in compare(seed, points))
            pairs = [f"{e[k + '_relative_l2']:.1e}" for k in ("displacement", "stress") for e in (a, b)]
            print(points, seed, *pairs, sep="\t", flush=True)


if __name__ == "__main__":
    main()
