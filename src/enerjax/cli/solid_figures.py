"""Figures of solid mechanics: deformed fields, pointwise errors, error against seconds."""

import numpy as np

from .report import figure


def planar_fields(solution, n: int = 40):
    """|u|, von Mises stress and the stress error on the deformed shape. None where the domain is not planar."""
    import jax
    import jax.numpy as jnp
    from matplotlib.tri import Triangulation

    from ..solids.mesh import mesh_of
    from ..solids.solution import truth_at

    problem = solution.problem
    if problem.domain.dimension != 2 or problem.density is not None:
        return None
    with jax.enable_x64(True):
        mesh = mesh_of(problem.domain, n)
        x = jnp.asarray(mesh.points[:, :2])
        u, vm = np.asarray(solution.displacement(x, check=False)), np.asarray(solution.von_mises(x, check=False))
        stress = np.asarray(solution.stress(x, check=False))
        exact = truth_at(problem, x)
    quads = np.concatenate([c.data for c in mesh.cells])
    triangles = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    scale = 1.0 if problem.finite else 0.1 * problem.domain.size / max(float(np.abs(u).max()), 1e-300)
    moved = np.asarray(x) + scale * u
    shape = Triangulation(moved[:, 0], moved[:, 1], triangles)
    panels = [("displacement |u|", np.linalg.norm(u, axis=1)), ("von Mises stress", vm)]
    if exact is not None:
        size = max(float(np.abs(exact[1]).max()), 1e-300)
        error = np.abs(stress - np.asarray(exact[1])).max(axis=(1, 2)) / size
        panels.append(("log₁₀ stress error / max stress", np.log10(error + 1e-17)))
    fig, axes = figure(columns=len(panels), width=4.4, height=3.6)
    for ax, (title, value) in zip(axes, panels, strict=True):
        drawn = ax.tripcolor(shape, value, shading="gouraud", cmap="viridis")
        fig.colorbar(drawn, ax=ax, shrink=0.8)
        ax.set(title=title, aspect="equal")
    note = "" if problem.finite else f" (displacement × {scale:.3g})"
    fig.suptitle((problem.title or problem.name) + note)
    return fig


def history(solution):
    """Errors where known, else the residual, against CPU seconds. None for a single entry."""
    entries = solution.history
    keys = [
        k for k in ("displacement_relative_l2", "stress_relative_l2", "residual", "energy_change") if k in entries[-1]
    ]
    keys = [k for k in keys if sum(k in e and e[k] > 0 for e in entries) > 1]
    if not keys:
        return None
    fig, (ax,) = figure()
    for k in keys:
        chosen = [e for e in entries if k in e and e[k] > 0]
        ax.loglog([e["seconds"] for e in chosen], [e[k] for e in chosen], "o-", label=k.replace("_", " "))
    ax.set(
        xlabel="CPU seconds, compilation apart",
        ylabel="relative",
        title=solution.problem.title or solution.problem.name,
    )
    ax.legend()
    return fig
