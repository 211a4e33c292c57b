"""`enerjax fit` and `evaluate` from the shell's side: one JSON object, resume, fine-tuning, one line for bad input."""

import json

import jax.random as jr
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write
from typer.testing import CliRunner

from enerjax.atoms import Config, Equivariant, LennardJones, predict, save
from enerjax.cli import app

TEACHER = LennardJones(0.05, 1.9, 4.0, 3.0)
CONFIG = "[model]\nchannels = 2\nl_max = 1\ncutoff = 4.0\nhidden = []\nreadout = 2\n[training]\nbatch_atoms = 16\n"


def run(*arguments):
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    return result.exit_code, result.stdout.strip(), result.stderr.strip()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("fit")
    random, frames = np.random.default_rng(0), []
    for _ in range(12):
        atoms = Atoms(
            "Ar4", 2.2 * np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]) + 0.1 * random.normal(size=(4, 3))
        )
        energy, forces, _ = predict(TEACHER, atoms)
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
        frames.append(atoms)
    write(path / "train.xyz", frames, format="extxyz")
    (path / "small.toml").write_text(CONFIG)
    return path


def fit(folder, out, *more):
    return run("fit", folder / "train.xyz", "--out", out, "--config", folder / "small.toml", "--json", *more)


def test_fit_evaluate_and_fine_tune(folder, tmp_path):
    status, out, _ = fit(folder, tmp_path / "run", "--max-epochs", 2, "--test", folder / "train.xyz")
    result = json.loads(out)
    assert status == 0 and result["epochs"] == 2 and result["judged_on"] == "test"
    assert {"energy_rmse_mev_per_atom", "force_rmse_mev_per_angstrom", "epochs", "seconds"} <= set(result)
    files = {p.name for p in (tmp_path / "run").iterdir()}
    assert {"model", "metrics.jsonl", "learning.png", "parity.png", "state.safetensors"} <= files
    assert not [f for f in files if "part" in f]

    status, out, _ = fit(folder, tmp_path / "run", "--max-epochs", 3)
    assert status == 0 and json.loads(out)["epochs"] == 3  # went on from the second
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 3

    status, out, _ = run(
        "evaluate", tmp_path / "run" / "model", folder / "train.xyz", "--json", "--out", tmp_path / "e"
    )
    found = json.loads(out)
    assert status == 0 and found["configurations"] == 12 and found["energy_mae_mev_per_atom"] > 0
    assert len(read(tmp_path / "e" / "predictions.xyz", ":")) == 12

    arguments = ("fit", folder / "train.xyz", "--out", tmp_path / "fine", "--from", tmp_path / "run" / "model")
    status, out, _ = run(*arguments, "--max-epochs", 1, "--json")
    assert status == 0 and json.loads(out)["epochs"] == 1


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda f: None, "no such file"),
        (lambda f: f.write_text(""), "is empty"),
        (lambda f: _frames(f, energy=False), "no energy"),
        (lambda f: _frames(f, nan=True), "frame 1"),
        (lambda f: _frames(f, overlap=True), "frame 1"),
        (lambda f: _frames(f, mixed=True), "mixed periodicity"),
    ],
    ids=["missing", "empty", "no labels", "NaN label", "overlap", "mixed"],
)
def test_bad_data_is_one_line_and_leaves_nothing_behind(tmp_path, break_it, message):
    break_it(tmp_path / "bad.xyz")
    status, out, error = run("fit", tmp_path / "bad.xyz", "--out", tmp_path / "run", "--json")
    assert status == 2 and out == "" and message in error and "bad.xyz" in error
    assert not (tmp_path / "run").exists()


def _frames(path, energy=True, nan=False, overlap=False, mixed=False):
    frames = []
    for k in range(2):
        atoms = Atoms("Ar2", [[0, 0, 0], [0, 0, 0.1 if overlap and k else 3.0]])
        if mixed and k:
            atoms.set_cell(np.eye(3) * 9.0)
            atoms.pbc = True
        labels = {"energy": np.nan if nan and k else 1.0, "forces": np.zeros((2, 3))}
        if not energy:
            labels.pop("energy")
        atoms.calc = SinglePointCalculator(atoms, **labels)
        frames.append(atoms)
    write(path, frames, format="extxyz")


def test_a_directory_of_another_run_and_unknown_settings_are_refused(folder, tmp_path):
    assert fit(folder, tmp_path / "run", "--max-epochs", 1)[0] == 0
    status, _, error = fit(folder, tmp_path / "run", "--max-epochs", 1, "--seed", 5)
    assert status == 2 and "holds a run with seed=0" in error
    (tmp_path / "bad.toml").write_text("[model]\ncolour = 3\n")
    status, _, error = run("fit", folder / "train.xyz", "--out", tmp_path / "x", "--config", tmp_path / "bad.toml")
    assert status == 2 and "unknown field 'colour'" in error
    status, _, error = run("fit", folder / "train.xyz", "--out", tmp_path / "x", "--energy-key", "dft")
    assert status == 2 and "'dft'" in error


def test_unknown_element_at_evaluation_names_the_frame(folder, tmp_path):
    assert fit(folder, tmp_path / "run", "--max-epochs", 1)[0] == 0
    atoms = Atoms("Ne2", [[0, 0, 0], [0, 0, 3.0]])
    atoms.calc = SinglePointCalculator(atoms, energy=0.0, forces=np.zeros((2, 3)))
    write(tmp_path / "neon.xyz", atoms, format="extxyz")
    status, _, error = run("evaluate", tmp_path / "run", tmp_path / "neon.xyz")
    assert status == 2 and "neon.xyz, frame 0: element Z=10" in error


def test_energies_alone_are_evaluated_and_mixed_frames_refused(tmp_path):
    """Without any forces the errors are those of the energies, by hand; with some, the frame that has none is named."""
    model = Equivariant(Config((18,), (-5.0,), channels=2, l_max=1, cutoff=4.0, hidden=(), readout=2), key=jr.key(0))
    save(model, tmp_path / "model")
    frames = [Atoms("Ar2", [[0, 0, 0], [0, 0, d]]) for d in (2.0, 2.5, 3.0)]
    for k, atoms in enumerate(frames):
        atoms.calc = SinglePointCalculator(atoms, energy=-10.0 + 0.1 * k)
    write(tmp_path / "energies.xyz", frames, format="extxyz")
    status, out, error = run(
        "evaluate", tmp_path / "model", tmp_path / "energies.xyz", "--json", "--out", tmp_path / "e"
    )
    assert status == 0 and "energies.xyz: no forces" in error
    misses = [1e3 * abs(predict(model, a).energy - a.get_potential_energy()) / 2 for a in frames]
    found = json.loads(out)
    assert found["energy_mae_mev_per_atom"] == pytest.approx(np.mean(misses), rel=1e-6)
    assert not [name for name in found if "force" in name] and (tmp_path / "e" / "parity.png").exists()

    frames[0].calc = SinglePointCalculator(frames[0], energy=0.0, forces=np.zeros((2, 3)))
    write(tmp_path / "mixed.xyz", frames, format="extxyz")
    status, _, error = run("evaluate", tmp_path / "model", tmp_path / "mixed.xyz")
    assert status == 2 and "mixed.xyz, frame 1: no forces, which other frames have" in error
