"""`enerjax solve PROBLEM`: a named problem of solid mechanics against its exact or reference solution."""

from pathlib import Path
from typing import Annotated

import typer

from .common import Json, Seed, run, say


def command(
    problem: Annotated[str | None, typer.Argument(help="Name of the problem; --list shows them.")] = None,
    list_problems: Annotated[bool, typer.Option("--list", help="List the named problems.")] = False,
    max_seconds: Annotated[float | None, typer.Option(help="CPU seconds after which iterations stop.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the solution (VTU), figures and result.json.")] = None,
    seed: Seed = 0,
    json: Json = False,
):
    """Solve a problem of solid mechanics to solver-grade accuracy, in float64.

    Prints relative L2 errors of displacement and stress against the exact or the stated reference solution, and the CPU
    seconds of solving and of compilation apart.
    """

    def work():
        from ..solids import problems, solve

        if list_problems:
            return {name: make.__doc__.split("\n")[0] for name, make in problems.named().items()}
        if problem is None:
            raise ValueError("give the name of a problem; `enerjax solve --list` shows them")
        if problem not in problems.named():
            raise ValueError(f"no problem is called {problem!r}; there are {', '.join(problems.named())}")
        if max_seconds is not None and max_seconds <= 0:
            raise ValueError(f"--max-seconds must be positive, not {max_seconds:g}")
        named = problems.named()[problem]()
        solution = solve(named, seed, max_seconds=max_seconds, directory=out, say=say)
        result = {
            "problem": problem,
            **solution.errors(),
            "seconds": solution.seconds,
            "compile_seconds": solution.compile_seconds,
            **solution.info,
            **solution.quantities(),
        }
        if named.reference is not None:
            result["reference"] = named.reference.source
        if out is not None:
            result["files"] = save(solution, result, out)
        return result

    run(work, json)


def save(solution, result: dict, out: Path) -> list[str]:
    """The solution as VTU, its figures and its numbers in a folder."""
    import json as _json

    from .common import plain
    from .report import save as save_figure

    out.mkdir(parents=True, exist_ok=True)
    name = result["problem"]
    files = [str(solution.write_vtu(out / f"{name}.vtu"))]
    figures = {"fields": fields(solution), "convergence": convergence(solution)}
    for kind, figure in figures.items():
        if figure is not None:
            path = out / f"{name}_{kind}.png"
            save_figure(figure, path)
            files.append(str(path))
    path = out / "result.json"
    part = path.with_name(".result.json.part")
    part.write_text(_json.dumps(plain({**result, "history": solution.history}), indent=1))
    part.replace(path)
    return [*files, str(path)]


def fields(solution, n: int = 40):
    """Displacement, von Mises stress and pointwise error over a planar section (None outside two dimensions)."""
    from .solid_figures import planar_fields

    return planar_fields(solution, n)


def convergence(solution):
    """Error, or residual where no error is known along the way, against CPU seconds."""
    from .solid_figures import history

    return history(solution)
