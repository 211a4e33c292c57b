"""A pytree of parameters as one flat vector, the names of its coordinates, and the checks of what the user passed."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from .._array import Array, Energy, Key, PyTree
from .blame import code, users_line
from .failure import split

_NEEDS_A_NUMBER = (
    jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError, jax.errors.TracerIntegerConversionError,
    jax.errors.NonConcreteBooleanIndexError,
)  # fmt: skip


@dataclass(frozen=True)
class Layout:
    """Structure, shapes and dtypes of a pytree; hashable, so that programs are compiled once per layout."""

    treedef: Any
    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[str, ...]
    names: tuple[str, ...]

    @functools.cached_property
    def size(self) -> int:
        """Number of coordinates."""
        return sum(int(np.prod(s)) for s in self.shapes)

    @functools.cached_property
    def dtype(self):
        """Dtype of the flat vector."""
        return jnp.result_type(*self.dtypes)

    def ravel(self, x: PyTree) -> np.ndarray:
        """Pytree -> flat vector."""
        leaves = jax.tree.leaves(x)
        return np.concatenate([np.ravel(np.asarray(v)) for v in leaves]).astype(self.dtype)

    def __call__(self, x: Array | np.ndarray) -> PyTree:
        """Flat vector [..., d] -> pytree with leaves [..., *shape]."""
        ends = np.cumsum([int(np.prod(s)) for s in self.shapes])[:-1].tolist()
        parts = np.split(x, ends, axis=-1) if isinstance(x, np.ndarray) else jnp.split(x, ends, axis=-1)
        leaves = [
            v.reshape(*x.shape[:-1], *shape) if v.dtype == dtype else v.reshape(*x.shape[:-1], *shape).astype(dtype)
            for v, shape, dtype in zip(parts, self.shapes, self.dtypes, strict=True)
        ]
        return jax.tree.unflatten(self.treedef, leaves)

    def coordinate(self, i: int) -> str:
        """Name of coordinate i, such as `theta[3]`."""
        for name, shape in zip(self.names, self.shapes, strict=True):
            n = int(np.prod(shape))
            if i < n:
                index = ",".join(map(str, np.unravel_index(i, shape))) if shape else ""
                return f"{name}[{index}]" if shape else name
            i -= n
        raise IndexError(i)


def _name(path) -> str:
    parts = [str(getattr(p, "key", getattr(p, "name", getattr(p, "idx", p)))) for p in path]
    return ".".join(parts) or "x"


def layout(x: PyTree) -> Layout:
    """The layout of an initial point.

    Raises:
        ValueError: if it is empty or a leaf is not real floating point; names the leaf.
    """
    paths, treedef = jax.tree_util.tree_flatten_with_path(x)
    if not paths:
        raise ValueError("initial: the start point has no parameters; give a pytree of float arrays.")
    names, shapes, dtypes = [], [], []
    for path, leaf in paths:
        if not eqx.is_array_like(leaf):
            raise ValueError(
                f"initial: {_name(path)!r} is a {type(leaf).__name__}, not an array; of a module, sample the arrays "
                "(equinox.partition) and put them back in the energy (equinox.combine)."
            )
        array = jnp.asarray(leaf)
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise ValueError(
                f"initial: parameter {_name(path)!r} is {array.dtype}, but gradients need floats; "
                "convert it, or sum discrete parameters out of the model."
            )
        names.append(_name(path))
        shapes.append(array.shape)
        dtypes.append(str(array.dtype))
    return Layout(treedef, tuple(shapes), tuple(dtypes), tuple(names))


def is_point(initial: Any) -> bool:
    """Whether `initial` is a start point, not a function of a key: so is a module with arrays, callable or not."""
    bound = hasattr(initial, "__func__") or isinstance(initial, jax.tree_util.Partial)  # pytrees too, if of a module's
    return not callable(initial) or not bound and any(map(eqx.is_array, jax.tree.leaves(initial)))


def proposer(energy: Energy, initial: Any) -> Callable[[Key], PyTree]:
    """Key -> start point in the free parameters; `initial` is a point in the user's space, or a function of a key."""
    free = getattr(energy, "unconstrain", lambda x: x)
    return (lambda _: free(initial)) if is_point(initial) else (lambda key: free(initial(key)))


def as_key(key: Any) -> Key:
    """One typed key, also from the words of an untyped one.

    Raises:
        TypeError: if it is neither.
    """
    if isinstance(key, jax.Array | np.ndarray):
        typed: Any = jr.wrap_key_data(key) if jnp.issubdtype(key.dtype, jnp.integer) and key.ndim == 1 else key
        if jnp.issubdtype(typed.dtype, jax.dtypes.prng_key) and typed.ndim == 0:
            return typed
    raise TypeError(f"key: give jax.random.key(seed), one key; this is {' '.join(repr(key).split())}.")


def check_energy(energy: Energy, flat: Layout) -> int:
    """Trace the energy once, without computing, and say what is wrong with what it returns.

    Returns:
        The size of the largest array that it computes.

    Raises:
        ValueError: if it does not return a real scalar, or `(scalar, why)`, or cannot be hashed.
        TypeError: if it asks for numbers where JAX traces it (`if`, `float`, NumPy); names the line.
    """
    dynamic, static = eqx.partition(energy, eqx.is_array)
    arrays, structure = jax.tree.flatten(dynamic)
    leaves, treedef = jax.tree.flatten(static)
    for leaf in leaves:
        try:
            hash(leaf)
        except TypeError as error:
            raise ValueError(
                f"energy: its {type(leaf).__name__} cannot be hashed, so no program can be kept for it; make it an "
                "equinox.Module, whose arrays may then change, or a dataclass with eq=False."
            ) from error
    return _checked(tuple((x.shape, str(x.dtype)) for x in arrays), structure, tuple(leaves), treedef, flat)


@functools.lru_cache(maxsize=64)
def _checked(arrays: tuple, structure: Any, leaves: tuple, treedef: Any, flat: Layout) -> int:
    static = jax.tree.unflatten(treedef, leaves)
    of = lambda dynamic, x: split(eqx.combine(dynamic, static)(x))
    like = lambda tree, shapes: jax.tree.unflatten(tree, [jax.ShapeDtypeStruct(*s) for s in shapes])
    dynamic = like(structure, arrays)
    points = like(flat.treedef, zip(flat.shapes, flat.dtypes, strict=True))
    try:
        jaxpr, (value, _) = jax.make_jaxpr(of, return_shape=True)(dynamic, points)
    except _NEEDS_A_NUMBER as error:
        line = users_line(error)
        where = f"{line}: `{code(line)}`" if line else f"({error})"
        raise TypeError(
            f"energy: {where} needs numbers, but JAX traces the energy without any: use jnp.where or jax.lax.cond "
            "instead of `if`, jnp.* instead of np.* and math.*, and neither float() nor int()."
        ) from error
    if value.shape != () or not jnp.issubdtype(value.dtype, jnp.floating):
        raise ValueError(
            f"energy: it returns {value.dtype}{list(value.shape)} for one point; a real scalar is needed "
            "(sum over the data, and do not batch over chains)."
        )
    return _widest(jaxpr.jaxpr)


def _widest(jaxpr) -> int:
    """Size of the largest array in a program, loops and calls included."""
    inside = lambda x: hasattr(x, "eqns") or hasattr(x, "jaxpr")
    widest = 0
    for equation in jaxpr.eqns:
        sizes = [int(np.prod(v.aval.shape)) for v in equation.outvars if hasattr(v.aval, "shape")]
        parts = [p for p in jax.tree.leaves(equation.params, is_leaf=inside) if inside(p)]
        widest = max(widest, *sizes, *(_widest(getattr(p, "jaxpr", p)) for p in parts), 0)
    return widest
