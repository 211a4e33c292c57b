"""What users are told before anything is computed: names that files cannot hold, lines that do not run, misuse."""

import dataclasses
import inspect

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from typer.testing import CliRunner

from enerjax import chain
from enerjax.chain.arviz import check_names
from enerjax.chain.flat import as_key, check_energy, is_point, layout
from enerjax.cli import app


class Drawn:
    """As much of a posterior as files need."""

    def __init__(self, **draws):
        self.draws = {name: np.asarray(x) for name, x in draws.items()}
        self.stats = {"potential": np.zeros((2, 5))}


def test_files_keep_every_name(tmp_path):
    """Unicode, blanks and signs: each parameter comes back with its own numbers."""
    xarray = pytest.importorskip("xarray")
    names = {"α": "α", "β": "β", "a b": "a b", "a/b": "a_b", "-c": "_c", "θ[0]": "θ[0]"}
    numbers = {name: np.full((2, 5), float(i)) for i, name in enumerate(names)}
    path = chain.arviz.save(Drawn(**numbers), tmp_path / "p.nc")
    with xarray.open_dataset(path, group="posterior") as found:
        assert set(found.data_vars) == set(names.values())
        for name, written in names.items():
            np.testing.assert_array_equal(found[written], numbers[name])


@pytest.mark.parametrize(
    ("point", "said"),
    [
        ({"a/b": 0.0, "a_b": 0.0}, "'a/b' and 'a_b'"),
        ({"a": {"b": 0.0}, "a.b": 0.0}, "both 'a.b'"),
        ({"é": 0.0, "e\u0301": 0.0}, "rename one"),  # NetCDF composes them
        ({"chain": 0.0}, "'chain' is the dimension"),
        ({"draw": jnp.zeros(2)}, "'draw' is the dimension"),
        ({"x": jnp.zeros(2), "x_dim_0": 0.0}, "dimension of 'x'"),
    ],
)
def test_names_that_files_would_lose(point, said):
    with pytest.raises(ValueError, match=said):
        check_names(layout(point))


def test_arviz_loses_no_variable():
    with pytest.raises(ValueError, match="'chain' is the dimension"):
        chain.arviz.to_arviz(Drawn(chain=np.zeros((2, 5)), x=np.ones((2, 5))))


def test_axes_and_their_labels():
    """Axes under the user's names, in order, with labels; what does not fit is told."""
    pytest.importorskip("arviz")
    drawn = Drawn(**{"a b": np.arange(60.0).reshape(2, 5, 3, 2), "m": np.zeros((2, 5))})
    dims, coords = {"a b": ["school", "year"]}, {"school": ["A", "B", "C"]}
    found = chain.arviz.to_arviz(drawn, dims, coords)["posterior"]
    assert found["a b"].dims == ("chain", "draw", "school", "year")
    np.testing.assert_array_equal(found["a b"].sel(school="B"), drawn.draws["a b"][:, :, 1])
    for wrong, labels, said in (
        ({"c": ["school"]}, None, "no parameter 'c'"),
        ({"a b": ["school"]}, None, r"shape \[3, 2\]"),
        ({"a b": ["chain", "year"]}, None, "axis of chains"),
        ({"a b": ["m", "year"]}, None, "'m' is the dimension of 'a b'"),
        (dims, {"school": ["A"]}, "1 labels of 'school'"),
        (dims, {"scool": ["A", "B", "C"]}, "'scool'"),
    ):
        with pytest.raises(ValueError, match=said):
            chain.arviz.to_arviz(drawn, wrong, labels)


START = "\n\ndef initial(key):\n    return 0.5\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def energy(x):\n    return missing * x" + START, "model.py:2: NameError"),
        ("def energy(x):\n    return x.nothing" + START, "model.py:2: AttributeError"),
        ("def energy(x):\n    return [x][1]" + START, "model.py:2: IndexError"),
        ("def energy(x):\n\n    assert False" + START, "model.py:3: AssertionError"),
        ("import sys\nsys.exit(0)", "model.py:2 does not run: SystemExit"),
        ("import sys\ndef energy(x):\n    sys.exit(1)" + START, "model.py:3: SystemExit"),
        ("def energy(x):\n    return x if x > 0 else -x" + START, "model.py:2: `return x if x > 0 else -x`"),
        ("def energy(x):\n    return x['draw']\n\ndef initial(key):\n    return {'draw': 0.0}\n", "'draw'"),
    ],
)
def test_command_names_the_line(text, said, tmp_path):
    """One line on stderr and status 2, before any draw."""
    model = tmp_path / "model.py"
    model.write_text(text)
    result = CliRunner().invoke(app, ["sample", str(model), "--out", str(tmp_path / "p.nc")])
    assert result.exit_code == 2 and len(result.output.splitlines()) == 1
    assert said in result.output
    assert [p.name for p in tmp_path.iterdir() if "nc" in p.name] == []


@pytest.mark.parametrize(
    "energy",
    [
        lambda x: x[0] if x[0] > 0 else -x[0],
        lambda x: float(x[0]) ** 2,
        lambda x: np.exp(x).sum(),
        lambda x: x[x > 0].sum(),
    ],
)
def test_numbers_that_a_trace_has_not(energy):
    """The user's line, not ours, and what to write instead."""
    line = energy.__code__.co_firstlineno
    with pytest.raises(TypeError, match=rf"test_told\.py:{line}: .* jnp\.where or jax\.lax\.cond"):
        check_energy(energy, layout(jnp.ones(2)))


SAMPLE = inspect.unwrap(chain.sample)  # as it is without the type checks of these tests


def quadratic(x):
    return 0.5 * jnp.sum(x**2)


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"start": "mode"}, TypeError, r"Mode\(\)"),
        ({"start": chain.Mode}, TypeError, r"Mode\(\)"),
        ({"metric": "dense"}, TypeError, r"Dense\(\)"),
        ({"target": 1.5}, ValueError, "between 0 and 1"),
        ({"key": 0}, TypeError, r"jax\.random\.key\(seed\)"),
        ({"key": jr.split(jr.key(0))}, TypeError, "one key"),
        ({"initial": {"f": jnp.tanh}}, ValueError, "'f' is a .* not an array"),
    ],
)
def test_misuse_is_told(options, error, said):
    with pytest.raises(error, match=said) as caught:
        SAMPLE(**{"energy": quadratic, "initial": jnp.ones(2), "key": jr.key(0)} | options)
    assert "\n" not in str(caught.value)


def test_keys_of_both_kinds(key):
    assert as_key(jr.PRNGKey(0)) == key == as_key(np.zeros(2, np.uint32))


@dataclasses.dataclass
class Unhashable:
    centre: float

    def __call__(self, x):
        return 0.5 * jnp.sum((x - self.centre) ** 2)


def test_an_energy_that_cannot_be_kept(key):
    with pytest.raises(ValueError, match="Unhashable cannot be hashed.*equinox.Module"):
        SAMPLE(Unhashable(0.0), jnp.ones(2), key)


class Cloud(eqx.Module):
    """A start by a method, and a point by its leaves."""

    centre: jax.Array

    def near(self, key):
        return self.centre + jr.normal(key, self.centre.shape)


def test_a_callable_module_is_a_point(key):
    linear = eqx.nn.Linear(2, 1, key=key)
    assert is_point(linear) and is_point({"a": 1.0})
    assert not any(map(is_point, (Cloud(jnp.ones(2)).near, jax.tree_util.Partial(jr.normal), chain.uniform(1.0))))
    energy = lambda l: quadratic(l.weight) + quadratic(l.bias)
    assert chain.sample(energy, linear, key, chains=1, warmup=4, draws=4).draws.weight.shape == (1, 4, 1, 2)
