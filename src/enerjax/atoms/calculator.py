"""Any potential of this library as an ASE calculator: energy, forces and stress for everything that ASE can do.

Neighbour rows carry a skin and are built again only when an atom may have come into the cutoff unseen; their shapes are
kept while they fit, so that nothing is compiled twice for the same number of atoms. Where speed matters run whole
blocks in one jit instead (`simulation.simulate`).
"""

from pathlib import Path

import equinox as eqx
import numpy as np
from ase.calculators.calculator import Calculator as _AseCalculator
from ase.calculators.calculator import PropertyNotImplementedError, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from .._compile import host_jit
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
        self._species = np.zeros(0, int)

        def traced(potential, structure, rows, with_stress):
            self.traces += 1
            return respond(potential, structure, rows, with_stress)

        self._evaluate = host_jit(traced)

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        """Fill `results`; called by ASE.

        Raises:
            ValueError: for overlapping or non-finite positions, or an element that the potential does not know.
        """
        super().calculate(atoms, properties, system_changes)
        structure = Structure.from_ase(self.atoms)
        with_stress = all(structure.pbc)
        if "stress" in properties and not with_stress:
            raise PropertyNotImplementedError("stress needs a structure that is periodic in three directions.")
        offset = reference_energy(self.potential, structure)
        rows = self._neighbours(structure)
        energy, forces, stress = self._evaluate(self.potential, structure, rows, with_stress)
        total = float(energy) + offset
        self.results = {"energy": total, "free_energy": total, "forces": np.asarray(forces, float)}
        if with_stress:
            self.results["stress"] = full_3x3_to_voigt_6_stress(np.asarray(stress, float))

    def _neighbours(self, structure: Structure) -> Neighbours:
        species = np.asarray(structure.species)
        rows = self._rows
        same = (
            rows is not None and np.array_equal(species, self._species) and (rows.shift is None) != any(structure.pbc)
        )
        if rows is None or not same or _stale(structure.positions, structure.cell, rows):
            rows = neighbours_of(structure, self.potential.cutoff, skin=self.skin, like=rows)
            self._rows, self._species, self.builds = rows, species, self.builds + 1
        elif not rows.dense:  # what came near since the rows were built is less than a skin nearer
            return rows
        _refuse_overlap(structure, rows)
        return rows


def _refuse_overlap(structure: Structure, rows: Neighbours) -> None:
    distance = np.linalg.norm(np.asarray(displacements(structure.positions, structure.cell, rows)), axis=-1)
    if distance.size and distance.min() < OVERLAP:
        i, k = np.unravel_index(distance.argmin(), distance.shape)
        raise ValueError(f"atoms {i} and {int(rows.index[i, k])} overlap, {distance[i, k]:.3g} Å apart.")


_stale = eqx.filter_jit(stale)
