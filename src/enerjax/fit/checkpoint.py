"""Pytrees on disk as plain data: safetensors for arrays, JSON for words, every file written whole or not at all."""

import json
import os
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.random as jr
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as _serialise

from .._array import PyTree


def write_atomically(path: str | Path, data: bytes | str) -> None:
    """Write a file so that a reader, or a crash, sees the old content or the new, never half of it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    with open(part, "wb") as out:
        out.write(data.encode() if isinstance(data, str) else data)
        out.flush()
        os.fsync(out.fileno())
    part.replace(path)


def _is_key(leaf: Any) -> bool:
    return eqx.is_array(leaf) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _named(tree: PyTree) -> dict[str, Any]:
    """The array leaves of a tree under their key paths: `layers/0/weight`."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): v for path, v in leaves if eqx.is_array(v)}


def save(path: str | Path, tree: PyTree, words: dict[str, Any] | None = None) -> None:
    """Save the arrays of a pytree, and a JSON-serialisable dictionary in the header, to one safetensors file.

    Args:
        path: the file; replaced atomically.
        tree: any pytree; leaves that are not arrays are structure and are not saved.
        words: what should be known without the arrays, such as the epoch.
    """
    arrays = {name: np.asarray(jr.key_data(v) if _is_key(v) else v) for name, v in _named(tree).items()}
    arrays = {name: np.ascontiguousarray(v).reshape(v.shape) for name, v in arrays.items()}
    write_atomically(path, _serialise(arrays, metadata={"enerjax": json.dumps(words or {})}))


def words(path: str | Path) -> dict[str, Any]:
    """The dictionary that `save` put into the header.

    Raises:
        ValueError: if the file is not one that `save` wrote whole.
    """
    try:
        with safe_open(str(path), framework="numpy") as file:
            return json.loads((file.metadata() or {}).get("enerjax", "{}"))
    except SafetensorError as error:
        raise ValueError(f"{path}: not a readable safetensors file ({error}).") from None


def load(path: str | Path, like: PyTree) -> PyTree:
    """The pytree `like` with its arrays replaced by those of the file.

    Raises:
        ValueError: if the file is unreadable or holds other names or shapes than `like`.
    """
    try:
        with safe_open(str(path), framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dictionary)
    except SafetensorError as error:
        raise ValueError(f"{path}: not a readable safetensors file ({error}).") from None
    expected = _named(like)
    if missing := sorted(set(expected) - set(arrays)):
        raise ValueError(f"{path}: has no array '{missing[0]}' ({len(missing)} missing); was the model changed?")
    if extra := sorted(set(arrays) - set(expected)):
        raise ValueError(f"{path}: holds an unknown array '{extra[0]}' ({len(extra)} in all); was the model changed?")

    def restore(key_path, leaf):
        if not eqx.is_array(leaf):
            return leaf
        name = jax.tree_util.keystr(key_path, simple=True, separator="/")
        value = arrays[name]
        if _is_key(leaf):
            return jr.wrap_key_data(value, impl=jr.key_impl(leaf))
        if value.shape != leaf.shape:
            raise ValueError(f"{path}: array '{name}' has shape {value.shape}, expected {leaf.shape}.")
        return jax.numpy.asarray(value, dtype=leaf.dtype)

    return jax.tree_util.tree_map_with_path(restore, like)
