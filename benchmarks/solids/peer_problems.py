"""The problems peers are given, as closed forms over any array module (numpy, torch, jax.numpy).

Haghighat's plane-strain plate (λ = 1, μ = 1/2, Q = 4) on the unit square; Kirsch's plate: the quarter [0, 4]² with a
hole of radius 1, E = 1, ν = 0.3, plane strain, unit tension along x, or its quarter 1 ≤ r ≤ 4 in polar coordinates,
which is easier; Lamé's cylinder, 1 ≤ r ≤ 4 under unit inner
pressure, a quarter in polar coordinates, where every boundary condition can be built in; and Timoshenko's cantilever,
8 × 2, E = 1, ν = 0.3, plane stress, under a load that makes the largest stress 1. Stress as (σ_xx, σ_yy, σ_xy),
or (σ_rr, σ_θθ, σ_rθ) with displacement (u_r, u_θ).
"""

import math

import numpy as np

PI = math.pi


class Cartesian:
    """The first-order system of five fields f = (u, v, σ_xx, σ_yy, σ_xy) in x and y."""

    lower, upper = (0.0, 0.0), (1.0, 1.0)

    def residual(self, xp, x, y, f, d):
        """Equilibrium and the constitutive law; d(i, j) is ∂f_i/∂x_j."""
        return [*self._balance(xp, x, y, d), *self._law(f, d(0, 0), d(1, 1), d(0, 1) + d(1, 0))]

    def _balance(self, xp, x, y, d):
        fx, fy = self.divergence(xp, x, y)
        return d(2, 0) + d(4, 1) - fx, d(4, 0) + d(3, 1) - fy

    def _law(self, f, e11, e22, shear):
        stiff = self.lam + 2 * self.mu
        return stiff * e11 + self.lam * e22 - f[2], stiff * e22 + self.lam * e11 - f[3], self.mu * shear - f[4]


class Manufactured(Cartesian):
    """u = (cos 2πx sin πy, sin πx Q y⁴/4)."""

    lam, mu, Q = 1.0, 0.5, 4.0

    def displacement(self, xp, x, y):
        return xp.cos(2 * PI * x) * xp.sin(PI * y), xp.sin(PI * x) * self.Q * y**4 / 4

    def stress(self, xp, x, y):
        ux, uy = -2 * PI * xp.sin(2 * PI * x) * xp.sin(PI * y), PI * xp.cos(2 * PI * x) * xp.cos(PI * y)
        vx, vy = PI * xp.cos(PI * x) * self.Q * y**4 / 4, xp.sin(PI * x) * self.Q * y**3
        stiff = self.lam + 2 * self.mu
        return stiff * ux + self.lam * vy, stiff * vy + self.lam * ux, self.mu * (uy + vx)

    def divergence(self, xp, x, y):
        """Div σ: minus the body force."""
        stiff, Q = self.lam + 2 * self.mu, self.Q
        wave = xp.cos(2 * PI * x) * xp.sin(PI * y)
        cross, bend = xp.sin(2 * PI * x) * xp.cos(PI * y), PI * xp.cos(PI * x) * Q * y**3
        first = -4 * PI**2 * stiff * wave + self.lam * bend + self.mu * (-(PI**2) * wave + bend)
        second = self.mu * (-2 * PI**2 * cross - PI**2 * xp.sin(PI * x) * Q * y**4 / 4)
        return first, second + 3 * stiff * xp.sin(PI * x) * Q * y**2 - 2 * PI**2 * self.lam * cross

    def hard(self, xp, x, y, f):
        """The network's five outputs with every boundary condition built in (as in DeepXDE's elasticity_plate.py)."""
        top = (self.lam + 2 * self.mu) * self.Q * xp.sin(PI * x)
        return f[0] * y * (1 - y), f[1] * x * (1 - x) * y, f[2] * x * (1 - x), f[3] * (1 - y) + top, f[4]

    def grid(self, n=101):
        """Test points and weights."""
        t = np.linspace(0, 1, n)
        x, y = (a.ravel() for a in np.meshgrid(t, t, indexing="ij"))
        return x, y, np.ones_like(x)


class Kirsch(Cartesian):
    """Timoshenko & Goodier, §35."""

    young, nu, size = 1.0, 0.3, 4.0
    lam, mu = young * nu / ((1 + nu) * (1 - 2 * nu)), young / (2 * (1 + nu))

    def _polar(self, xp, x, y):
        r = xp.sqrt(x * x + y * y)
        return r, x / r, y / r

    def radial_displacement(self, r, c2, s2):
        """(u_r, u_θ) at r and the cosine and sine of 2θ."""
        kappa, q = 3 - 4 * self.nu, 1 / r
        ur = r * ((kappa - 1) / 2 + c2) + q * (1 + (1 + kappa) * c2) - q**3 * c2
        ut = ((1 - kappa) * q - r - q**3) * s2
        return ur / (4 * self.mu), ut / (4 * self.mu)

    def radial_stress(self, r, c2, s2):
        """(σ_rr, σ_θθ, σ_rθ)."""
        q = 1 / r
        rr = (1 - q**2) / 2 + (1 - 4 * q**2 + 3 * q**4) / 2 * c2
        tt = (1 + q**2) / 2 - (1 + 3 * q**4) / 2 * c2
        return rr, tt, -(1 + 2 * q**2 - 3 * q**4) / 2 * s2

    def displacement(self, xp, x, y):
        r, c, s = self._polar(xp, x, y)
        ur, ut = self.radial_displacement(r, c * c - s * s, 2 * c * s)
        return ur * c - ut * s, ur * s + ut * c

    def stress(self, xp, x, y):
        r, c, s = self._polar(xp, x, y)
        rr, tt, rt = self.radial_stress(r, c * c - s * s, 2 * c * s)
        return (
            rr * c * c + tt * s * s - 2 * rt * s * c,
            rr * s * s + tt * c * c + 2 * rt * s * c,
            (rr - tt) * s * c + rt * (c * c - s * s),
        )

    def divergence(self, xp, x, y):
        return 0 * x, 0 * x

    def hard(self, xp, x, y, f):
        """Mirror planes built in; the tractions on hole and outer sides are left to the loss."""
        return f[0] * x, f[1] * y, f[2], f[3], f[4] * x * y

    def grid(self, n=81):
        """Test points of the same radial map and their areas."""
        s, t = (a.ravel() for a in np.meshgrid(np.linspace(0, 1, n), np.linspace(0, 1, n), indexing="ij"))
        angle = PI / 2 * t
        reach = self.size / np.maximum(np.cos(angle), np.sin(angle))
        r = reach**s
        return r * np.cos(angle), r * np.sin(angle), r * r * np.log(reach)

    def traction(self, xp, x, y, stress, normal):
        """σ n − σ_exact n."""
        exact = self.stress(xp, x, y)
        d = [a - b for a, b in zip(stress, exact, strict=True)]
        return d[0] * normal[0] + d[2] * normal[1], d[2] * normal[0] + d[1] * normal[1]


class Lame(Cartesian):
    """u_r = (1 + ν)/E A ((1 − 2ν) r + b²/r), σ_rr = A (1 − b²/r²), A = p a²/(b² − a²); (r, θ) in place of (x, y)."""

    young, nu, inner, outer = 1.0, 0.3, 1.0, 4.0
    lam, mu = young * nu / ((1 + nu) * (1 - 2 * nu)), young / (2 * (1 + nu))
    lower, upper = (1.0, 0.0), (4.0, PI / 2)
    A = 1 / 15

    def displacement(self, xp, x, y):
        return (1 + self.nu) / self.young * self.A * ((1 - 2 * self.nu) * x + 16 / x), 0 * x

    def stress(self, xp, x, y):
        return self.A * (1 - 16 / x**2), self.A * (1 + 16 / x**2), 0 * x

    def residual(self, xp, x, y, f, d):
        """In polar coordinates."""
        law = self._law(f, d(0, 0), (d(1, 1) + f[0]) / x, (d(0, 1) - f[1]) / x + d(1, 0))
        return [d(2, 0) + (d(4, 1) + f[2] - f[3]) / x, d(4, 0) + (d(3, 1) + 2 * f[4]) / x, *law]

    def hard(self, xp, x, y, f):
        """Pressure inside, nothing outside, mirrors at both ends."""
        ends, span = y * (PI / 2 - y), (x - 1) * (4 - x)
        return f[0], f[1] * ends, f[2] * span - (4 - x) / 3, f[3], f[4] * ends * span

    def grid(self, n=81):
        """Test points and their areas."""
        x, y = (a.ravel() for a in np.meshgrid(np.linspace(1, 4, n), np.linspace(0, PI / 2, n), indexing="ij"))
        return x, y, x


class KirschPolar(Lame):
    """Kirsch's plate inside r = 4, whose tractions are the exact ones there; (r, θ) in place of (x, y)."""

    exact = Kirsch()

    def displacement(self, xp, x, y):
        return self.exact.radial_displacement(x, xp.cos(2 * y), xp.sin(2 * y))

    def stress(self, xp, x, y):
        return self.exact.radial_stress(x, xp.cos(2 * y), xp.sin(2 * y))

    def hard(self, xp, x, y, f):
        """Tractions on both circles, mirrors at both ends; displacements of order one."""
        ends, span, share = y * (PI / 2 - y), (x - 1) * (4 - x), (x - 1) / 3
        rr, _, rt = self.stress(xp, 0 * x + 4.0, y)
        return 5 * f[0], 5 * f[1] * ends, f[2] * span + rr * share, f[3], f[4] * ends * span + rt * share


class Cantilever(Cartesian):
    """Timoshenko & Goodier, §21."""

    nu, load, length = 0.3, 1 / 12, 8.0
    lam, mu = nu / (1 - nu**2), 1 / (2 * (1 + nu))
    lower, upper = (0.0, -1.0), (8.0, 1.0)

    def displacement(self, xp, x, y):
        c, nu, L = self.load / 4, self.nu, self.length
        u = c * y * ((6 * L - 3 * x) * x + (2 + nu) * (y**2 - 1))
        return u, -c * (3 * nu * y**2 * (L - x) + (4 + 5 * nu) * x + (3 * L - x) * x**2)

    def stress(self, xp, x, y):
        return 1.5 * self.load * (self.length - x) * y, 0 * x, -0.75 * self.load * (1 - y**2) + 0 * x

    def divergence(self, xp, x, y):
        return 0 * x, 0 * x

    def hard(self, xp, x, y, f):
        """Displacement at the clamped end, tractions on the other three sides; outputs of order one."""
        u, v = self.displacement(xp, 0 * x, y)
        wall, free, tip = x / self.length, 1 - y**2, 1 - x / self.length
        shear = self.stress(xp, x, y)[2]
        return u + 20 * wall * f[0], v + 20 * wall * f[1], tip * f[2], free * f[3], shear + free * tip * f[4]

    def grid(self, n=81):
        """Test points and weights."""
        x, y = (a.ravel() for a in np.meshgrid(np.linspace(0, 8, n), np.linspace(-1, 1, n), indexing="ij"))
        return x, y, np.ones_like(x)


PROBLEMS = {
    "manufactured": Manufactured,
    "kirsch": Kirsch,
    "kirsch_polar": KirschPolar,
    "thick_cylinder": Lame,
    "cantilever": Cantilever,
}


def errors(problem, x, y, w, fields):
    """Relative L2 errors of displacement and stress of `fields` [n, 5]."""
    u, s = np.stack(problem.displacement(np, x, y), 1), np.stack(problem.stress(np, x, y), 1)
    twice = np.array([1.0, 1.0, 2.0])
    norm = lambda a, k: np.sqrt(np.sum(w[:, None] * k * a**2))
    return norm(fields[:, :2] - u, 1.0) / norm(u, 1.0), norm(fields[:, 2:] - s, twice) / norm(s, twice)
