"""Problems without a closed form, against finite elements that ship as arrays: Cook's membrane, the finite plate with
a hole.

The arrays in `data/` were made by `benchmarks/solids/references.py` (scikit-fem, Q2 on graded meshes), table of
meshes inside.
"""

from importlib.resources import files

import jax.numpy as jnp
import numpy as np

from ..condition import Clamped, Free, Symmetry, Traction
from ..domain import PerforatedQuarter, Polygon
from ..material import IsotropicElastic, NeoHookean
from ..method import Collocation, Ritz
from ..problem import Problem, Reference
from ..singular import corner, exponents

VERTICES = ((0.0, 0.0), (48.0, 44.0), (48.0, 60.0), (0.0, 44.0))


def reference(name: str) -> Reference:
    """An array that ships with the library."""
    data = np.load(str(files(__package__) / "data" / f"{name}.npz"))
    n, unknowns, _, _, change = data["table"][-1]
    source = f"scikit-fem, Q2, {int(unknowns)} unknowns, stress changed by {change:.1e} on the last refinement"
    return Reference(data["points"], data["displacement"], data["stress"], data["weights"], source)


def _cook(name, title, material, kappa, force, method) -> Problem:
    """48 wide, clamped on the left (44 high), sheared on the right (16 high): the corner at (0, 44) is singular."""
    opening = float(np.pi - np.arctan2(48, 16))  # between (0, −1) and (48, 16)
    inward = np.array([0.0, -1.0]) + np.array([48.0, 16.0]) / np.hypot(48, 16)
    # the field carries a factor x, which takes one power of r off
    powers = [p - 1 for p in exponents(opening, 1, kappa, below=2.0)]
    return Problem(
        Polygon(VERTICES, ("bottom", "right", "top", "left"), graded=True),
        material,
        {"left": Clamped(), "right": Traction((0.0, force / 16)), "bottom": Free(), "top": Free()},
        name=name,
        title=title,
        reference=reference(name),
        basis=(
            corner((0.0, 44.0), inward, powers, 48.0, 5),
            # the dead shear meets the free edges at the loaded corners: stress there depends on the angle, u ~ r f(θ)
            corner((48.0, 44.0), (-1.0, 0.0), [1.0], 16.0, 5, logarithm=True),
            corner((48.0, 60.0), (-1.0, -1.0), [1.0], 16.0, 5, logarithm=True),
            corner(
                (0.0, 0.0),
                (1.0, 1.0),
                [p - 1 for p in exponents(float(np.arctan2(48, 44)), 1, kappa, below=2.0)],
                44.0,
                4,
            ),
        ),
        quantities={"tip_deflection": lambda s: s.displacement(jnp.array([[48.0, 52.0]]))[0, 1]},
        method=method,
    )


def cook() -> Problem:
    """Cook's membrane, plane stress, E = 1, ν = 1/3, F = 1."""
    material = IsotropicElastic.plane_stress(1.0, 1 / 3)
    return _cook(
        "cook", "Cook's membrane, plane stress", material, 2.0, 1.0, Ritz(features=200, interior=28, boundary=40)
    )


def cook_incompressible() -> Problem:
    """Cook's membrane, plane strain, nearly incompressible: E = 250, ν = 0.4999, F = 100."""
    material = IsotropicElastic.from_young(250.0, 0.4999)
    method = Ritz(features=250, interior=30, boundary=40)
    return _cook(
        "cook_incompressible", "Cook's membrane, nearly incompressible", material, 3 - 4 * 0.4999, 100.0, method
    )


def cook_neo_hookean() -> Problem:
    """Cook's membrane at finite strain: compressible neo-Hookean, plane strain, E = 240.565, ν = 0.3, F = 100."""
    material = NeoHookean.from_young(240.565, 0.3)
    method = Ritz(features=200, interior=28, boundary=40)
    return _cook("cook_neo_hookean", "Cook's membrane, neo-Hookean", material, 3 - 4 * 0.3, 100.0, method)


def finite_plate() -> Problem:
    """A plate of finite width with a hole, d/W = 1/2, plane stress, pulled along y: Howland's concentration."""
    domain = PerforatedQuarter(1.0, 2.0, 8.0)
    scaled = lambda x: 2 * x / jnp.array([2.0, 8.0], x.dtype) - 1
    return Problem(
        domain,
        IsotropicElastic.plane_stress(1.0, 0.3),
        {"hole": Free(), "right": Free(), "top": Traction((0.0, 1.0)), "left": Symmetry(), "bottom": Symmetry()},
        name="finite_plate",
        title="Plate of finite width with a hole",
        reference=reference("finite_plate"),
        coordinates=lambda x: jnp.concatenate([domain.coordinates(x), scaled(x)]),
        quantities={"stress_concentration": lambda s: s.stress(jnp.array([[1.0, 0.0]]))[0, 1, 1]},
        method=Collocation(features=600, interior=40, boundary=60, widths=(0.7, 1.0, 1.4)),
    )
