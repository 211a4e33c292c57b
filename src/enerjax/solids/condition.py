"""Boundary conditions: what a part of the boundary prescribes.

Each says the same thing in three ways: which Cartesian components it fixes (to be built into the field), the residual
of what it asks of the traction P n, and the potential of its load, whose derivative −∂/∂u is that traction.
"""

import abc
import inspect
from collections.abc import Callable, Mapping

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._array import Scalar

Point = Float[Array, " D"]
Vector = Float[Array, " d"]
Value = float | Array | np.ndarray | tuple | Callable


def _component(value: Value, i: int, d: int) -> Callable:
    """The i-th component of a constant or of a function of x, as a function of x; a number is meant for all."""
    if callable(value):
        return lambda x: _sized(jnp.asarray(value(x)), d, "displacement")[i]
    array = np.asarray(value, float)
    _sized(array, d, "displacement")
    number = float(array) if array.ndim == 0 else float(array[i])
    return lambda x: jnp.full((), number, x.dtype)


def _sized(value, d: int, what: str):
    """A vector [d] of a number or a vector.

    Raises:
        ValueError: it has another length.
    """
    if value.ndim > 1 or (value.ndim == 1 and value.shape[0] != d):
        raise ValueError(f"a {what} in {d} dimensions is a number or has {d} components, not shape {value.shape}")
    return jnp.broadcast_to(value, (d,))


def is_zero(value) -> bool:
    """Whether a prescribed value is the constant zero."""
    return not callable(value) and not np.any(np.asarray(value, float))


class AbstractCondition(eqx.Module):
    """What one part prescribes. x is the position, n the outward normal, u the displacement, P the stress there."""

    def prescribed(self, normal: np.ndarray | None, d: int) -> dict[int, tuple[Callable, bool]]:
        """{component: (value(x), whether it is zero)}; `normal` where the part is flat, else None."""
        del normal, d
        return {}

    def constraint(self, x: Point, n: Vector, u: Vector) -> Float[Array, " q"]:
        """Residual of displacements that cannot be built in."""
        del x, n
        return u[:0]

    @abc.abstractmethod
    def balance(self, x: Point, n: Vector, u: Vector, P: Float[Array, "d d"]) -> Float[Array, " q"]:
        """Residual of what is asked of the traction."""

    def potential(self, x: Point, n: Vector, u: Vector) -> Scalar:
        """Potential of the load per area: −t·u of a dead traction t, ½k|u|² of springs."""
        del x, n
        return jnp.zeros((), u.dtype)

    def factor(self, load):
        """What the potential is multiplied by when the loads are: the load factor, but for a support."""
        return load


class Displacement(AbstractCondition):
    """u_i = value_i on the part, for the components named (all by default); the other components are free of traction.

    Attributes:
        value: a number, a vector or a function of x with the vector as its value.
        components: which components, None for all.
        traction: {component: value} for the remaining components, 0 where absent.
        soft: leave the value to the residual (collocation only) where it could be built into the field: built in, it
            is carried inwards from the nearest point of the part, which features in coordinates of another kind (rays
            from a point) may not represent well.
    """

    value: Value = 0.0
    components: tuple[int, ...] | None = None
    traction: Mapping[int, float | Callable] = eqx.field(default_factory=dict)
    soft: bool = eqx.field(default=False, static=True)

    def prescribed(self, normal, d):
        """The named components."""
        del normal
        chosen = range(d) if self.components is None else self.components
        if not set(chosen) <= set(range(d)):
            raise ValueError(
                f"Displacement: components {tuple(chosen)} in {d} dimensions; they count from 0 to {d - 1}"
            )
        return {i: (_component(self.value, i, d), is_zero(self.value)) for i in chosen}

    def _loads(self, x, d) -> list[tuple[int, Array]]:
        free = [i for i in range(d) if self.components is not None and i not in self.components]
        value = lambda t: jnp.asarray(t(x) if callable(t) else t, x.dtype)
        return [(i, value(self.traction.get(i, 0.0))) for i in free]

    def balance(self, x, n, u, P):
        """(P n)_i − t_i in the free components."""
        t = P @ n
        return jnp.array([t[i] - v for i, v in self._loads(x, u.shape[0])], dtype=u.dtype)

    def potential(self, x, n, u):
        """−t·u of the free components."""
        return -sum((v * u[i] for i, v in self._loads(x, u.shape[0])), start=jnp.zeros((), u.dtype))


def Clamped() -> Displacement:
    """u = 0."""
    return Displacement(0.0)


class Symmetry(AbstractCondition):
    """u·n = 0 and no shear traction: a mirror plane, or a frictionless wall."""

    def prescribed(self, normal, d):
        """The component along a coordinate axis, if the normal is one."""
        if normal is None:
            return {}
        axis = int(np.argmax(np.abs(normal)))
        if np.abs(np.abs(normal[axis]) - 1) > 1e-12:
            return {}
        return {axis: (lambda x: jnp.zeros((), x.dtype), True)}

    def constraint(self, x, n, u):
        """u·n."""
        return (u @ n)[None]

    def balance(self, x, n, u, P):
        """The traction's tangential part."""
        t = P @ n
        return t - (t @ n) * n


def _takes_normal(value: Callable) -> bool:
    """Whether a function takes two arguments; where it does not say how many, it does."""
    try:
        inspect.signature(value).bind(None, None)
    except TypeError:
        return False
    except ValueError:
        return True
    return True


class Traction(AbstractCondition):
    """P n = t, per reference area: a number along each axis, a vector, or a function t(x) or t(x, n)."""

    value: Value

    def _traction(self, x, n):
        value = self.value
        if callable(value):
            value = value(x, n) if _takes_normal(value) else value(x)
        return _sized(jnp.asarray(value, x.dtype), len(n), "traction")

    def balance(self, x, n, u, P):
        """P n − t."""
        return P @ n - self._traction(x, n)

    def potential(self, x, n, u):
        """−t·u."""
        return -self._traction(x, n) @ u


class Pressure(AbstractCondition):
    """P n = −p n: a dead pressure on the reference surface."""

    value: float | jax.Array

    def balance(self, x, n, u, P):
        """P n + p n."""
        return P @ n + self.value * n

    def potential(self, x, n, u):
        """p n·u."""
        return self.value * (n @ u)


def Free() -> Traction:
    """P n = 0."""
    return Traction(0.0)


class Spring(AbstractCondition):
    """P n = −k u: an elastic bed.

    Attributes:
        stiffness: k [stress/length]: a number, one per component (0: free to slide), or a function of x with either as
            its value.
    """

    stiffness: Value

    def pull(self, x: Point, u: Vector) -> Vector:
        """k u, of each component its own."""
        k = self.stiffness(x) if callable(self.stiffness) else self.stiffness
        return jnp.broadcast_to(jnp.asarray(k, u.dtype), u.shape) * u

    def balance(self, x, n, u, P):
        """P n + k u."""
        return P @ n + self.pull(x, u)

    def potential(self, x, n, u):
        """½ u·k u."""
        return 0.5 * (u @ self.pull(x, u))

    def factor(self, load):
        """1: a bed is as stiff under half the load."""
        return jnp.ones_like(load)


class Periodic(AbstractCondition):
    """u(x + shift) = u(x) + jump and opposite tractions, between this part and the one it is shifted onto.

    Attributes:
        shift: vector from this part to its partner.
        jump: u(x + shift) − u(x), a mean strain times shift.
    """

    shift: Float[Array, " d"]
    jump: float | Array = 0.0

    def balance(self, x, n, u, P):
        """Nothing by itself: the pair is a term of its own."""
        return u[:0]


class Initial(AbstractCondition):
    """u = value and ∂u/∂t = velocity on the part t = 0 of a space–time domain."""

    value: Value = 0.0
    velocity: Value = 0.0

    def balance(self, x, n, u, P):
        """Nothing: the start of time carries no traction."""
        return u[:0]
