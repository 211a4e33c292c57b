"""Problems without a closed form, against finite elements that ship as arrays: Cook's membrane, a strip pulled at
finite strain, the finite plate with a hole, a block bent and twisted.

The arrays in `data/` were made by `benchmarks/solids/references.py` and `reference_neo_hookean.py` (scikit-fem, high
order on graded meshes) and `reference_block.py` (FElupe); the table of meshes is inside, and `source` says what was
solved.
"""

import math
from importlib.resources import files

import jax
import jax.numpy as jnp
import numpy as np

from ..condition import Clamped, Displacement, Free, Symmetry, Traction
from ..domain import Box, PerforatedQuarter, Polygon
from ..material import IsotropicElastic, MixedElastic, NeoHookean
from ..method import Collocation, Ritz
from ..problem import Problem, Reference
from ..singular import corner, edge, exponents

VERTICES = ((0.0, 0.0), (48.0, 44.0), (48.0, 60.0), (0.0, 44.0))


def reference(name: str) -> Reference:
    """An array that ships with the library."""
    data = np.load(str(files(__package__) / "data" / f"{name}.npz"))
    points, displacement, stress, weights = (
        data[k].astype(float) for k in ("points", "displacement", "stress", "weights")
    )
    return Reference(points, displacement, stress, weights, str(data["source"]))


def _cook(name, title, material, kappa, force, method, **options) -> Problem:
    """48 wide, clamped on the left (44 high), sheared on the right (16 high): the corner at (0, 44) is singular."""
    opening = float(np.pi - np.arctan2(48, 16))  # between (0, −1) and (48, 16)
    inward = np.array([0.0, -1.0]) + np.array([48.0, 16.0]) / np.hypot(48, 16)
    # the field carries a factor x, which takes one power of r off
    powers = [p - 1 for p in exponents(opening, 1, kappa, below=2.0)]
    sharp = [p - 1 for p in exponents(float(np.arctan2(48, 44)), 1, kappa, below=2.0)]
    clamped = (corner((0.0, 44.0), inward, powers, 48.0, 5), corner((0.0, 0.0), (1.0, 1.0), sharp, 44.0, 4))
    # the dead shear meets the free edges at the loaded corners: stress there depends on the angle, u ~ r f(θ)
    loaded = lambda power: tuple(
        corner((48.0, y), inward, [power], 16.0, 5, logarithm=True)
        for y, inward in ((44.0, (-1.0, 0.0)), (60.0, (-1.0, -1.0)))
    )
    return Problem(
        Polygon(VERTICES, ("bottom", "right", "top", "left"), graded=True),
        material,
        {"left": Clamped(), "right": Traction((0.0, force / 16)), "bottom": Free(), "top": Free()},
        name=name,
        title=title,
        reference=reference(name),
        basis=(*clamped, *loaded(1.0)),
        # the pressure has no factor: the same powers are those of the stress
        pressure_basis=(*clamped, *loaded(0.0)) if isinstance(material, MixedElastic) else (),
        quantities={"tip_deflection": lambda s: s.displacement(jnp.array([[48.0, 52.0]]))[0, 1]},
        method=method,
        **options,
    )


def cook() -> Problem:
    """Cook's membrane, plane stress, E = 1, ν = 1/3, F = 1."""
    material = IsotropicElastic.plane_stress(1.0, 1 / 3)
    return _cook(
        "cook", "Cook's membrane, plane stress", material, 2.0, 1.0, Ritz(features=200, interior=28, boundary=40)
    )


def cook_incompressible() -> Problem:
    """Cook's membrane, plane strain, nearly incompressible: E = 250, ν = 0.4999, F = 100, with a pressure."""
    young, poisson = 250.0, 0.4999
    material, method = MixedElastic.from_young(young, poisson), Ritz(features=250, interior=30, boundary=40)
    return _cook(
        "cook_incompressible",
        "Cook's membrane, nearly incompressible",
        material,
        3 - 4 * poisson,
        100.0,
        method,
        out_of_plane=lambda G, sigma: poisson * jnp.trace(sigma),
    )


def cook_neo_hookean() -> Problem:
    """Cook's membrane at finite strain: compressible neo-Hookean, plane strain, E = 240.565, ν = 0.3, F = 100.

    Towards the clamped corner in compression, (0, 44), the stretch of the upper edge falls (0.86, 0.79, 0.65 at 0.5,
    0.1, 0.02 from it) to Biot's limit, 0.51, where a free surface folds at every wave length: what is
    solved for is the smooth state above that length (benchmarks/solids/reference_neo_hookean.py).
    """
    material = NeoHookean.from_young(240.565, 0.3)
    method = Ritz(features=200, interior=28, boundary=40)
    return _cook("cook_neo_hookean", "Cook's membrane, neo-Hookean", material, 3 - 4 * 0.3, 100.0, method)


def pulled_strip() -> Problem:
    """A neo-Hookean strip clamped at one end and pulled at the other, in plane strain: E = 10, ν = 0.3, 2 × 1, dead
    traction (3, 0.1).

    Both clamped corners are in tension (the edges' stretch is 2 at 0.001 from them), where strain is singular but the
    solution is smooth around: unlike `cook_neo_hookean`, references converge.
    """
    vertices = ((0.0, 0.0), (2.0, 0.0), (2.0, 1.0), (0.0, 1.0))
    # small-strain powers at the clamped corners; the field's factor x takes one power of r off
    powers = [p - 1 for p in exponents(math.pi / 2, 1, 3 - 4 * 0.3, below=2.0)]
    clamped = tuple(corner((0.0, y), (1.0, 1.0 - 2 * y), powers, 1.0, 5) for y in (0.0, 1.0))
    loaded = tuple(corner((2.0, y), (-1.0, 1.0 - 2 * y), [1.0], 1.0, 5, logarithm=True) for y in (0.0, 1.0))
    return Problem(
        Polygon(vertices, ("bottom", "right", "top", "left"), graded=True),
        NeoHookean.from_young(10.0, 0.3),
        {"left": Clamped(), "right": Traction((3.0, 0.1)), "bottom": Free(), "top": Free()},
        name="pulled_strip",
        title="Strip clamped at one end and pulled",
        reference=reference("pulled_strip"),
        basis=(*clamped, *loaded),
        quantities={"elongation": lambda s: s.displacement(jnp.array([[2.0, 0.5]]))[0, 0]},
        method=Ritz(features=200, interior=28, boundary=40),
    )


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


def twisted_block(angle=math.pi / 3, pull=0.5) -> Problem:
    """A neo-Hookean block held at one end, bent by its weight, pulled and twisted by its other end.

    Unit cube, E = 10, ν = 0.3, weight (0, −1/2, 0); the end x = 1 is pulled by 1/2 and turned by 60° (the reference is
    for these). The edges of both ends are singular; the pull keeps them from being compressed beyond Biot's limit,
    where a free surface folds and no smooth solution is left.
    """
    c, s = math.cos(angle), math.sin(angle)
    turn = lambda x: jnp.stack(
        [
            jnp.full_like(x[0], pull),
            (x[1] - 0.5) * (c - 1) - (x[2] - 0.5) * s,
            (x[1] - 0.5) * s + (x[2] - 0.5) * (c - 1),
        ]
    )
    sides = dict.fromkeys(("front", "back", "bottom", "top"), Free())
    # the field's factor x (1 − x) takes one power of r off
    powers = [p - 1 for p in exponents(math.pi / 2, 1, 3 - 4 * 0.3, below=1.0)]
    edges = tuple(
        edge((x, y), (0.5 - x, 0.5 - y), powers, 1.0, 3, (0, k), (3 - k, 0.0, 1.0))
        for x in (0.0, 1.0)
        for y in (0.0, 1.0)
        for k in (1, 2)
    )

    weight = jnp.array([0.0, -0.5, 0.0])

    def torque(solution):
        """About the x axis through the middle, by virtual work of the section x turning by an angle x."""
        inside = solution.problem.domain.interior(20)
        spin, axis = jnp.array([[0.0, 0, 0], [0, 0, -1], [0, 1, 0]]), jnp.array([0.0, 0.5, 0.5])

        def work(x, u, G, P):
            """P : ∇δu − b·δu for δu = x₁ spin (x + u − axis)."""
            turned = spin @ (x + u - axis)
            slope = x[0] * spin @ (jnp.eye(3) + G) + jnp.outer(turned, jnp.array([1.0, 0.0, 0.0]))
            return jnp.sum(P * slope) - x[0] * weight @ turned

        x = inside.x
        return inside.w @ jax.vmap(work)(x, solution.displacement(x), solution.gradient(x), solution.piola(x))

    return Problem(
        Box((0, 0, 0), (1, 1, 1), grade=2.0),
        NeoHookean.from_young(10.0, 0.3),
        {"left": Clamped(), "right": Displacement(turn), **sides},
        name="twisted_block",
        title="Block bent by its weight and twisted",
        body=lambda x: weight.astype(x.dtype),
        reference=reference("twisted_block"),
        basis=edges,
        quantities={"torque": torque},
        method=Ritz(features=150, interior=24, boundary=6, width=1.0, load_steps=1, cut=1e-8),
    )
