"""Inverse problems: moduli, a modulus field, or a material law from noisy displacements and reactions.

For a fixed basis the rows of a linear problem are linear in the moduli, A(θ) = Σ_k θ_k A_k, and the equilibrium
constraint is solved exactly for every θ: u(θ) = argmin ‖A(θ) c − b‖. What is left is a misfit of a few numbers, u(θ)
against the readings: Gauss–Newton identifies them, the Laplace approximation gives intervals, and the same energy
goes to `chain.sample`.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float

from ..energy import AbstractMisfit
from ..fit.least_squares import Fit, levenberg_marquardt, reduce, solve_reduced
from ._clock import Clock
from .collocation import System, _rows, basis_of
from .method import Collocation
from .problem import Problem
from .survey import check_support, survey


class ModuliMisfit(AbstractMisfit):
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

    def residual(self, x: Float[Array, " K"]):
        """(u − y)/σ."""
        return (self.predict(x) - self.data) / self.noise


@jax.custom_jvp
def equilibrium(A, b, ridge):
    """c = argmin ‖A c − b‖, with the derivative of a consistent system: ċ = argmin ‖A ċ − (ḃ − Ȧ c)‖."""
    return solve_reduced(reduce(A, b), ridge)[0]


@equilibrium.defjvp
def _equilibrium_jvp(primals, tangents):
    A, b, ridge = primals
    dA, db, _ = tangents
    c = equilibrium(A, b, ridge)
    return c, equilibrium(A, db - dA @ c, ridge)


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
    import dataclasses

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
        return ModuliMisfit(jnp.asarray(A), jnp.asarray(b), sensors, lifted, jnp.asarray(data, float).ravel(), noise)


def _sensors(system: System, basis, x, d: int):
    """Readings as a linear map of the coefficients: u_i(x_p), flattened [p, i]."""
    m, N = system.components, basis.size

    def one(x):
        phi, f = basis(x), system.built.factor(x)
        return jnp.stack([jnp.zeros((m, N)).at[i].set(f[i] * phi).ravel() for i in range(d)]), system.built.lift(x)[:d]

    S, lift = jax.jit(jax.vmap(one))(x)
    return S.reshape(-1, m * N), lift.ravel()


def identify(misfit: ModuliMisfit, start: Float[Array, " K"], **options) -> tuple[Fit, Float[Array, "K K"]]:
    """Moduli (as ln λ) by Gauss–Newton with damping, and their Laplace covariance (JᵀJ)⁻¹."""
    with jax.enable_x64(True):
        options = {"damping": 1e-6, "iterations": 30, **options}
        fit = levenberg_marquardt(misfit, jnp.log(jnp.asarray(start, float)), **options)
        J = eqx.filter_jit(lambda e, v: jax.jacfwd(e.residual)(v))(misfit, fit.value)
        return fit, jnp.linalg.inv(J.T @ J)


class ReactionMisfit(AbstractMisfit):
    """Full-field identification of a material law: equilibrium of measured deformations, and measured reactions.

    With ∇u measured at quadrature points, internal virtual work on every test field must balance the loads:

        r_k = Σ_p w_p P(∇u_p) : ∇v_k(x_p) − f_k

    over test fields v_k that vanish where displacement is prescribed (f_k = 0 without loads) and one that moves the
    loaded part rigidly (f_k = the reaction). After Flaschel et al. (2021), EUCLID, CMAME 381, 113852. x is the
    material, an equinox module.

    Attributes:
        gradients: measured ∇u, [steps, n, d, d].
        tests: ∇v_k at the same points, times the weights, [K, n, d, d].
        loads: f_k, [steps, K].
        noise: scale of the residual.
    """

    gradients: Float[Array, "steps n d d"]
    tests: Float[Array, "K n d d"]
    loads: Float[Array, "steps K"]
    noise: float | Array

    def residual(self, x: Callable):
        """(virtual work − loads)/noise."""
        P = jax.vmap(jax.vmap(jax.grad(x)))(self.gradients)
        return (jnp.einsum("snij,knij->sk", P, self.tests) - self.loads) / self.noise


def coverage(
    misfit: ModuliMisfit, truth, noise: float, key, repeats: int, level: float = 1.6448536
) -> Float[Array, " K"]:
    """The share of synthetic data sets whose Laplace interval (±`level` standard deviations; 90 % by default)
    holds the truth.
    """
    with jax.enable_x64(True):
        theta = jnp.log(jnp.asarray(truth, float))
        clean = eqx.filter_jit(lambda m, t: m.predict(t))(misfit, theta)
        inside = []
        for k in jr.split(key, repeats):
            data = clean + noise * jr.normal(k, clean.shape)
            again = eqx.tree_at(lambda m: (m.data, m.noise), misfit, (data, jnp.asarray(noise)))
            fit, covariance = identify(again, truth, iterations=6)
            inside.append(jnp.abs(fit.value - theta) < level * jnp.sqrt(jnp.diag(covariance)))
        return jnp.mean(jnp.stack(inside).astype(float), axis=0)
