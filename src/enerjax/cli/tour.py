"""`enerjax tour`: the main job. All four pillars, small but real, on shipped data, and one self-contained report."""

from pathlib import Path
from typing import Annotated, Any

import typer

from . import common
from .common import Json, Seed


def command(
    out: Annotated[Path, typer.Option(help="Directory for report.html and report.json.")] = Path("tour"),
    chapter: Annotated[list[str] | None, typer.Option(help="Only this chapter; may be repeated.")] = None,
    seed: Seed = 0,
    json: Json = False,
):
    """Fit a potential and run it, solve a solid, sample a posterior, learn a law of motion; then read the report.

    Takes about five minutes on two cores; a second time is quicker, because compiled programs are kept.
    """

    def work() -> dict[str, Any]:
        import importlib
        import time

        from ..fit.checkpoint import write_atomically
        from .chapters import NAMES
        from .report import write_report

        if unknown := sorted(set(chapter or ()) - set(NAMES)):
            raise ValueError(f"unknown chapter '{unknown[0]}': choose from {', '.join(NAMES)}.")
        out.mkdir(parents=True, exist_ok=True)
        chapters, entries, begun = [], {}, time.monotonic()
        for name in chapter or NAMES:
            common.say(f"── {name}")
            start = time.monotonic()
            made = importlib.import_module(f".chapters.{name}", __package__).chapter(seed, common.say)
            made.numbers["seconds"] = round(time.monotonic() - start, 1)
            chapters.append(made)
            entries[name] = made.numbers
            write_report(out / "report.html", "enerjax: one scalar, and its gradient is the physics", chapters)
        entries |= {"seconds": round(time.monotonic() - begun, 1), "report": str(out / "report.html")}
        write_atomically(out / "report.json", _text(entries))
        return entries

    common.run(work, json)


def _text(entries: dict[str, Any]) -> str:
    import json

    return json.dumps(common.plain(entries), indent=2) + "\n"
