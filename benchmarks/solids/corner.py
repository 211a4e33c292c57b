"""Where the stress of `cook_neo_hookean` differs from its reference: everywhere, and beyond a distance of the corner.

    python benchmarks/solids/corner.py [FEATURES INTERIOR]

The corner (0, 44) is singular and in compression: reference_neo_hookean.py says why nothing converges at it. Errors
are norms of the difference beyond a distance of it over the norm of all the stress, as that script prints changes.
"""

import dataclasses
import sys

import numpy as np

from enerjax.solids import problems, solve


def main():
    """One line."""
    problem = problems.cook_neo_hookean()
    if len(sys.argv) > 2:
        method = dataclasses.replace(problem.method, features=int(sys.argv[1]), interior=int(sys.argv[2]))
        problem = dataclasses.replace(problem, method=method)
    solution, known = solve(problem, 0), problem.reference
    wrong = np.asarray(solution.stress(known.points)) - known.stress
    away = np.linalg.norm(known.points - np.array([0.0, 44.0]), axis=1)
    square = lambda a, keep: np.sum(known.weights * keep * np.sum(a**2, axis=(1, 2)))
    errors = {r: (square(wrong, away > r) / square(known.stress, away >= 0)) ** 0.5 for r in (0.0, 0.5, 1.0, 2.0, 4.0)}
    print(
        f"Π {solution.info['energy']:.8f}, {solution.info['unknowns']} unknowns, displacement "
        f"{solution.errors()['displacement_relative_l2']:.1e}, stress beyond "
        f"{', '.join(f'{r:g}: {e:.1e}' for r, e in errors.items())}; {solution.seconds:.1f} CPU s"
    )


if __name__ == "__main__":
    main()
