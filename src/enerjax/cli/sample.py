"""`enerjax sample MODEL.py`: a file that defines an energy, its posterior as NetCDF or Zarr with summary and plots."""

import contextlib
import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from .common import Json, Seed, run, say


class Start(StrEnum):
    """What becomes of the points that `initial` gives; names of `chain`, and its variational Gaussian."""

    pathfinder = "pathfinder"
    mode = "mode"
    given = "given"
    variational = "variational"


def command(
    model: Annotated[
        Path, typer.Argument(help="A Python file defining energy(x) or log_density(x), and initial(key).")
    ],
    chains: Annotated[int, typer.Option(min=1, help="Independent chains.")] = 4,
    warmup: Annotated[int, typer.Option(min=0, help="Warm-up draws at most; it ends sooner when it is good.")] = 1000,
    draws: Annotated[int, typer.Option(min=4, help="Kept draws per chain.")] = 1000,
    out: Annotated[Path, typer.Option(help="Where the posterior goes: .nc (NetCDF) or .zarr.")] = Path("posterior.nc"),
    target: Annotated[float, typer.Option(min=0.5, max=0.999, help="Acceptance the step size is tuned for.")] = 0.8,
    thin: Annotated[int, typer.Option(min=1, help="Keep every so many-th draw.")] = 1,
    start: Annotated[
        Start,
        typer.Option(
            help="Chains start from draws of Gaussians along L-BFGS paths, at the mode, where initial(key) says, or "
            "from the Gaussian of lowest free energy."
        ),
    ] = Start.pathfinder,
    plots: Annotated[bool, typer.Option(help="Write trace, rank, pair and energy plots beside the posterior.")] = True,
    seed: Seed = 0,
    json: Json = False,
):
    """Sample a posterior with NUTS. The same command again resumes a run that was stopped.

    MODEL.py defines `energy(x)` (minus the log density) or `log_density(x)`, on any pytree x of floats, and
    `initial(key)`, a start point; or an `energy` made by `enerjax.energy.posterior`, whose parameters may be
    constrained.
    """

    def work():
        with _blaming(model):
            return _sample(model, chains, warmup, draws, out, target, thin, start, plots, seed)

    run(work, json)


@contextlib.contextmanager
def _blaming(path: Path):
    """Whatever the model raises becomes a ValueError that names its line.

    Raises:
        ValueError: if an exception comes from a file beside the model.
    """
    from ..chain.blame import users_line

    try:
        yield
    except (Exception, SystemExit) as error:
        if line := users_line(error, path.parent):
            raise ValueError(f"{line}: {type(error).__name__}: {error}") from error
        raise


def _sample(path, chains, warmup, draws, out, target, thin, start, with_plots, seed):
    # the compiled program is kept between runs, so that a resumed one starts at once; the user's setting wins
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(cache) / "enerjax" / "xla"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
    import hashlib
    import shutil

    import jax
    import jax.random as jr

    from ..chain import Given, Mode, Pathfinder, sample, variational
    from ..chain.arviz import check_names, check_path
    from ..chain.flat import is_point, layout

    check_path(out)
    with jax.enable_x64(True):
        energy, initial = load(path)
        check_names(layout(initial if is_point(initial) else initial(jr.key(seed))))
        # unfinished draws wait beside the result; another model text or other settings start afresh
        identity = hashlib.sha256(
            path.read_bytes() + repr((chains, warmup, draws, target, thin, seed, start.value)).encode()
        )
        part = out.with_name(f".{out.name}.{identity.hexdigest()[:12]}")
        if (part / "run.json").exists():
            say(f"resuming from {part}")
        if start is Start.variational:
            key = jr.fold_in(jr.key(seed), 1)
            fitted = variational(energy, initial, key)
            say(f"variational free energy {fitted.free_energy:.4g}, Pareto-k {fitted.pareto_k:.2f}")
            initial = fitted.initial
        kinds = {Start.pathfinder: Pathfinder(), Start.mode: Mode()}
        posterior = sample(
            energy, initial, jr.key(seed), chains=chains, warmup=warmup, draws=draws, target=target, thin=thin,
            start=kinds.get(start, Given()), directory=part, progress=say,
        )  # fmt: skip
        say(str(posterior.summary()))
        posterior.save(out)
        written = [str(out)]
        if with_plots:
            from ..chain.arviz import plots as figures
            from .report import save

            for _, figure in (made := figures(posterior)):
                name = out.with_name(f"{out.stem}_{('trace', 'rank', 'pair', 'energy')[len(written) - 1]}.png")
                if len(made) == 3 and len(written) >= 3:
                    name = out.with_name(f"{out.stem}_energy.png")
                save(figure, name)
                written.append(str(name))
        worst = posterior.diagnostics()
        shutil.rmtree(part)
    keys = ("max_rhat", "min_ess_bulk", "min_ess_tail", "min_ebfmi", "divergences", "gradients", "acceptance")
    return {k: worst[k] for k in keys} | {
        "seconds": posterior.seconds[0],
        "cpu_seconds": posterior.seconds[1],
        "files": written,
    }


def load(path: Path):
    """(energy, initial) of a model file.

    Raises:
        ValueError: if the file is missing, does not run, or lacks one of the two; says which.
    """
    import importlib.util
    import sys

    import jax.numpy as jnp

    from ..chain.blame import users_line

    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.resolve().parent))  # a model may import its neighbours
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        line = users_line(error, path.parent) or path
        raise ValueError(f"{line} does not run: {type(error).__name__}: {error}") from error
    finally:
        sys.path.pop(0)
    initial = getattr(module, "initial", None)
    energy = getattr(module, "energy", None)
    if energy is None and (log_density := getattr(module, "log_density", None)) is not None:

        def negative(x):
            result = log_density(x)
            return (-jnp.asarray(result[0]), *result[1:]) if isinstance(result, tuple) else -jnp.asarray(result)

        energy = negative

    if energy is None or not callable(energy):
        raise ValueError(f"{path} defines neither energy(x) nor log_density(x)")
    if initial is None:
        raise ValueError(f"{path} does not define initial(key), the start point of a chain")
    return energy, initial
