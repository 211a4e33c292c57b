"""`enerjax fit TRAIN.xyz --out DIR`: train a potential energy surface; the same command again resumes."""

from pathlib import Path
from typing import Annotated, Any

import typer

from . import common
from .common import Json, Seed

File = Path | None


def command(
    train: Annotated[Path, typer.Argument(help="Training data: extended XYZ with energies and forces.")],
    out: Annotated[Path, typer.Option(help="Directory for model/, metrics.jsonl, figures and the state of the run.")],
    valid: Annotated[File, typer.Option(help="Validation data; else a tenth of TRAIN is set aside.")] = None,
    test: Annotated[File, typer.Option(help="Test data, looked at once, at the end.")] = None,
    max_seconds: Annotated[float | None, typer.Option(help="Budget in seconds of training. [600 if no budget]")] = None,
    max_epochs: Annotated[int | None, typer.Option(help="Budget in passes over the data.")] = None,
    size: Annotated[str | None, typer.Option(help="small, medium (the default) or large.")] = None,
    config: Annotated[File, typer.Option(help="TOML file with [model] and [training] tables.")] = None,
    from_: Annotated[File, typer.Option("--from", help="Fine-tune this model instead of a fresh one.")] = None,
    energy_key: Annotated[str | None, typer.Option(help="Name of the energy in the files.")] = None,
    forces_key: Annotated[str | None, typer.Option(help="Name of the forces in the files.")] = None,
    stress_key: Annotated[str | None, typer.Option(help="Name of the stress or virial in the files.")] = None,
    precision: Annotated[str, typer.Option(help="single or double, of parameters and arithmetic.")] = "single",
    seed: Seed = 0,
    json: Json = False,
):
    """Train an equivariant potential on energies, forces and stresses (eV, Å).

    Writes DIR/model (config.json, parameters.safetensors), DIR/metrics.jsonl, DIR/learning.png and DIR/parity.png. A
    run that was stopped goes on from DIR/state.safetensors when the same command is given again.
    """

    def work() -> dict[str, Any]:
        import jax

        if precision not in ("single", "double"):
            raise ValueError(f"--precision: '{precision}' is neither single nor double.")
        with jax.enable_x64(precision == "double"):
            keys = {"energy_key": energy_key, "forces_key": forces_key, "stress_key": stress_key}
            settings = {"train": str(train), "valid": str(valid), "size": size, "config": str(config)}
            settings |= {"from": str(from_), "seed": seed, "precision": precision} | keys
            budget = {"max_seconds": max_seconds, "epochs": max_epochs}
            if max_seconds is None and max_epochs is None:
                budget["max_seconds"] = 600.0
            return _work(train, valid, test, out, size, config, from_, keys, settings, budget, seed)

    common.run(work, json)


def _work(train, valid, test, out, size, config, start, keys, settings, budget, seed) -> dict[str, Any]:
    import jax.numpy as jnp
    import jax.random as jr

    from ..atoms import dataset, model_io, training
    from ..atoms.predict import errors, predict_all

    tables = _tables(config)
    data = dataset.read(train, **keys)
    held_out = None if test is None else dataset.read(test, **keys)
    if valid is None:
        count = min(200, max(1, len(data) // 10))
        common.say(f"setting {count} of {len(data)} configurations aside for validation (--valid names a file)")
        check, data = dataset.split(data, count, seed=seed)
    else:
        check = dataset.read(valid, **keys)
    recipe = training.Recipe(**tables["training"])
    model = _start(start, size, tables["model"], data, training, model_io)
    _same_run(out, settings)
    common.say(f"{len(data)} training and {len(check)} validation configurations; {_describe(model)}")
    last = {"time": 0.0}

    def keep(current, line):
        import time

        if time.monotonic() - last["time"] > 30.0:
            last["time"] = time.monotonic()
            model_io.save(current, out / "model")

    fitted, run = training.fit(
        data,
        check,
        key=jr.key(seed),
        model=model,
        recipe=recipe,
        dtype=jnp.result_type(float),
        directory=out,
        on_epoch=keep,
        progress=common.say,
        **budget,
    )
    model_io.save(fitted, out / "model")
    judged = check if held_out is None else held_out
    common.say(f"errors on the {len(judged)} {'validation' if held_out is None else 'test'} configurations")
    predictions = predict_all(fitted, judged, progress=common.say)
    found = errors(predictions, judged)
    from . import atoms_figures, report

    report.save(atoms_figures.learning(run.metrics), out / "learning.png")
    report.save(atoms_figures.parity(predictions, judged), out / "parity.png")
    return {k: v for k, v in found.items() if k != "configurations"} | {
        "epochs": run.epochs,
        "steps": run.steps,
        "seconds": run.seconds,
        "compile_seconds": run.compile_seconds,
        "stopped": run.stopped,
        "judged_on": "valid" if held_out is None else "test",
        "model": str(out / "model"),
    }


def _tables(config: Path | None) -> dict[str, dict[str, Any]]:
    import tomllib

    from ..atoms.training import Recipe

    if config is None:
        return {"model": {}, "training": {}}
    try:
        found = tomllib.loads(config.read_text())
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{config}: not readable as TOML ({error}).") from None
    if unknown := sorted(set(found) - {"model", "training"}):
        raise ValueError(f"{config}: unknown table [{unknown[0]}]; there are [model] and [training].")
    if unknown := sorted(set(found.get("training", {})) - set(Recipe.__dataclass_fields__)):
        raise ValueError(f"{config}: unknown '{unknown[0]}' in [training]: {', '.join(Recipe.__dataclass_fields__)}.")
    model = {k: tuple(v) if isinstance(v, list) else v for k, v in found.get("model", {}).items()}
    return {"model": model, "training": found.get("training", {})}


def _start(start, size, fields, data, training, model_io):
    """The configuration of a fresh model, or the learned model to go on from, with this data's atomic energies."""
    if start is None:
        return training.configure(data, **({"size": size or "medium"} | fields))
    if fields or size:
        raise ValueError("--from takes the architecture of the model; --size and [model] do not go with it.")
    learned, _ = model_io.parts(model_io.load(start))
    return training.retarget(learned, data)


def _same_run(out: Path, settings: dict[str, Any]) -> None:
    """Refuse to resume a run with other data or another architecture."""
    import json

    from ..fit.checkpoint import write_atomically

    path = out / "run.json"
    if path.exists() and (out / "state.safetensors").exists():
        before = json.loads(path.read_text())
        for name, value in settings.items():
            if before.get(name) != value:
                old = before.get(name)
                raise ValueError(
                    f"{out}: holds a run with {name}={old}, not {value}; give another --out to start anew."
                )
    write_atomically(path, json.dumps(settings, indent=2) + "\n")


def _describe(model) -> str:
    config = getattr(model, "config", model)
    return f"{config.channels} channels, l_max {config.l_max}, order {config.order}, {config.layers} layers"
