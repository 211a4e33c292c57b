"""The tour's chapter on solid mechanics: Kirsch's hole, its stress beside the error, and error against seconds."""

import time
from collections.abc import Callable

from ..report import Chapter, figure


def chapter(seed: int, say: Callable[[str], None]) -> Chapter:
    """Solve three problems with known answers and show what accuracy costs."""
    import dataclasses

    import jax
    import jax.random as jr

    from ...solids import Collocation, problems, solve
    from ..solid_figures import planar_fields

    key = jr.key(seed)
    begin = time.process_time()
    kirsch = problems.kirsch()
    sizes, trail = (40, 90, 200), []
    for size in sizes:
        method = Collocation(features=size, interior=18, boundary=28, widths=(1.0,))
        solution = solve(kirsch, key, method=method)
        errors = solution.errors(21)
        trail.append((solution.seconds, errors["displacement_relative_l2"], errors["stress_relative_l2"]))
        say(f"Kirsch, {size} features: stress to {errors['stress_relative_l2']:.1e} in {solution.seconds:.2f} s")
    patch = solve(problems.patch_tension(), key).errors(9)
    finite = dataclasses.replace(
        problems.neo_hookean(), method=Collocation(features=150, interior=16, boundary=24, widths=(1.0,), load_steps=1)
    )
    large = solve(finite, key)
    large_errors = large.errors(17)
    say(f"neo-Hookean, finite strain: displacement to {large_errors['displacement_relative_l2']:.1e}")
    with jax.enable_x64(True):
        concentration = solution.quantities()["stress_concentration"]

    fields = planar_fields(solution, 24)
    assert fields is not None  # Kirsch's plate is planar
    cost, (ax,) = figure()
    seconds, u, s = zip(*trail, strict=True)
    ax.loglog(seconds, u, "o-", label="displacement")
    ax.loglog(seconds, s, "s-", label="stress")
    ax.set(xlabel="CPU seconds, compilation apart", ylabel="relative L2 error")
    for x, y, size in zip(seconds, s, sizes, strict=True):
        ax.annotate(f"{size} features", (x, y), textcoords="offset points", xytext=(4, 4), fontsize=7)
    ax.legend()
    return Chapter(
        name="solids",
        title="Solid mechanics: solver-grade accuracy",
        text=[
            "A plate with a hole under tension (Kirsch 1898). The displacement is a frozen random layer with boundary "
            "values built in, over (1/r, θ); equilibrium in strong form is a least-squares problem, solved by QR. The "
            "stress at the edge of the hole is three times the far stress.",
            "Finite strain: the same by Gauss–Newton over the last layer. Patch test: to rounding.",
        ],
        numbers={
            "displacement_relative_l2": trail[-1][1],
            "stress_relative_l2": trail[-1][2],
            "stress_concentration": concentration,
            "solve_seconds": trail[-1][0],
            "patch_test_stress_error": patch["stress_relative_l2"],
            "neo_hookean_displacement_relative_l2": large_errors["displacement_relative_l2"],
            "cpu_seconds": time.process_time() - begin,
        },
        figures=[
            ("Displacement, von Mises stress and the stress error of Kirsch's plate.", fields),
            ("Error against CPU seconds as the random layer grows.", cost),
        ],
    )
