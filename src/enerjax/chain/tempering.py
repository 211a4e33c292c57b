"""Replica exchange: chains at rising temperatures that swap places, so that the cold one crosses barriers.

Replica i samples e^(−βᵢE). Neighbours i, i+1 swap with probability min(1, e^((βᵢ−βᵢ₊₁)(Eᵢ−Eᵢ₊₁))), even and odd
pairs in turn, which moves a replica along the ladder ballistically rather than by diffusion. Momenta are redrawn
by every kernel, so only positions swap.

R. H. Swendsen and J.-S. Wang, Phys. Rev. Lett. 57, 2607 (1986); S. Syed et al., J. R. Stat. Soc. B 84, 321 (2022).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr

from .._array import Array, Energy, Float, Key, PyTree, Scalar
from ..flow.phase import Phase
from .failure import guarded
from .flat import as_key, check_energy, layout, proposer


class Exchange(NamedTuple):
    """What `exchange` returns.

    Attributes:
        draws: positions at the first (coldest) temperature, leaves [draws, …], in the user's space.
        energies: E of every replica [draws, temperatures].
        acceptance: of the kernel, per temperature.
        swaps: acceptance of each neighbouring pair [temperatures − 1].
        replicas: which replica was at each temperature [draws, temperatures].
        last: the states, in the free parameters.
    """

    draws: PyTree
    energies: Array
    acceptance: Array
    swaps: Array
    replicas: Array
    last: Phase


def exchange(
    energy: Energy,
    kernel: Callable,
    temperatures: Float[Array, " k"],
    initial: PyTree | Callable[[Key], PyTree],
    key: Key,
    draws: int,
    *,
    moves: int = 1,
) -> Exchange:
    """Replica exchange over a ladder of temperatures.

    Args:
        energy: E(x), or (E, why), as for `sample`: one with `constrain` and `unconstrain` is sampled on the real line,
            while `initial` and the draws are in the user's space. A replica samples e^(−E/kT) of the free parameters,
            of which the volume is a part: at kT = 1 that is the posterior.
        kernel: `kernel(kT) -> kernel`, e.g. `lambda kT: Hmc(0.1, 10, kT=kT)`, with one time step for all temperatures:
            momenta grow as √kT by themselves, and with them the way that a trajectory goes, while the largest stable
            step, 2/ω of a harmonic well, does not know of kT.
        temperatures: kT₁ < kT₂ < …, [k]; the draws are those of kT₁.
        initial: where every replica starts, or `initial(key) -> start point`, called for each.
        key: randomness.
        draws: rounds of `moves` kernel applications and one swap attempt of every second pair.
        moves: kernel applications between swaps.

    Raises:
        ValueError: if the energy does not return a real scalar, or a parameter is not floating.
        TypeError: if `key` is none.
    """
    k = temperatures.shape[0]
    beta = 1 / temperatures
    key, propose = as_key(key), proposer(energy, initial)
    check_energy(energy, layout(propose(key)))

    def U(x: PyTree) -> Scalar:
        result = energy(x)
        return guarded(result, jnp.result_type(result[0])) if isinstance(result, tuple) else result

    # one of its own, beyond those of the rounds
    starts = jr.split(jr.fold_in(key, draws), k)
    states = jax.vmap(lambda key: Phase.at(U, propose(key)))(starts)
    move = jax.vmap(lambda kT, z, key: kernel(kT)(U, z, key))

    def round_(carry, x):
        z, replicas = carry
        i, key = x
        k1, k2 = jr.split(key)

        def one(z, key):
            z, info = move(temperatures, z, jr.split(key, k))
            return z, info.acceptance

        z, acceptance = jax.lax.scan(one, z, jr.split(k1, moves))
        # partner of each replica: pairs (0,1),(2,3),… in even rounds, (1,2),(3,4),… in odd ones
        index = jnp.arange(k)
        partner = jnp.where((index + i) % 2 == 0, index + 1, index - 1)
        partner = jnp.where((partner < 0) | (partner >= k), index, partner)
        low = jnp.minimum(index, partner)
        gain = (beta - beta[partner]) * (z.energy - z.energy[partner])
        chance = jnp.exp(jnp.minimum(gain, 0.0))
        take = jr.uniform(k2, (k,), gain.dtype)[low] < chance  # both partners see the same number
        order = jnp.where(take, partner, index)
        z = jax.tree.map(lambda v: v[order], z)
        tried = (partner == index + 1)[:-1]
        return (z, replicas[order]), (
            jax.tree.map(lambda v: v[0], z.position), z.energy, acceptance.mean(0), jnp.where(tried, chance[:-1], 0.0),
            tried, replicas[order],
        )  # fmt: skip

    xs = (jnp.arange(draws), jr.split(key, draws))
    (last, _), (x, energies, acceptance, chance, tried, replicas) = jax.lax.scan(round_, (states, jnp.arange(k)), xs)
    swaps = chance.sum(0) / jnp.maximum(tried.sum(0), 1)
    x = jax.vmap(getattr(energy, "constrain", lambda x: x))(x)
    return Exchange(x, energies, acceptance.mean(0), swaps, replicas, last)
