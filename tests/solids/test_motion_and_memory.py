"""Mode shapes, bodies with memory, periodicity, and meshes from files, against closed forms."""

import dataclasses

import jax
import jax.numpy as jnp
import jax.random as jr
import meshio
import numpy as np
import pytest

from enerjax.solids import (
    Clamped,
    Collocation,
    Displacement,
    Free,
    Periodic,
    Problem,
    Ritz,
    SolveError,
    Symmetry,
    Traction,
    march,
    modes,
    problems,
    solve,
)
from enerjax.solids.domain import Meshed, Rectangle, SphericalShell
from enerjax.solids.material import J2, IsotropicElastic, Viscoelastic, stress
from enerjax.solids.problems.plane import minus_divergence

SQUARE = Rectangle((0, 0), (1, 1))
ROLLERS = dict.fromkeys(("left", "bottom", "top"), Symmetry())


def test_modes_of_a_square_between_smooth_walls():
    """Pressure waves ω² = c_p² π²(m² + n²), shear waves c_s² π²(m² + n²) with m, n ≥ 1: π²(1, 2, 2, 2.5, 2.5, 4)."""
    walls = ROLLERS | {"right": Symmetry()}
    method = Ritz(features=100, interior=16, boundary=8, cut=1e-8)
    found = modes(Problem(SQUARE, IsotropicElastic(1.0, 0.5), walls), 6, method=method)
    assert jnp.allclose(found.angular**2 / jnp.pi**2, jnp.array([1, 2, 2, 2.5, 2.5, 4]), rtol=1e-7)
    x = SQUARE.interior(12)
    u, v = found.shapes[0].displacement(x.x), found.shapes[1].displacement(x.x)
    product = lambda a, b: float(jnp.sum(x.w[:, None] * a * b))
    assert abs(product(u, u) - 1) < 1e-8 and abs(product(u, v)) < 1e-8
    a, b = jnp.pi * x.x.T
    exact = jnp.stack([jnp.sin(a) * jnp.cos(b), -jnp.cos(a) * jnp.sin(b)], 1)
    assert abs(abs(product(u, exact)) / product(exact, exact) ** 0.5 - 1) < 1e-6
    with pytest.raises(ValueError, match="rigid-body motion free"):
        modes(Problem(SQUARE, IsotropicElastic(1.0, 0.5), dict.fromkeys(walls, Free())))


def pulled(material):
    return Problem(SQUARE, material, ROLLERS | {"right": Displacement((1.0, 0.0), (0,))}, name="pulled")


SMALL = Ritz(features=15, interior=9, boundary=9, cut=1e-6)


def test_plastic_loading_and_unloading_in_uniaxial_strain():
    """σ₁₁ = κε + ⅔ q: q = 2με up to σ_y, then slope 2μH/(3μ + H); elastic on the way back."""
    kappa, mu, sy, H = 1.0, 0.5, 0.01, 0.2
    loads = [0.005, 0.02, 0.04, 0.035]
    path = march(pulled(J2.virgin(kappa, mu, sy, H)), loads, method=SMALL)
    first = sy / (2 * mu)
    q = [min(2 * mu * e, sy + 2 * mu * H / (3 * mu + H) * (e - first)) for e in loads[:3]]
    q.append(q[2] - 2 * mu * 0.005)
    for sigma, e, q_ in zip(path.stresses, loads, q, strict=True):
        assert jnp.allclose(sigma[:, 0, 0], kappa * e + 2 / 3 * q_, rtol=1e-4)
        assert jnp.allclose(sigma[:, 1, 1], kappa * e - q_ / 3, rtol=1e-4)
    with pytest.raises(ValueError, match="no memory"):
        march(pulled(IsotropicElastic(1.0, 0.5)), [1.0])


def test_beyond_the_limit_load_the_last_state_is_kept():
    """Perfect plasticity in plane strain, pulled: equilibrium up to the traction 2Y/√3, none beyond."""
    Y = 0.01
    sides = {"left": Symmetry(), "bottom": Symmetry(), "top": Free(), "right": Traction((2 * Y / np.sqrt(3.0), 0.0))}
    bar = Problem(SQUARE, J2.virgin(1.0, 0.5, Y), sides, name="bar")
    message = "bar: no equilibrium at load 1.01 .*last equilibrium is at load 0.98.*limit load"
    with pytest.raises(SolveError, match=message) as caught:
        march(bar, [0.7, 0.98, 1.01, 1.2], method=SMALL)
    assert caught.value.load == 0.98
    assert caught.value.state is not None
    elastic = 0.98 * 2 * Y / np.sqrt(3.0) * (1 - (2 / 7) ** 2) / (9 / 7)  # σ (1 − ν²)/E
    assert elastic < float(caught.value.state.displacement([[1.0, 0.5]])[0, 0]) < 5 * elastic


def test_relaxation_of_a_held_body_is_backward_euler_of_the_branches():
    dt, times, branches = 0.5, [1.0, 5.0], [0.3, 0.2]
    path = march(pulled(Viscoelastic.relaxed(1.0, 0.5, branches, times, dt)), [0.01] * 4, method=SMALL)
    for n, sigma in enumerate(path.stresses, start=1):
        mu = 0.5 + sum(m * (1 + dt / t) ** -n for m, t in zip(branches, times, strict=True))
        assert jnp.allclose(sigma[:, 0, 0], 0.01 * (1.0 + 4 / 3 * mu), rtol=1e-4)


def test_plastic_zone_of_a_thick_sphere():
    """Hill: with the zone at c, p = ⅔Y(1 − c³/b³) + 2Y ln(c/a) and u(b) = Y c³(1 − ν)/(E b²)."""
    E, nu, Y, a, b, c = 1.0, 0.3, 0.01, 1.0, 2.0, 1.4
    pressure = 2 / 3 * Y * (1 - (c / b) ** 3) + 2 * Y * np.log(c / a)
    push = Traction(lambda x, n: -n)  # unit pressure, scaled by the loads
    mirrors = dict.fromkeys(("x0", "y0", "z0"), Symmetry())
    material = J2.virgin(E / (3 * (1 - 2 * nu)), E / (2 * (1 + nu)), Y)
    shell = Problem(SphericalShell(a, b), material, {"inner": push, "outer": Free(), **mirrors}, name="shell")
    method = Ritz(features=50, interior=9, boundary=7, cut=1e-6, width=0.5)
    path = march(shell, [0.7 * pressure, pressure], method=method)
    x = jnp.array([[b, b, b]]) / jnp.sqrt(3.0)
    u = jnp.linalg.norm(path.solutions[-1].displacement(x, check=False))
    assert jnp.allclose(u, Y * c**3 * (1 - nu) / (E * b**2), rtol=5e-3)
    yielded = path.materials.state.alpha > 0  # pyright: ignore[reportAttributeAccessIssue]
    zone = jnp.max(jnp.where(yielded, jnp.linalg.norm(path.points, axis=1), 0.0))
    assert abs(float(zone) - c) < 0.1


def test_periodic_layer():
    """A layer clamped below and pulled above, periodic along it: manufactured."""
    wave = lambda x: x[1] * jnp.stack([jnp.sin(2 * jnp.pi * x[0]), x[1] * jnp.cos(2 * jnp.pi * x[0])])
    material = IsotropicElastic(1.0, 0.5)
    pull = Traction(lambda x, n: stress(material, jax.jacfwd(wave)(x)) @ n)
    conditions = {"left": Periodic(jnp.array([1.0, 0.0])), "bottom": Clamped(), "top": pull}
    layer = Problem(SQUARE, material, conditions, body=minus_divergence(material, wave), exact=wave)
    method = Collocation(features=150, interior=16, boundary=24, widths=(1.4,))
    assert solve(layer, 0, method=method).errors(12)["displacement_relative_l2"] < 1e-5
    with pytest.raises(ValueError, match="translation along x1"):
        solve(Problem(SQUARE, material, conditions | {"bottom": Symmetry()}), 0)


def quads(n):
    """[0, 1]² as n × n quadrilaterals with the inner corners moved."""
    t = np.linspace(0, 1, n + 1)
    points = np.stack([a.ravel() for a in np.meshgrid(t, t, indexing="ij")], 1)
    inner = np.all((points > 0) & (points < 1), axis=1)
    points[inner] += 0.2 / n * np.asarray(jr.uniform(jr.key(0), (int(inner.sum()), 2), minval=-1.0))
    number = np.arange((n + 1) ** 2).reshape(n + 1, n + 1)
    corners = [number[:-1, :-1], number[1:, :-1], number[1:, 1:], number[:-1, 1:]]
    return points, np.stack([c.ravel() for c in corners], 1)


def test_a_mesh_from_a_file_is_a_domain(tmp_path):
    """Triangles by Gmsh with named lines: volume, divergence theorem, patch test, and files out again."""
    points, cells = quads(4)
    triangles = np.concatenate([cells[:, [0, 1, 2]], cells[:, [0, 2, 3]]])
    edge = lambda where: np.array(
        [(a, b) for c in cells for a, b in zip(c, np.roll(c, -1), strict=True) if where(points[a]) and where(points[b])]
    )
    left, top = edge(lambda p: p[0] == 0), edge(lambda p: p[1] == 1)
    tags = [np.full(len(left), 1), np.full(len(top), 2), np.full(len(triangles), 3)]
    mesh = meshio.Mesh(
        np.pad(points, ((0, 0), (0, 1))),
        [("line", left), ("line", top), ("triangle", triangles)],
        cell_data={"gmsh:physical": tags, "gmsh:geometrical": tags},
        field_data={"left": np.array([1, 1]), "top": np.array([2, 1]), "body": np.array([3, 2])},
    )
    mesh.write(tmp_path / "plate.msh", file_format="gmsh22", binary=False)
    domain = Meshed.read(tmp_path / "plate.msh", {"right": lambda x: x[:, 0] > 1 - 1e-9})
    assert set(domain.parts) == {"left", "top", "right", "boundary"}
    inside = domain.interior(12)
    assert jnp.allclose(jnp.sum(inside.w), 1.0) and bool(jnp.all(domain.contains(inside.x)))
    assert not bool(domain.contains(jnp.array([[1.1, 0.5]]))[0])
    edges = [domain.boundary(name, 12) for name in domain.parts]
    assert jnp.allclose(sum(jnp.sum(p.w * jnp.sum(p.x * p.normal, 1)) for p in edges), 2.0)
    patch = problems.patch_tension()
    pull = patch.conditions["top"]
    conditions = {"left": patch.conditions["left"], "top": pull, "right": pull, "boundary": pull}
    solution = solve(dataclasses.replace(patch, domain=domain, conditions=conditions), 0)
    assert max(solution.errors(9).values()) < 1e-11
    assert len(meshio.read(solution.write_vtu(tmp_path / "out.vtu")).points) == len(points)


def test_mixed_meshes_in_space():
    """A prism of one hexahedron and six tetrahedra: volume and outward normals."""
    h = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 1], [1, 0, 1], [1, 1, 1], [0, 1, 1]], float)
    up = h + np.array([0, 0, 1.0])
    points = np.concatenate([h, up[4:]])
    top = np.array([4, 5, 6, 7, 8, 9, 10, 11])
    tets = np.array([(0, 1, 2, 6), (0, 2, 3, 6), (0, 3, 7, 6), (0, 7, 4, 6), (0, 4, 5, 6), (0, 5, 1, 6)])
    for cells in ({"hexahedron": np.arange(8)[None]}, {"tetra": top[tets]}):
        used = np.unique(np.concatenate([c.ravel() for c in cells.values()]))
        domain = Meshed(points[used], {k: np.searchsorted(used, c) for k, c in cells.items()})
        p = domain.boundary("boundary", 4)
        assert jnp.allclose(jnp.sum(domain.interior(4).w), 1.0)
        assert jnp.allclose(jnp.sum(p.w * jnp.sum(p.x * p.normal, 1)), 3.0)
    with pytest.raises(ValueError, match="no facet"):
        Meshed(points[:8], {"hexahedron": np.arange(8)[None]}, {"nowhere": lambda x: x[:, 0] > 5})
