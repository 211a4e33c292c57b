"""The door to ArviZ, both of its lines: `InferenceData` (0.x) and xarray's `DataTree` (1.x); files and plots."""

import importlib.util
import re
import shutil
import unicodedata
import warnings
from pathlib import Path
from typing import Any

import jax
import numpy as np

from .flat import Layout, layout

# NetCDF-4 takes letters of any script, but no path, no control character, and few signs as the first
_FORBIDDEN = re.compile(r"[/\\\x00-\x1f\x7f]|^[\x20-\x2f:-@[-^`{-~]| $")
_NAMES = {
    "energy": "energy",
    "potential": "potential",
    "acceptance": "acceptance_rate",
    "step_size": "step_size",
    "steps": "n_steps",
    "depth": "tree_depth",
    "divergence": "diverging",
    "why": "why",
}


def _arviz():
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # 0.23 announces 1.0 at every import
            import arviz
    except ImportError as error:
        raise ImportError("to_arviz needs ArviZ: pip install arviz h5netcdf netCDF4.") from error
    return arviz


def _clean(name: str) -> str:
    return _FORBIDDEN.sub("_", unicodedata.normalize("NFC", name))


def check_names(shape: Layout, dims: dict[str, list[str]] | None = None) -> list[str]:
    """The names of parameters in files: the user's, with "_" for what NetCDF does not accept.

    Args:
        shape: layout of a point in the user's space.
        dims: names of the axes of a parameter; by default `a_dim_0`, `a_dim_1`, … for `a`.

    Raises:
        ValueError: if two parameters would have one name, or one that of a dimension, since files would lose one of
            them; if `dims` are for no parameter, or not one for each axis.
    """
    dims = dims or {}
    for name, axes in dims.items():
        inside = dict(zip(shape.names, shape.shapes, strict=True)).get(name)
        if inside is None:
            raise ValueError(f"dims: there is no parameter {name!r}; there are {', '.join(map(repr, shape.names))}.")
        if isinstance(axes, str) or len(axes) != len(inside):
            raise ValueError(
                f"dims: {name!r} has shape {list(inside)}; give a list of {len(inside)} names, not {axes!r}."
            )
    written = [_clean(name) for name in shape.names]
    first: dict[str, str] = {}
    for name, user in zip(written, shape.names, strict=True):
        if name in first:
            raise ValueError(f"parameters {first[name]!r} and {user!r} are both {name!r} in files; rename one.")
        first[name] = user
    taken = {"chain": "chains", "draw": "draws"}
    for name, user, inside in zip(written, shape.names, shape.shapes, strict=True):
        axes = dims.get(user, [f"{name}_dim_{i}" for i in range(len(inside))])
        if lost := [axis for axis in axes if axis in ("chain", "draw")]:
            raise ValueError(f"dims: {lost[0]!r} of {user!r} is the axis of chains or draws; rename it.")
        taken |= dict.fromkeys(axes, repr(user))
    for name, of in taken.items():
        if name in first:
            raise ValueError(f"parameter {first[name]!r}: {name!r} is the dimension of {of} in files; rename it.")
    return written


def variables(
    posterior, dims: dict[str, list[str]] | None = None
) -> tuple[dict[str, np.ndarray], dict[str, list[str]]]:
    """Leaves of the draws and the dimensions, under the names of `check_names`; a single unnamed leaf is `x`."""
    shape = layout(jax.tree.map(lambda x: np.zeros(x.shape[2:], x.dtype), posterior.draws))
    names = check_names(shape, dims)
    leaves = {n: np.asarray(x) for n, x in zip(names, jax.tree.leaves(posterior.draws), strict=True)}
    return leaves, {n: list((dims or {})[u]) for n, u in zip(names, shape.names, strict=True) if u in (dims or {})}


def to_arviz(posterior, dims: dict[str, list[str]] | None = None, coords: dict[str, Any] | None = None) -> Any:
    """Draws, sample statistics and log density (`lp`), as ArviZ knows them.

    Args:
        posterior: from `sample`.
        dims: names of a parameter's axes, `{"theta": ["school"]}`.
        coords: labels along them, `{"school": ["A", "B"]}`.

    Raises:
        ValueError: as `check_names`; if `coords` are for no dimension, or too many or too few.
    """
    az = _arviz()
    leaves, named = variables(posterior, dims)
    sizes = {axis: n for name, axes in named.items() for axis, n in zip(axes, leaves[name].shape[2:], strict=True)}
    for axis, labels in (coords or {}).items():
        if sizes.get(axis) != len(labels):
            raise ValueError(f"coords: {len(labels)} labels of {axis!r}; dims name axes {sizes}.")
    stats = {_NAMES[k]: np.asarray(v) for k, v in posterior.stats.items()} | {
        "lp": -np.asarray(posterior.stats["potential"])
    }
    groups = {"posterior": leaves, "sample_stats": stats}
    labels = {"dims": named or None, "coords": coords}
    return (
        az.from_dict(groups, **labels) if int(az.__version__.split(".")[0]) >= 1 else az.from_dict(**groups, **labels)
    )


def check_path(path: str | Path) -> Path:
    """The path, if `save` can write there.

    Raises:
        ValueError: if it ends neither in .nc nor in .zarr, or in .zarr and zarr is not installed.
    """
    path = Path(path)
    if path.suffix not in (".nc", ".zarr"):
        raise ValueError(f"{path.name!r} ends neither in .nc nor in .zarr.")
    if path.suffix == ".zarr" and importlib.util.find_spec("zarr") is None:
        raise ValueError(f"{path.name!r} needs zarr: pip install 'enerjax[zarr]', or give a name ending in .nc.")
    return path


def save(posterior, path: str | Path) -> Path:
    """Write `path`: NetCDF if it ends in .nc, a Zarr store if it ends in .zarr; whole or not at all.

    Raises:
        ValueError: as `check_path` and `check_names`.
    """
    path = check_path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    data = to_arviz(posterior)
    part = path.with_name(f".{path.stem}.part{path.suffix}")
    if path.suffix == ".nc":
        data.to_netcdf(str(part))
    else:
        shutil.rmtree(part, ignore_errors=True)
        # an InferenceData writes by zarr 2 only, xarray by both
        tree = data.to_datatree() if hasattr(data, "to_datatree") else data
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # zarr's own, about the encoding of names
            tree.to_zarr(str(part))
        shutil.rmtree(path, ignore_errors=True)
    part.replace(path)
    return path


def plots(posterior, limit: int = 6) -> list[tuple[str, Any]]:
    """(caption, matplotlib figure): traces, ranks, pairs and energies by ArviZ, of the `limit` worst-mixing
    coordinates.

    Divergent draws are marked. On ArviZ 1.x the figures come from its plotting package.
    """
    az = _arviz()
    import matplotlib

    backend = matplotlib.get_backend()
    matplotlib.use("agg", force=True)  # figures are returned, never shown: no window system is needed
    import matplotlib.pyplot as plt

    variables(posterior)  # says which names collide
    table = posterior.table
    worst = posterior.judged[np.argsort(np.nan_to_num(table["ess_bulk"][posterior.judged], nan=-1))[:limit]]
    names = [_clean(str(table["name"][i])) for i in worst]
    leaves = [np.asarray(x).reshape(*x.shape[:2], -1) for x in jax.tree.leaves(posterior.draws)]
    columns = np.concatenate(leaves, axis=-1)
    stats = {"diverging": np.asarray(posterior.stats["divergence"]), "energy": np.asarray(posterior.stats["energy"])}
    groups = {"posterior": {n: columns[..., i] for n, i in zip(names, worst, strict=True)}, "sample_stats": stats}
    one = int(az.__version__.split(".")[0]) >= 1
    data = az.from_dict(groups) if one else az.from_dict(**groups)
    figures = []
    calls = [
        ("Traces of the coordinates that mix worst", "plot_trace", {}),
        ("Ranks of their draws, chain by chain: flat when the chains agree", "plot_rank", {}),
        ("Pairs; divergent draws are marked", "plot_pair", {"divergences": True} if not one else {}),
        ("Energies and their changes: alike when momenta explore well", "plot_energy", {}),
    ]
    try:
        for caption, function, options in calls:
            chosen = names[:4] if function == "plot_pair" else names
            if function == "plot_pair" and len(chosen) < 2:
                continue
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                if one:
                    made = getattr(az, function)(data, backend="matplotlib")
                    drawn = np.ravel(made.viz["figure"].item())[0]
                    drawn.set_layout_engine("constrained")  # its labels overlap otherwise
                    figures.append((caption, drawn))
                else:
                    var = {} if function == "plot_energy" else {"var_names": chosen}
                    getattr(az, function)(data, **var, **options)
                    figures.append((caption, plt.gcf()))
    finally:
        plt.close("all")
        matplotlib.use(backend, force=True)
    return figures
