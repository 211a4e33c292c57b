"""Energies that are half a squared residual: E(x) = ½‖r(x)‖².

Least squares, Gauss–Newton and Levenberg–Marquardt need r and not only E, so a misfit keeps its residual in the open,
and the algebra of energies carries it along: the residual of a sum is the concatenation of residuals, that of `s * E`
is √s r. A collocation loss of a differential equation, a Gaussian log-likelihood and a 4D-Var objective are all
misfits.
"""

import abc
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Float

from .. import _tree as tree
from .._array import Energy, PyTree, Scalar
from .base import AbstractEnergy, Scaled, Sum


class AbstractMisfit(AbstractEnergy):
    """E(x) = ½ ‖r(x)‖²: implement `residual`."""

    @abc.abstractmethod
    def residual(self, x: PyTree) -> PyTree:
        """r(x): a pytree of real arrays."""

    def __call__(self, x: PyTree) -> Scalar:
        """½ ‖r(x)‖²."""
        r = self.residual(x)
        return 0.5 * tree.dot(r, r)


class Misfit(AbstractMisfit):
    """E(x) = ½ ‖r(x, *args)‖² of any function.

    Attributes:
        function: `function(x, *args)`, the residual, a pytree of arrays. A module's parameters are the energy's leaves.
        args: its data (points, weights, readings): leaves too, so a new batch compiles nothing.
    """

    function: Callable
    args: tuple = ()

    def residual(self, x: PyTree) -> PyTree:
        """r(x, *args)."""
        return self.function(x, *self.args)


class Gaussian(AbstractMisfit):
    """E(x) = ½ ‖(f(x) − y)/σ‖²: minus the log-likelihood of readings with Gaussian noise, up to a constant.

    Attributes:
        model: f(x), the predicted readings, with the structure of `data`.
        data: y.
        noise: σ, a number or an array that broadcasts against every leaf of y.
    """

    model: Callable
    data: PyTree
    noise: float | jax.Array

    def residual(self, x: PyTree) -> PyTree:
        """(f(x) − y)/σ."""
        return jax.tree.map(lambda f, y: (f - y) / self.noise, self.model(x), self.data)


def has_residual(energy: Energy) -> bool:
    """Whether `energy` is ½‖r‖², alone or as a sum and positive multiple of such."""
    if isinstance(energy, Sum):
        return all(has_residual(term) for term in energy.terms)
    if isinstance(energy, Scaled):
        return has_residual(energy.term)
    return hasattr(energy, "residual")


def residual(energy: Energy, x: PyTree) -> Float[Array, " residuals"]:
    """r(x) as one vector, so that E(x) = ½ r·r.

    Raises:
        ValueError: the energy is not half a square, or is a negative multiple of one.
    """
    if isinstance(energy, Sum):
        return jnp.concatenate([residual(term, x) for term in energy.terms])
    if isinstance(energy, Scaled):
        if not isinstance(energy.factor, Tracer) and energy.factor < 0:
            raise ValueError("a negative multiple of ½‖r‖² has no real residual; use a descent method instead")
        return jnp.sqrt(jnp.asarray(energy.factor)) * residual(energy.term, x)
    if not hasattr(energy, "residual"):
        raise ValueError(
            f"{type(energy).__name__} is not of the form ½‖r‖²: give an energy.Misfit, or minimise it as a scalar"
        )
    leaves = jax.tree.leaves(energy.residual(x))  # pyright: ignore[reportAttributeAccessIssue, reportFunctionMemberAccess]
    return jnp.concatenate([jnp.ravel(leaf) for leaf in leaves])


def linearise(energy: Energy, x: PyTree) -> tuple[Array, Callable[[PyTree], Array], Callable[[Array], PyTree]]:
    """r(x), v ↦ J v and w ↦ Jᵀw with J = ∂r/∂x, each evaluated as often as wanted after one linearisation."""
    r, forward = jax.linearize(lambda x: residual(energy, x), x)
    transpose = jax.linear_transpose(forward, x)
    return r, forward, lambda w: transpose(w)[0]


def gauss_newton_product(energy: Energy, x: PyTree, v: PyTree) -> PyTree:
    """JᵀJ v, J = ∂r/∂x: the Hessian of ½‖r‖² without the curvature of r, never negative."""
    _, forward, transpose = linearise(energy, x)
    return transpose(forward(v))
