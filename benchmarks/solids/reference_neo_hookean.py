"""The finite-element references of `cook_neo_hookean` and `pulled_strip`, with scikit-fem: shifted Newton, meshes one
from another.

    python benchmarks/solids/reference_neo_hookean.py NAME OUT.npz

Environment: pip install scikit-fem scipy. Plane strain, W = μ/2 (tr C − 2) − μ ln J + λ/2 ln²J, clamped on the left,
dead traction on the right. The first mesh is loaded in four steps, each finer one starts from the last one's solution,
projected. Newton's matrix is shifted by the stiffness at rest until it is positive definite, and a line search accepts
no step that raises the energy or turns an element over: what is found is a minimum, and the number of shifts says how
it was found.

**The membrane's clamped corner in compression sets a limit.** Strain is singular there, and where the free edge is
compressed below Biot's stretch (printed; M. A. Biot, Appl. Sci. Res. A 12, 168 (1963)) a free surface is unstable at
every wave length: no smooth minimum exists, and none can be converged to where that limit is passed. Meshes that are
fine there along the edge leave the smooth branch: n = 11 with sides graded by 3, started from n = 8, needs seven
shifted steps and ends at Π = −414.8555, u 1e-4 from all others. So its meshes are graded mildly towards the wall and
strongly towards the other corners, and changes are printed beyond a distance of that corner as well as everywhere. The
strip's corners are in tension, where nothing of the kind happens.
"""

import dataclasses
import sys
import time

import numpy as np
from references import CORNERS, at_points, cook_map, cook_points, cook_traction, lame
from scipy.optimize import brentq
from scipy.sparse import coo_matrix
from scipy.sparse.linalg import splu
from skfem import Basis, ElementQuad1, ElementQuadP, ElementVector, MeshQuad

EYE = np.eye(2)


@dataclasses.dataclass(frozen=True)
class Case:
    """A quadrilateral clamped on the left: its moduli, the resultant of its traction, and how its meshes are made.

    Attributes:
        meshes: elements along each side, and their degree.
        sides: grading towards the wall, the loaded side, and both long sides.
        corner: from which distances are taken.
        distances: beyond which changes of the stress are printed.
    """

    corners: np.ndarray
    young: float
    poisson: float
    force: np.ndarray
    meshes: tuple[tuple[int, int], ...]
    sides: tuple[float, float, float]
    corner: tuple[float, float]
    distances: tuple[float, ...]

    @property
    def moduli(self):
        """λ, μ."""
        return lame(self.young, self.poisson)

    def energy(self, F):
        """W."""
        (lam, mu), J = self.moduli, np.linalg.det(F)
        return mu / 2 * (np.sum(F * F, axis=(-1, -2)) - 2) - mu * np.log(J) + lam / 2 * np.log(J) ** 2

    def piola(self, F):
        """P and ∂P_ij/∂F_kl."""
        (lam, mu), FiT = self.moduli, np.swapaxes(np.linalg.inv(F), -1, -2)
        log_J = np.log(np.linalg.det(F))[..., None, None]
        A = mu * np.einsum("ik,jl->ijkl", EYE, EYE) + lam * np.einsum("...ij,...kl->...ijkl", FiT, FiT)
        A = A + (mu - lam * log_J[..., None, None]) * np.einsum("...il,...kj->...ijkl", FiT, FiT)
        return mu * (F - FiT) + lam * log_J * FiT, A


CASES = {
    "cook_neo_hookean": Case(
        corners=CORNERS,
        young=240.565,
        poisson=0.3,
        force=np.array([0.0, 100.0]),
        meshes=((8, 6), (12, 6), (16, 6), (16, 8)),
        sides=(2.0, 4.0, 3.0),
        corner=(0.0, 44.0),
        distances=(0.0, 0.5, 1.0, 2.0, 4.0),
    ),
    "pulled_strip": Case(
        corners=np.array([(0, 0), (2, 0), (2, 1), (0, 1)], float),
        young=10.0,
        poisson=0.3,
        force=np.array([3.0, 0.1]),
        meshes=((8, 6), (12, 6), (18, 6), (24, 6)),
        sides=(5.0, 4.0, 4.0),
        corner=(0.0, 1.0),
        distances=(0.0, 0.01, 0.1),
    ),
}


class Mesh:
    """Quadrilaterals of one degree on the body of a case, with whole elements' matrices at once."""

    def __init__(self, case, n, degree):
        self.case = case
        t = np.linspace(0, 1, n + 1)
        graded = lambda a, b: t**a / (t**a + (1 - t) ** b)
        self.base = MeshQuad.init_tensor(graded(*case.sides[:2]), graded(case.sides[2], case.sides[2]))
        self.mesh = MeshQuad(cook_map(*self.base.p, case.corners), self.base.t)
        self.basis = basis = Basis(self.mesh, ElementVector(ElementQuadP(degree)), intorder=2 * degree + 1)
        self.load = cook_traction(basis, self.base, case.force)
        held = basis.get_dofs(lambda x: np.isclose(x[0], 0)).all()
        self.free = np.setdiff1d(np.arange(basis.N), held)
        self.slopes = np.stack([f[0].grad for f in basis.basis], axis=-1).transpose(2, 3, 0, 1, 4)
        self.dofs = basis.element_dofs
        shape = (self.dofs.shape[1], len(self.dofs), len(self.dofs))
        places = (np.broadcast_to(a, shape).ravel() for a in (self.dofs.T[:, :, None], self.dofs.T[:, None]))
        self.places = tuple(places)
        self.rest = self.newton(np.zeros(basis.N), 0.0)[1]

    def matrix(self, blocks):
        """Elements' matrices as one, on the free degrees of freedom."""
        K = coo_matrix((blocks.ravel(), self.places), 2 * (self.basis.N,)).tocsr()
        return K[self.free][:, self.free].tocsc()

    def deformation(self, u):
        """F [element, point, 2, 2]."""
        return np.einsum("eqija,ae->eqij", self.slopes, u[self.dofs], optimize=True) + EYE

    def energy(self, u, load):
        """Π; infinite where an element is turned over."""
        F = self.deformation(u)
        if np.linalg.det(F).min() <= 0:
            return np.inf
        return np.sum(self.case.energy(F) * self.basis.dx) - load * self.load @ u

    def newton(self, u, load):
        """−∇Π and the stiffness."""
        P, A = self.case.piola(self.deformation(u))
        A *= self.basis.dx[..., None, None, None, None]
        r = load * self.load
        local = np.einsum("eqij,eqija->ea", P * self.basis.dx[..., None, None], self.slopes, optimize=True)
        r = r - np.bincount(self.dofs.T.ravel(), local.ravel(), self.basis.N)
        flat = self.slopes.reshape(len(self.slopes), -1, len(self.dofs))
        right = np.einsum("eqijkl,eqkla->eqija", A, self.slopes, optimize=True).reshape(flat.shape)
        return r, self.matrix(np.swapaxes(flat, 1, 2) @ right)

    def solve(self, u, load):
        """A minimum from u, and how many Newton steps needed a shift.

        Raises:
            SystemExit: no decrease, or no convergence.
        """
        E, shift, shifted = self.energy(u, load), 0.0, 0
        for _ in range(60):
            r, K = self.newton(u, load)
            while True:
                factor = splu(K + shift * self.rest, diag_pivot_thresh=0.0, options={"SymmetricMode": True})
                step = np.zeros_like(u)
                step[self.free] = factor.solve(r[self.free])
                decrement, length = r @ step, 1.0
                positive = decrement > 0 and not np.any(factor.U.diagonal() < 0)
                lower = lambda s: self.energy(u + s * step, load) <= E - 1e-4 * s * decrement + 1e-13 * abs(E)  # noqa: B023
                while positive and length > 1e-3 and not lower(length):
                    length /= 2
                if positive and length > 1e-3:
                    break
                shift = max(4 * shift, 1e-3)
                if shift > 1e2:
                    raise SystemExit(f"no decrease at load {load}: decrement {decrement:.1e}")
            u, shifted = u + length * step, shifted + (shift > 0)
            E = self.energy(u, load)
            if length == 1 and shift == 0 and decrement < 1e-15 * abs(E):
                return u, shifted
            shift = 0.0 if length == 1 and shift < 1e-2 else shift / 4
        raise SystemExit(f"Newton did not converge at load {load}")

    def project(self, other, u):
        """Another mesh's displacement, in the mean square."""
        square = Basis(self.base, ElementVector(ElementQuad1()), quadrature=self.basis.quadrature)
        where = square.mapping.F(self.basis.quadrature[0])
        value = at_points(other.basis, u, other.base, where.reshape(2, -1))[1].reshape(*where.shape[1:], 2)
        phi = np.stack([f[0].value for f in self.basis.basis], axis=-1).transpose(1, 2, 0, 3)
        weighed = phi * self.basis.dx[..., None, None]
        local = np.einsum("eqia,eqi->ea", weighed, value, optimize=True)
        right = np.bincount(self.dofs.T.ravel(), local.ravel(), self.basis.N)
        found = np.zeros(self.basis.N)
        mass = np.einsum("eqia,eqib->eab", weighed, phi, optimize=True)
        found[self.free] = splu(self.matrix(mass)).solve(right[self.free])
        return found

    def edge_stretch(self, u, r):
        """Stretch of the upper edge at distances r from the wall."""
        along = self.case.corners[2] - self.case.corners[3]
        length = np.linalg.norm(along)
        _, _, G = at_points(self.basis, u, self.base, np.array([r / length, np.full(len(r), 1 - 1e-12)]))
        return np.linalg.norm((EYE + G) @ along / length, axis=1)


def biot(case) -> float:
    """The stretch of a free edge below which waves on it grow, by Stroh's eigenvalue problem of the half plane."""

    def impedance(stretch):
        across = brentq(lambda s: case.piola(np.diag([stretch, s]))[0][1, 1], 0.2, 5)
        A = case.piola(np.diag([stretch, across]))[1]
        Q, R, T = A[:, 0, :, 0], A[:, 0, :, 1] + A[:, 1, :, 0], A[:, 1, :, 1]
        block = np.block([[np.zeros((2, 2)), np.eye(2)], [np.linalg.solve(T, Q), -1j * np.linalg.solve(T, R)]])
        p, V = np.linalg.eig(block)  # u = v exp(i x + p y), decaying into the body y < 0
        p, V = p[p.real > 1e-9], V[:2, p.real > 1e-9]
        traction = np.stack([(1j * A[:, 1, :, 0] + q * A[:, 1, :, 1]) @ v for q, v in zip(p, V.T, strict=True)], 1)
        return np.linalg.det(traction @ np.linalg.inv(V)).real

    return brentq(impedance, 0.4, 0.8)


def main(name, out):
    """Print the table of meshes and write the array of the last one."""
    case = CASES[name]
    print(f"Biot's limit of the edge's stretch: {biot(case):.3f}", flush=True)
    where, weights = cook_points(corners=case.corners)
    norm = lambda a: np.sqrt(np.sum(weights * np.sum(a.reshape(len(a), -1) ** 2, 1)))
    near = 0.0005 * np.array([1, 2.5, 5, 25]) * np.linalg.norm(case.corners[2] - case.corners[3])
    last, table = None, []
    for n, degree in case.meshes:
        begin, mesh = time.process_time(), Mesh(case, n, degree)
        u, shifted = np.zeros(mesh.basis.N) if last is None else mesh.project(last[0], last[1]), 0
        for load in (0.25, 0.5, 0.75, 1.0) if last is None else (1.0,):
            u, more = mesh.solve(u, load)
            shifted += more
        points, value, G = at_points(mesh.basis, u, mesh.base, where)
        F = EYE + G
        sigma = case.piola(F)[0] @ np.swapaxes(F, 1, 2) / np.linalg.det(F)[:, None, None]
        change = [np.nan] * (1 + len(case.distances))
        if last is not None:
            away = np.linalg.norm(points - np.array(case.corner), axis=1)
            kept = [(away > r)[:, None, None] for r in case.distances]
            change = [norm(value - last[2]) / norm(value), *(norm(k * (sigma - last[3])) / norm(sigma) for k in kept)]
        table.append((n, degree, mesh.basis.N, mesh.energy(u, 1.0), *change))
        print(
            f"n {n}, degree {degree}, {mesh.basis.N} unknowns: Π {table[-1][3]:.10g}, change of u {change[0]:.1e}, of "
            f"stress everywhere and beyond {case.distances[1:]} {' '.join(f'{c:.1e}' for c in change[1:])}; edge's "
            f"stretch {np.round(near, 4)} from the wall {np.round(mesh.edge_stretch(u, near), 3)}; {shifted} steps "
            f"shifted, {time.process_time() - begin:.1f} CPU s",
            flush=True,
        )
        last = (mesh, u, value, sigma)
    beyond = f", by {change[3]:.1e} beyond {case.distances[2]:g} from the corner {case.corner}"
    source = (
        f"scikit-fem, degree {degree}, {mesh.basis.N} unknowns, stress changed by {change[1]:.1e} on the last "
        f"refinement{beyond}"
    )
    np.savez_compressed(
        out, points=points, weights=weights, displacement=value, stress=sigma, table=np.array(table), source=source
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
