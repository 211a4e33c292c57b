"""Hand over a NumPyro model in one call: its log density, transforms and a start, as an energy that `sample` takes."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr

from .._array import Key, PyTree, Scalar
from ..energy.base import AbstractEnergy


class Model(AbstractEnergy):
    """−log density of a NumPyro model on the real line.

    Attributes:
        potential: NumPyro's potential function of the free parameters.
        to_user: free parameters -> the model's sites, deterministic ones left out; where the support of a site depends
            on others, with the support at these.
        to_free: the inverse.
    """

    potential: Callable = eqx.field(static=True)
    to_user: Callable = eqx.field(static=True)
    to_free: Callable = eqx.field(static=True)

    def __call__(self, u: PyTree) -> Scalar:
        """U(u)."""
        return self.potential(u)

    def constrain(self, u: PyTree) -> PyTree:
        """Free parameters -> sites."""
        return self.to_user(u)

    def unconstrain(self, x: PyTree) -> PyTree:
        """Sites -> free parameters."""
        return self.to_free(x)


def from_numpyro(model: Callable, *args: Any, **kwargs: Any) -> tuple[Model, Callable[[Key], PyTree]]:
    """(energy, initial) of `model(*args, **kwargs)`, ready for `sample(energy, initial, key)`.

    Raises:
        ImportError: if NumPyro is not installed.
        ValueError: if the model has discrete latent sites.
    """
    try:
        from numpyro.handlers import seed
        from numpyro.infer.util import initialize_model, unconstrain_fn
    except ImportError as error:
        raise ImportError("from_numpyro needs NumPyro: pip install 'enerjax[numpyro]'.") from error

    info = initialize_model(jr.key(0), model, model_args=args, model_kwargs=kwargs, dynamic_args=False)
    sites = {n: s for n, s in info.model_trace.items() if s["type"] == "sample" and not s["is_observed"]}
    if discrete := [n for n, s in sites.items() if s["fn"].is_discrete]:
        raise ValueError(f"from_numpyro: sites {discrete} are discrete; sum them out of the model.")
    names = list(info.param_info.z)

    # where supports depend on parameters both run the model, of which compilation leaves no more than the supports
    @jax.jit
    def to_user(u: PyTree) -> PyTree:
        sites = info.postprocess_fn(u)
        return {n: sites[n] for n in names}

    @jax.jit
    def to_free(x: PyTree) -> PyTree:
        return unconstrain_fn(seed(model, 0), args, kwargs, {n: jnp.asarray(x[n]) for n in names})

    like = info.param_info.z

    def initial(key: Key) -> PyTree:
        leaves, treedef = jax.tree.flatten(like)
        keys = jr.split(key, len(leaves))
        free = [jr.uniform(k, jnp.shape(v), jnp.result_type(v), -2, 2) for k, v in zip(keys, leaves, strict=True)]
        return to_user(jax.tree.unflatten(treedef, free))

    return Model(info.potential_fn, to_user, to_free), initial
