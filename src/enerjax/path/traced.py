"""A field as a program of its own: traced once more at every call, compiled once for all that are the same program.

A jaxpr compares by identity in JAX, so an eager call that traces its field would compile anew each time. `Traced`
compares what is computed: the operations, their parameters and the numbers written into them; arrays that the field
holds are arguments. So a field, a closure over other arrays and a lambda written again share one compiled path.
"""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, jaxpr_as_fun
from jax.extend.linear_util import WrappedFun
from jax.flatten_util import ravel_pytree

from .._array import Array, PyTree


class Traced:
    """(consts, t, y) ↦ dy/dt on flat vectors, equal to another that computes the same.

    Rules of differentiation (`jax.custom_jvp`) cannot be compared: where there are any, the laws they belong to must be
    the same object, up to arrays.
    """

    def __init__(self, jaxpr: Jaxpr, law: Any):
        self.jaxpr, self.law = jaxpr, law
        self._hash = hash((tuple(e.primitive for e in jaxpr.eqns), tuple(v.aval for v in jaxpr.constvars)))

    def __call__(self, consts: Sequence[Array], t: Array, y: Array) -> Array:
        """dy/dt."""
        return jaxpr_as_fun(ClosedJaxpr(self.jaxpr, list(consts)))(t, y)[0]

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Traced) or self._hash != other._hash:
            return False
        return _same_program(self.jaxpr, other.jaxpr, _same(self.law, other.law, False))


def traced(field: Callable, y0: PyTree, args: PyTree, t: Array):
    """The field on flat vectors with everything it holds as a list of consts: (f(consts, t, y), consts, y, unravel)."""
    y, unravel = ravel_pytree(y0)
    closed = jax.make_jaxpr(lambda t, y: ravel_pytree(field(t, unravel(y), args))[0].astype(y.dtype))(t, y)
    law = jax.tree.structure(eqx.filter((field, args), eqx.is_array, inverse=True)), _words((field, args))
    return Traced(closed.jaxpr, law), [jnp.asarray(c) for c in closed.consts], y, unravel


def _words(law: PyTree) -> list:
    """The leaves of a law that are not arrays, functions among them."""
    return jax.tree.leaves(eqx.filter(law, eqx.is_array, inverse=True))


def _same_program(one: Jaxpr, other: Jaxpr, same_law: bool) -> bool:
    """Whether two jaxprs are one but for the names of their variables."""
    if len(one.eqns) != len(other.eqns):
        return False
    names = {}

    def bound(ours, theirs) -> bool:
        if len(ours) != len(theirs) or any(u.aval != v.aval for u, v in zip(ours, theirs, strict=True)):
            return False
        names.update(zip(ours, theirs, strict=True))
        return True

    def used(ours, theirs) -> bool:
        if len(ours) != len(theirs):
            return False
        for u, v in zip(ours, theirs, strict=True):
            if isinstance(u, Literal) or isinstance(v, Literal):
                if type(u) is not type(v) or u.aval != v.aval or not _same(u.val, v.val, same_law):
                    return False
            elif names.get(u) is not v:
                return False
        return True

    if not bound(one.constvars, other.constvars) or not bound(one.invars, other.invars):
        return False
    for e, f in zip(one.eqns, other.eqns, strict=True):
        if e.primitive is not f.primitive or e.effects != f.effects or e.ctx != f.ctx:
            return False
        if not used(e.invars, f.invars) or not _same(e.params, f.params, same_law) or not bound(e.outvars, f.outvars):
            return False
    return used(one.outvars, other.outvars)


def _same(p: Any, q: Any, same_law: bool) -> bool:
    """Whether two parameters of an operation are the same; only those that surely are."""
    if p is q:
        return True
    if type(p) is not type(q) or isinstance(p, Tracer):
        return False
    if isinstance(p, ClosedJaxpr):
        return _same_program(p.jaxpr, q.jaxpr, same_law) and _same(p.consts, q.consts, same_law)
    if isinstance(p, Jaxpr):
        return _same_program(p, q, same_law)
    if isinstance(p, dict):
        return p.keys() == q.keys() and all(_same(p[k], q[k], same_law) for k in p)
    if isinstance(p, list | tuple):
        return len(p) == len(q) and all(_same(v, w, same_law) for v, w in zip(p, q, strict=True))
    if isinstance(p, float | complex | np.generic | np.ndarray | jax.Array):
        v, w = np.asarray(p), np.asarray(q)  # to the bit: zeros have signs
        return v.dtype == w.dtype and v.shape == w.shape and v.tobytes() == w.tobytes()
    if callable(p) or isinstance(p, WrappedFun):
        return same_law
    try:
        return bool(p == q)
    except Exception:  # parameters of any library's primitives, some of which do not compare
        return False
