"""Imports point one way, files stay short, no global state: the house is held by its syntax trees."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1] / "src" / "enerjax"
RANK = dict.fromkeys(("_array", "_compile", "_identity", "_memory", "_precision"), 0) | {"_tree": 1, "units": 1}
RANK |= {"energy": 2, "flow": 3, "path": 4, "chain": 5, "fit": 5}
RANK |= dict.fromkeys(("atoms", "solids", "ode", "learning"), 6) | {"cli": 7, "__main__": 8}
FILES = sorted(ROOT.rglob("*.py"))


def imported(file):
    """Top-level packages of enerjax that `file` imports, lazily or not."""
    here = file.relative_to(ROOT).with_suffix("").parts
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = here[: len(here) - node.level]
            yield from ((*base, *(node.module or alias.name).split("."))[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom | ast.Import):
            names = [node.module] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
            yield from (name.split(".")[1] for name in names if name and name.startswith("enerjax."))


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_house(file):
    source = file.read_text()
    here = file.relative_to(ROOT).with_suffix("").parts[0]
    if here != "__init__":
        for other in imported(file):
            allowed = other == here or RANK[other] < RANK[here]
            assert allowed, f"{file.name} in {here} imports {other}: imports point from later to earlier packages only"
    assert len(source.splitlines()) <= 400, f"{file.name} holds more than one idea"
    assert ast.get_docstring(ast.parse(source)), f"{file.name} does not say what it holds"
    assert "jax.config.update" not in source, "flags belong to the user"
    assert "from __future__ import annotations" not in source, "it silences jaxtyping's checks of dataclasses"
    assert "import pickle" not in source and "import dill" not in source, "model files never execute code"
