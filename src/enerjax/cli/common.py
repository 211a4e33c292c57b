"""What every command shares: `--seed`, `--json`, one clear line on bad input, progress on stderr."""

import json as _json
import os
import sys
from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
import typer

Seed = Annotated[int, typer.Option(help="Seed of every random number.")]
Json = Annotated[bool, typer.Option("--json", help="Print exactly one JSON object on stdout.")]


def say(line: str) -> None:
    """One line of progress, on stderr."""
    print(line, file=sys.stderr, flush=True)


def plain(value: Any) -> Any:
    """The value with arrays as lists and NaN as None: what JSON can hold."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if hasattr(value, "dtype"):
        return plain(np.asarray(value).tolist())
    if isinstance(value, float) and not np.isfinite(value):
        return None  # JSON has no NaN
    return value


def run(work: Callable[[], dict[str, Any]], json: bool) -> None:
    """Run a command's work and print its result.

    Bad input (ValueError, OSError, KeyError…) ends with one line on stderr and status 2; Ctrl-C with status 130, after
    the work has saved what it had. With `json`, stdout carries exactly one object, whatever libraries print.
    """
    stdout = os.dup(1)
    if json:  # libraries that print to stdout must not spoil the object
        sys.stdout.flush()
        os.dup2(2, 1)
    try:
        result = work()
    except KeyboardInterrupt:
        say("interrupted; the same command resumes where it stopped")
        raise SystemExit(130) from None
    except (ValueError, OSError, KeyError, TypeError, ImportError, FloatingPointError) as error:
        if os.environ.get("ENERJAX_TRACEBACK"):
            raise
        message = error.args[0] if isinstance(error, KeyError) and error.args else str(error)
        say("error: " + " ".join(str(message).split()))
        raise SystemExit(2) from None
    finally:
        sys.stdout.flush()
        os.dup2(stdout, 1)
        os.close(stdout)
    if json:
        print(_json.dumps(plain(result)), flush=True)
    else:
        for key, value in plain(result).items():
            shown = f"{value:.6g}" if isinstance(value, float) else value
            print(f"{key:>42}  {shown}", flush=True)
