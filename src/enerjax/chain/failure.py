"""Why a proposal was refused. A log density may say so; it is then rejected with its reason, counted and located.

An energy returns its value, or `(value, why)` with an integer `why` (0 means all is well) or the `result` of a diffrax
solve. The reason travels inside the energy: a failed evaluation has the energy LOST·(1 + reason), which no state of
interest reaches, so every kernel rejects it without knowing of reasons, and `decode` reads it back.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .._array import Array, Energy, PyTree, Scalar

NO_ENERGY, NO_FORCE, DIVERGED, USER = 1, 2, 3, 4
LOST = 1e30  # also a float32
_REASONS = {
    NO_ENERGY: "the energy is not finite",
    NO_FORCE: "the gradient is not finite",
    DIVERGED: "the integrator diverged (energy error above the limit)",
}


class Guarded(eqx.Module):
    """An energy on flat vectors whose failures are encoded in its value.

    Attributes:
        energy: the user's, on a pytree; returns E or (E, why).
        unravel: flat vector -> pytree.
    """

    energy: Energy
    unravel: Callable = eqx.field(static=True)

    def __call__(self, x: Array) -> Scalar:
        """E(x), or LOST·(1 + reason)."""
        return guarded(self.energy(self.unravel(x)), x.dtype)


def guarded(result: PyTree, dtype) -> Scalar:
    """The value that an energy returned, or LOST·(1 + reason)."""
    value, why = split(result)
    value = value.astype(dtype)
    code = jnp.where(why != 0, USER - 1 + why, jnp.where(jnp.isfinite(value), 0, NO_ENERGY))
    return jnp.where(code == 0, value, LOST * (1 + code).astype(dtype))


def split(result: PyTree) -> tuple[Array, Array]:
    """(value, why) of what an energy returned; why = 0 where it did not say."""
    if not isinstance(result, tuple):
        return jnp.asarray(result), jnp.zeros((), jnp.int32)
    value, why = result
    if hasattr(why, "_value"):  # an equinox enumeration, such as diffrax's RESULTS
        why = why._value
    return jnp.asarray(value), jax.lax.stop_gradient(jnp.asarray(why)).astype(jnp.int32)


def decode(energy: Scalar) -> Array:
    """The reason inside an energy; 0 if it is a proper value."""
    code = jnp.where(energy >= LOST, jnp.clip(jnp.round(energy / LOST) - 1, 1, 1e6), 0).astype(jnp.int32)
    return jnp.where(jnp.isnan(energy), NO_ENERGY, code)


def decode_number(energy: float) -> int:
    """`decode` on the host."""
    if np.isnan(energy):
        return NO_ENERGY
    return int(np.clip(round(energy / LOST) - 1, 1, 1e6)) if energy >= LOST else 0


def reason(code: int, names: dict[int, str] | None = None) -> str:
    """A reason in words; `names` are the user's."""
    if code < USER:
        return _REASONS[code]
    user = code - (USER - 1)
    return (names or {}).get(user, f"the model reported failure {user}")
