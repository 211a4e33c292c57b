"""Any potential of this library as an ASE calculator: energy, forces and stress for everything that ASE can do.

Neighbour rows carry a skin and are built again only when an atom may have come into the cutoff unseen; their shapes are
kept while they fit, so that nothing is compiled twice for the same number of atoms. Where speed matters run whole
blocks in one jit instead (`simulation.simulate`).
"""

from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from ase.calculators.calculator import Calculator as _AseCalculator
from ase.calculators.calculator import PropertyNotImplementedError, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from .._compile import quickly
from .dataset import OVERLAP
from .dynamics import respond
from .neighbours import Neighbours, displacements, neighbours_of, stale
from .potential import reference_energy
from .structure import Structure


class Calculator(_AseCalculator):
    """ASE calculator of a potential, or of the directory of a fitted one.

    Results are in ASE's units: eV, eV/Å, eV/Å³ (stress in Voigt order, positive in tension). Stress exists for
    structures that are periodic in three directions. The precision is JAX's default: float64 under `jax_enable_x64`.

    Attributes:
        potential: what is evaluated.
        skin: Å.
        builds: how often neighbour rows were built.
        traces: how often the evaluation was compiled.
    """

    implemented_properties = ["energy", "free_energy", "forces", "stress"]  # noqa: RUF012 (ASE's class attribute)

    def __init__(self, model, skin: float = 0.5, **options):
        super().__init__(**options)
        if isinstance(model, str | Path):
            from .model_io import load

            model = load(model)
        self.potential, self.skin = model, skin
        self.builds, self.traces = 0, 0
        self._rows: Neighbours | None = None
        self._structure: Structure | None = None
        self._offset, self._renew = 0.0, True
        self._bound: tuple = (None, None, None)  # a potential, its leaves, the compiled evaluation

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        """Fill `results`; called by ASE.

        Raises:
            ValueError: for overlapping or non-finite positions, or an element that the potential does not know.
        """
        super().calculate(atoms, properties, system_changes)
        same = self._structure is not None and self.potential is self._bound[0]
        if not same or not _ONLY_MOVED.issuperset(system_changes):
            before, self._structure = self._structure, None  # should the new one be refused, the old one is not it
            new = Structure.from_ase(self.atoms, moves=False)
            self._prepare(before, new)
            self._structure = new
        structure = self._structure
        assert structure is not None
        with_stress = all(structure.pbc)
        if "stress" in properties and not with_stress:
            raise PropertyNotImplementedError("stress needs a structure that is periodic in three directions.")
        # arrays of the host, which the compiled program takes as they are: a few single operations of JAX cost more
        # than the model of a small molecule
        assert self.atoms is not None
        positions = np.asarray(self.atoms.positions, structure.positions.dtype)
        if not np.all(np.isfinite(positions)):
            i = int(np.argmin(np.all(np.isfinite(positions), axis=1)))
            raise ValueError(f"atom {i} has a position that is not finite: {positions[i].tolist()}.")
        rows = self._neighbours(structure, positions)
        _, leaves, evaluate = self._bound
        found = evaluate(leaves, positions, structure.cell, structure.species, rows, structure.pbc)
        energy, forces, stress, nearest, pair = found
        if (nearest := float(nearest)) < OVERLAP:
            i, k = divmod(int(pair), rows.width)
            raise ValueError(f"atoms {i} and {int(rows.index[i, k])} overlap, {nearest:.3g} Å apart.")
        total = float(energy) + self._offset
        self.results = {"energy": total, "free_energy": total, "forces": np.asarray(forces, float)}
        if with_stress:
            self.results["stress"] = full_3x3_to_voigt_6_stress(np.asarray(stress, float))

    def _prepare(self, before: Structure | None, structure: Structure) -> None:
        """For another structure than the one before, or another potential; rows may stay if only the cell is new."""
        potential = self.potential
        if potential is not self._bound[0]:
            arrays, static = eqx.partition(potential, eqx.is_array)
            leaves, tree = jax.tree.flatten(arrays)  # once: every call would take the model apart
            whole = lambda leaves: eqx.combine(jax.tree.unflatten(tree, leaves), static)
            self._bound, self._rows, before = (potential, leaves, self._compiled(whole)), None, None
        if before is None or before.pbc != structure.pbc or not np.array_equal(before.species, structure.species):
            self._offset, self._renew = reference_energy(potential, structure), True

    def _neighbours(self, structure: Structure, positions: np.ndarray) -> Neighbours:
        rows = self._rows
        if rows is None or self._renew or (not rows.dense and bool(_stale(positions, structure.cell, rows))):
            moved = structure.at(jnp.asarray(positions))
            rows = self._rows = neighbours_of(moved, self.potential.cutoff, skin=self.skin, like=rows)
            self.builds, self._renew = self.builds + 1, False
        return rows

    def _compiled(self, whole):
        def traced(leaves, positions, cell, species, rows, pbc):
            self.traces += 1
            structure = Structure(positions, species, cell, pbc)
            found = respond(whole(leaves), structure, rows, all(pbc))
            distance = jnp.linalg.norm(displacements(positions, cell, rows), axis=-1)
            return *found, jnp.min(distance, initial=jnp.inf), jnp.argmin(distance) if distance.size else jnp.array(0)

        return jax.jit(traced, static_argnames="pbc", compiler_options=quickly())


# changes of ASE's atoms that leave the structure as it is but for the positions
_ONLY_MOVED = frozenset({"positions", "initial_charges", "initial_magmoms"})
_stale = jax.jit(stale)
