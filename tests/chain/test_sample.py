"""The driver: reproducible, independent chains, resumable, constrained, honest about failures and bad input."""

import json

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jax.scipy.stats import cauchy, norm

from enerjax import chain
from enerjax import energy as en

Y = jnp.array([28.0, 8, -3, 7, -1, 1, 18, 12])
S = jnp.array([15.0, 10, 16, 11, 9, 11, 10, 18])
SCHOOLS = en.posterior(
    lambda x: norm.logpdf(Y, x["mu"] + x["tau"] * x["z"], S).sum(),
    {"z": norm.logpdf, "mu": lambda m: norm.logpdf(m, 0, 5), "tau": lambda t: cauchy.logpdf(t, 0, 5)},
    {"tau": en.Positive()},
)


def start(key):
    return {"z": jr.normal(key, (8,)), "mu": jnp.zeros(()), "tau": jnp.ones(())}


@pytest.fixture(scope="module")
def schools():
    return chain.sample(SCHOOLS, start, jr.key(0), target=0.95)


def test_eight_schools_against_reference(schools):
    """posteriordb's reference: mean and standard deviation of mu and tau (10 000 draws of Stan)."""
    table = schools.summary().table
    at = {n: i for i, n in enumerate(table["name"])}
    for name, mean, sd in (("mu", 4.4105, 3.3091), ("tau", 3.6020, 3.1974)):
        i = at[name]
        assert abs(table["mean"][i] - mean) < 4 * np.hypot(table["mcse_mean"][i], sd / 100)
        assert abs(table["sd"][i] - sd) < 4 * np.hypot(table["mcse_sd"][i], sd / 70)
    worst = schools.diagnostics()
    assert worst["max_rhat"] < 1.01 and worst["min_ess_bulk"] > 1000 and worst["min_ebfmi"] > 0.5
    assert np.all(schools.draws["tau"] > 0) and schools.draws["z"].shape == (4, 1000, 8)
    assert max(schools.warmup["draws"]) < 600, "warm-up should stop when it is good"


def test_chains_do_not_know_of_each_other(schools):
    two = chain.sample(SCHOOLS, start, jr.key(0), target=0.95, chains=2, draws=200)
    for a, b in zip(jax.tree.leaves(two.draws), jax.tree.leaves(schools.draws), strict=True):
        np.testing.assert_array_equal(a, b[:2, :200])


def test_vectorised_chains_agree(schools):
    together = chain.sample(SCHOOLS, start, jr.key(1), target=0.95, vectorise=True, draws=500)
    a, b = together.draws["mu"], schools.draws["mu"]
    error = np.hypot(chain.diagnostics.mcse_mean(a), chain.diagnostics.mcse_mean(b))
    assert abs(a.mean() - b.mean()) < 4 * error
    assert together.diagnostics()["max_rhat"] < 1.02


def test_stopped_run_resumes_exactly(tmp_path, schools):
    options = dict(target=0.95, draws=300, chains=2, block=50)
    whole = chain.sample(SCHOOLS, start, jr.key(0), **options)

    class Stop(Exception):
        pass

    def bomb(line):
        raise Stop

    calls = []
    real = chain.store.Store.save

    def save(self, c, state):
        real(self, c, state)
        calls.append(c)
        if len(calls) == 7:
            raise Stop

    patch = pytest.MonkeyPatch()
    patch.setattr(chain.store.Store, "save", save)
    patch.setattr(chain.store.Store, "interval", 0.0)
    with pytest.raises(Stop):
        chain.sample(SCHOOLS, start, jr.key(0), directory=tmp_path, **options)
    patch.undo()
    done = [int(np.load(f)["count"]) for f in sorted(tmp_path.glob("chain-*.npz"))]
    assert 0 < sum(done) < 600
    resumed = chain.sample(SCHOOLS, start, jr.key(0), directory=tmp_path, **options)
    np.testing.assert_array_equal(resumed.unconstrained, whole.unconstrained)
    with pytest.raises(ValueError, match="another run"):
        chain.sample(SCHOOLS, start, jr.key(1), directory=tmp_path, **options)


@pytest.mark.skipif(
    jax.default_backend() != "cpu", reason="on a GPU a chain alone differs in rounding from one of four"
)
def test_thinning_keeps_every_nth(schools):
    thin = chain.sample(SCHOOLS, start, jr.key(0), target=0.95, chains=1, draws=50, thin=4)
    np.testing.assert_array_equal(thin.draws["mu"][0], schools.draws["mu"][0, 3:200:4])


def test_correlations_and_shallow_trees(key):
    """An LKJ(1) factor of size 3: its fixed ones and zeros do not spoil the verdict; trees cut off at depth 1 do."""
    energy = en.posterior(lambda x: jnp.zeros(()), None, {"L": en.CorrelationCholesky(3)})
    post = chain.sample(energy, {"L": jnp.eye(3)}, key, draws=200, max_depth=1)
    assert len(post.judged) == 5 and np.isfinite(post.diagnostics()["max_rhat"])
    assert any("max_depth=1" in line for line in post.advice())
    assert np.isfinite(chain.calibrate(post.draws, post).shift)


def test_failures_carry_their_reason(key):
    """A model that reports why it failed: the proposal is rejected, counted, located; the rest is a truncated
    normal."""

    def energy(x):
        why = jnp.where(x > 1.0, 2, 0)
        return 0.5 * x**2 + jnp.where(x > 1.0, jnp.nan, 0.0), why

    post = chain.sample(energy, jnp.zeros(()), key, reasons={2: "the solver ran out of steps"}, draws=2000)
    assert post.draws.max() <= 1.0
    assert len(post.failures) > 10 and {f.why for f in post.failures} == {chain.failure.USER + 1}
    assert all(f.place[0] > 1 for f in post.failures)
    assert any("ran out of steps" in line for line in post.advice())
    truncated = -norm.pdf(1.0) / norm.cdf(1.0)
    assert abs(post.draws.mean() - truncated) < 5 * chain.diagnostics.mcse_mean(post.draws)


@pytest.mark.parametrize(
    ("energy", "initial", "said"),
    [
        (lambda x: jnp.sum(x), jnp.arange(3), "int"),
        (lambda x: x, jnp.ones(3), "real scalar"),
        (lambda x: jnp.sum(x) * jnp.nan, jnp.ones(3), "no usable start"),
        (lambda x: jnp.sum(jnp.sqrt(x["b"])) + x["a"], {"a": 1.0, "b": -10 * jnp.ones(2)}, r"b\[0\]"),
        (lambda x: 0.0, {}, "no parameters"),
    ],
)
def test_bad_input_is_told_before_sampling(energy, initial, said, key):
    with pytest.raises(ValueError, match=said):
        chain.sample(energy, initial, key, chains=1)


def test_files_and_arviz(schools, tmp_path, monkeypatch):
    az = pytest.importorskip("arviz")
    data = schools.to_arviz()
    assert data.posterior["z"].shape == (4, 1000, 8)
    np.testing.assert_array_equal(data.sample_stats["diverging"], schools.stats["divergence"])
    path = schools.save(tmp_path / "p.nc")
    again = az.from_netcdf(str(path))
    np.testing.assert_allclose(again.posterior["tau"], schools.draws["tau"])
    with pytest.raises(ValueError, match="nc"):
        schools.save(tmp_path / "p.txt")
    xarray, _ = pytest.importorskip("xarray"), pytest.importorskip("zarr")
    tree = xarray.open_datatree(str(schools.save(tmp_path / "p.zarr")), engine="zarr")
    np.testing.assert_array_equal(tree["posterior"]["tau"], schools.draws["tau"])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install"):
        schools.save(tmp_path / "p.zarr")
    text = str(schools.summary())
    assert "tau" in text and "max_rhat" in text


def test_command_line(tmp_path, monkeypatch):
    import xarray
    from typer.testing import CliRunner

    from enerjax.cli import app

    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "cache"))
    model = tmp_path / "model.py"
    model.write_text("def log_density(x):\n    return -0.5 * (x - 3) ** 2\n\ndef initial(key):\n    return -47.0\n")
    out = tmp_path / "p.nc"
    args = ["sample", str(model), "--draws", "300", "--chains", "2", "--out", str(out), "--json", "--no-plots"]
    result = CliRunner().invoke(app, args)
    assert result.exit_code == 0, result.output
    row = json.loads([line for line in result.output.splitlines() if line.startswith("{")][-1])
    assert row["divergences"] == 0 and row["min_ess_bulk"] > 100 and out.exists()
    first = {}
    for begin in ("given", "mode", "variational"):
        few = ["--draws", "4", "--chains", "1", "--warmup", "0", "--start", begin, "--seed", "1"]
        file = tmp_path / f"{begin}.nc"
        result = CliRunner().invoke(app, ["sample", str(model), "--out", str(file), "--json", "--no-plots", *few])
        assert result.exit_code == 0, result.output
        with xarray.open_dataset(file, group="sample_stats") as stats:
            first[begin] = float(stats["energy"][0, 0])
    # half the square of the distance from the mean, and a kinetic energy of about ½
    assert first["given"] >= 1250 and first["mode"] < 20 and first["variational"] < 40, first
    assert "Pareto-k" in result.output
    assert CliRunner().invoke(app, ["sample", str(model), "--start", "nowhere"]).exit_code == 2
    empty = tmp_path / "empty.py"
    empty.write_text("x = 1\n")
    assert CliRunner().invoke(app, ["sample", str(empty)]).exit_code == 2


@pytest.mark.parametrize("vectorise", [False, True])
def test_a_finished_directory_goes_on(tmp_path, vectorise):
    """30 draws, then 70 in the same directory: the 70 of one run, bit for bit; fewer are another run."""
    energy = lambda x: 0.5 * jnp.sum(x**2)
    options = dict(chains=2, warmup=60, block=20, thin=2, vectorise=vectorise)
    run = lambda draws, **more: chain.sample(energy, jnp.zeros(2), jr.key(0), draws=draws, **options, **more)
    short = run(30, directory=tmp_path).unconstrained.copy()
    longer, whole = run(70, directory=tmp_path), run(70)
    np.testing.assert_array_equal(longer.unconstrained, whole.unconstrained)
    np.testing.assert_array_equal(short, whole.unconstrained[:, :30])
    for name, column in whole.stats.items():
        np.testing.assert_array_equal(longer.stats[name], column)
    assert json.loads((tmp_path / "run.json").read_text())["draws"] == 70
    with pytest.raises(ValueError, match="draws 70 there, 30 here"):
        run(30, directory=tmp_path)


@pytest.mark.parametrize("stopped", ["finished", "in the draws", "in the warm-up"])
def test_a_directory_knows_its_energy(tmp_path, monkeypatch, stopped):
    """Another centre, in the energy's data: told whenever the run before stopped, in float32 too; its own goes on."""
    options = dict(directory=tmp_path, chains=2, draws=40, warmup=60, block=10)
    gaussian = lambda x, centre: -0.5 * jnp.sum((x - centre) ** 2)
    energy = lambda centre: en.posterior(gaussian, data=jnp.asarray(centre, jnp.float32))
    run = lambda centre: chain.sample(energy(centre), jnp.zeros(3, jnp.float32), jr.key(0), **options)
    if stopped != "finished":

        def stop(self, *answers):
            real(self, *answers)
            raise KeyboardInterrupt

        name = "save" if stopped == "in the draws" else "remember"
        real = getattr(chain.store.Store, name)
        with monkeypatch.context() as patch:
            patch.setattr(chain.store.Store, name, stop)
            patch.setattr(chain.store.Store, "interval", 0.0)
            with pytest.raises(KeyboardInterrupt):
                run(0.0)
    else:
        run(0.0)
    for other in (100.0, 0.05):
        with pytest.raises(ValueError, match=r"another energy.*Give another directory"):
            run(other)
    assert abs(run(0.0).draws.mean()) < 0.5
