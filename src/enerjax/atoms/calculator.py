"""Any potential of this library as an ASE calculator: energy, forces and stress for everything that ASE can do.

Neighbour rows carry a skin and are built again only when an atom may have come into the cutoff unseen; their shapes are
kept while they fit, so that nothing is compiled twice for the same number of atoms. Where speed matters run whole
blocks in one jit instead (`simulation.simulate`).
"""

import weakref
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from ase.calculators.calculator import Calculator as _AseCalculator
from ase.calculators.calculator import PropertyNotImplementedError, all_changes
from ase.stress import full_3x3_to_voigt_6_stress
from jaxtyping import Array

from .._compile import quickly
from ..energy.response import energy_forces_stress
from .dataset import OVERLAP
from .dynamics import energy_of, respond
from .neighbours import Neighbours, displacements, neighbours_of, stale
from .potential import reference_energy
from .structure import Structure


class Calculator(_AseCalculator):
    """ASE calculator of a potential, or of the directory of a fitted one.

    Results are in ASE's units: eV, eV/Å, eV/Å³ (stress in Voigt order, positive in tension). Stress, the derivative by
    strain over the volume, exists wherever the cell has a volume, as in ASE: that of a slab counts its vacuum. The
    precision is JAX's default: float64 under `jax_enable_x64`. Calculators of one potential share what is compiled.

    Attributes:
        potential: what is evaluated.
        skin: Å.
        builds: how often neighbour rows were built.
        traces: how often this calculator had to compile.
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
        self._box: Array | None = None  # the cell, where it has a volume
        self._stressed = False  # stress was asked for: from then on it comes with every evaluation
        self._offset, self._renew = 0.0, True
        self._bound: tuple = (None, None)  # a potential and its program

    def __getstate__(self) -> dict[str, Any]:
        """Without what is compiled and what is quickly made again: for `pickle`, `copy.deepcopy`, processes."""
        return self.__dict__ | {"_bound": (None, None), "_rows": None, "_structure": None, "_box": None}

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
        box = self._box
        if "stress" in properties:
            self._stressed = True
            if box is None:
                raise PropertyNotImplementedError(
                    "stress needs a cell with a volume, as a structure that is periodic in three directions has."
                )
        with_stress = box is not None and (self._stressed or all(structure.pbc))
        # arrays of the host, which the compiled program takes as they are: a few single operations of JAX cost more
        # than the model of a small molecule
        assert self.atoms is not None
        positions = np.asarray(self.atoms.positions, structure.positions.dtype)
        if not np.all(np.isfinite(positions)):
            i = int(np.argmin(np.all(np.isfinite(positions), axis=1)))
            raise ValueError(f"atom {i} has a position that is not finite: {positions[i].tolist()}.")
        rows = self._neighbours(structure, positions)
        program = self._bound[1]
        cell, traces = box if with_stress else structure.cell, program.traces
        found = program.evaluate(program.leaves, positions, cell, structure.species, rows, structure.pbc, with_stress)
        self.traces += program.traces - traces
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
            self._bound, self._rows, before = (potential, _program(potential)), None, None
        if before is None or before.pbc != structure.pbc or not np.array_equal(before.species, structure.species):
            self._offset, self._renew = reference_energy(potential, structure), True
        assert self.atoms is not None
        cell = self.atoms.cell
        self._box = jnp.asarray(cell.array, structure.positions.dtype) if cell.volume > 1e-6 else None

    def _neighbours(self, structure: Structure, positions: np.ndarray) -> Neighbours:
        rows = self._rows
        if rows is None or self._renew or (not rows.dense and bool(_stale(positions, structure.cell, rows))):
            moved = structure.at(jnp.asarray(positions))
            rows = self._rows = neighbours_of(moved, self.potential.cutoff, skin=self.skin, like=rows)
            self.builds, self._renew = self.builds + 1, False
        return rows


class _Program:
    """The compiled evaluation of one potential.

    Attributes:
        leaves: the arrays of the potential, taken out once: every call would take the model apart.
        evaluate: leaves, positions, cell, species, rows and, static, pbc and whether stress is wanted ↦ energy, forces,
            stress or None, the shortest distance, and where in the rows it is.
        traces: how often it was compiled.
    """

    def __init__(self, potential):
        arrays, static = eqx.partition(potential, eqx.is_array)
        self.leaves, tree = jax.tree.flatten(arrays)
        self.traces = 0

        def traced(leaves, positions, cell, species, rows, pbc, stressed):
            self.traces += 1
            structure = Structure(positions, species, cell, pbc)
            whole = eqx.combine(jax.tree.unflatten(tree, leaves), static)
            if stressed:
                found = energy_forces_stress(energy_of(whole, structure, rows), positions, cell)
            else:
                found = respond(whole, structure, rows)
            distance = jnp.linalg.norm(displacements(positions, cell, rows), axis=-1)
            return *found, jnp.min(distance, initial=jnp.inf), jnp.argmin(distance) if distance.size else jnp.array(0)

        self.evaluate = jax.jit(traced, static_argnames=("pbc", "stressed"), compiler_options=quickly())


def _program(potential) -> _Program:
    """The program of this very object, kept as long as the object lives: the images of a path share one."""
    found = _PROGRAMS.get(id(potential))
    if found is None:
        found = _Program(potential)
        if isinstance(potential, eqx.Module):  # the program holds its parts, not itself, so that it can go
            _PROGRAMS[id(potential)] = found
            weakref.finalize(potential, _PROGRAMS.pop, id(potential), None).atexit = False
    return found


_PROGRAMS: dict[int, _Program] = {}
# changes of ASE's atoms that leave the structure as it is but for the positions
_ONLY_MOVED = frozenset({"positions", "initial_charges", "initial_magmoms"})
_stale = jax.jit(stale)
