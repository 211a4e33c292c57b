"""`enerjax solve` from the shell: a time limit ends Newton early with the best state, bad input is one line."""

import json

from typer.testing import CliRunner

from enerjax.cli import app


def test_max_seconds_ends_the_iterations_and_keeps_the_state():
    """One Newton step at finite strain, and says so: 1e-5 is out of reach, but it is nearer than no displacement."""
    words = ["solve", "cook_neo_hookean", "--max-seconds", "0.001", "--json"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert result["stopped"] == "max_seconds" and 1e-4 < result["displacement_relative_l2"] < 0.99
    assert result["seconds"] < 8 and result["unknowns"] > 300


def test_bad_input_is_one_line():
    for words, said in (
        (["cook", "--max-seconds", "0"], "must be positive"),
        (["bridge"], "'bridge'"),
    ):
        done = CliRunner().invoke(app, ["solve", *words])
        assert done.exit_code != 0 and said in done.output
