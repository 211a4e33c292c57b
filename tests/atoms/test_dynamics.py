"""Dynamics against ASE, its conserved quantities, rows that must grow, restarts bit for bit, and runs that blow up."""

import ase
import ase.build
import ase.units
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from ase.io import read
from ase.md.verlet import VelocityVerlet

from enerjax.atoms import observables, simulation
from enerjax.atoms.calculator import Calculator
from enerjax.atoms.dataset import read_structure
from enerjax.atoms.dynamics import NPT, NVE, Chained, Langevin, Rescaled
from enerjax.atoms.neighbours import neighbour_list
from enerjax.atoms.pair import Morse, StillingerWeber, argon
from enerjax.atoms.simulation import simulate
from enerjax.atoms.structure import Structure, stack
from enerjax.atoms.vibrations import frequencies
from enerjax.fit import checkpoint
from enerjax.flow.ensemble import CellRescaling, NoseHoover, VelocityRescaling
from enerjax.flow.phase import Bath
from enerjax.units import GPa, fs, kB

SILICON = Structure.from_ase(ase.build.bulk("Si", cubic=True, a=5.431))
KT = 600 * kB
SCALE = VelocityRescaling(KT, 50 * fs)
ENSEMBLES = {
    "Langevin": Langevin(Bath(1 / (50 * fs), KT)),
    "rescaling": Rescaled(SCALE),
    "Nose-Hoover": Chained(NoseHoover(KT, 50 * fs)),
    "NPT": NPT(SCALE, CellRescaling(KT, 0.0, 300 * fs, 0.01 / GPa)),
    "NPT, flexible": NPT(SCALE, CellRescaling(KT, 0.0, 300 * fs, 0.01 / GPa, False)),
}


def test_newton_is_ase(key):
    """The same atoms, momenta and step give ASE's trajectory through the calculator, to rounding."""
    run = simulate(StillingerWeber(), SILICON, NVE(), timestep=1.0, steps=40, key=key, temperature=900.0, interval=40)
    atoms = SILICON.to_ase(momenta=run.momenta[0])
    atoms.calc = Calculator(StillingerWeber())
    VelocityVerlet(atoms, 1.0 * ase.units.fs).run(40)
    np.testing.assert_allclose(run.positions[-1], atoms.positions, atol=1e-10)
    np.testing.assert_allclose(run.log["energy_ev"][-1], atoms.get_potential_energy(), rtol=1e-12)


def test_masses_of_the_file_move_and_vibrate(key, tmp_path):
    """Heavy isotopes: the trajectory of ASE with the same masses, kept in the files, and ω = √(2Da²/μ)."""
    atoms = ase.Atoms("N2", [[0, 0, 0], [0, 0, 1.15]])
    atoms.set_masses([15.0, 60.0])
    atoms.write(tmp_path / "start.xyz", format="extxyz")
    start = Structure.from_ase(read_structure(tmp_path / "start.xyz"))
    light = Structure(start.positions[:1], start.species[:1])
    np.testing.assert_allclose(stack([start, light]).isotopes, [[15.0, 60.0], [14.007, 1.0]])  # a padded atom has 1
    options = {"timestep": 1.0, "steps": 10, "interval": 10, "temperature": 900.0, "trajectory": tmp_path / "run.xyz"}
    bond = Morse(4.0, 2.0, 1.1, 8.0, 6.0)
    run = simulate(bond, start, NVE(), key=key, **options)
    np.testing.assert_allclose(run.momenta[0].sum(0), 0.0, atol=1e-12)
    moved = start.to_ase(momenta=run.momenta[0])
    moved.calc = Calculator(bond)
    VelocityVerlet(moved, 1.0 * ase.units.fs).run(10)
    np.testing.assert_allclose(run.positions[-1], moved.positions, atol=1e-10)
    np.testing.assert_allclose(run.log["kinetic_ev"][-1], moved.get_kinetic_energy(), rtol=1e-9)
    written = read(tmp_path / "run.xyz", -1)
    np.testing.assert_allclose(written.get_masses(), [15.0, 60.0])
    np.testing.assert_allclose(written.get_kinetic_energy(), run.log["kinetic_ev"][-1], rtol=1e-6)

    rest = start.at(start.positions * (1.1 / 1.15))
    reduced = 15.0 * 60.0 / 75.0
    np.testing.assert_allclose(frequencies(bond, rest)[0], np.sqrt(2 * 4.0 * 2.0**2 / reduced) * 521.4709, rtol=1e-5)
    atoms.set_masses([15.0, 0.0])
    with pytest.raises(ValueError, match="atom 1 has a mass of 0 amu"):
        frequencies(bond, Structure.from_ase(atoms))


def test_newton_conserves_to_second_order(key):
    """Fluctuation of the energy falls four times with half the step, and does not drift."""
    options = {"key": key, "temperature": 900.0}
    one = simulate(StillingerWeber(), SILICON, NVE(), timestep=2.0, steps=500, interval=5, **options)
    two = simulate(StillingerWeber(), SILICON, NVE(), timestep=1.0, steps=1000, interval=10, **options)
    assert 3.3 < np.std(one.log["conserved_ev"]) / np.std(two.log["conserved_ev"]) < 4.7
    assert abs(two.drift) < 0.05


@pytest.mark.parametrize("name", ENSEMBLES)
def test_ensembles_conserve_and_thermalise(key, name):
    """The conserved energy moves by less than kT/20 per atom while the bath exchanges many kT; T is right to 8 %."""
    ensemble = ENSEMBLES[name]
    run = simulate(
        StillingerWeber(), SILICON, ensemble, timestep=1.0, steps=6000, key=key, temperature=300.0, samples_per_block=60
    )
    assert run.compilations == 1 and run.rebuilds > 50
    assert np.std(run.log["conserved_ev"]) / 8 < KT / 20
    assert np.std(run.log["energy_ev"] + run.log["kinetic_ev"]) > 2 * KT
    np.testing.assert_allclose(run.log["temperature_k"][100:].mean(), 600.0, rtol=0.08)
    if not name.startswith("NPT"):
        assert np.ptp(run.log["volume_a3"]) == 0
    else:
        assert abs(run.log["pressure_gpa"][100:].mean()) < 1.0
        shape = run.cells / np.cbrt(np.linalg.det(run.cells))[:, None, None]
        assert (np.ptp(shape, axis=0).max() > 1e-3) == (name == "NPT, flexible")


def test_rows_that_overflow_are_never_used(key):
    """A dilute crystal collapses under pressure: rows grow, and the last energy is that of rows built anew."""
    atoms = ase.build.bulk("Ar", cubic=True, a=7.2) * (2, 2, 2)
    cold = VelocityRescaling(kB * 30, 100 * fs)
    squeeze = NPT(cold, CellRescaling(kB * 30, 0.5 * GPa, 500 * fs, 0.5 / GPa))
    potential, structure = argon(6.0), Structure.from_ase(atoms)
    lines = []
    run = simulate(
        potential, structure, squeeze, timestep=4.0, steps=300, key=key, temperature=30.0, skin=0.3, say=lines.append
    )
    assert run.compilations > 1 and any("too small" in line for line in lines)
    end = run.state.structure
    assert float(end.volume) < 0.8 * float(structure.volume)
    np.testing.assert_allclose(
        potential(end, neighbour_list(end, potential.cutoff)), run.log["energy_ev"][-1], rtol=1e-10
    )


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="a GPU adds forces in the order in which threads arrive")
def test_restart_is_exact(key, tmp_path, monkeypatch):
    """Killed while writing the third block, and resumed: the same files, byte for byte, as the run that was not."""
    options = {"timestep": 1.0, "steps": 60, "key": key, "temperature": 600.0, "interval": 5, "samples_per_block": 3}
    run = lambda name: simulate(StillingerWeber(), SILICON, ENSEMBLES["NPT"], trajectory=tmp_path / name, **options)
    whole = run("a.xyz")

    append, calls = simulation._Files.append, []

    def killed(self, state, samples, log):
        calls.append(1)
        if len(calls) == 3:
            with open(self.trajectory, "a") as file:
                file.write("8\nhalf a fra")
            raise KeyboardInterrupt
        append(self, state, samples, log)

    monkeypatch.setattr(simulation._Files, "append", killed)
    with pytest.raises(KeyboardInterrupt):
        run("b.xyz")
    monkeypatch.setattr(simulation._Files, "append", append)
    again = run("b.xyz")
    for suffix in (".xyz", ".csv"):
        assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()
    assert np.array_equal(again.state.phase.momentum, whole.state.phase.momentum)
    assert len(again.log["step"]) == 13 and again.log["step"][-1] == 60
    frames = read(tmp_path / "b.xyz", ":")
    assert len(frames) == 13 and frames[-1].info["step"] == 60
    np.testing.assert_allclose(frames[-1].get_potential_energy(), whole.log["energy_ev"][-1], rtol=1e-12)

    assert run("b.xyz").steps_per_second is None  # nothing left to do
    options["timestep"] = 2.0
    with pytest.raises(ValueError, match=r"b\.restart: was run with timestep=1\.0, not 2\.0"):
        run("b.xyz")
    (tmp_path / "b.restart").unlink()
    with pytest.raises(ValueError, match=r"b\.xyz: exists, without"):
        run("b.xyz")


def test_another_run_is_not_gone_on_with(key, tmp_path):
    """What decides a trajectory decides whether it may be resumed; more steps, and the same start, may always go on."""
    options = {"timestep": 1.0, "key": key, "temperature": 100.0, "interval": 1, "samples_per_block": 2}
    options |= {"trajectory": tmp_path / "a.xyz", "steps": 2}
    dimer = Structure(jnp.array([[0.0, 0, 0], [0, 0, 3.8]]), jnp.array([18, 18]))
    potential, rest = Morse(0.0123, 1.7, 3.8, 8.0, 6.0), jnp.zeros((2, 3))
    simulate(potential, dimer, NVE(), **options)
    options["steps"] = 3
    for other, start, changes, message in [
        (Morse(0.0124, 1.7, 3.8, 8.0, 6.0), dimer, {}, "other potential"),
        (Morse(0.0123, 1.7, 3.8, 8.5, 6.0), dimer, {}, "other potential"),
        (potential, dimer.at(1.01 * dimer.positions), {}, "other positions"),
        (potential, Structure(dimer.positions, jnp.array([10, 18])), {}, "other species"),
        (potential, Structure(dimer.positions, dimer.species, 20.0 * jnp.eye(3)), {}, "other cell"),
        (potential, dimer, {"temperature": 101.0}, r"temperature=100\.0, not 101\.0"),
        (potential, dimer, {"key": jr.key(7)}, "other random key"),
        (potential, dimer, {"momenta": rest}, "other momenta"),
    ]:
        with pytest.raises(ValueError, match=r"a\.restart: was run with " + message):
            simulate(other, start, NVE(), **(options | changes))
    assert simulate(potential, dimer, NVE(), **options).log["step"][-1] == 3

    words = checkpoint.words(tmp_path / "a.restart")
    del words["settings"]["potential"]
    state = simulate(potential, dimer, NVE(), **options).state
    checkpoint.save(tmp_path / "a.restart", eqx.tree_at(lambda s: s.neighbours, state, None), words)
    with pytest.raises(ValueError, match="earlier version, which did not record the potential"):
        simulate(potential, dimer, NVE(), **options)


def test_blow_up_is_named(key, tmp_path):
    """A time step that is far too long ends with the step and the cause; what was good is on disk."""
    files = {"trajectory": tmp_path / "a.xyz", "interval": 1, "samples_per_block": 2}
    with pytest.raises(
        FloatingPointError, match=r"step \d+: .*blew up or are not finite.*time step of 40 fs is too long"
    ):
        simulate(StillingerWeber(), SILICON, NVE(), timestep=40.0, steps=400, key=key, temperature=3000.0, **files)
    kept = np.loadtxt(tmp_path / "a.csv", delimiter=",", skiprows=1, ndmin=2)
    assert len(kept) > 1 and np.all(np.isfinite(kept[:, :6])) and len(read(tmp_path / "a.xyz", ":")) == len(kept)
    assert "nan" not in (tmp_path / "a.xyz").read_text().lower()


def test_single_precision_potential_keeps_a_double_state(key):
    """With a float32 potential under x64 the state is float64, and the energy still does not drift."""
    single = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), StillingerWeber())
    run = simulate(single, SILICON, NVE(), timestep=1.0, steps=1000, key=key, temperature=900.0)
    assert run.state.phase.position.dtype == jnp.float64
    assert abs(run.drift) < 0.05 and np.std(run.log["conserved_ev"]) / 8 < 1e-3


def test_bad_input_is_one_line(key, tmp_path):
    options = {"key": key, "temperature": 300.0}
    with pytest.raises(ValueError, match="timestep must be positive"):
        simulate(StillingerWeber(), SILICON, NVE(), timestep=0.0, steps=10, **options)
    with pytest.raises(ValueError, match=r"ends in \.xyz"):
        simulate(StillingerWeber(), SILICON, NVE(), timestep=1.0, steps=10, trajectory=tmp_path / "a.traj", **options)
    atom = Structure(jnp.zeros((1, 3)), jnp.array([14]))
    with pytest.raises(ValueError, match="a single atom has no motion under NVE"):
        simulate(StillingerWeber(), atom, NVE(), timestep=1.0, steps=9, trajectory=tmp_path / "a.xyz", **options)
    assert not list(tmp_path.iterdir())
    free = Structure(SILICON.positions, SILICON.species)
    with pytest.raises(ValueError, match="periodic in three directions"):
        simulate(StillingerWeber(), free, ENSEMBLES["NPT"], timestep=1.0, steps=10, **options)


def test_spectrum_has_its_peak_at_the_harmonic_frequency(key):
    """A cold Morse dimer: one line, where the Hessian puts it."""
    dimer = Structure(jnp.array([[0.0, 0, 0], [0, 0, 1.1]]), jnp.array([7, 7]))
    potential = Morse(9.8, 2.7, 1.1, 8.0, 6.0)
    run = simulate(
        potential, dimer, NVE(), timestep=0.25, steps=16000, key=key, temperature=5.0, interval=8, samples_per_block=500
    )
    internal = observables.internal_momenta(run.positions, run.momenta, dimer.masses())
    np.testing.assert_allclose(np.cross(run.positions, internal).sum(1), 0.0, atol=1e-10)
    correlation = observables.velocity_autocorrelation(internal, dimer.masses())
    frequency, density = observables.spectrum(correlation, 0.25 * 8)
    line = frequencies(potential, dimer)[0][0]
    assert abs(frequency[np.argmax(density)] - line) < 10
    np.testing.assert_allclose(np.sum(density) * frequency[1], 1.0, rtol=1e-9)


def test_radial_distribution():
    """1 for points at random; four, six and twelve neighbours at their places in crystals."""
    rng = np.random.default_rng(0)
    box = np.diag([9.0, 10.0, 11.0]) + np.eye(3, k=1)
    points = rng.uniform(size=(30, 60, 3)) @ box
    r, g = observables.radial_distribution(points, np.broadcast_to(box, (30, 3, 3)), np.ones(60), maximum=7.0, bins=70)
    np.testing.assert_allclose(g[30:].mean(), 60 / 60 * 59 / 60, rtol=0.02)

    salt = ase.build.bulk("NaCl", "rocksalt", a=5.64, cubic=True)
    count = lambda pair: observables.radial_distribution(
        salt.positions[None], salt.cell.array[None], salt.numbers, pair=pair, maximum=4.2, bins=420
    )
    r, g = count((11, 17))
    shell = np.sum(g * 4 / 3 * np.pi * ((r + 0.005) ** 3 - (r - 0.005) ** 3)) * 4 / salt.get_volume()
    np.testing.assert_allclose(shell, 6.0, rtol=1e-6)
    assert count((11, 11))[1][r < 3.9].sum() == 0


def test_key_decides_the_run():
    """The same key, the same run; another key, another."""
    run = lambda k: (
        simulate(
            StillingerWeber(), SILICON, ENSEMBLES["Langevin"], timestep=1.0, steps=20, key=jr.key(k), temperature=300.0
        ).positions
    )
    assert np.array_equal(run(1), run(1)) and not np.array_equal(run(1), run(2))
