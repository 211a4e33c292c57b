"""Inverse problems: moduli, a modulus field, or a material law from noisy displacements and reactions.

For a fixed basis the rows of a linear problem are linear in the moduli, A(θ) = Σ_k θ_k A_k, and the equilibrium
constraint is solved exactly for every θ: u(θ) = argmin ‖A(θ) c − b‖. What is left is a misfit of a few numbers, u(θ)
against the readings: Gauss–Newton identifies them, the Laplace approximation gives intervals, and the same energy
goes to `chain.sample`.
"""

import dataclasses
import math
from collections.abc import Callable
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..fit.least_squares import Fit, jacobian, levenberg_marquardt
from ._clock import Clock
from .collocation import System, _rows, basis_of
from .domain import AbstractDomain
from .material import IsotropicElastic, lame
from .method import Collocation
from .problem import Problem
from .readings import AbstractReadings
from .survey import check_support, survey


class ModuliMisfit(AbstractReadings):
    """E(θ) = ½ ‖(u(λ(θ)) − y)/σ‖², θ = ln λ: readings of displacement against the solution for moduli λ.

    A(λ) = A₀ + Σ_k λ_k A_k; every array is a leaf, so new readings or another noise compile nothing.

    Attributes:
        rows: A₀ and A_k, already reduced to triangles of equal height, [1 + K, M, m N].
        right: b₀ and b_k, [1 + K, M].
        sensors: linear map from coefficients to readings, [readings, m N], and `lifted`, their part from the lift.
        data: y, the readings.
        noise: σ.
    """

    rows: Float[Array, "k M n"]
    right: Float[Array, "k M"]
    sensors: Float[Array, "readings n"]
    lifted: Float[Array, " readings"]
    data: Float[Array, " readings"]
    noise: float | Array
    ridge: float = 1e-12

    def predict(self, x: Float[Array, " K"]) -> Float[Array, " readings"]:
        """u at the sensors for moduli e^x."""
        weights = jnp.concatenate([jnp.ones((1,), x.dtype), jnp.exp(x)])
        A, b = jnp.einsum("k,kmn->mn", weights, self.rows), jnp.einsum("k,km->m", weights, self.right)
        return self.lifted + self.sensors @ equilibrium(A, b, self.ridge)


def _factor(A, ridge):
    """Q and R of A below unit columns, with `ridge` times the identity underneath, and the columns' lengths."""
    n = A.shape[1]
    scale = jnp.linalg.norm(A, axis=0)
    scale = jnp.where(scale > 0, scale, 1.0)
    Q, R = jnp.linalg.qr(jnp.concatenate([A / scale[None, :], ridge * jnp.eye(n, dtype=A.dtype)]))
    return Q[: A.shape[0]], R, scale


@jax.custom_jvp
def equilibrium(A, b, ridge):
    """c = argmin ‖A c − b‖, with the derivative of a consistent system: ċ = argmin ‖A ċ − (ḃ − Ȧ c)‖. One
    factorisation serves the value and all derivatives, in forward and reverse mode.
    """
    Q, R, scale = _factor(A, ridge)
    return jax.scipy.linalg.solve_triangular(R, Q.T @ b) / scale


@equilibrium.defjvp
def _equilibrium_jvp(primals, tangents):
    A, b, ridge = primals
    dA, db, _ = tangents
    Q, R, scale = _factor(A, ridge)
    solve = lambda b: jax.scipy.linalg.solve_triangular(R, Q.T @ b) / scale
    c = solve(b)
    return c, solve(db - dA @ c)


def moduli_misfit(
    problem: Problem,
    family: Callable[[Float[Array, " K"]], Callable],
    count: int,
    points: Float[Array, "readings D"],
    data: Float[Array, "readings d"],
    noise: float,
    key,
    method: Collocation,
    body: Callable | None = None,
) -> ModuliMisfit:
    """The misfit of a linear problem whose material is linear in `count` moduli.

    Args:
        problem: domain, conditions and loads; its own material sets the scale only.
        family: moduli [K] ↦ material, linear in the moduli (λ and μ; the nodal values of a field, as a function of x).
        count: K.
        points: where displacement was read.
        data: the readings.
        noise: standard deviation of the readings.
        key: of the random features.
        method: features and points; `widths` has one entry.
        body: b(x), known (not derived from the moduli); the problem's by default.
    """
    with jax.enable_x64(True):
        clock = Clock()
        body = problem.body if body is None else body
        look = survey(problem, method.interior, method.boundary, clock)
        check_support(look)
        base = System(look, method, clock)
        basis = basis_of(look, key, method.features, method.widths[0])
        found = base.prepare(basis)
        if found is None:
            raise ValueError("the rows of this inverse problem do not fit into Collocation.memory: use fewer features")
        c = jnp.zeros((base.components, basis.size))
        hetero = problem.heterogeneous

        def rows_of(moduli):
            made = dataclasses.replace(problem, material=family(moduli), body=body, heterogeneous=hetero)
            terms = System(dataclasses.replace(look, problem=made), method, clock).terms
            r, J = _rows(terms, found, c, jnp.asarray(1.0))
            return J, -r

        zero = jax.jit(rows_of)(jnp.zeros(count))
        slope = [jax.jit(rows_of)(jnp.eye(count)[k]) for k in range(count)]
        A = np.stack([np.asarray(zero[0])] + [np.asarray(J - zero[0]) for J, _ in slope])
        b = np.stack([np.asarray(zero[1])] + [np.asarray(y - zero[1]) for _, y in slope])
        # project once on the span of all rows' columns: M falls to (1 + K)(n + 1) at most
        K1, M, n = A.shape
        if K1 * (n + 1) < M:
            Q, _ = np.linalg.qr(np.concatenate([*A, b.T], axis=1))
            A, b = np.einsum("mq,kmn->kqn", Q, A), np.einsum("mq,km->kq", Q, b)
        x = jnp.asarray(points, float)
        sensors, lifted = _sensors(base, basis, x, problem.dimension)
        A, b, readings = jnp.asarray(A), jnp.asarray(b), jnp.asarray(data, float).ravel()
        return ModuliMisfit(rows=A, right=b, sensors=sensors, lifted=lifted, data=readings, noise=noise)


def _sensors(system: System, basis, x, d: int):
    """Readings as a linear map of the coefficients: u_i(x_p), flattened [p, i]."""
    m, N = system.components, basis.size

    def one(x):
        phi, f = basis(x), system.built.factor(x)
        return jnp.stack([jnp.zeros((m, N)).at[i].set(f[i] * phi).ravel() for i in range(d)]), system.built.lift(x)[:d]

    S, lift = jax.jit(jax.vmap(one))(x)
    return S.reshape(-1, m * N), lift.ravel()


def identify(
    misfit: AbstractReadings, start: Float[Array, " K"] | list[float], *, logarithm: bool = True, **options
) -> tuple[Fit, Float[Array, "K K"]]:
    """Unknowns by Gauss–Newton with damping, and their Laplace covariance (JᵀJ)⁻¹.

    `logarithm` says that the misfit's unknowns are the logarithms of `start`, as those of `moduli_misfit` are.
    """
    with jax.enable_x64(True):
        options = {"damping": 1e-6, "iterations": 30, **options}
        first = jnp.asarray(start, float)
        fit = levenberg_marquardt(misfit, jnp.log(first) if logarithm else first, **options)
        _, J = eqx.filter_jit(partial(jacobian, forward=True))(misfit, fit.value)
        return fit, jnp.linalg.inv(J.T @ J)


def modulus_field(domain: AbstractDomain, shape: tuple[int, ...], poisson: float) -> Callable:
    """Young's modulus as a field E(x) = Σ_k θ_k B_k(x): θ ↦ (x ↦ material), linear in θ, for `moduli_misfit`.

    B_k are the tensor Bernstein polynomials of the bounding box: positive and summing to one, so that positive θ give a
    positive field, and θ_k is about E at the k-th node of a regular grid. The problem must be `heterogeneous`.

    Args:
        domain: whose bounding box carries the polynomials.
        shape: how many along each direction.
        poisson: ν, the same everywhere.
    """
    lam, mu = lame(1.0, poisson)
    lower, upper = jnp.asarray(domain.lower), jnp.asarray(domain.upper)

    def bernstein(t, n):
        k = np.arange(n)
        binomial = jnp.asarray([math.comb(n - 1, i) for i in k], float)
        powers = lambda v: jnp.stack([v**i if i else jnp.ones_like(v) for i in range(n)])
        return binomial * powers(t) * powers(1 - t)[::-1]

    def family(moduli):
        def material(x):
            t, value = (x - lower) / (upper - lower), moduli.reshape(shape)
            for k, n in enumerate(shape):
                value = jnp.tensordot(bernstein(t[k], n), value, axes=1)
            return IsotropicElastic(lam * value, mu * value, poisson)

        return material

    return family


def log_modulus_field(domain: AbstractDomain, shape: tuple[int, ...], poisson: float) -> Callable:
    """Young's modulus as E(x) = exp Σ_k θ_k B_k(x): θ ↦ (x ↦ material), for `specimen`, which asks for no linearity.

    Positive for any θ. In E = Σ_k e^θ_k B_k the best coefficients of a soft spot may be negative: ln of them runs off
    to −∞, and with it every interval; here they cannot.

    Args:
        domain: whose bounding box carries the polynomials.
        shape: how many along each direction.
        poisson: ν, the same everywhere.
    """
    exponent = modulus_field(domain, shape, poisson)
    lam, mu = lame(1.0, poisson)

    def family(theta):
        def material(x):
            young = jnp.exp(exponent(theta)(x).mu / mu)
            return IsotropicElastic(lam * young, mu * young, poisson)

        return material

    return family
