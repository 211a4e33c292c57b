"""The learned potential energy surface: an equivariant message-passing energy of atoms.

    Dᵢ      = Σⱼ Y(r̂ᵢⱼ) B(rᵢⱼ) zⱼ                      densities of the neighbours, by radial function and element
    h⁽¹⁾ᵢ   = many-body products of Dᵢ                  up to `order` factors: bodies i and `order` neighbours
    h⁽ᵗ⁺¹⁾ᵢ = products of Σⱼ Y(r̂ᵢⱼ) R(rᵢⱼ) h⁽ᵗ⁾ⱼ + W_zᵢ h⁽ᵗ⁾ᵢ    messages and residual update
    Eᵢ      = s_z Σₜ readout(h⁽ᵗ⁾ᵢ) + e_z

The architecture is MACE's (I. Batatia et al., NeurIPS 2022) with its generic tensor products replaced by kernels that
suit XLA; `layers.py` says how. The energy is invariant to rotation, reflection, translation and permutation by
construction, and twice differentiable.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float

from ..._array import Key
from ..._precision import full_precision
from ..neighbours import Neighbours, displacements, gather
from ..potential import AbstractPotential, refuse_elements
from ..structure import Structure
from .harmonics import bessel, per_component, spherical_harmonics
from .layers import Convolution, ManyBody, Perceptron

SIZES = {
    "small": {"channels": 16, "l_max": 2},
    "medium": {"channels": 32, "l_max": 3, "l_node": 2},
    "large": {"channels": 64, "l_max": 3, "l_node": 2},
}


@dataclass(frozen=True)
class Config:
    """What a potential is, apart from its parameters: all of it goes into config.json.

    Attributes:
        species: atomic numbers, ascending.
        atomic_energies: energy of each element's isolated atom [eV], in the order of `species`.
        cutoff: Å.
        channels: features per atom and component.
        l_max: highest degree of the edge harmonics.
        l_node: highest degree of the features that are passed on. At 2, as in `SIZES`, held-out forces are an eighth
            better than at 1 for a quarter more time; 3 adds nothing.
        order: factors of the many-body product (correlation order).
        layers: interaction layers.
        basis: Bessel functions.
        smoothness: the n-th Bessel function enters with weight n^−smoothness. At 1 all have the same slope, so that an
            optimiser finds smooth radial functions first; held-out forces are better for it.
        hidden: widths of the radial MLP.
        readout: width of the last readout's MLP.
        mean_neighbours: normalises sums over neighbours.
        scale: eV; typically the RMS force of the data in eV/Å.
    """

    species: tuple[int, ...]
    atomic_energies: tuple[float, ...]
    cutoff: float = 5.0
    channels: int = 32
    l_max: int = 3
    l_node: int = 1
    order: int = 3
    layers: int = 2
    basis: int = 8
    smoothness: float = 1.0
    hidden: tuple[int, ...] = (32, 32)
    readout: int = 16
    mean_neighbours: float = 15.0
    scale: float = 1.0

    def __post_init__(self):
        if not self.species or list(self.species) != sorted(set(self.species)):
            raise ValueError(f"Config: species must be ascending atomic numbers, not {self.species}.")
        if len(self.atomic_energies) != len(self.species):
            raise ValueError("Config: one atomic energy per species.")
        for name, least in (("channels", 1), ("l_max", 0), ("l_node", 0), ("order", 1), ("layers", 1), ("basis", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"Config: {name} must be at least {least}, not {getattr(self, name)}.")
        if self.l_node > self.l_max:
            raise ValueError(f"Config: l_node={self.l_node} exceeds l_max={self.l_max}.")
        if not self.cutoff > 0:
            raise ValueError(f"Config: cutoff must be positive, not {self.cutoff}.")


class _Update(eqx.Module):
    """One interaction layer after the first: messages, products, residual."""

    convolution: Convolution
    product: ManyBody
    residual: Float[Array, "degrees kinds channels channels"]

    def __init__(self, config: Config, l_out: int, *, key: Key):
        k1, k2, k3 = jr.split(key, 3)
        c, kinds = config.channels, len(config.species)
        self.convolution = Convolution(config.l_max, config.l_node, c, config.basis, config.hidden, key=k1)
        self.product = ManyBody(config.l_max, l_out, config.order, c, c, kinds, key=k2)
        self.residual = jr.normal(k3, (l_out + 1, kinds, c, c)) / c**0.5

    def __call__(self, h, kind, edges, basis, take, norm):
        density = self.convolution(h, edges, basis, take) * norm
        residual = per_component(self.residual, 0)
        kept = jnp.einsum("mnc,mscd->mnsd", h[: len(residual)], residual)
        return self.product(density, kind) + jnp.sum(kept * kind[None, :, :, None], 2)


class Equivariant(AbstractPotential):
    """E(structure) [eV]: a message-passing potential of MACE class. `enerjax.atoms.fit` trains one on data.

    Args:
        config: architecture and units.
        key: random key of the initial parameters.

    Raises:
        ValueError: (when called on concrete data) for an element that is not in `config.species`.
    """

    embedding: Float[Array, "kinds colours"] | None
    density: ManyBody
    updates: tuple[_Update, ...]
    readouts: tuple[Perceptron, ...]
    spread: Float[Array, " kinds"]
    shift: Float[Array, " kinds"]
    config: Config = eqx.field(static=True)
    cutoff: float = eqx.field(static=True)

    def __init__(self, config: Config, *, key: Key):
        keys = iter(jr.split(key, 2 * config.layers + 1))
        kinds, c = len(config.species), config.channels
        self.config, self.cutoff = config, config.cutoff
        # up to eight elements have densities of their own; more share eight learned mixtures
        self.embedding = None if kinds <= 8 else jr.normal(next(keys), (kinds, 8))
        last = [0 if t == config.layers - 1 else config.l_node for t in range(config.layers)]
        colours = min(kinds, 8)
        inputs = config.basis * colours
        self.density = ManyBody(config.l_max, last[0], config.order, inputs, c, kinds, key=next(keys))
        self.updates = tuple(_Update(config, l_out, key=next(keys)) for l_out in last[1:])
        widths = [(c, 1)] * (config.layers - 1) + [(c, config.readout, 1)]
        self.readouts = tuple(Perceptron(w, key=next(keys)) for w in widths)
        self.spread, self.shift = jnp.ones(kinds), jnp.zeros(kinds)

    @property
    def elements(self) -> tuple[int, ...]:
        """Atomic numbers of `config.species`."""
        return self.config.species

    def kinds(self, species) -> Float[Array, "atoms kinds"]:
        """One-hot element of each atom; a row of zeros for a padded atom."""
        refuse_elements(self, species)
        known = jnp.asarray(self.config.species, jnp.int32)
        return (jnp.asarray(species)[:, None] == known[None]).astype(self.shift.dtype)

    def reference(self, species) -> np.ndarray:
        """Energy of each isolated atom [eV], float64, [atoms]; zero for elements that are not known."""
        table = np.zeros(200)
        table[list(self.config.species)] = self.config.atomic_energies
        return table[np.asarray(species)]

    def energy_per_atom(self, structure: Structure, neighbours: Neighbours) -> Float[Array, " atoms"]:
        """Eᵢ relative to the isolated atom [eV]; 0 for a padded atom."""
        r = displacements(structure.positions, structure.cell, neighbours)
        return self.energies(r, self.kinds(structure.species), lambda x: gather(x, neighbours))

    @full_precision
    def energies(self, r: Float[Array, "atoms K 3"], kind: Float[Array, "atoms kinds"], take) -> Float[Array, " atoms"]:
        """Eᵢ from neighbour vectors: one structure, or many of them side by side.

        Args:
            r: vectors to the neighbours, Å; anything beyond the cutoff is no neighbour.
            kind: one-hot elements.
            take: x [atoms, …] ↦ the neighbours' values [atoms, K, …].
        """
        total = 0.0
        for h, readout in zip(self._layers(r, kind, take), self.readouts, strict=True):
            total = total + readout(h[0])[:, 0]
        return self.config.scale * (total * (kind @ self.spread) + kind @ self.shift)

    def _layers(self, r, kind, take) -> Sequence[Array]:
        """Features [(l+1)², atoms, channels] after each layer."""
        c = self.config
        x, y, z = (r[..., k] for k in range(3))
        length = jnp.sqrt(jnp.maximum(x * x + y * y + z * z, 1e-12))
        inverse = 1.0 / length
        edges = jnp.stack(spherical_harmonics(x * inverse, y * inverse, z * inverse, c.l_max), 1)
        slope = np.arange(1, c.basis + 1) ** -c.smoothness
        slope = slope / np.sqrt(np.mean(slope**2))
        basis = jnp.stack([float(w) * b for w, b in zip(slope, bessel(length, c.cutoff, c.basis), strict=True)], -1)
        norm = c.mean_neighbours**-0.5
        colour = take(kind if self.embedding is None else kind @ self.embedding)
        atoms, k, _ = r.shape
        radial = (basis[..., None] * colour[:, :, None]).reshape(atoms, k, -1)
        density = jnp.swapaxes(edges @ radial, 0, 1) * norm
        features = [self.density(density, kind)]
        for update in self.updates:
            features.append(update(features[-1], kind, edges, basis, take, norm))
        return features

    @full_precision
    def features(self, structure: Structure, neighbours: Neighbours):
        """Equivariant descriptors of every atom, all layers, as `e3nn_jax.IrrepsArray` [atoms, irreps]."""
        import e3nn_jax as e3nn

        r = displacements(structure.positions, structure.cell, neighbours)
        blocks = []
        for h in self._layers(r, self.kinds(structure.species), lambda x: gather(x, neighbours)):
            for l in range(round(len(h) ** 0.5)):
                block = jnp.moveaxis(h[l * l : (l + 1) * (l + 1)], 0, -1)  # [atoms, channels, 2l+1]
                irreps = e3nn.Irreps(f"{block.shape[1]}x{l}{'eo'[l % 2]}")
                blocks.append(e3nn.IrrepsArray(irreps, block.reshape(len(block), -1)))
        return e3nn.concatenate(blocks, axis=-1)
