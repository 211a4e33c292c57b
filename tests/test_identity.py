"""Equal values are said alike, different ones differently, and JSON gives back what was said."""

import json

import diffrax
import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from enerjax._identity import said


def test_what_is_said_tells_values_apart_and_survives_json():
    net = lambda seed: eqx.nn.Linear(2, 1, key=jr.key(seed))
    values = [
        None, True, 3, 0.1, "word", [1, 2], {"a": 1.5}, np.arange(3), np.arange(3.0), jnp.arange(3.0), np.arange(4.0),
        np.arange(3.0)[:, None], jr.key(0), jr.key(1), net(0), net(1), (net(0), net(1)), diffrax.Tsit5(),
        diffrax.Bosh3(), {"solver": diffrax.Tsit5(), "substeps": 2}, {"solver": diffrax.Tsit5(), "substeps": 3},
    ]  # fmt: skip
    words = [json.dumps(said(v)) for v in values]
    assert [json.loads(w) for w in words] == [said(v) for v in values]
    alike = {(i, j) for i in range(len(words)) for j in range(i) if words[i] == words[j]}
    assert alike == {(9, 8)}  # one array, JAX's and NumPy's
    off = [said(eqx.nn.Dropout(p, inference=i)) for p in (0.1, 0.2) for i in (False, True)]
    assert len(set(off)) == 4  # settings that are no arrays
    assert said(net(0)) == said(net(0)) and said(np.float64(0.1)) == 0.1
