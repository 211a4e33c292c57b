"""One configuration of atoms as a pytree: positions, atomic numbers, and a cell where there is one.

Lengths are in Å. Rows of the cell are the lattice vectors, so a point with fractional coordinates s lies at s @ cell,
and a homogeneous strain ε maps positions and cell alike: R → R(1 + ε), h → h(1 + ε). Periodicity is static (it decides
what is compiled); everything else is data.
"""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int


def _int32(x) -> Array:
    return jnp.asarray(x, jnp.int32)


class Structure(eqx.Module):
    """Atoms in space.

    Attributes:
        positions: Å, [atoms, 3]; they need not lie inside the cell.
        species: atomic numbers, [atoms]; 0 marks a padded atom, which is not there.
        cell: lattice vectors as rows, Å, [3, 3], or None for a free molecule.
        pbc: periodic or not, per lattice vector.
        isotopes: masses [amu], [atoms], where they are not the standard ones of the elements; None where they are.
    """

    positions: Float[Array, "atoms 3"] = eqx.field(converter=jnp.asarray)
    species: Int[Array, " atoms"] = eqx.field(converter=_int32)
    cell: Float[Array, "3 3"] | None = eqx.field(converter=lambda h: h if h is None else jnp.asarray(h), default=None)
    pbc: tuple[bool, bool, bool] = eqx.field(
        static=True, converter=lambda p: (bool(p[0]), bool(p[1]), bool(p[2])), default=(False, False, False)
    )
    isotopes: Float[Array, " atoms"] | None = eqx.field(
        converter=lambda m: m if m is None else jnp.asarray(m), default=None
    )

    def __check_init__(self):
        if self.cell is None and any(self.pbc):
            raise ValueError(
                "Structure: periodic directions need a cell; give cell=[[…],[…],[…]] in Å or pbc=(False,)*3."
            )

    @property
    def atoms(self) -> int:
        """Number of atoms, padded ones included."""
        return self.positions.shape[-2]

    @property
    def lattice(self) -> Float[Array, "3 3"]:
        """The cell of a structure that must have one.

        Raises:
            ValueError: for a structure that is not periodic in all three directions.
        """
        if self.cell is None or not all(self.pbc):
            raise ValueError("stress and pressure need a structure that is periodic in three directions.")
        return self.cell

    @property
    def volume(self) -> Float[Array, ""]:
        """|det h| [Å³].

        Raises:
            ValueError: for a structure that is not periodic in all three directions.
        """
        return jnp.abs(jnp.linalg.det(self.lattice))

    def at(self, positions: Float[Array, "atoms 3"], cell: Float[Array, "3 3"] | None = None) -> "Structure":
        """The same atoms elsewhere, in the same cell unless another one is given."""
        return Structure(positions, self.species, self.cell if cell is None else cell, self.pbc, self.isotopes)

    @classmethod
    def from_ase(cls, atoms, dtype=None, *, moves: bool = True) -> "Structure":
        """From `ase.Atoms`, with the masses that were set there.

        A lattice vector of length zero along a direction that is not periodic is completed.

        Args:
            atoms: the configuration.
            dtype: of positions, cell and masses; JAX's default if None.
            moves: whether it will be moved or vibrated here: constraints, which nothing here keeps, are then refused.
                False where energies, forces and stress are all that is asked for.

        Raises:
            ValueError: if a periodic direction has no lattice vector, or for a constraint.
        """
        if moves and atoms.constraints:
            name = type(atoms.constraints[0]).__name__
            raise ValueError(
                f"{atoms.get_chemical_formula()}: carries the constraint {name}, and nothing here keeps constraints; "
                "remove it (`del atoms.constraints`), or move the atoms with ASE and its `Calculator`, which obey it."
            )
        dtype = jnp.result_type(float) if dtype is None else dtype
        pbc = np.asarray(atoms.pbc, bool)
        cell = np.asarray(atoms.cell.array, float)
        if (np.linalg.norm(cell, axis=1)[pbc] < 1e-9).any():
            raise ValueError(
                f"{atoms.get_chemical_formula()}: a periodic direction has a lattice vector of length zero."
            )
        cell = np.asarray(atoms.cell.complete(), float) if pbc.any() else None
        if cell is not None and abs(np.linalg.det(cell)) < 1e-6:
            raise ValueError(f"{atoms.get_chemical_formula()}: the lattice vectors lie in one plane.")
        return cls(
            jnp.asarray(atoms.positions, dtype),
            np.asarray(atoms.numbers),
            None if cell is None else jnp.asarray(cell, dtype),
            tuple(pbc),
            jnp.asarray(atoms.get_masses(), dtype) if atoms.has("masses") else None,
        )

    def to_ase(self, momenta=None):
        """As `ase.Atoms`, without the padded atoms. Momenta are in ASE's units, √(amu eV)."""
        import ase

        there = np.asarray(self.species) > 0
        momenta = None if momenta is None else np.asarray(momenta, float)[there]
        cell = None if self.cell is None else np.asarray(self.cell, float)
        return ase.Atoms(
            np.asarray(self.species)[there],
            np.asarray(self.positions, float)[there],
            cell=cell,
            pbc=self.pbc,
            momenta=momenta,
            masses=None if self.isotopes is None else np.asarray(self.isotopes, float)[there],
        )

    def masses(self) -> Float[Array, "atoms 1"]:
        """Masses [amu], one row per atom, as `flow.DiagonalMass` wants them; 1 for a padded atom.

        The standard ones of the elements unless `isotopes` says others.

        Raises:
            ValueError: (when called on concrete data) for a mass that is not positive and finite.
        """
        from ase.data import atomic_masses

        if self.isotopes is not None:
            there = self.species > 0
            if not isinstance(self.isotopes, Tracer) and not isinstance(there, Tracer):
                bad = np.asarray(there & ~((self.isotopes > 0) & jnp.isfinite(self.isotopes)))
                if bad.any():
                    i = int(np.argmax(bad))
                    raise ValueError(f"atom {i} has a mass of {float(self.isotopes[i]):g} amu; masses are positive.")
            return jnp.where(there, self.isotopes, 1.0).astype(self.positions.dtype)[:, None]
        table = np.where(np.isnan(atomic_masses), 1.0, atomic_masses)
        return jnp.asarray(table, self.positions.dtype)[self.species][:, None]


def pad(structure: Structure, atoms: int) -> Structure:
    """The same structure with padded atoms (species 0, at the origin) up to `atoms`.

    Raises:
        ValueError: if the structure already has more atoms.
    """
    extra = atoms - structure.atoms
    if extra < 0:
        raise ValueError(f"pad: {structure.atoms} atoms do not fit into {atoms}.")
    return Structure(
        jnp.pad(structure.positions, ((0, extra), (0, 0))),
        jnp.pad(structure.species, (0, extra)),
        structure.cell,
        structure.pbc,
        None if structure.isotopes is None else jnp.pad(structure.isotopes, (0, extra), constant_values=1.0),
    )


def stack(structures: Sequence[Structure]) -> Structure:
    """A batch for `jax.vmap`: leaves with a leading axis [batch], ragged molecules padded to the largest.

    Raises:
        ValueError: if periodic and free structures are mixed.
    """
    if len({(s.pbc, s.cell is None) for s in structures}) != 1:
        raise ValueError("stack: structures with different periodicity do not fit into one batch.")
    atoms = max(s.atoms for s in structures)
    if any(s.isotopes is not None for s in structures):  # one tree for all: standard masses are written out too
        structures = [Structure(s.positions, s.species, s.cell, s.pbc, s.masses()[:, 0]) for s in structures]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *(pad(s, atoms) for s in structures))
