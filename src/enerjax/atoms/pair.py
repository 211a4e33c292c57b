"""Analytic potentials: Lennard-Jones, Morse, the Ziegler–Biersack–Littmark core repulsion, Stillinger–Weber silicon.

They have the signature of a learned potential, so that they can stand in for one (tests, benchmarks, exact references)
or be added to one: `model + CoreRepulsion()` keeps atoms apart where no data does. All are twice differentiable at the
cutoff.
"""

import equinox as eqx
import jax.numpy as jnp
from ase.data import covalent_radii
from jaxtyping import Array, Float

from .._precision import full_precision
from ..units import bohr, hartree
from .neighbours import Neighbours, displacements, gather
from .potential import AbstractPotential
from .structure import Structure


def switch(r: Float[Array, "..."], inner: float | Array, outer: float | Array) -> Float[Array, "..."]:
    """1 below `inner`, 0 above `outer`, 1 − 10x³ + 15x⁴ − 6x⁵ between: twice differentiable."""
    x = jnp.clip((r - inner) / (outer - inner), 0.0, 1.0)
    return 1.0 - x**3 * (10.0 - 15.0 * x + 6.0 * x**2)


def _distances(structure: Structure, neighbours: Neighbours) -> Float[Array, "atoms K"]:
    return jnp.linalg.norm(displacements(structure.positions, structure.cell, neighbours), axis=-1)


class LennardJones(AbstractPotential):
    """E = ½ Σ_ij 4ε [(σ/r)¹² − (σ/r)⁶] S(r), one kind of atom; S switches off between `inner` and `cutoff`.

    Attributes:
        epsilon: well depth [eV].
        sigma: zero of the bare potential [Å].
        cutoff: Å.
        inner: where switching begins [Å].
        species: atomic numbers that it stands for; others are refused. None: any.
    """

    epsilon: float | Array
    sigma: float | Array
    cutoff: float = eqx.field(static=True)
    inner: float = eqx.field(static=True)
    species: tuple[int, ...] | None = eqx.field(static=True, default=None)

    @property
    def elements(self) -> tuple[int, ...] | None:
        """`species`."""
        return self.species

    def energy_per_atom(self, structure: Structure, neighbours: Neighbours) -> Float[Array, " atoms"]:
        """Eᵢ [eV]: half of every pair."""
        r = _distances(structure, neighbours)
        x = (self.sigma / r) ** 6
        return 0.5 * jnp.sum(4.0 * self.epsilon * (x * x - x) * switch(r, self.inner, self.cutoff), axis=-1)


def argon(cutoff: float = 8.5) -> LennardJones:
    """Liquid argon: ε = 119.8 kB K = 0.010323 eV, σ = 3.405 Å. A. Rahman, Phys. Rev. 136, A405 (1964)."""
    return LennardJones(0.0103235, 3.405, cutoff, 0.8 * cutoff, species=(18,))


class Morse(AbstractPotential):
    """E = ½ Σ_ij D [e^(−2a(r−r₀)) − 2 e^(−a(r−r₀))] S(r), one kind of atom. P. M. Morse, Phys. Rev. 34, 57 (1929).

    Attributes:
        depth: D [eV].
        width: a [1/Å].
        length: r₀ [Å].
        cutoff: Å.
        inner: where switching begins [Å].
    """

    depth: float | Array
    width: float | Array
    length: float | Array
    cutoff: float = eqx.field(static=True)
    inner: float = eqx.field(static=True)

    def energy_per_atom(self, structure: Structure, neighbours: Neighbours) -> Float[Array, " atoms"]:
        """Eᵢ [eV]: half of every pair."""
        r = _distances(structure, neighbours)
        x = jnp.exp(-self.width * (r - self.length))
        return 0.5 * jnp.sum(self.depth * (x * x - 2.0 * x) * switch(r, self.inner, self.cutoff), axis=-1)


class CoreRepulsion(AbstractPotential):
    """E = ½ Σ_ij (e²/4πε₀) ZᵢZⱼ/r φ(r/a) S(r), a = 0.4685 Å/(Zᵢ^0.23 + Zⱼ^0.23): two nuclei at short distance.

    S switches off between half and the whole sum of the covalent radii, so bonds at rest hardly feel it.

    J. F. Ziegler, J. P. Biersack and U. Littmark, The Stopping and Range of Ions in Matter, vol. 1 (1985), eq. 2-60.

    Attributes:
        scale: the fraction of the covalent radii's sum at which it ends.
        cutoff: Å; must reach 2 · scale · the largest covalent radius.
    """

    scale: float | Array = 1.0
    cutoff: float = eqx.field(static=True, default=5.0)

    def energy_per_atom(self, structure: Structure, neighbours: Neighbours) -> Float[Array, " atoms"]:
        """Eᵢ [eV]: half of every pair."""
        r = _distances(structure, neighbours)
        Z = structure.species.astype(r.dtype)
        radius = self.scale * jnp.asarray(covalent_radii, r.dtype)[structure.species]
        both = lambda x: (x[:, None], gather(x, neighbours))
        (zi, zj), (ri, rj) = both(Z), both(radius)
        x = r * (zi**0.23 + zj**0.23) / 0.46850
        terms = ((0.18175, 3.19980), (0.50986, 0.94229), (0.28022, 0.40290), (0.02817, 0.20162))
        screening = sum(c * jnp.exp(-d * x) for c, d in terms)
        end = jnp.minimum(ri + rj, self.cutoff)
        pair = hartree * bohr * zi * zj / r * screening * switch(r, 0.5 * end, end)
        return 0.5 * jnp.sum(jnp.where(neighbours.mask, pair, 0.0), axis=-1)


class StillingerWeber(AbstractPotential):
    """E = ½ Σ_ij φ₂(r) + Σᵢ Σ_{j<k} λε g_j g_k (cos θ_jk + ⅓)², g = e^(γσ/(r − aσ)); the parameters are silicon's.

    φ₂ = Aε [B(σ/r)⁴ − 1] e^(σ/(r − aσ)). The triple sum is taken through the moments s = Σ g, V = Σ g u, T = Σ g u⊗u of
    the directions u: Σ_jk g_j g_k (c + ⅓)² = T:T + ⅔ V·V + s²/9, so it costs no more than a pair sum.

    F. H. Stillinger and T. A. Weber, Phys. Rev. B 31, 5262 (1985), eqs. 2.3–2.6; ε scaled to silicon's cohesive energy.

    Attributes:
        species: atomic numbers that it stands for; others are refused. Give it with parameters of your own.
    """

    epsilon: float | Array = 2.1683
    sigma: float | Array = 2.0951
    A: float | Array = 7.049556277
    B: float | Array = 0.6022245584
    strength: float | Array = 21.0
    gamma: float | Array = 1.20
    cutoff: float = eqx.field(static=True, default=1.80 * 2.0951)
    species: tuple[int, ...] | None = eqx.field(static=True, default=(14,))

    @property
    def elements(self) -> tuple[int, ...] | None:
        """`species`."""
        return self.species

    @full_precision
    def energy_per_atom(self, structure: Structure, neighbours: Neighbours) -> Float[Array, " atoms"]:
        """Eᵢ [eV]: half of every pair, and the triples whose corner is atom i."""
        R = displacements(structure.positions, structure.cell, neighbours)
        r = jnp.linalg.norm(R, axis=-1)
        # e^(−σ/0.02 Å) = 1e-45: ending there is exact, and keeps 1/(r − aσ)² finite under differentiation
        inside = r < self.cutoff - 0.02
        gap = jnp.where(inside, r - self.cutoff, -1.0)
        decay = lambda s: jnp.where(inside, jnp.exp(s * self.sigma / gap), 0.0)
        pair = 0.5 * self.A * jnp.sum((self.B * (self.sigma / r) ** 4 - 1.0) * decay(1.0), axis=-1)
        g, u = decay(self.gamma), R / r[..., None]
        s, V = jnp.sum(g, axis=-1), jnp.einsum("ik,ika->ia", g, u)
        T = jnp.einsum("ik,ika,ikb->iab", g, u, u)
        moments = jnp.sum(T * T, axis=(-1, -2)) + 2.0 / 3.0 * jnp.sum(V * V, axis=-1) + s * s / 9.0
        triples = 0.5 * (moments - 16.0 / 9.0 * jnp.sum(g * g, axis=-1))  # j = k leaves, each triple once
        return self.epsilon * (pair + self.strength * triples)
