"""Turn the momentum round and the motion retraces itself, to rounding."""

import equinox as eqx
import jax
import numpy as np
import pytest

from enerjax.flow import Phase
from enerjax.path import rollout
from zoo import Quartic, energies, steps

E, X = Quartic(1.3), energies["quartic"]()[1]


@pytest.mark.parametrize("name", steps)
def test_reversible(name):
    step = steps[name][0]
    go = jax.jit(
        lambda z: jax.tree.map(lambda v: v[0], rollout(lambda z, _: step(E, z, 0.05), z, length=64, stride=64))
    )
    flip = lambda z: eqx.tree_at(lambda z: z.momentum, z, -z.momentum)
    start = Phase.at(E, X / 2, X[::-1] / 2)
    back = flip(go(flip(go(start))))
    assert abs(go(start).position - start.position).max() > 0.1
    np.testing.assert_allclose(back.position, start.position, atol=1e-12)
    np.testing.assert_allclose(back.momentum, start.momentum, atol=1e-12)
