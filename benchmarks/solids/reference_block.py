"""The twisted block by finite elements (FElupe): triquadratic hexahedra, Newton over sixteen load steps.

    pip install felupe                  # an environment of its own (GPL-3: compare, never import)
    python benchmarks/solids/reference_block.py OUT.npz [CELLS PER SIDE ...]

A unit cube of compressible neo-Hookean material (E = 10, ν = 0.3) under its weight, (0, −1/2, 0) per volume: held at
x = 0, its face x = 1 turned by 60° and moved half-way there, as in FEniCS's demo of hyperelasticity (without its
traction). Displacement and Cauchy stress of the last mesh at 2 × 2 × 2 Gauss points per cell, where the gradient of
quadratic elements is most accurate, go into OUT.npz with the table of meshes: unknowns, potential, torque, change of
displacement (at the last mesh's points) from the mesh before.
"""

import sys

import felupe as fem
import numpy as np

YOUNG, POISSON, WEIGHT, ANGLE, GRADE = 10.0, 0.3, 0.5, np.pi / 3, 1.7
MU, LAM = YOUNG / (2 * (1 + POISSON)), YOUNG * POISSON / ((1 + POISSON) * (1 - 2 * POISSON))


def solve(cells: int, steps: int = 16):
    """Mesh, field, strain energy less work of the weight, and the torque on the turned face."""
    mesh = fem.Cube(n=cells + 1)
    t = mesh.points  # cells gather at the faces, whose edges are singular at both ends
    mesh.points = t**GRADE / (t**GRADE + (1 - t) ** GRADE)
    mesh = mesh.add_midpoints_edges().add_midpoints_faces().add_midpoints_volumes()
    region = fem.RegionTriQuadraticHexahedron(mesh)
    field = fem.FieldContainer([fem.Field(region, dim=3)])
    held, turned = fem.Boundary(field[0], fx=0), fem.Boundary(field[0], fx=1)
    y, z = (mesh.points[turned.points, i] - 0.5 for i in (1, 2))
    body = fem.SolidBody(fem.NeoHookeCompressible(mu=MU, lmbda=LAM), field)
    shape = region.h if region.h.ndim == 2 else region.h[..., 0]
    weight = np.zeros_like(mesh.points)
    for a in range(mesh.cells.shape[1]):
        np.add.at(weight[:, 1], mesh.cells[:, a], -WEIGHT * np.einsum("q,qc->c", shape[a], region.dV))
    c, s = np.cos(ANGLE), np.sin(ANGLE)
    for k in range(1, steps + 1):
        turned.value = 0.5 * k / steps * np.stack([0 * y, y * c - z * s - y, y * s + z * c - z], 1)
        bounds = {"held": held, "turned": turned}
        free, fixed = fem.dof.partition(field, bounds)
        prescribed = fem.dof.apply(field, bounds, free)
        load = fem.PointLoad(field, np.arange(mesh.npoints), values=k / steps * weight)
        fem.newtonraphson(items=[body, load], dof0=free, dof1=fixed, ext0=prescribed, verbose=False)
    u = field[0].values
    F = np.moveaxis(field.extract()[0], (0, 1), (-2, -1))
    log_J = np.log(np.linalg.det(F))
    W = MU / 2 * (np.sum(F * F, axis=(-2, -1)) - 3) - MU * log_J + LAM / 2 * log_J**2
    force = (body.assemble.vector(field).toarray().reshape(-1, 3) - weight)[turned.points]
    arm = mesh.points[turned.points] + u[turned.points] - np.array([0, 0.5, 0.5])
    torque = float(np.sum(arm[:, 1] * force[:, 2] - arm[:, 2] * force[:, 1]))
    return mesh, u, float(np.sum(W * region.dV) - np.sum(weight * u)), torque


def look(mesh, u):
    """Points, weights, displacement and Cauchy stress at two Gauss points along each direction of each cell."""
    region = fem.RegionTriQuadraticHexahedron(mesh, quadrature=fem.GaussLegendre(order=1, dim=3))
    position, moved = (fem.Field(region, dim=3, values=v) for v in (mesh.points, u))
    flat = lambda a: np.transpose(a, (a.ndim - 1, a.ndim - 2, *range(a.ndim - 2))).reshape(-1, *a.shape[:-2])
    F = np.eye(3) + flat(moved.grad())
    J, inverse = np.linalg.det(F), np.swapaxes(np.linalg.inv(F), 1, 2)
    P = MU * (F - inverse) + LAM * np.log(J)[:, None, None] * inverse
    sigma = P @ np.swapaxes(F, 1, 2) / J[:, None, None]
    return flat(position.interpolate()), flat(region.dV), flat(moved.interpolate()), sigma


def main(out, *cells):
    """Solve on every mesh and save the last."""
    rows, last = [], None
    for n in map(int, cells or (3, 4, 6, 8)):
        mesh, u, potential, torque = solve(n)
        change = np.nan
        if last is not None:
            # nodes of the mesh before are nodes of this one, all of them where the number of cells doubles
            known, before = last
            near = [int(np.argmin(np.sum((mesh.points - x) ** 2, 1))) for x in known]
            same = np.linalg.norm(mesh.points[near] - known, axis=1) < 1e-9
            change = np.linalg.norm((u[near] - before)[same]) / np.linalg.norm(before[same])
        rows.append((n, u.size, potential, torque, change))
        numbers = f"potential {potential:.6f}  torque {torque:.6f}  change of u {change:.1e}"
        print(f"cells {n}  unknowns {u.size}  {numbers}", flush=True)
        last = mesh.points, u
    points, weights, displacement, sigma = look(mesh, u)
    arrays = {"points": points, "weights": weights, "displacement": displacement, "stress": sigma}
    small = {name: a.astype(np.float32) for name, a in arrays.items()}
    source = f"FElupe, {n}³ triquadratic hexahedra, displacement changed by {change:.1e} on the last refinement"
    np.savez_compressed(out, table=np.array(rows), source=np.array(source), **small)


if __name__ == "__main__":
    main(*sys.argv[1:])
