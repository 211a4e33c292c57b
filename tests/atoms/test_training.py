"""Training: the potential learns a known one, resumes exactly, survives disk, and refuses bad data."""

import dataclasses
import json

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from enerjax.atoms import Config, Morse, batch, dataset, errors, fit, load, predict, predict_all, read, save, training
from enerjax.atoms.predict import Prediction

TEACHER = Morse(depth=1.0, width=1.5, length=1.4, cutoff=4.0, inner=3.0)
SMALL = {"size": "small", "channels": 4, "l_max": 1, "cutoff": 4.0, "hidden": (8,), "readout": 4}


def frames(count, seed, atoms=5):
    """Clusters labelled by a Morse potential, on top of isolated-atom energies that float32 could not resolve."""
    random, out = np.random.default_rng(seed), []
    base = 1.5 * np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 0, 1], [0, 1, 1]])[:atoms]
    for _ in range(count):
        cluster = Atoms("C" * (atoms - 1) + "O", base + 0.08 * random.normal(size=base.shape))
        energy, forces, _ = predict(TEACHER, cluster)
        cluster.calc = SinglePointCalculator(cluster, energy=energy - 1e4, forces=forces)
        out.append(cluster)
    return out


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    for name, count, seed in (("train", 60, 0), ("valid", 10, 1)):
        write(folder / f"{name}.xyz", frames(count, seed), format="extxyz")
    return read(folder / "train.xyz"), read(folder / "valid.xyz")


@pytest.fixture(scope="module")
def fitted(data):
    return fit(*data, key=jr.key(0), model=training.configure(data[0], **SMALL), epochs=30, dtype=jnp.float32)


def test_it_learns_forces_and_energies(data, fitted):
    train, valid = data
    scale = 1e3 * np.sqrt(np.mean([f.forces**2 for f in valid]))
    found = errors(predict_all(fitted[0].terms[0], valid), valid)
    assert found["force_rmse_mev_per_angstrom"] < 0.1 * scale
    assert found["energy_rmse_mev_per_atom"] < 20.0  # of 1e4 eV: the reference is kept out of float32
    assert fitted[1].epochs == 30


def test_batched_and_single_predictions_agree(data, fitted):
    model = fitted[0].terms[0]
    for single, batched in zip(
        [predict(model, f.structure()) for f in data[1]], predict_all(model, data[1]), strict=True
    ):
        assert np.isclose(single.energy, batched.energy, atol=1e-3)
        assert np.allclose(single.forces, batched.forces, atol=1e-4)


def test_core_repulsion_leaves_the_data_alone_and_keeps_atoms_apart(data, fitted):
    potential = fitted[0]
    frame = data[1][0].structure()
    assert np.isclose(predict(potential, frame).energy, predict(potential.terms[0], frame).energy, atol=1e-3)
    near = lambda d: Atoms("CO", [[0, 0, 0], [d, 0, 0]])
    assert predict(potential, near(0.2)).energy - predict(potential, near(0.4)).energy > 100.0


def test_disk(tmp_path, data, fitted):
    save(fitted[0], tmp_path / "model")
    again = load(tmp_path / "model")
    assert eqx.tree_equal(again, fitted[0])
    assert sorted(p.name for p in (tmp_path / "model").iterdir()) == ["config.json", "parameters.safetensors"]
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    first = {k: v for k, v in config.items() if k != "smoothness"} | {"format": 1}  # radial functions were unweighted
    (tmp_path / "model" / "config.json").write_text(json.dumps(first))
    assert load(tmp_path / "model").terms[0].config.smoothness == 0.0
    (tmp_path / "model" / "config.json").write_text(json.dumps(config | {"format": 99}))
    with pytest.raises(ValueError, match="format"):
        load(tmp_path / "model")
    with pytest.raises(FileNotFoundError, match="no model"):
        load(tmp_path / "nothing")


def test_a_stopped_fit_resumes_to_the_same_potential(tmp_path, data):
    train, valid = data
    config = training.configure(train, **SMALL)

    def run(**options):
        return fit(train, valid, key=jr.key(3), model=config, epochs=3, **options)[0]

    def stop(model, line):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(directory=tmp_path, on_epoch=stop)
    assert eqx.tree_equal(run(directory=tmp_path), run())
    # and answers for no other data, recipe or start
    moved = dataclasses.replace(train, frames=tuple(dataclasses.replace(f, energy=f.energy + 1) for f in train.frames))
    recipe = training.Recipe(learning_rate=1e-3)
    for *pair, key, how in (
        (moved, valid, 3, None),
        (train, moved, 3, None),
        (train, valid, 4, None),
        (*data, 3, recipe),
    ):
        with pytest.raises(ValueError, match="holds another run"):
            fit(*pair, key=jr.key(key), model=config, epochs=3, directory=tmp_path, recipe=how)


def test_ragged_molecules_compile_once_per_bucket(tmp_path, monkeypatch):
    sizes = [frames(4, seed=n, atoms=n) for n in (3, 4, 5, 6, 7)]
    write(tmp_path / "ragged.xyz", [f for group in sizes for f in group], format="extxyz")
    data = read(tmp_path / "ragged.xyz")
    buckets, bucket, _ = batch.prepare(data, 4.0, lambda z: np.zeros(len(z)))
    assert [b.positions.shape[1] for b in buckets] == [4, 6, 8] and len(bucket) == 20
    traces, original = [], training.loss

    def counted(*arguments):
        traces.append(1)
        return original(*arguments)

    monkeypatch.setattr(training, "loss", counted)
    model = training.configure(data, **SMALL)
    _, run = fit(data, data, key=jr.key(0), model=model, recipe=training.Recipe(batch_atoms=20), epochs=2)
    assert run.steps == 2 * (2 + 2 + 1) and len(traces) == 3
    assert np.isfinite(run.metrics[-1]["loss"])


def test_rare_sizes_are_padded_rather_than_compiled():
    assert batch._padded_sizes([64] * 40 + [12, 63, 96]) == {64: 64, 12: 64, 63: 64, 96: 96}
    assert batch._padded_sizes([27] * 5) == {27: 27}


def test_periodic_frames_learn_stress(tmp_path):
    from ase.build import bulk

    random, images = np.random.default_rng(0), []
    for k in range(6):
        crystal = bulk("Cu", cubic=True) * (1, 1, 1 + k % 2)
        crystal.set_cell(crystal.cell @ (np.eye(3) + 0.02 * random.normal(size=(3, 3))), scale_atoms=True)
        crystal.rattle(0.05, seed=k)
        energy, forces, stress = predict(Morse(depth=0.4, width=1.4, length=2.6, cutoff=4.0, inner=3.0), crystal)
        crystal.calc = SinglePointCalculator(crystal, energy=energy, forces=forces, stress=stress)
        images.append(crystal)
    write(tmp_path / "cu.xyz", images, format="extxyz")
    data = read(tmp_path / "cu.xyz")
    config = training.configure(data, **SMALL)
    model = training.Equivariant(config, key=jr.key(0))
    buckets, bucket, row = batch.prepare(data, 4.0, model.reference, np.float64)
    assert all(b.stress is not None for b in buckets)
    for i, frame in enumerate(data):  # the flat batch and the single structure are the same potential
        e, f, s = batch.predict(model, buckets[bucket[i]].at(row[[i]]), True)
        single = predict(model, frame.structure())
        n = len(frame.numbers)
        assert np.isclose(e[0] + model.reference(frame.numbers).sum(), single.energy, atol=1e-9)
        assert np.allclose(f[0, :n], single.forces, atol=1e-9) and np.allclose(s[0], single.stress, atol=1e-10)
    first = training.loss(model, buckets[0], training.Recipe(), 1.0)[0]
    gradient = eqx.filter_grad(lambda m: training.loss(m, buckets[0], training.Recipe(), 1.0)[0])(model)
    assert np.isfinite(first) and all(np.isfinite(g).all() for g in jax.tree.leaves(gradient))


def test_offsets_are_exact(data):
    train, _ = data
    model = training.Equivariant(training.configure(train, **SMALL), key=jr.key(5))
    moved = eqx.tree_at(lambda m: m.shift, model, model.shift + 100.0)
    residual = lambda m: np.mean([p.energy - f.energy for p, f in zip(predict_all(m, train), train, strict=True)])
    assert abs(residual(moved)) > 1.0 and abs(residual(training.refit_shift(moved, train))) < 1e-2


def test_errors_are_what_they_say(data):
    _, valid = data
    shifted = [Prediction(f.energy + 0.005 * len(f.numbers), f.forces + 0.01, None) for f in valid]
    found = errors(shifted, valid)
    assert np.isclose(found["energy_mae_mev_per_atom"], 5.0) and np.isclose(found["force_rmse_mev_per_angstrom"], 10.0)


def test_bad_data_is_refused_by_name(data, tmp_path):
    train, valid = data
    with pytest.raises(ValueError, match="unknown size"):
        training.configure(train, "gigantic")
    with pytest.raises(ValueError, match="unknown field 'colour'"):
        training.configure(train, colour=3)
    lone = frames(2, 0)
    lone[1].positions[4] += 50.0
    write(tmp_path / "lone.xyz", lone, format="extxyz")
    with pytest.raises(ValueError, match=r"lone.xyz, frame 1: atom 4 has no neighbour"):
        training.configure(read(tmp_path / "lone.xyz"), **SMALL)
    hydrogen = Config((1,), (0.0,), cutoff=4.0)
    with pytest.raises(ValueError, match=r"train.xyz, frame 0: element Z=6"):
        fit(train, valid, key=jr.key(0), model=hydrogen, epochs=1)
    assert dataset.Dataset is type(train)
