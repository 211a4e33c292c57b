"""−log posterior as an energy: log likelihood and priors in the user's parameters, sampled on the real line.

U(u) = −[ log p(data | x) + log p(x) + log |det ∂x/∂u| ],    x = x(u)
"""

from collections.abc import Callable, Mapping

import equinox as eqx
import jax
import jax.numpy as jnp

from .._array import PyTree, Scalar
from .base import AbstractEnergy
from .transform import AbstractTransform


class Posterior(AbstractEnergy):
    """U(u), an energy of the free parameters.

    Attributes:
        log_likelihood: `(x) -> log p` or, with `data`, `(x, data) -> log p`; it may return `(log p, why)`, `why` an
            integer or a diffrax result that says why it failed (0: it did not).
        priors: name -> log density of that parameter (elements are summed), or one function of all parameters.
        transforms: name -> bijection; parameters without one are real.
        data: arrays that the likelihood sees; leaves, so that changing them never compiles again.
    """

    log_likelihood: Callable
    priors: Mapping[str, Callable] | Callable | None
    transforms: dict[str, AbstractTransform]
    data: PyTree

    def log_prior(self, x: PyTree) -> Scalar:
        """log p(x) in the user's parameters."""
        if self.priors is None:
            return jnp.zeros(())
        if callable(self.priors):
            return jnp.sum(self.priors(x))
        _check_names("prior", self.priors, x)
        return sum((jnp.sum(prior(x[name])) for name, prior in self.priors.items()), start=jnp.zeros(()))

    def constrain(self, u: PyTree) -> PyTree:
        """x(u)."""
        return self._forward(u)[0]

    def unconstrain(self, x: PyTree) -> PyTree:
        """u(x).

        Raises:
            ValueError: if a transform is for no parameter, or for several at once.
        """
        if not self.transforms:
            return x
        if isinstance(x, Mapping):
            x = {name: v if isinstance(v, Mapping) else jnp.asarray(v) for name, v in x.items()}
        _check_names("transform", self.transforms, x)
        return {name: self.transforms[name].inverse(v) if name in self.transforms else v for name, v in x.items()}

    def _forward(self, u):
        if not self.transforms:
            return u, 0.0
        _check_names("transform", self.transforms, u)
        pairs = {name: self.transforms[name].forward(u[name]) for name in self.transforms}
        return {name: pairs[name][0] if name in pairs else v for name, v in u.items()}, sum(
            v for _, v in pairs.values()
        )

    def __call__(self, u: PyTree) -> Scalar | tuple[Scalar, PyTree]:
        """U(u), or (U(u), why) if the likelihood says why it failed."""
        x, volume = self._forward(u)
        result = self.log_likelihood(x) if self.data is None else self.log_likelihood(x, self.data)
        value, *why = result if isinstance(result, tuple) else (result,)
        energy = -(value + self.log_prior(x) + volume)
        return (energy, *why) if why else energy


def posterior(
    log_likelihood: Callable,
    priors: Mapping[str, Callable] | Callable | None = None,
    transforms: Mapping | None = None,
    data: PyTree = None,
) -> Posterior:
    """−log posterior from its parts; see `Posterior`.

    Raises:
        ValueError: if a transform is not one, or `data` holds a table; and, as soon as the parameters are known, if a
            prior or a transform is for none of them.
    """
    transforms = dict(transforms or {})
    for name, t in transforms.items():
        if not isinstance(t, AbstractTransform):
            raise ValueError(f"posterior: the transform of {name!r} is {t!r}; pass an object such as `Positive()`.")
    for leaf in jax.tree.leaves(data):
        if not eqx.is_array_like(leaf) and type(leaf).__hash__ is None:  # a table: neither an array nor a mere setting
            raise ValueError(f"posterior: data holds a {type(leaf).__name__}; give arrays, such as `table.to_numpy()`.")
    arrays = jax.tree.map(lambda x: jnp.asarray(x) if eqx.is_array_like(x) else x, data)
    return Posterior(log_likelihood, priors, transforms, arrays)


def _check_names(kind: str, named: Mapping, x: PyTree) -> None:
    """Raise a ValueError where a prior or a transform would be passed over in silence, or fail far from here."""
    if named and not isinstance(x, Mapping):
        raise ValueError(
            f"posterior: a {kind} is for a parameter of that name; the parameters are a {type(x).__name__}, not a dict."
        )
    for name in named:
        if name not in x:
            raise ValueError(
                f"posterior: the {kind} of {name!r} is for no parameter; there are {', '.join(map(repr, x))}."
            )
        if kind == "transform" and not eqx.is_array_like(x[name]):
            raise ValueError(
                f"posterior: the transform of {name!r} is for one array, not for a {type(x[name]).__name__}; "
                "transform the parts under names of their own."
            )
