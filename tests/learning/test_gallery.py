"""The gallery is complete: every numbered example is short, says what it shows, checks a number and has its figure."""

import ast
import pathlib

import pytest

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"
SCRIPTS = sorted(EXAMPLES.glob("[0-9]*.py"))


def test_there_is_one_for_every_system():
    assert {script.stem[:2] for script in SCRIPTS} == {f"{k:02d}" for k in range(1, 18)}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda s: s.stem)
def test_example(script):
    source = script.read_text()
    assert len(source.splitlines()) < 150
    assert ast.get_docstring(ast.parse(source))
    assert source.count("gallery.check(") == 1 and source.count("gallery.save(") == 1
    assert "lax.scan" not in source and "while_loop" not in source  # none has its own loop: flow, path and fit do it
    readme = (EXAMPLES / "README.md").read_text()
    assert f"({script.name})" in readme and f"figures/{script.stem}.png" in readme
    assert (EXAMPLES / "figures" / f"{script.stem}.png").exists()
