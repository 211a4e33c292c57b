"""A path judged by data is an energy again.

    strong   J(x) = ½‖(x − x_b)/B^½‖² + ½ Σₖ ‖(h(zₖ(x)) − yₖ)/R^½‖²                       x: initial state, parameters
    weak     J(z) = ½ Σₖ ‖(zₖ₊₁ − M(zₖ))/Q^½‖² + ½ Σₖ ‖(h(zₖ) − yₖ)/R^½‖² + background     x: every zₖ

Each term is a misfit ½‖r‖², so `background + observations` is one too: Gauss–Newton takes the adjoint and the tangent
of the path from it, `chain.sample` draws its posterior. The weak form with Q → 0 is the strong one, with its zₖ as free
nodes it is multiple shooting.

Y. Sasaki, Mon. Weather Rev. 98, 875 (1970); F.-X. Le Dimet and O. Talagrand, Tellus 38A, 97 (1986).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.flatten_util import ravel_pytree

from .._array import Array, Energy, PyTree
from ..energy.misfit import AbstractMisfit, residual


class Background(AbstractMisfit):
    """½ ‖B^(−½) (x − x_b)‖²: what was believed before the data.

    Attributes:
        mean: x_b, of the structure of x, or of a part of it reached by `part`.
        spread: B^½: standard deviations (a number or a pytree like x), or the Cholesky factor [n, n] of B over the
            flattened x.
        part: x ↦ what `mean` describes; the identity by default.
    """

    mean: PyTree
    spread: PyTree
    part: Callable = lambda x: x

    def residual(self, x: PyTree) -> Array:
        """B^(−½)(x − x_b), flattened."""
        difference = jax.tree.map(jnp.subtract, self.part(x), self.mean)
        flat, _ = ravel_pytree(difference)
        leaves = jax.tree.leaves(self.spread)
        if len(leaves) == 1 and jnp.shape(leaves[0]) == (flat.size, flat.size) and flat.size > 1:
            return jax.scipy.linalg.solve_triangular(leaves[0], flat, lower=True)
        if len(leaves) == 1:
            return ravel_pytree(jax.tree.map(lambda d: d / leaves[0], difference))[0]
        return ravel_pytree(jax.tree.map(jnp.divide, difference, self.spread))[0]


class Observations(AbstractMisfit):
    """½ Σₖ ‖(h(zₖ(x)) − yₖ)/σ‖² over the readings that are not NaN.

    Attributes:
        path: x ↦ states with a leading axis of times: `path.solve`, `rollout` or the identity on free nodes.
        data: y, a pytree of arrays [times, …]; NaN marks a missing reading, which counts for nothing.
        noise: σ, broadcast against every leaf of y.
        observe: state ↦ reading, for one time.
    """

    path: Callable
    data: PyTree
    noise: PyTree
    observe: Callable = lambda z: z

    def residual(self, x: PyTree) -> PyTree:
        """(h(z) − y)/σ, zero where y is NaN."""
        seen = jax.vmap(self.observe)(self.path(x))

        def one(seen, y):
            there = ~jnp.isnan(y)
            return jnp.where(there, (seen - jnp.where(there, y, 0.0)) / self.noise, 0.0)

        return jax.tree.map(one, seen, self.data)


class ModelError(AbstractMisfit):
    """½ Σₖ ‖(zₖ₊₁ − M(zₖ, xₖ))/q‖²: how far free nodes are from being a path of M.

    Attributes:
        model: `model(z, x) -> z` from one node to the next.
        spread: q, the model error's standard deviation, broadcast against every leaf.
        inputs: xₖ with a leading axis of nodes − 1, or None.
        part: x ↦ the nodes z, leading axis of nodes.
    """

    model: Callable
    spread: PyTree
    inputs: PyTree = None
    part: Callable = lambda x: x

    def residual(self, x: PyTree) -> PyTree:
        """(zₖ₊₁ − M(zₖ))/q."""
        z = self.part(x)
        before, after = jax.tree.map(lambda v: v[:-1], z), jax.tree.map(lambda v: v[1:], z)
        reached = jax.vmap(self.model)(before, self.inputs)
        return jax.tree.map(lambda a, r: (a - r) / self.spread, after, reached)


def strong(path, data: PyTree, noise, *, observe=lambda z: z, background: Energy | None = None, missing: bool = False):
    """Strong-constraint 4D-Var: the energy of the unknowns x of a path.

    Args:
        path: x ↦ the states at the times of the data, leading axis of times.
        data: readings, a pytree of [times, …].
        noise: standard deviation of the readings.
        observe: state ↦ reading.
        background: energy of x before the data, usually `Background`; none by default.
        missing: allow NaN readings, which are left out.

    Raises:
        ValueError: a reading is NaN and `missing` is not set, or a noise is not positive.
    """
    refuse_nan(data, missing)
    _refuse_zero(noise, "noise")
    term = Observations(path, data, noise, observe)
    return term if background is None else background + term


def weak(
    model, data: PyTree, noise, model_error, *, observe=lambda z: z, inputs=None, background=None, missing: bool = False
):
    """Weak-constraint 4D-Var: the energy of all nodes z₀ … zₖ, one per row of `data`, with model error q.

    Arguments as in `strong`; `model(z, input)` takes one node to the next.
    """
    refuse_nan(data, missing)
    _refuse_zero(noise, "noise")
    _refuse_zero(model_error, "model_error")
    terms = ModelError(model, model_error, inputs) + Observations(_same, data, noise, observe)
    return terms if background is None else background + terms


def _same(x):
    return x


def refuse_nan(data: PyTree, missing: bool) -> None:
    """ValueError that names the first NaN reading, unless missing readings are allowed."""
    if missing:
        return
    for where, v in jax.tree_util.tree_leaves_with_path(data):
        if isinstance(v, Tracer):
            continue
        bad = np.argwhere(~np.isfinite(np.asarray(v)))
        if len(bad):
            name = f"data{jax.tree_util.keystr(where)}{bad[0].tolist()}"
            raise ValueError(
                f"assimilate: {name} is not finite ({len(bad)} such readings); pass missing=True to mask NaN."
            )


def _refuse_zero(value, name: str) -> None:
    for v in jax.tree.leaves(value):
        if not isinstance(v, Tracer) and not np.all(np.asarray(v) > 0):
            raise ValueError(f"assimilate: {name} must be positive, found {np.min(np.asarray(v))}.")


def gauss_newton(energy: Energy, x: PyTree, *, iterations: int = 5, damping: float = 0.0) -> tuple[PyTree, Array]:
    """Minimise a misfit by x ← x − (JᵀJ + δ)⁻¹ Jᵀ r with J in columns: for tens to hundreds of unknowns, inside jit.

    The incremental method of operational 4D-Var (P. Courtier et al., Q. J. R. Meteorol. Soc. 120, 1367 (1994)) with its
    inner problem solved exactly: as many tangents of the path as there are unknowns, batched. `fit.least_squares` has
    step control and matrix-free solves for anything larger or harder.

    Returns:
        x, and the Cholesky factor of JᵀJ + δ there: (JᵀJ)⁻¹ is the Laplace approximation of the posterior covariance.
    """
    flat, unravel = ravel_pytree(x)
    r_of = lambda v: residual(energy, unravel(v))

    def normal(v):
        r, push = jax.linearize(r_of, v)
        J = jax.vmap(push, out_axes=1)(jnp.eye(v.size, dtype=v.dtype))
        return r, J, J.T @ J + damping * jnp.eye(v.size, dtype=v.dtype)

    def turn(v, _):
        r, J, A = normal(v)
        return v - jax.scipy.linalg.cho_solve((jnp.linalg.cholesky(A), True), J.T @ r), None

    flat, _ = jax.lax.scan(turn, flat, None, length=iterations)
    return unravel(flat), jnp.linalg.cholesky(normal(flat)[2])
