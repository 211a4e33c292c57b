"""Points added by residual against as many Gauss points: a bar with a layer of width 0.002, exact solution known.

    python benchmarks/solids/refine.py

The basis has 20 features over the bar and 40 over a zoom ξ = (x − 0.37)/0.005: that there is a layer is known, where
the points belong is not told. Same basis, same total number of points; prints relative L2 errors.
"""

import jax
import jax.numpy as jnp
import jax.random as jr

from enerjax.solids import Collocation, Displacement, Problem, domain, material, solve
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


def main():
    """One line per number of points and seed."""
    print("points  seed  displacement: Gauss   refined   stress: Gauss   refined")
    for points in (120, 160):
        for seed in (0, 1):
            a, b = (s.errors(600) for s in compare(seed, points))
            pairs = [f"{e[k + '_relative_l2']:.1e}" for k in ("displacement", "stress") for e in (a, b)]
            print(points, seed, *pairs, sep="\t", flush=True)


if __name__ == "__main__":
    main()
