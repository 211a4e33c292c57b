"""The free energy against its variational definition, and the lattice against sums over all paths by enumeration."""

import itertools

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jax.test_util import check_grads

from enerjax.energy import entropy, free_energy, gibbs, grid_lattice, lattice


@pytest.mark.parametrize("T", [0.1, 1.0, 7.0])
def test_free_energy_is_energy_minus_temperature_times_entropy(key, T):
    E = jr.normal(key, (4, 6))
    p = gibbs(E, T, axis=1)
    F = free_energy(E, T, axis=1)
    np.testing.assert_allclose(F, jnp.sum(p * E, 1) - T * entropy(p, axis=1), rtol=1e-13)
    np.testing.assert_allclose(jax.grad(lambda E: jnp.sum(free_energy(E, T, axis=1)))(E), p, rtol=1e-12)
    other = gibbs(
        E + jr.normal(jr.fold_in(key, 1), E.shape), T, axis=1
    )  # and it is the minimum: any other p lies above
    assert jnp.all(jnp.sum(other * E, 1) - T * entropy(other, axis=1) > F)
    # ∂F/∂T = −S
    slope = jax.grad(lambda T: free_energy(E[0], T))(T)
    np.testing.assert_allclose(slope, -entropy(p[0]), rtol=1e-10)


def test_cold_limit_is_the_minimum(key):
    E = jr.normal(key, (9,))
    np.testing.assert_allclose(free_energy(E, 1e-3), E.min(), atol=1e-8)
    np.testing.assert_allclose(free_energy(E, 0), E.min())
    with pytest.raises(ValueError, match="negative"):
        free_energy(E, -1.0)


def test_forbidden_states_never_make_nan():
    E = jnp.array([[0.3, jnp.inf, 1.0], [jnp.inf, jnp.inf, jnp.inf]])
    F = free_energy(E, 0.5, axis=1)
    np.testing.assert_allclose(F[0], free_energy(E[0, ::2], 0.5))
    assert F[1] == jnp.inf
    slope = jax.jacobian(lambda E, T: free_energy(E, T, axis=1), argnums=(0, 1))(E, 0.5)
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in slope)
    assert slope[0][0, 0, 1] == 0.0


def _all_paths(energies, sources, start):
    """Energies of every path by brute force, and the path as (step, state, move) edges; delays of one."""
    steps, states, moves = energies.shape
    for end, choice in itertools.product(range(states), itertools.product(range(moves), repeat=steps)):
        s, cost, edges = end, 0.0, []
        for t in reversed(range(steps)):
            cost, edges = cost + energies[t, s, choice[t]], [*edges, (t, s, choice[t])]
            s = sources[s, choice[t]]
        yield end, cost + start[s], edges


@pytest.mark.parametrize("T", [0.7, 1.0])
def test_lattice_is_the_sum_over_all_paths(key, T):
    energies, start = jr.normal(key, (4, 3, 2)), jr.normal(jr.fold_in(key, 1), (3,))
    sources = np.array([[0, 1], [1, 2], [2, 0]])
    fronts = lattice(energies, sources, start, T)
    paths = list(_all_paths(np.asarray(energies), sources, np.asarray(start)))
    for state in range(3):
        F = free_energy(jnp.array([cost for end, cost, _ in paths if end == state]), T)
        np.testing.assert_allclose(fronts[-1, state], F, rtol=1e-13)
    # the gradient by an edge is the probability that a path uses it
    marginal = jax.grad(lambda E: free_energy(lattice(E, sources, start, T)[-1], T))(energies)
    p = gibbs(jnp.array([cost for _, cost, _ in paths]), T)
    expected = np.zeros(energies.shape)
    for weight, (_, _, edges) in zip(p, paths, strict=True):
        for edge in edges:
            expected[edge] += weight
    np.testing.assert_allclose(marginal, expected, rtol=1e-12)
    np.testing.assert_allclose(marginal.sum((1, 2)), np.ones(4), rtol=1e-12)
    check_grads(
        lambda E: free_energy(lattice(jnp.asarray(E), sources, start, T)[-1], T), (energies,), order=2, rtol=1e-5
    )


def test_cold_lattice_marks_the_best_path(key):
    energies = jr.normal(key, (5, 3, 2))
    sources, start = np.array([[0, 1], [1, 2], [2, 0]]), jnp.zeros(3)
    best, slope = jax.value_and_grad(lambda E: free_energy(lattice(E, sources, start, 0)[-1], 0))(energies)
    _, cost, edges = min(_all_paths(np.asarray(energies), sources, np.zeros(3)), key=lambda path: path[1])
    np.testing.assert_allclose(best, cost, rtol=1e-13)
    assert sorted(edges) == [tuple(map(int, edge)) for edge in np.argwhere(np.asarray(slope) > 0.5)]


def test_grid_counts_the_delannoy_numbers():
    """All moves free at T = 1: e^(−F) counts the monotone paths. D(4, 5) = 681, D(5, 5) = 1683 (OEIS A008288)."""
    free = jnp.zeros((6, 6))
    F = grid_lattice(free, free, free)
    np.testing.assert_allclose(jnp.exp(-F[4, 5]), 681, rtol=1e-12)
    np.testing.assert_allclose(jnp.exp(-F[5, 5]), 1683, rtol=1e-12)


def test_lattice_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="sources"):
        lattice(jnp.zeros((2, 3, 2)), np.zeros((2, 2), int), jnp.zeros(3))
    with pytest.raises(ValueError, match="delays"):
        lattice(jnp.zeros((2, 3, 1)), np.zeros((3, 1), int), jnp.zeros(3), delays=(0,))
