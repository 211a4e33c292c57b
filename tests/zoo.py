"""Every energy and every motion of the core, once. Laws are tested on all of them.

A new class adds one line here and is held to every law at once. A maker returns (energy, x): networks are split so that
x holds arrays only, because finite differences need them.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr

from enerjax.energy import AbstractEnergy
from enerjax.flow import Bath, baoab, blanes_moan4, minimum_norm, verlet, yoshida4, yoshida6


class Quartic(AbstractEnergy):
    """½ k Σx² + ¼ Σx⁴."""

    stiffness: float

    def __call__(self, x):
        return self.stiffness * jnp.sum(x**2) / 2 + jnp.sum(x**4) / 4


class Quadratic(AbstractEnergy):
    """½ xᵀHx − bᵀx."""

    H: jax.Array
    b: jax.Array

    def __call__(self, x):
        return x @ self.H @ x / 2 - self.b @ x


class Morse(AbstractEnergy):
    """Σ_{i<j} (1 − e^(−(r−1)))² in open space: translation, rotation and permutation leave it alone."""

    def __call__(self, R):
        i, j = jnp.triu_indices(len(R), 1)
        r = jnp.linalg.norm(R[i] - R[j], axis=-1)
        return jnp.sum((1 - jnp.exp(-(r - 1))) ** 2)


def _positions():
    return 0.5 * jr.normal(jr.key(1), (5, 3))


def _quadratic(n=6):
    A = jr.normal(jr.key(4), (n, n))
    return Quadratic(A @ A.T / n + 0.1 * jnp.eye(n), jr.normal(jr.key(5), (n,))), jr.normal(jr.key(6), (n,))


def _network():
    """The training loss of a small network, as a function of its weights."""
    net, static = eqx.partition(eqx.nn.MLP(2, 1, 8, 1, jnp.tanh, key=jr.key(3)), eqx.is_inexact_array)
    X = jr.normal(jr.key(7), (16, 2))
    y = jnp.sin(X[:, :1])
    return lambda w: jnp.mean((jax.vmap(eqx.combine(w, static))(X) - y) ** 2) / 2, net


energies = {
    "quartic": lambda: (Quartic(1.3), _positions()),
    "sum and scale": lambda: (Quartic(1.0) + 0.5 * Quartic(2.0) - Quartic(0.2), _positions()),
    "quadratic": _quadratic,
    "morse": lambda: (Morse(), _positions()),
    "network loss": _network,
}

# (step, order): every conservative step has the signature step(energy, z, dt), one shape of trace for all of them
steps = {
    "verlet": (verlet, 2),
    "baoab, friction 0": (lambda E, z, dt: baoab(E, z, dt, Bath(0.0, 0.0), jr.key(0)), 2),
    "minimum norm": (minimum_norm, 2),
    "yoshida4": (yoshida4, 4),
    "blanes-moan4": (blanes_moan4, 4),
    "yoshida6": (yoshida6, 6),
}
