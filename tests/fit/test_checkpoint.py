"""Checkpoints: what goes in comes out, and nothing else is accepted."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import pytest

from enerjax import fit
from enerjax.fit.checkpoint import words


def tree(key):
    return {
        "net": eqx.nn.MLP(2, 1, 3, 1, key=key),
        "half": jnp.arange(3, dtype=jnp.float16),
        "scalar": jnp.array(2.5),
        "transposed": jnp.arange(6.0).reshape(2, 3).T,
        "key": key,
        "none": None,
        "number": 3,
    }


def test_round_trip(tmp_path, key):
    fit.save(tmp_path / "a.safetensors", tree(jr.key(5)), {"epoch": 3})
    back = fit.load(tmp_path / "a.safetensors", tree(key))
    plain = lambda t: jax.tree.map(
        lambda x: jr.key_data(x) if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else x,
        eqx.filter(t, eqx.is_array),
    )
    assert eqx.tree_equal(plain(back), plain(tree(jr.key(5))))
    assert words(tmp_path / "a.safetensors") == {"epoch": 3}
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]  # no partial file is left behind


def test_another_model_is_refused(tmp_path, key):
    fit.save(tmp_path / "a.safetensors", {"w": jnp.ones(3)})
    for other, message in (
        ({"w": jnp.ones(4)}, "shape"),
        ({"w": jnp.ones(3), "b": jnp.ones(1)}, "no array 'b'"),
        ({}, "unknown array 'w'"),
    ):
        with pytest.raises(ValueError, match=message):
            fit.load(tmp_path / "a.safetensors", other)


def test_a_truncated_file_is_refused(tmp_path):
    path = tmp_path / "a.safetensors"
    fit.save(path, {"w": jnp.ones(30)})
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match="not a readable"):
        fit.load(path, {"w": jnp.ones(30)})
