"""−log posterior as an energy: log likelihood and priors in the user's parameters, sampled on the real line.

U(u) = −[ log p(data | x) + log p(x) + log |det ∂x/∂u| ],    x = x(u)
"""

from collections.abc import Callable, Mapping

import equinox as eqx
import jax
import jax.numpy as jnp

from .._array import PyTree, Scalar
from .base import AbstractEnergy
from .transform import AbstractTransform, Real


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
        return sum((jnp.sum(prior(x[name])) for name, prior in self.priors.items()), start=jnp.zeros(()))

    def constrain(self, u: PyTree) -> PyTree:
        """x(u)."""
        return self._forward(u)[0]

    def unconstrain(self, x: PyTree) -> PyTree:
        """u(x)."""
        if not self.transforms:
            return x
        return {name: self.transforms.get(name, Real()).inverse(jnp.asarray(v)) for name, v in x.items()}

    def _forward(self, u):
        if not self.transforms:
            return u, 0.0
        pairs = {name: self.transforms.get(name, Real()).forward(v) for name, v in u.items()}
        return {name: x for name, (x, _) in pairs.items()}, sum(volume for _, volume in pairs.values())

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
        ValueError: if a transform is not one.
    """
    transforms = dict(transforms or {})
    for name, t in transforms.items():
        if not isinstance(t, AbstractTransform):
            raise ValueError(f"posterior: the transform of {name!r} is {t!r}; pass an object such as `Positive()`.")
    arrays = jax.tree.map(lambda x: jnp.asarray(x) if eqx.is_array_like(x) else x, data)
    return Posterior(log_likelihood, priors, transforms, arrays)
