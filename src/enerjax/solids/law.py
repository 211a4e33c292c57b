"""A material law from full-field displacements and reaction forces: equilibrium of what was measured, well weighted.

Measured displacements are smoothed onto a few functions; with the deformation so known at quadrature points, the
virtual work of the stress must vanish on every test field that is zero where displacement is prescribed, and equal the
reaction on the one that moves a held part rigidly (Flaschel et al. (2021), EUCLID, CMAME 381, 113852):

    r_k(W) = Σ_p w_p ∂W/∂G(G_p) : ∇v_k(x_p) − f_k

Noise in the displacements makes the r_k correlated and of very different size: r = M δc with M the tangent stiffness
between test and smoothing functions and δc the noise of the smoothing coefficients, so

    Cov r = M Cov(c) Mᵀ + σ_f² on the reactions,

and L⁻¹r with LLᵀ = Cov r is white: then E = ½‖L⁻¹r‖² is −log likelihood, for Laplace intervals and for draws by
`chain.sample`. M depends on the law, so the weights come from a first fit: `weigh`. To first order only if M and the
stress are those of the deformation as measured, noise and all. So `weigh` can adjust the deformation too: the most
likely one that is in equilibrium under the law, about which the stress is linearised (the Gauss–Helmert model: F. R.
Helmert 1872; W. A. Fuller, Measurement Error Models, 1987, §3.2). Noise is then linear where it acts.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float

from ..energy import AbstractMisfit
from . import jets
from ._clock import Clock
from .collocation import basis_of
from .material import stress, tangent
from .problem import Problem
from .survey import built_in, survey


class LawMisfit(AbstractMisfit):
    """E(W) = ½ Σ_s ‖L_s⁻¹ r_s(W)‖² over load steps s; W is the material itself, an equinox module with its parameters.

    Attributes:
        gradients: smoothed ∇u at the quadrature points, as measured, [steps, n, d, d].
        adjusted: ∇u about which the stress is linearised, [steps, n, d, d].
        tests: w_p ∇v_k(x_p), [K, n, d, d]; the last ones carry the reactions.
        loads: f_k, [steps, K].
        whiten: L⁻¹, [steps, K, K].
        influence: ∇(smoothing function) C^½ at the points, [n, d, d, a]: what unit noise does to ∇u.
        noise: σ of a reading of displacement, and of a reaction.
        free: how many of the tests carry no reaction: the first ones.
    """

    gradients: Float[Array, "steps n d d"]
    adjusted: Float[Array, "steps n d d"]
    tests: Float[Array, "K n d d"]
    loads: Float[Array, "steps K"]
    whiten: Float[Array, "steps K K"]
    influence: Float[Array, "n d d a"]
    noise: tuple[float | Array, float | Array]
    free: int = eqx.field(static=True)

    def imbalance(self, x: Callable) -> Float[Array, "steps K"]:
        """r: virtual work less loads."""

        def linearised(at, G):
            P, slope = jax.jvp(lambda G: stress(x, G), (at,), (G - at,))
            return P + slope

        P = jax.vmap(jax.vmap(linearised))(self.adjusted, self.gradients)
        return jnp.einsum("snij,knij->sk", P, self.tests) - self.loads

    def residual(self, x: Callable) -> Float[Array, "steps K"]:
        """L⁻¹ r."""
        return jnp.einsum("skl,sl->sk", self.whiten, self.imbalance(x))

    def weigh(self, law: Callable, *, adjust: bool = False) -> "LawMisfit":
        """The same misfit with the weights that `law` gives, and with `adjust` the deformation too. Call it again with
        the next fit: both are known as well as the law is.

        Args:
            law: from an earlier fit, or a guess.
            adjust: linearise about the most likely deformation that is in equilibrium under `law`, not about the
                measured one. For a law that was fitted with weights: a guess would bend the deformation to itself.
        """
        with jax.enable_x64(True):
            made = self
            for _ in range(2 if adjust else 1):  # the first turn's adjustment is linear; the second corrects it
                whiten, adjusted = _weighed(made, law)
                made = eqx.tree_at(lambda m: m.whiten, made, whiten)
                if adjust:
                    made = eqx.tree_at(lambda m: m.adjusted, made, adjusted)
            return made


@eqx.filter_jit
def _weighed(misfit: LawMisfit, law: Callable) -> tuple[Array, Array]:
    """L⁻¹ and the adjusted ∇u that a law gives."""
    held = (jnp.arange(len(misfit.tests)) >= misfit.free).astype(float)

    def one(G, at, r):
        A = jax.vmap(lambda G: tangent(law, G))(at)
        M = jnp.einsum("knij,nijlm,nlma->ka", misfit.tests, A, misfit.influence, optimize=True) * misfit.noise[0]
        S = M @ M.T + jnp.diag(misfit.noise[1] ** 2 * held)
        S += 1e-12 * jnp.trace(S) / len(S) * jnp.eye(len(S))
        L = jnp.linalg.cholesky(S)
        # the smallest noise, in units of its deviation, without which the work would balance
        noise = M.T @ jax.scipy.linalg.cho_solve((L, True), r)
        white = jax.scipy.linalg.solve_triangular(L, jnp.eye(len(S)), lower=True)
        return white, G - misfit.noise[0] * misfit.influence @ noise

    return jax.vmap(one)(misfit.gradients, misfit.adjusted, misfit.imbalance(law))


class Setting(eqx.Module):
    """What of a specimen does not depend on the readings, so that many data sets share it.

    Attributes:
        smoothing: readings [readings] of one component ↦ coefficients, [N, readings].
        slopes: ∇φ_n at the quadrature points, [n, d, N].
        influence, tests: as in `LawMisfit`.
        reactions: which test carries which component of which part: {part: {component: test}}.
    """

    smoothing: Float[Array, "N readings"]
    slopes: Float[Array, "n d N"]
    influence: Float[Array, "n d d a"]
    tests: Float[Array, "K n d d"]
    reactions: dict[str, dict[int, int]] = eqx.field(static=True)

    def misfit(self, displacements, reactions, noise: tuple[float, float]) -> LawMisfit:
        """The misfit of one experiment.

        Args:
            displacements: readings, [steps, readings, d].
            reactions: {part: resultant force on it [steps, d]} for the parts that are held and were measured.
            noise: standard deviations of a displacement reading and of a reaction.

        Raises:
            ValueError: a part that holds nothing.
        """
        with jax.enable_x64(True):
            u = jnp.asarray(displacements, float)
            G = jnp.einsum("njN,Nr,sri->snij", self.slopes, self.smoothing, u, optimize=True)
            used = [k for part in reactions for k in self.reactions.get(part, {}).values()]
            unknown = [part for part in reactions if part not in self.reactions]
            if unknown:
                raise ValueError(f"no displacement is prescribed on {unknown[0]!r}: its reaction says nothing")
            free = len(self.tests) - sum(len(v) for v in self.reactions.values())
            chosen = np.array([*range(free), *used])
            loads = jnp.zeros((len(u), len(chosen)))
            position = {k: free + i for i, k in enumerate(used)}
            for part, force in reactions.items():
                for i, k in self.reactions[part].items():
                    loads = loads.at[:, position[k]].set(jnp.asarray(force)[:, i])
            K = len(chosen)
            flat = jnp.broadcast_to(jnp.eye(K), (len(u), K, K)) / noise[1]
            return LawMisfit(G, G, self.tests[chosen], loads, flat, self.influence, noise, free)


def setting(
    problem: Problem, points: Float[Array, "readings d"], key, *, smooth: int = 40, tests: int = 24, interior: int = 14
) -> Setting:
    """Prepare the identification of a law: smoothing functions, test functions and quadrature on a specimen.

    Args:
        problem: domain and conditions (where displacement is prescribed); its material and loads are not used. Traction
            other than zero is not supported.
        points: where displacement was read.
        key: of the random smoothing functions.
        smooth: how many smoothing functions: more follow sharper fields, fewer take out more noise.
        tests: how many test functions per component besides those of the reactions.
        interior: Gauss points along each direction of each patch.

    Raises:
        ValueError: fewer readings than smoothing functions, or prescribed displacements that cannot be built in.
    """
    d = problem.dimension
    with jax.enable_x64(True):
        look = survey(problem, interior, 4, Clock())
        built, soft = built_in(look, d)
        if soft:
            raise ValueError(f"displacement on {', '.join(map(repr, soft))} cannot be built into test functions")
        phi = basis_of(look, key, smooth, 1.0)
        if len(points) < phi.size:
            raise ValueError(f"{len(points)} readings cannot fix {phi.size} smoothing functions: lower `smooth`")
        psi = basis_of(look, jr.fold_in(key, 1), tests, 1.0)
        x, w = look.inside.x, look.inside.w
        values = np.asarray(jax.jit(jax.vmap(phi))(jnp.asarray(points, float)))
        slopes = jax.jit(jax.vmap(lambda x: jets.jet(phi, x, 1)[1:]))(x)  # [n, d, N]
        # an orthonormal combination of the readings' functions; directions below 1e-8 are not seen by the readings
        U, s, V = np.linalg.svd(values, full_matrices=False)
        kept = s > 1e-8 * s[0]
        root = V[kept].T / s[kept]
        half = np.einsum("njN,Na->nja", np.asarray(slopes), root)
        influence = np.einsum("il,nja->nijla", np.eye(d), half).reshape(len(x), d, d, -1)
        parts = held(look, d)
        names, ones = [(part, i) for part in parts for i in parts[part]], lifts(look, parts)
        field = lambda x: jnp.outer(built.factor(x), psi(x)).ravel()
        slope = lambda f: jax.jit(jax.vmap(jax.jacfwd(f)))(x)  # [n, K, d]
        body = np.asarray(slope(field)).reshape(len(x), d, -1, d)
        v = np.einsum("il,nlkj->lknij", np.eye(d), body).reshape(-1, len(x), d, d)
        v = _independent(np.asarray(w), v)
        reaction = np.asarray(slope(lambda x: jnp.stack([f(x) for f in ones])))
        r = np.stack([np.einsum("i,nj->nij", np.eye(d)[i], reaction[:, k]) for k, (_, i) in enumerate(names)])
        all_tests = jnp.asarray(np.concatenate([v, r]) * np.asarray(w)[None, :, None, None])
        where: dict[str, dict[int, int]] = {}
        for k, (part, i) in enumerate(names):
            where.setdefault(part, {})[i] = len(v) + k
        return Setting(jnp.asarray(root @ U[:, kept].T), slopes, jnp.asarray(influence), all_tests, where)


def held(look, d: int) -> dict[str, list[int]]:
    """{part: components prescribed on it}."""
    return {part: sorted(c) for part in look.problem.conditions if (c := look.prescribed(part))}


def lifts(look, parts) -> list[Callable]:
    """One function per held component: 1 on its part, 0 on the other parts that hold the same component."""
    known = look.problem.domain.parts

    def lift(part, i):
        others = [other for other in parts if other != part and i in parts[other]]
        mine = known[part].level
        if not others:
            return lambda x: jnp.ones((), x.dtype)

        def value(x):
            away = jnp.prod(jnp.stack([known[o].level(x) for o in others]))
            return away / (away + mine(x))

        return value

    return [lift(part, i) for part in parts for i in parts[part]]


def _independent(w, v, cut: float = 1e-6):
    """Orthonormal combinations of test gradients in the mean square over the body: redundant ones would make the
    covariance singular.
    """
    flat = (np.sqrt(w)[None, :, None, None] * v).reshape(len(v), -1)
    U, s, _ = np.linalg.svd(flat, full_matrices=False)
    kept = s > cut * s[0]
    return np.einsum("ka,knij->anij", U[:, kept] / s[kept], v)
