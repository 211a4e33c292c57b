"""Stationary points and what vibrates around them: relaxation, harmonic frequencies, phonons.

    H = ∂²E/∂R∂R by automatic differentiation,    M^(−½) H M^(−½) u = ω² u

E. B. Wilson, J. C. Decius and P. C. Cross, Molecular Vibrations, McGraw-Hill (1955), ch. 2; for the projection of
translations and rotations W. H. Miller, N. C. Handy and J. E. Adams, J. Chem. Phys. 72, 99 (1980).
"""

import math
from typing import NamedTuple

import ase.units
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._compile import host_jit
from ..energy.response import hessian as _hessian
from ..energy.response import hessian_vector_product
from ..flow.descent import Fire
from ..units import invcm
from .dynamics import respond
from .neighbours import Grid, Neighbours, neighbour_list, neighbours_of, stale
from .potential import reference_energy, refuse_elements
from .structure import Structure

QUANTUM = ase.units._hbar * 1e10 / math.sqrt(ase.units._e * ase.units._amu)  # ħω [eV] of ω² = 1 eV/(Å² amu)
TERAHERTZ = 1e-12 * 1e10 * math.sqrt(ase.units._e / ase.units._amu) / (2 * math.pi)


class Relaxed(NamedTuple):
    """A relaxed structure, its energy [eV], the largest force left [eV/Å], the steps it took."""

    structure: Structure
    energy: float
    largest_force: float
    steps: int


def precise(potential):
    """The potential with its numbers in float64, for Hessians; call it under `jax.enable_x64`."""
    return jax.tree.map(lambda x: x.astype(float) if eqx.is_inexact_array(x) else x, potential)


@host_jit
def _descend(potential, structure: Structure, rows: Neighbours, fmax, limit):
    """FIRE until the forces are below fmax, the rows are stale, or the limit is reached."""
    energy = lambda R: respond(potential, structure.at(R), rows)[0]
    fire = Fire()
    largest = lambda s: jnp.sqrt(jnp.max(jnp.sum(s.phase.force**2, axis=-1)))

    def going(carry):
        s, k = carry
        # "not below" rather than "above": a force that is not a number ends the loop through `stale`
        return ~(largest(s) <= fmax) & (k < limit) & ~stale(s.phase.position, structure.cell, rows)

    s, k = jax.lax.while_loop(
        going, lambda c: (fire(energy, c[0]), c[1] + 1), (fire.start(energy, structure.positions), 0)
    )
    return s.phase.position, s.phase.energy, largest(s), k


def relax(potential, structure: Structure, *, fmax: float = 1e-3, steps: int = 2000, skin: float = 1.0) -> Relaxed:
    """Move the atoms to the nearest minimum in a fixed cell, by FIRE inside jit.

    Raises:
        ValueError: if the forces are not below `fmax` [eV/Å] after `steps` steps.
        FloatingPointError: if they stop being finite.
    """
    rows, done, largest, energy = None, 0, math.inf, math.nan
    offset = reference_energy(potential, structure)
    while done < steps:
        rows = _never_refreshed(neighbours_of(structure, potential.cutoff, skin=skin, like=rows))
        # arrays: a number would be part of what is compiled, and the steps left are another one after every build
        limits = jnp.asarray(fmax, structure.positions.dtype), jnp.asarray(steps - done)
        positions, energy, force, count = _descend(potential, structure, rows, *limits)
        structure, done, largest = structure.at(positions), done + max(int(count), 1), float(force)
        if not math.isfinite(largest):
            raise FloatingPointError(
                f"relaxation step {done}: forces are not finite; the start may be outside the data."
            )
        if largest <= fmax:
            return Relaxed(structure, float(energy) + offset, largest, done)
    raise ValueError(f"not relaxed: the largest force is {largest:.3g} eV/Å after {steps} steps, above fmax={fmax:g}.")


def _never_refreshed(rows: Neighbours) -> Neighbours:
    """Rows that the host alone builds: the bins of `refresh`, which follow the atoms, must not decide what compiles."""
    if rows.grid is None:
        return rows
    return eqx.tree_at(lambda r: r.grid, rows, Grid((1, 1, 1), (0, 0, 0), 0, (1.0, 1.0, 1.0), rows.grid.pbc))


def hessian(potential, structure: Structure, neighbours: Neighbours | None = None) -> Float[Array, "n n"]:
    """∂²E/∂R∂R [eV/Å²], [3 atoms, 3 atoms].

    Raises:
        ValueError: for an element that the potential does not know.
    """
    refuse_elements(potential, structure.species)
    rows = _never_refreshed(neighbours_of(structure, potential.cutoff)) if neighbours is None else neighbours
    return _full_hessian(potential, structure, rows)


@eqx.filter_jit
def _full_hessian(potential, structure, rows):
    return _hessian(lambda R: respond(potential, structure.at(R), rows)[0], structure.positions)


def rigid_motions(structure: Structure) -> np.ndarray:
    """Orthonormal mass-weighted translations and, without periodicity, rotations, [3 atoms, up to 6]."""
    masses = np.asarray(structure.masses(), float)
    R = np.asarray(structure.positions, float)
    R = R - (masses * R).sum(0) / masses.sum()
    axes = [np.eye(3)[a] for a in range(3)]
    motions = [np.broadcast_to(a, R.shape) for a in axes]
    if not any(structure.pbc):
        motions += [np.cross(a, R) for a in axes]
    motions = np.stack([(np.sqrt(masses) * m).ravel() for m in motions], axis=1)
    left, size, _ = np.linalg.svd(motions, full_matrices=False)
    return left[:, size > 1e-6 * size[0]]  # a linear molecule has one rotation less, an atom none


def frequencies(potential, structure: Structure, neighbours: Neighbours | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Harmonic frequencies at a stationary point, without translations and rotations.

    Returns:
        Frequencies [cm⁻¹], ascending, [modes], imaginary ones as negative numbers; and Cartesian modes of unit norm,
        [modes, atoms, 3]. There are 3n − 6 modes of a molecule, 3n − 5 of a linear one, 3n − 3 of a crystal.
    """
    H = np.asarray(hessian(potential, structure, neighbours), float)
    root = np.repeat(np.sqrt(np.asarray(structure.masses(), float)), 3, axis=1).ravel()
    rigid = rigid_motions(structure)
    internal = np.linalg.svd(rigid)[0][:, rigid.shape[1] :]  # orthonormal complement
    squares, modes = np.linalg.eigh(internal.T @ (H / np.outer(root, root)) @ internal)
    cartesian = (internal @ modes).T / root
    cartesian /= np.linalg.norm(cartesian, axis=1, keepdims=True)
    return np.sign(squares) * QUANTUM * np.sqrt(np.abs(squares)) / invcm, cartesian.reshape(-1, structure.atoms, 3)


def phonons(potential, structure: Structure, points, supercell: tuple[int, int, int] = (2, 2, 2)) -> np.ndarray:
    """Phonon frequencies ν [THz] of a crystal at wave vectors q, [points, 3 atoms], imaginary ones negative.

    D(q) = Σ_n M^(−½) (∂²E/∂R_0 ∂R_n) M^(−½) e^(2πi q·n) over the cells n of a supercell, from 3 · atoms Hessian-vector
    products. Exact at wave vectors that fit the supercell (q · repetitions an integer), interpolated elsewhere.

    Args:
        potential: the energy.
        structure: a crystal at rest, its primitive cell as a rule.
        points: fractional wave vectors, [points, 3].
        supercell: repetitions along the lattice vectors.

    Raises:
        ValueError: for an element that the potential does not know.
    """
    refuse_elements(potential, structure.species)
    cell, n = np.asarray(structure.lattice, float), structure.atoms
    cells = np.array(list(np.ndindex(*supercell)))
    R = (np.asarray(structure.positions, float)[None] + (cells @ cell)[:, None]).reshape(-1, 3)
    large = Structure(
        jnp.asarray(R, structure.positions.dtype),
        np.tile(np.asarray(structure.species), len(cells)),
        jnp.asarray(cell * np.array(supercell)[:, None], structure.positions.dtype),
        structure.pbc,
    )
    rows = np.asarray(_rows(potential, large, neighbour_list(large, potential.cutoff), n), float)
    root = np.sqrt(np.asarray(structure.masses(), float)).ravel()
    blocks = rows.reshape(n, 3, len(cells), n, 3) / (root[:, None, None, None, None] * root[None, None, None, :, None])
    result = []
    for q in np.atleast_2d(np.asarray(points, float)):
        # the nearest of the images that the supercell cannot tell apart, so that D(q) is Hermitian in between as well
        nearest = (cells + np.array(supercell) // 2) % np.array(supercell) - np.array(supercell) // 2
        D = np.einsum("iacjb,c->iajb", blocks, np.exp(2j * np.pi * nearest @ q)).reshape(3 * n, 3 * n)
        squares = np.linalg.eigvalsh(0.5 * (D + D.conj().T))
        result.append(np.sign(squares) * TERAHERTZ * np.sqrt(np.abs(squares)))
    return np.array(result)


@host_jit
def _rows(potential, structure, rows, atoms: int):
    """The first 3 · atoms rows of the Hessian, [3 atoms, n, 3]."""
    energy = lambda R: respond(potential, structure.at(R), rows)[0]
    units = jnp.eye(3 * atoms, structure.positions.size, dtype=structure.positions.dtype)
    return jax.lax.map(lambda v: hessian_vector_product(energy, structure.positions, v.reshape(-1, 3)), units)
