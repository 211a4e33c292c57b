"""Finite-element references with scikit-fem, and their convergence tables.

Elements of degree 6 on meshes graded towards the corners (degree 4 for the plate, graded towards the hole).

    python benchmarks/solids/references.py NAME OUT.npz
    # NAME: cook cook_incompressible finite_plate; cook_neo_hookean: reference_neo_hookean.py

Environment: pip install scikit-fem scipy. The arrays that ship in src/enerjax/solids/problems/data were made by this
script: u and σ at the points of a tensor Gauss rule of the bilinear (transfinite) map, its weights, and the table of
meshes.
"""

import sys

import numpy as np
from skfem import (
    Basis,
    BilinearForm,
    ElementQuad2,
    ElementQuadP,
    ElementVector,
    FacetBasis,
    LinearForm,
    MeshQuad,
    MeshQuad2,
    asm,
    bmat,
    condense,
    solve,
)
from skfem.helpers import ddot, div, sym_grad

CORNERS = np.array([(0, 0), (48, 44), (48, 60), (0, 44)], float)


def gauss(n):
    t, w = np.polynomial.legendre.leggauss(n)
    return (t + 1) / 2, w / 2


def cook_map(s, t, corners=CORNERS):
    """The unit square's bilinear image with these corners."""
    a, b, c, d = corners[:, :, None]
    return (1 - t) * (a + s * (b - a)) + t * (d + s * (c - d))


DEGREE = 6


def cook_mesh(n, grade=5.0):
    """The unit square graded towards all corners (two singular by angle, two by load), and its image."""
    t = np.linspace(0, 1, n + 1)
    t = t**grade / (t**grade + (1 - t) ** grade)
    base = MeshQuad.init_tensor(t, t)
    return base, MeshQuad(cook_map(*base.p), base.t)


def cook_points(n=20, corners=CORNERS):
    """Points (s, t) of the unit square and weights of the reference's norms."""
    t, w = gauss(n)
    S, T = (a.ravel() for a in np.meshgrid(t, t, indexing="ij"))
    W = np.outer(w, w).ravel()
    a, b, c, d = corners[:, :, None]
    ds = (1 - T) * (b - a) + T * (c - d)
    dt = (d + S * (c - d)) - (a + S * (b - a))
    return np.array([S, T]), W * np.abs(ds[0] * dt[1] - ds[1] * dt[0])


def local_in(base, where, cells):
    """Local coordinates in the rectangles of a tensor mesh: solved exactly, where Newton stalls on thin elements."""
    corner, edge1, edge2 = (base.p[:, base.t[k, cells]] for k in (0, 1, 3))
    a, b, d = edge1 - corner, edge2 - corner, where - corner
    det = a[0] * b[1] - a[1] * b[0]
    return np.array([(d[0] * b[1] - d[1] * b[0]) / det, (a[0] * d[1] - a[1] * d[0]) / det])[:, :, None]


def at_points(basis, u, base, where):
    """x, u [n, 2] and ∇u [n, 2, 2] at points given in the unit square of the mesh `base`."""
    cells = base.element_finder()(*where)
    local = local_in(base, where, cells)
    value, slope = np.zeros((where.shape[1], 2)), np.zeros((where.shape[1], 2, 2))
    for i in range(basis.Nbfun):
        phi = basis.elem.gbasis(basis.mapping, local, i, tind=cells)[0]
        dofs = u[basis.element_dofs[i, cells]]
        value += dofs[:, None] * phi.value[:, :, 0].T
        slope += dofs[:, None, None] * np.transpose(phi.grad[:, :, :, 0], (2, 0, 1))
    return basis.mapping.F(local, tind=cells)[:, :, 0].T, value, slope


def lame(E, nu):
    return E * nu / ((1 + nu) * (1 - 2 * nu)), E / (2 * (1 + nu))


def linear_stress(G, lam, mu):
    e = (G + np.swapaxes(G, 1, 2)) / 2
    return lam * np.trace(e, axis1=1, axis2=2)[:, None, None] * np.eye(2) + 2 * mu * e


def cook_traction(basis, base, force):
    """A constant traction of resultant (force_x, force_y) on the right edge, by Gauss points placed through the unit
    square `base` is a mesh of.
    """
    b = np.zeros(basis.N)
    edges = np.unique(base.p[1])
    t, w = gauss(8)
    for low, high in zip(edges[:-1], edges[1:], strict=True):
        middle = np.array([1 - 1e-9]), np.array([(low + high) / 2])
        cells = np.full(len(t), base.element_finder()(*middle)[0])
        local = local_in(base, np.array([np.ones_like(t), low + t * (high - low)]), cells)
        for i in range(basis.Nbfun):
            phi = basis.elem.gbasis(basis.mapping, local, i, tind=cells)[0].value[:, :, 0]
            b[basis.element_dofs[i, cells[0]]] += force @ (phi @ w) * (high - low)
    return b


def cook(n):
    """Plane stress, E = 1, ν = 1/3, F = 1."""
    lam, mu = lame(1.0, 1 / 3)
    lam = 2 * mu * lam / (lam + 2 * mu)
    (base, mesh), element = cook_mesh(n), ElementVector(ElementQuadP(DEGREE))
    basis = Basis(mesh, element, intorder=2 * DEGREE + 1)
    K = asm(BilinearForm(lambda u, v, w: 2 * mu * ddot(sym_grad(u), sym_grad(v)) + lam * div(u) * div(v)), basis)
    b = cook_traction(basis, base, (0.0, 1.0))
    u = solve(*condense(K, b, D=basis.get_dofs(lambda x: np.isclose(x[0], 0)).all()))
    where, weights = cook_points()
    points, value, G = at_points(basis, u, base, where)
    return points, weights, value, linear_stress(G, lam, mu), float(b @ u), basis.N


def cook_incompressible(n):
    """Plane strain, E = 250, ν = 0.4999, F = 100: degree 6 displacement, degree 5 pressure."""
    lam, mu = lame(250.0, 0.4999)
    (base, mesh), element = cook_mesh(n), ElementVector(ElementQuadP(DEGREE))
    basis = Basis(mesh, element, intorder=2 * DEGREE + 1)
    pressure = basis.with_element(ElementQuadP(DEGREE - 1))
    A = asm(BilinearForm(lambda u, v, w: 2 * mu * ddot(sym_grad(u), sym_grad(v))), basis)
    B = asm(BilinearForm(lambda u, q, w: div(u) * q), basis, pressure)
    C = asm(BilinearForm(lambda p, q, w: p * q / lam), pressure)
    b = cook_traction(basis, base, (0.0, 100.0))
    D = basis.get_dofs(lambda x: np.isclose(x[0], 0)).all()
    x = solve(*condense(bmat([[A, B.T], [B, -C]], "csr"), np.concatenate([b, np.zeros(pressure.N)]), D=D))
    u, p = x[: basis.N], x[basis.N :]
    where, weights = cook_points()
    points, value, G = at_points(basis, u, base, where)
    pad = Basis(mesh, ElementVector(ElementQuadP(DEGREE - 1)), intorder=2 * DEGREE + 1)
    pp = np.zeros(pad.N)
    for kind in ("nodal_dofs", "facet_dofs", "interior_dofs"):
        pp[getattr(pad, kind)[::2]] = p[getattr(pressure, kind)]
    p_at = at_points(pad, pp, base, where)[1][:, 0]
    e = (G + np.swapaxes(G, 1, 2)) / 2
    return points, weights, value, 2 * mu * e + p_at[:, None, None] * np.eye(2), float(b @ u), x.size


def plate_map(s, t, W, H):
    """Hole of radius 1 to the sides of [0, W] × [0, H]; s along the angle in two halves, t outwards, geometric."""
    corner = np.arctan2(H, W)
    th = np.where(s <= 0.5, 2 * s * corner, corner + (2 * s - 1) * (np.pi / 2 - corner))
    with np.errstate(divide="ignore"):
        far = np.where(s <= 0.5, W / np.cos(np.minimum(th, corner)), H / np.sin(np.maximum(th, corner)))
    r = far**t
    return np.array([r * np.cos(th), r * np.sin(th)])


def finite_plate(n, W=2.0, H=8.0):
    """Plane stress, E = 1, ν = 0.3, σ_yy = 1 on top, hole of radius 1 in a half width of 2."""
    lam, mu = lame(1.0, 0.3)
    lam = 2 * mu * lam / (lam + 2 * mu)
    base = MeshQuad.init_tensor(np.linspace(0, 1, 2 * n + 1), np.linspace(0, 1, 2 * n + 1))
    mesh = MeshQuad2.from_mesh(base)
    X = plate_map(*mesh.doflocs, W, H)
    X[np.abs(X) < 1e-12] = 0
    mesh = MeshQuad2(X, mesh.t)
    element = ElementVector(ElementQuadP(4))
    basis = Basis(mesh, element, intorder=10)
    K = asm(BilinearForm(lambda u, v, w: 2 * mu * ddot(sym_grad(u), sym_grad(v)) + lam * div(u) * div(v)), basis)
    top = mesh.facets_satisfying(lambda x: np.isclose(x[1], H), boundaries_only=True)
    b = asm(LinearForm(lambda v, w: v[1]), FacetBasis(mesh, element, facets=top, intorder=10))
    side = lambda k: basis.get_dofs(mesh.facets_satisfying(lambda x: np.isclose(x[k], 0), boundaries_only=True))
    u = solve(*condense(K, b, D=np.concatenate([side(0).all(["u^1"]), side(1).all(["u^2"])])))
    t, w = gauss(16)
    S, T = (a.ravel() for a in np.meshgrid(np.concatenate([t / 2, (1 + t) / 2]), t, indexing="ij"))
    weights = np.outer(np.concatenate([w, w]) / 2, w).ravel()
    h = 1e-6
    J = [
        (plate_map(S + h * i, T + h * (1 - i), W, H) - plate_map(S - h * i, T - h * (1 - i), W, H)) / (2 * h)
        for i in (1, 0)
    ]
    points, value, G = at_points(basis, u, base, np.array([S, T]))
    hole = basis.interpolate(u)
    projection = basis.with_element(ElementQuad2())
    syy = projection.project(2 * mu * hole.grad[1, 1] + lam * (hole.grad[0, 0] + hole.grad[1, 1]))
    i = np.argmin((projection.doflocs[0] - 1) ** 2 + projection.doflocs[1] ** 2)
    return (
        points,
        weights * np.abs(J[0][0] * J[1][1] - J[0][1] * J[1][0]),
        value,
        linear_stress(G, lam, mu),
        float(syy[i]),
        basis.N,
    )


def main(name, out):
    table, last = [], None
    meshes = {
        "cook": (12, 16, 24, 32),
        "cook_incompressible": (12, 16, 24, 32),
        "finite_plate": (8, 14, 22),
    }
    for n in meshes[name]:
        points, weights, u, s, number, dofs = globals()[name](n)
        change = [np.nan, np.nan]
        if last is not None:
            norm = lambda a: np.sqrt(np.sum(weights * np.sum(a.reshape(len(a), -1) ** 2, 1)))
            change = [norm(u - last[0]) / norm(u), norm(s - last[1]) / norm(s)]
        table.append((n, dofs, number, *change))
        print(
            f"n {n:4d}  unknowns {dofs:7d}  number {number:.8g}  change of u {change[0]:.2e}, stress {change[1]:.2e}",
            flush=True,
        )
        last = (u, s)
    degree = 4 if name == "finite_plate" else DEGREE
    source = f"scikit-fem, degree {degree}, {dofs} unknowns, stress changed by {change[1]:.1e} on the last refinement"
    np.savez_compressed(
        out, points=points, weights=weights, displacement=u, stress=s, table=np.array(table), source=np.array(source)
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
