"""Models on disk: `config.json` says what a potential is, `parameters.safetensors` what it has learned. Plain data."""

import dataclasses
import json
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr

from ..fit import checkpoint
from .equivariant import Config, Equivariant
from .pair import CoreRepulsion
from .potential import AbstractPotential, SumPotential

FORMAT = 3  # 1: before Config.smoothness, radial functions unweighted; 2: other order of paths where l_node > 1


def save(model: AbstractPotential, directory: str | Path) -> None:
    """Write a learned potential, with or without core repulsion, into a directory.

    Raises:
        TypeError: for a potential that is not a learned one.
    """
    learned, repulsion = parts(model)
    directory = Path(directory)
    config = {"format": FORMAT, "model": "equivariant"}
    config |= {"core_repulsion": None if repulsion is None else float(repulsion.scale)}
    config |= dataclasses.asdict(learned.config) | {"dtype": str(learned.shift.dtype)}
    checkpoint.save(directory / "parameters.safetensors", learned)
    checkpoint.write_atomically(directory / "config.json", json.dumps(config, indent=2) + "\n")


def load(directory: str | Path) -> AbstractPotential:
    """The potential that `save` wrote; nothing in the files is executed.

    Raises:
        FileNotFoundError: if the directory holds no model.
        ValueError: if a file is damaged or of another format.
    """
    directory = Path(directory)
    if (directory / "model" / "config.json").exists():  # the output of `enerjax fit` works too
        directory = directory / "model"
    path = directory / "config.json"
    if not path.exists():
        raise FileNotFoundError(f"{directory}: holds no model (no config.json).")
    try:
        words = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not readable as JSON ({error}).") from None
    written = words.pop("format", None)
    if written not in range(1, FORMAT + 1) or words.pop("model", None) != "equivariant":
        raise ValueError(f"{path}: not a model of format {FORMAT} of this library.")
    if written < 3 and words["l_node"] > 1:
        raise ValueError(f"{path}: format {written} with l_node={words['l_node']} is no longer read; fit it again.")
    if written == 1:
        words["smoothness"] = 0.0
    repulsion, dtype = words.pop("core_repulsion", None), jnp.dtype(words.pop("dtype", "float32"))
    try:
        config = Config(**{k: tuple(v) if isinstance(v, list) else v for k, v in words.items()})
    except TypeError as error:
        raise ValueError(f"{path}: {error}.") from None
    like = eqx.filter_eval_shape(lambda key: Equivariant(config, key=key), jr.key(0))
    like = _with_dtype(like, dtype)
    learned = checkpoint.load(directory / "parameters.safetensors", like)
    return learned if repulsion is None else learned + CoreRepulsion(scale=repulsion, cutoff=config.cutoff)


def _with_dtype(model, dtype):
    return jax.tree.map(lambda x: jnp.zeros(x.shape, dtype) if isinstance(x, jax.ShapeDtypeStruct) else x, model)


def parts(model) -> tuple[Equivariant, CoreRepulsion | None]:
    """The learned potential and, if there is one, the core repulsion added to it."""
    if isinstance(model, Equivariant):
        return model, None
    if isinstance(model, SumPotential) and len(model.terms) == 2:
        learned, repulsion = model.terms
        if isinstance(learned, Equivariant) and isinstance(repulsion, CoreRepulsion):
            return learned, repulsion
    raise TypeError(f"save: {type(model).__name__} is not a learned potential.")
