"""Energies add and scale, and so do their gradients; leaves stay leaves, so changing them compiles nothing."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from enerjax.energy import Scaled, Sum, force
from zoo import Quartic, energies


def test_sum_and_scale_are_linear():
    A, B, x = Quartic(1.0), Quartic(3.0), energies["quartic"]()[1]
    C = A + 0.5 * B - B * 0.25 + (-A)
    np.testing.assert_allclose(C(x), 0.25 * B(x), rtol=1e-13)
    np.testing.assert_allclose(force(C, x), 0.25 * force(B, x), rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose((A - B)(x), A(x) - B(x), rtol=1e-13)


def test_sums_flatten_and_python_sum_works():
    A, B = Quartic(1.0), Quartic(2.0)
    assert len((A + B + A + B).terms) == 4
    assert isinstance(sum([A, B]), Sum) and isinstance(2 * A, Scaled)
    x = energies["quartic"]()[1]
    np.testing.assert_allclose(sum([A, B, A])(x), 2 * A(x) + B(x), rtol=1e-13)


def test_any_callable_joins_the_algebra():
    A, x = Quartic(1.0), energies["quartic"]()[1]
    plain = lambda x: jnp.sum(x**2)
    np.testing.assert_allclose((A + plain)(x), A(x) + plain(x), rtol=1e-13)
    np.testing.assert_allclose((plain + A)(x), A(x) + plain(x), rtol=1e-13)


def test_gradient_by_the_leaves_is_the_learning_slot():
    x = energies["quartic"]()[1]
    E = Scaled(Quartic(1.0) + Quartic(2.0), jnp.array(0.5))
    slope = jax.grad(lambda E: E(x))(eqx.tree_at(lambda E: E.term.terms[0].stiffness, E, jnp.array(1.0)))
    np.testing.assert_allclose(slope.term.terms[0].stiffness, 0.25 * jnp.sum(x**2), rtol=1e-13)
    np.testing.assert_allclose(slope.factor, E.term(x), rtol=1e-13)


def test_new_leaves_compile_nothing():
    traces = []

    @jax.jit
    def push(E, x):
        traces.append(1)
        return force(E, x)

    x = energies["quartic"]()[1]
    for k in range(20):
        push(Quartic(jnp.array(float(k))), x)
    assert len(traces) == 1


def test_an_energy_with_arrays_goes_into_jit():
    """`jax.jit` hashes what it compiles: by value where that is possible, else the energy itself."""
    E, x = energies["quartic"]()
    held = E + Quartic(jnp.array(2.0))
    np.testing.assert_allclose(jax.jit(held)(x), held(x), rtol=1e-13)
    np.testing.assert_allclose(jax.jit(jax.grad(held))(x), jax.grad(held)(x), rtol=1e-13)
    assert hash(Quartic(1.0)) == hash(Quartic(1.0)) and hash(held) == hash(held)
