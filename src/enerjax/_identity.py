"""What a run that is kept in a directory is a run of: said in words and hashes, so that another one is refused.

A run goes on where it stopped; a run on other data or with other options must not: it would return, without a word,
what was computed for the old ones.
"""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np


def said(value: Any) -> Any:
    """The value as plain data that JSON gives back equal: numbers and words as they are, arrays and modules hashed.

    Functions are said by their name alone: what they compute cannot be compared.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {str(k): said(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [said(v) for v in value]
    leaves, structure = jax.tree_util.tree_flatten_with_path(value)
    # settings of modules are in their structure's text, which has addresses where a function has no other name
    digest = hashlib.sha256(_text(structure).encode())
    for path, leaf in leaves:
        name = jax.tree_util.keystr(path)
        if isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        if eqx.is_array_like(leaf):
            leaf = np.asarray(leaf)
            digest.update(f"{name} {leaf.dtype} {leaf.shape} ".encode() + leaf.tobytes())
        else:
            digest.update(f"{name} {_name(leaf) if callable(leaf) else _text(leaf)}".encode())
    if isinstance(value, jax.Array | np.ndarray):
        return f"{value.dtype}{list(value.shape)} {digest.hexdigest()[:12]}"
    itself = len(leaves) == 1 and not leaves[0][0]  # a leaf, such as a function
    return _name(value) if itself else f"{_name(value)} {digest.hexdigest()[:12]}"


def _text(value: Any) -> str:
    return re.sub(r" at 0x[0-9a-f]+", "", str(value))


def _name(value: Any) -> str:
    return getattr(value, "__qualname__", type(value).__qualname__)


def refuse_other(directory: str | Path, found: dict[str, Any] | None, run: dict[str, Any] | None) -> None:
    """Raise ValueError, naming what differs, if `found` in the directory is not this run."""
    if found == run:
        return
    if found is None:
        raise ValueError(
            f"directory: {directory} holds a run that does not say what it is a run of (an earlier version or a "
            f"call that did not say wrote it), so it may be one on other data; give a fresh directory."
        )
    here = run or {}
    different = sorted(k for k in found.keys() | here.keys() if found.get(k) != here.get(k))
    what = ", ".join(f"{k} {found.get(k)!r} there, {here.get(k)!r} here" for k in different)
    raise ValueError(f"directory: {directory} holds another run ({what}); give a fresh directory.")
