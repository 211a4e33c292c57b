"""`enerjax md` and `enerjax frequencies` from the shell: the keys they promise, resuming, one line on bad input."""

import json
import subprocess
import sys

import ase.build
import numpy as np
import pytest
from ase.io import read, write


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    path = tmp_path_factory.mktemp("md") / "start.xyz"
    atoms = ase.build.bulk("Si", cubic=True)
    atoms.rattle(0.05, seed=0)
    write(path, atoms, format="extxyz")
    return path


def enerjax(*words):
    return subprocess.run(
        [sys.executable, "-m", "enerjax", *map(str, words)], capture_output=True, text=True, timeout=600
    )


def test_md_runs_resumes_and_refuses(start):
    out = start.with_name("run.xyz")
    options = ["--temperature", 300, "--timestep", 1.0, "--out", out, "--interval", 10, "--json"]
    done = enerjax("md", "stillinger-weber", start, "--ensemble", "npt", "--steps", 200, *options)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    for name in ("steps_per_second", "energy_drift_mev_per_atom_per_ps", "mean_temperature_k", "atoms"):
        assert np.isfinite(result[name])
    assert result["atoms"] == 8 and result["compilations"] == 1
    assert len(read(out, ":")) == 21 and out.with_suffix(".png").stat().st_size > 10_000

    longer = enerjax("md", "stillinger-weber", start, "--ensemble", "npt", "--steps", 300, *options)
    assert json.loads(longer.stdout)["steps"] == 300 and len(read(out, ":")) == 31
    other = enerjax("md", "stillinger-weber", start, "--ensemble", "nve", "--steps", 300, *options)
    assert other.returncode == 2 and "was run with ensemble=NPT" in other.stderr and other.stdout == ""


def test_frequencies_of_silicon(start):
    out = start.with_name("relaxed.xyz")
    done = enerjax("frequencies", "stillinger-weber", start, "--out", out, "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert len(result["frequencies_cm1"]) == 21 and result["imaginary"] == 0
    np.testing.assert_allclose(result["frequencies_cm1"][-1], 594.8, atol=1.0)  # 17.8326 THz, the exact optical mode
    np.testing.assert_allclose(read(out).get_potential_energy() / 8, -4.3366, atol=1e-5)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["md", "nowhere", "START"], "neither the directory of a model"),
        (["md", "stillinger-weber", "START", "--ensemble", "nph"], "none of nve, nvt, npt"),
    ],
)
def test_bad_input_is_one_line(start, words, message):
    done = enerjax(*[start if w == "START" else w for w in words], "--json")
    assert done.returncode == 2 and done.stdout == ""
    last = done.stderr.strip().splitlines()
    assert message in last[-1] and len(last) == 1
