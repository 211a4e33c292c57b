"""The twisted block by finite elements (FElupe): hexahedra of any degree.

    pip install felupe                  # an environment of its own (GPL-3: compare, never import)
    python benchmarks/solids/reference_block.py OUT.npz [--degree 4] [--cells 1 2 3 4 6 8] [--grade 2.5]

A unit cube of compressible neo-Hookean material (E = 10, ν = 0.3) under its weight, (0, −1/2, 0) per volume: held at
x = 0, its face x = 1 pulled by 1/2 and turned by 60°. (Without the pull, as in FEniCS's demo of hyperelasticity, the
edges of both ends are compressed beyond Biot's limit, a stretch of about 1/2, where a free surface folds at every wave
length: finer meshes find ever other states.) Cells gather at the faces, whose edges are singular at both ends; every
mesh after the first starts from the state of the one before. Displacement and Cauchy stress of the last mesh on 16³
points go into OUT.npz with the table of meshes: unknowns, potential, torque, the relative change from the mesh before,
in these points, of the displacement, of the stress, and of the stress where it is 0.1 or more from the singular edges,
and the least and greatest principal stretch.
"""

import argparse

import felupe as fem
import numpy as np
import scipy.sparse.linalg as sparse

YOUNG, POISSON, WEIGHT, PULL, ANGLE = 10.0, 0.3, 0.5, 0.5, np.pi / 3
MU, LAM = YOUNG / (2 * (1 + POISSON)), YOUNG * POISSON / ((1 + POISSON) * (1 - 2 * POISSON))


def nodes(cells: int, degree: int, grade: float):
    """Coordinates of the nodes along each axis."""
    t = np.linspace(0.0, 1.0, cells + 1)
    ends = t**grade / (t**grade + (1 - t) ** grade)
    inner = ends[:-1, None] + np.diff(ends)[:, None] * np.arange(degree) / degree
    return np.append(inner.ravel(), 1.0)


def grid():
    """Where solutions are compared, along each axis: the two Gauss points of eight cells, and their weights."""
    x = nodes(8, 1, 1.7)
    size = np.diff(x)
    points = (x[1:] + x[:-1])[:, None] / 2 + size[:, None] / 2 * np.array([-1, 1]) / np.sqrt(3)
    return points.ravel(), np.repeat(size / 2, 2)


def shapes(x, degree: int, at):
    """Shape functions of an axis with the nodes x, and their slopes, at points: [points, nodes]."""
    cell = np.clip(np.searchsorted(x[::degree], at, side="right") - 1, 0, len(x) // degree - 1)
    low, high = x[degree * cell], x[degree * (cell + 1)]
    s, knots = (at - low) / (high - low), np.arange(degree + 1) / degree
    value, slope = np.zeros((2, len(at), len(x)))
    each = np.arange(len(at))
    for k in range(degree + 1):
        f = np.polynomial.Polynomial.fromroots(np.delete(knots, k))
        f = f / f(knots[k])
        value[each, degree * cell + k], slope[each, degree * cell + k] = f(s), f.deriv()(s) / (high - low)
    return value, slope


def along(N, L, M, u):
    """Interpolate the nodal u[i, j, k, component] along each axis."""
    return np.einsum("ck,abkd->abcd", M, np.einsum("bj,ajkd->abkd", L, np.einsum("ai,ijkd->ajkd", N, u)))


def state(x, degree: int, u, at):
    """Displacement and Cauchy stress on the grid at × at × at, [points, …], of a mesh with the nodes x × x × x."""
    N, D = shapes(x, degree, at)
    F = np.eye(3) + np.stack([along(D, N, N, u), along(N, D, N, u), along(N, N, D, u)], -1)
    J, inverse = np.linalg.det(F), np.swapaxes(np.linalg.inv(F), -1, -2)
    P = MU * (F - inverse) + LAM * np.log(J)[..., None, None] * inverse
    sigma = P @ np.swapaxes(F, -1, -2) / J[..., None, None]
    return along(N, N, N, u).reshape(-1, 3), sigma.reshape(-1, 3, 3)


def solve(x, degree: int, start, steps: int = 16):
    """Nodal displacement [i, j, k, component], energy less work of the weight, torque on the turned face, stretches.

    Newton with halved steps, from the displacement `start` of these nodes, if given, else from rest in load steps.
    """
    m, cells = len(x), len(x) // degree
    points = np.stack(np.meshgrid(x, x, x, indexing="ij"), -1).reshape(-1, 3)
    number = np.arange(m**3).reshape(m, m, m)
    firsts, own = degree * np.arange(cells), np.arange(degree + 1)
    # within a cell the first coordinate runs fastest
    connect = [
        number[np.ix_(a + own, b + own, c + own)].transpose(2, 1, 0).ravel()
        for a in firsts
        for b in firsts
        for c in firsts
    ]
    mesh = fem.Mesh(points, np.array(connect), "VTK_LAGRANGE_HEXAHEDRON")
    region = fem.RegionLagrange(mesh, order=degree, dim=3, permute=False)
    field = fem.FieldContainer([fem.Field(region, dim=3)])
    body = fem.SolidBody(fem.NeoHookeCompressible(mu=MU, lmbda=LAM), field)
    shape = region.h if region.h.ndim == 2 else region.h[..., 0]
    weight = np.zeros_like(points)
    for a in range(mesh.cells.shape[1]):
        np.add.at(weight[:, 1], mesh.cells[:, a], -WEIGHT * np.einsum("q,qc->c", shape[a], region.dV))
    held, turned = points[:, 0] == 0, points[:, 0] == 1
    free = np.flatnonzero(np.repeat(~(held | turned), 3))
    c, s = np.cos(ANGLE), np.sin(ANGLE)
    y, z = points[turned, 1] - 0.5, points[turned, 2] - 0.5
    end = np.stack([PULL + 0 * y, y * c - z * s - y, y * s + z * c - z], 1)

    def energy(u, load):
        field[0].values[:] = u
        F = np.moveaxis(field.extract()[0], (0, 1), (-2, -1))
        J = np.linalg.det(F)
        if J.min() <= 0:
            return np.inf
        W = MU / 2 * (np.sum(F * F, axis=(-2, -1)) - 3) - MU * np.log(J) + LAM / 2 * np.log(J) ** 2
        return float(np.sum(W * region.dV) - load * np.sum(weight * u))

    u = np.zeros_like(points) if start is None else start.reshape(-1, 3).copy()
    for k in range(1, steps + 1) if start is None else [steps]:
        load = k / steps
        u = u * k / (k - 1) if k > 1 and start is None else u
        u[turned] = load * end
        E = energy(u, load)
        if not np.isfinite(E):
            raise RuntimeError(f"{cells} cells, load {load}: a cell is inverted from the start")
        for _ in range(60):
            field[0].values[:] = u
            r = (body.assemble.vector(field).toarray().reshape(-1, 3) - load * weight).ravel()[free]
            K = body.assemble.matrix(field).tocsc()[free][:, free]
            options = {"SymmetricMode": True}  # a fraction of the fill of the general order
            factor = sparse.splu(K, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options=options)
            way = np.zeros(u.size)
            way[free] = -factor.solve(r)
            gain, length = -way[free] @ r, 1.0
            while (after := energy(u + length * way.reshape(-1, 3), load)) > E - 1e-4 * length * gain + 1e-14 * abs(E):
                length /= 2
                if length < 1e-6:
                    raise RuntimeError(f"{cells} cells, load {load}: no step lowers the energy")
            u, E = u + length * way.reshape(-1, 3), after
            if gain < 1e-12 * abs(E):
                break
        else:
            raise RuntimeError(f"{cells} cells, load {load}: not converged")
    field[0].values[:] = u
    force = (body.assemble.vector(field).toarray().reshape(-1, 3) - weight)[turned]
    arm = points[turned] + u[turned] - np.array([0, 0.5, 0.5])
    torque = float(np.sum(arm[:, 1] * force[:, 2] - arm[:, 2] * force[:, 1]))
    stretches = np.linalg.svd(np.moveaxis(field.extract()[0], (0, 1), (-2, -1)), compute_uv=False)
    return u.reshape(m, m, m, 3), E, torque, (stretches.min(), stretches.max())


def main():
    """Solve on every mesh and save the last."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out")
    parser.add_argument("--degree", type=int, default=4)
    parser.add_argument(
        "--cells", type=int, nargs="+", default=[1, 2, 3, 4, 6, 8], help="along each side, mesh by mesh"
    )
    parser.add_argument("--grade", type=float, default=2.5, help="cells near the faces have the size t^grade")
    a = parser.parse_args()
    at, w = grid()
    points = np.stack(np.meshgrid(at, at, at, indexing="ij"), -1).reshape(-1, 3)
    weights = np.einsum("a,b,c->abc", w, w, w).ravel()
    x, y, z = np.minimum(points, 1 - points).T
    far = weights * (np.hypot(x, np.minimum(y, z)) >= 0.1)
    norm = lambda a, w: np.sqrt(w @ np.sum(a.reshape(len(w), -1) ** 2, axis=1))
    rows, start, before = [], None, None
    for n in a.cells:
        x = nodes(n, a.degree, a.grade)
        if start is not None:
            N, _ = shapes(start[0], a.degree, x)
            start = along(N, N, N, start[1])
        u, potential, torque, stretches = solve(x, a.degree, start)
        now, change = state(x, a.degree, u, at), [np.nan] * 3
        if before is not None:
            pairs = zip(now + now[1:], before + before[1:], (weights, weights, far), strict=True)
            change = [norm(new - old, w) / norm(new, w) for new, old, w in pairs]
        rows.append((n, u.size, potential, torque, *change, *stretches))
        numbers = f"potential {potential:.6f}  torque {torque:.6f}  change of u {change[0]:.1e}, of σ {change[1]:.1e}"
        extremes = f"stretches {stretches[0]:.2f} to {stretches[1]:.2f}"
        print(f"cells {n}  unknowns {u.size}  {numbers}, {change[2]:.1e} off the edges  {extremes}", flush=True)
        start, before = (x, u), now
    arrays = {"points": points, "weights": weights, "displacement": now[0], "stress": now[1]}
    small = {name: v.astype(np.float32) for name, v in arrays.items()}
    source = (
        f"FElupe, {n}³ hexahedra of degree {a.degree}; on the last refinement displacement changed by {change[0]:.1e}, "
        f"stress by {change[1]:.1e} ({change[2]:.1e} beyond 0.1 from the edges of both ends)"
    )
    np.savez_compressed(a.out, table=np.array(rows), source=np.array(source), **small)


if __name__ == "__main__":
    main()
