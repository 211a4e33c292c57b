"""An eager path is compiled once for all fields that are the same program, and for no other."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from enerjax import path
from enerjax.path.replay import march_p
from enerjax.path.traced import traced

TS = jnp.array([0.0, 1.0])


def programs():
    return march_p.impl._cache_size()


def same(one, other, y=2.0):
    each = [traced(f, jnp.full(2, y), None, jnp.array(0.0))[0] for f in (one, other)]
    if each[0] == each[1]:
        assert hash(each[0]) == hash(each[1])
    return each[0] == each[1]


class Decay(eqx.Module):
    k: jax.Array

    def __call__(self, t, y, args=None):
        return -self.k * y


def test_identical_calls_share_a_program_and_others_do_not():
    """Modules with other arrays and closures written anew go through it with their own numbers; a number in the code
    is part of the program.
    """
    rates = jnp.array([1.0, 2.0, 3.0])
    first = path.solve(Decay(rates[0]), jnp.ones(1), TS)[-1, 0]
    once, rates = programs(), rates[1:]
    ends = [path.solve(Decay(k), jnp.ones(1), TS)[-1, 0] for k in rates]
    np.testing.assert_allclose([first, *ends], np.exp([-1.0, -2.0, -3.0]), rtol=1e-4)
    ends = [path.solve(lambda t, y, a, k=k: -k * y, jnp.ones(1), TS)[-1, 0] for k in rates]
    np.testing.assert_allclose(ends, np.exp([-2.0, -3.0]), rtol=1e-4)
    assert programs() == once
    number = 2.0
    field = lambda t, y, a: -number * y  # the same function, another number: it is read at every call
    before = path.solve(field, jnp.ones(1), TS)[-1, 0]
    number = 3.0
    np.testing.assert_allclose([before, path.solve(field, jnp.ones(1), TS)[-1, 0]], np.exp([-2.0, -3.0]), rtol=1e-4)
    assert programs() == once + 2


def test_what_is_the_same_program():
    def clipped(slope):
        identity = jax.custom_jvp(lambda y: y)
        identity.defjvp(lambda p, t: (p[0], slope * t[0]))
        return lambda t, y, a: identity(y)

    straight, doubled = clipped(1.0), clipped(2.0)
    assert same(straight, straight) and not same(straight, doubled)  # alike in value, not in slope
    assert same(lambda t, y, a: jnp.sin(y) * y, lambda t, x, a: jnp.sin(x) * x)
    assert not same(lambda t, y, a: jnp.sin(y) * y, lambda t, y, a: y * jnp.sin(y))
    assert not same(lambda t, y, a: jnp.sin(y), lambda t, y, a: jnp.cos(y))
    assert not same(lambda t, y, a: y - y[0] + y[1], lambda t, y, a: y - y[1] + y[0])
    assert not same(lambda t, y, a: y * 0.0, lambda t, y, a: y * -0.0)
    loop = lambda n: lambda t, y, a: jax.lax.fori_loop(0, n, lambda i, y: y * 0.5, y)
    assert same(loop(3), loop(3)) and not same(loop(3), loop(4))
    branch = lambda s: lambda t, y, a: jax.lax.cond(y[0] > 1, lambda y: s * y, lambda y: -y, y)
    assert same(branch(1.5), branch(1.5)) and not same(branch(1.5), branch(2.5))
