"""The command line: `enerjax COMMAND`, one file per command, loaded only when it is the one that runs."""

import importlib
import os
from pathlib import Path

import typer
import typer.core

from .._memory import keep_freed_memory

COMMANDS = {
    "fit": "train a potential energy surface on extended XYZ",
    "evaluate": "errors of a fitted potential on a data set",
    "md": "molecular dynamics with a fitted potential",
    "frequencies": "relax a structure and print its harmonic frequencies",
    "solve": "solve a named problem of solid mechanics",
    "sample": "sample a posterior with NUTS",
    "tour": "all four pillars on shipped data, with a report",
}


class _Lazy(typer.core.TyperGroup):
    """A group that imports `cli/NAME.py` and its function `command` only when NAME is asked for."""

    def list_commands(self, ctx):
        return list(COMMANDS)

    def get_command(self, ctx, cmd_name):
        if cmd_name not in COMMANDS:
            return None
        app = typer.Typer(add_completion=False, rich_markup_mode=None)
        app.command(name=cmd_name)(importlib.import_module(f".{cmd_name}", __name__).command)
        return typer.main.get_command(app)

    def format_commands(self, ctx, formatter):
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


app = typer.Typer(cls=_Lazy, add_completion=False, no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _root():
    """One scalar, and its gradient is the physics: potentials, solids, posteriors and laws of motion in JAX."""


def main():
    """The entry point of the `enerjax` script: this process is ours, so compiled programs are kept between runs."""
    keep_freed_memory()
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "enerjax" / "xla"
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # XLA warns of its own scheduling hints when it reads the cache
    app()
