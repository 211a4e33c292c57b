"""Labelled configurations from extended XYZ (or anything ASE reads), checked before anything is trained on them.

Energies in eV, forces in eV/Å, stress in eV/Å³ with ASE's sign (positive in tension). ASE moves `energy`, `forces` and
`stress` into a calculator and leaves other keys in `info` and `arrays`; both places are read, and a label that is not
there is an error, never a silent zero. Every message names the file and the frame, counted from 0 as ASE does.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .pairs import closest, connected, count
from .structure import Structure

ENERGY_KEYS = ("REF_energy", "energy", "TotEnergy", "Energy", "dft_energy", "DFT_energy", "total_energy")
FORCES_KEYS = ("REF_forces", "forces", "force", "Forces", "dft_forces", "DFT_forces")
STRESS_KEYS = (
    "REF_stress",
    "stress",
    "Stress",
    "dft_stress",
    "REF_virials",
    "REF_virial",
    "virials",
    "virial",
    "dft_virial",
)
OVERLAP = 0.3  # Å; two nuclei this near are a mistake in the file, not physics


@dataclass(frozen=True)
class Frame:
    """One labelled configuration, in NumPy arrays of float64.

    Attributes:
        numbers: atomic numbers, [atoms].
        positions: Å, [atoms, 3].
        cell: lattice vectors as rows, Å, [3, 3], or None for a free molecule.
        pbc: periodic or not, per lattice vector.
        energy: eV; NaN only where labels were not required.
        forces: eV/Å, [atoms, 3], or None.
        stress: eV/Å³, [3, 3], or None.
        info: the frame's other entries, among them `config_type` (text) and `weight` (default 1).
        source: file and frame, for messages.
        masses: amu, [atoms], where the file sets them, or None.
    """

    numbers: np.ndarray
    positions: np.ndarray
    cell: np.ndarray | None
    pbc: tuple[bool, bool, bool]
    energy: float
    forces: np.ndarray | None
    stress: np.ndarray | None
    info: dict[str, Any]
    source: str
    masses: np.ndarray | None = None

    def structure(self, dtype=None) -> Structure:
        """The configuration without its labels."""
        import jax.numpy as jnp

        dtype = jnp.result_type(float) if dtype is None else dtype
        cell = None if self.cell is None else jnp.asarray(self.cell, dtype)
        isotopes = None if self.masses is None else jnp.asarray(self.masses, dtype)
        return Structure(jnp.asarray(self.positions, dtype), self.numbers, cell, self.pbc, isotopes)


@dataclass(frozen=True)
class Dataset:
    """Frames of one file, and the energies of isolated atoms that it held.

    Attributes:
        frames: labelled configurations without the isolated atoms.
        isolated: atomic number → energy of the isolated atom [eV].
        source: the file.
    """

    frames: tuple[Frame, ...]
    isolated: dict[int, float] = field(default_factory=dict)
    source: str = ""

    def __len__(self) -> int:
        return len(self.frames)

    def __iter__(self) -> Iterator[Frame]:
        return iter(self.frames)

    def __getitem__(self, k: int) -> Frame:
        return self.frames[k]

    @property
    def species(self) -> tuple[int, ...]:
        """Atomic numbers that occur, ascending."""
        return tuple(sorted({int(z) for f in self.frames for z in f.numbers}))

    def subset(self, indices: Sequence[int]) -> "Dataset":
        """The frames at `indices`, in that order."""
        return Dataset(tuple(self.frames[i] for i in indices), self.isolated, self.source)


def read(
    path: str | Path,
    energy_key: str | None = None,
    forces_key: str | None = None,
    stress_key: str | None = None,
    *,
    require: Sequence[str] = ("energy", "forces"),
) -> Dataset:
    """Read and check labelled configurations.

    Args:
        path: a file that ASE reads; extended XYZ as a rule.
        energy_key: name of the energy; by default the first of `ENERGY_KEYS` that the file uses.
        forces_key: name of the forces; by default the first of `FORCES_KEYS` that the file uses.
        stress_key: name of the stress, or of a virial W, which becomes −W/V; by default the first of `STRESS_KEYS`.
        require: labels that every frame must have (isolated atoms need only their energy).

    Raises:
        ValueError: empty file, unknown key, missing or non-finite label, mixed periodicity, overlapping atoms.
        FileNotFoundError: no such file.
    """
    images = _images(path)
    name = str(path)
    keys = {
        "energy": _key(images, "energy", energy_key, ENERGY_KEYS, require, name),
        "forces": _key(images, "forces", forces_key, FORCES_KEYS, require, name),
        "stress": _key(images, "stress", stress_key, STRESS_KEYS, require, name),
    }
    frames, isolated = [], {}
    for k, atoms in enumerate(images):
        source = f"{name}, frame {k}"
        alone = _is_isolated(atoms)
        wanted = [label for label in require if not (alone and label != "energy")]
        frame = _frame(atoms, keys, wanted, source)
        if alone:
            z = int(frame.numbers[0])
            if abs(isolated.setdefault(z, frame.energy) - frame.energy) > 1e-6:
                raise ValueError(f"{source}: a second energy for the isolated atom Z={z}, different from the first.")
        else:
            frames.append(frame)
    if not frames:
        raise ValueError(
            f"{name}: holds isolated atoms only, no configurations; `isolated_energies` reads such a file."
        )
    for frame in frames:
        if frame.pbc != frames[0].pbc:
            raise ValueError(
                f"{frame.source}: mixed periodicity, pbc {_tf(frame.pbc)} after {_tf(frames[0].pbc)} in "
                f"{frames[0].source.rpartition(', ')[2]}; put them into separate files."
            )
        _check_overlap(frame)
    return Dataset(tuple(frames), isolated, name)


def isolated_energies(path: str | Path, energy_key: str | None = None) -> dict[int, float]:
    """Atomic number → energy [eV] from a file of isolated atoms.

    Raises:
        ValueError: if a frame holds more than one atom, or has no finite energy.
    """
    images, name = _images(path), str(path)
    key = _key(images, "energy", energy_key, ENERGY_KEYS, ("energy",), name)
    energies = {}
    for k, atoms in enumerate(images):
        if len(atoms) != 1:
            raise ValueError(f"{name}, frame {k}: {len(atoms)} atoms in a file of isolated atoms.")
        frame = _frame(atoms, {"energy": key, "forces": None, "stress": None}, ("energy",), f"{name}, frame {k}")
        energies[int(frame.numbers[0])] = frame.energy
    return energies


def read_structure(path: str | Path, index: int = 0):
    """One configuration as `ase.Atoms`, labels not needed; checked for finite positions and overlapping atoms.

    Raises:
        ValueError: empty file, no such frame, non-finite positions, overlapping atoms.
    """
    images = _images(path)
    if not -len(images) <= index < len(images):
        raise ValueError(f"{path}: has {len(images)} frames, no frame {index}.")
    _check_overlap(_frame(images[index], dict.fromkeys(("energy", "forces", "stress")), (), f"{path}, frame {index}"))
    return images[index]


def check_neighbours(dataset: Dataset, cutoff: float) -> None:
    """Refuse configurations with an atom that sees no other within the cutoff: a local model is blind to it.

    Raises:
        ValueError: naming file, frame and atom.
    """
    for frame in dataset:
        around = count(frame, cutoff)
        if (around == 0).any():
            raise ValueError(
                f"{frame.source}: atom {int(np.argmin(around))} has no neighbour within the cutoff of {cutoff:g} Å; "
                "mark isolated atoms with config_type=IsolatedAtom, or raise the cutoff."
            )


def default_cutoff(dataset: Dataset) -> float:
    """4 Å for molecules, 5 Å for matter: what generalised better (benchmarks/potentials), Å.

    A molecule is a configuration without periodic directions whose atoms hang together within 4 Å; where pieces lie
    further apart, 4 Å would be blind to what acts between them.
    """
    short, usual = 4.0, 5.0
    return short if all(not any(f.pbc) and connected(f, short) for f in dataset) else usual


def atomic_energies(dataset: Dataset, given: Mapping[int, float] | None = None) -> dict[int, float]:
    """Energy of each element's atom [eV]: given, else read from isolated atoms, else fitted.

    The fit is ridge regression of the energies per atom on the composition, shrunk towards the mean energy per atom, so
    that a data set of one composition, where the separate energies have no meaning, still gets finite ones.
    """
    known = {**dataset.isolated, **(given or {})}
    species = dataset.species
    free = [z for z in species if z not in known]
    energies = {z: float(known[z]) for z in species if z in known}
    if not free:
        return energies
    counts = np.array([[np.count_nonzero(f.numbers == z) for z in species] for f in dataset], float)
    rest = np.array([f.energy for f in dataset]) - counts @ [energies.get(z, 0.0) for z in species]
    counts = counts[:, [species.index(z) for z in free]]
    use = counts.sum(1) > 0
    size = counts[use].sum(1)
    design, target = counts[use] / size[:, None], rest[use] / size
    mean = target.mean()
    ridge = 1e-8 * max(1.0, np.trace(design.T @ design)) * np.eye(len(free))
    fitted = mean + np.linalg.solve(design.T @ design + ridge, design.T @ (target - mean))
    return energies | dict(zip(free, fitted.tolist(), strict=True))


def statistics(dataset: Dataset, cutoff: float) -> dict[str, Any]:
    """What a model's scale and shape are set by.

    Returns:
        `species`, `configurations`, `atoms` (largest), `mean_neighbours` and `max_neighbours` within the cutoff,
        `force_rms` [eV/Å] (NaN without forces), `energy_std_per_atom` [eV] after the atomic energies, `shortest` [Å].
    """
    counts = np.concatenate([count(f, cutoff) for f in dataset])
    shift = atomic_energies(dataset)
    residual = [
        (f.energy - sum(n * shift[z] for z, n in Counter(f.numbers.tolist()).items())) / len(f.numbers) for f in dataset
    ]
    forces = [f.forces.ravel() for f in dataset if f.forces is not None]
    return {
        "species": dataset.species,
        "configurations": len(dataset),
        "atoms": max(len(f.numbers) for f in dataset),
        "mean_neighbours": float(counts.mean()),
        "max_neighbours": int(counts.max()),
        "force_rms": float(np.sqrt(np.mean(np.concatenate(forces) ** 2))) if forces else float("nan"),
        "energy_std_per_atom": float(np.std(residual)),
        "shortest": min(closest(f, cutoff)[2] for f in dataset),
    }


def split(dataset: Dataset, *sizes: int | float, seed: int = 0) -> tuple[Dataset, ...]:
    """Disjoint random parts of the given sizes (numbers of frames, or fractions below 1), and the rest as the last.

    Raises:
        ValueError: if the parts need more frames than there are.
    """
    order = np.random.default_rng(seed).permutation(len(dataset))
    counts = [round(s * len(dataset)) if isinstance(s, float) and s < 1 else int(s) for s in sizes]
    if sum(counts) > len(dataset) or min(counts, default=0) < 0:
        raise ValueError(f"split: parts of {counts} frames do not fit into the {len(dataset)} of {dataset.source}.")
    edges = np.cumsum([0, *counts, len(dataset) - sum(counts)])
    return tuple(dataset.subset(order[a:b].tolist()) for a, b in zip(edges, edges[1:], strict=False))


def _images(path: str | Path) -> list:
    from ase.io import read as ase_read

    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such file.")
    if Path(path).stat().st_size == 0:
        raise ValueError(f"{path}: the file is empty.")
    try:
        images = ase_read(path, index=":", format="extxyz" if Path(path).suffix in (".xyz", ".extxyz") else None)
    except Exception as error:  # ASE's readers raise many types; all of them mean that this file cannot be read
        raise ValueError(f"{path}: not readable ({type(error).__name__}: {error}).") from None
    images = images if isinstance(images, list) else [images]
    if not images:
        raise ValueError(f"{path}: holds no configurations.")
    return images


def _labels(atoms) -> dict[str, Any]:
    """Everything a frame says about itself; what ASE moved into the calculator does not hide `info` and `arrays`."""
    results = dict(atoms.calc.results) if atoms.calc is not None else {}
    arrays = {k: v for k, v in atoms.arrays.items() if k not in ("numbers", "positions")}
    return {**results, **arrays, **atoms.info}


def _key(images, label, asked, candidates, require, name) -> str | None:
    present = set().union(*(_labels(a) for a in images))
    if asked is not None:
        if asked not in present:
            raise ValueError(
                f"{name}: no frame has '{asked}'; the frames have {', '.join(sorted(present)) or 'no labels'}."
            )
        return asked
    for key in candidates:
        if key in present:
            return key
    if label in require:
        raise ValueError(
            f"{name}, frame 0: no {label} under any of {', '.join(candidates)}; "
            f"the frames have {', '.join(sorted(present)) or 'no labels'}. Name the key with --{label}-key."
        )
    return None


def _is_isolated(atoms) -> bool:
    kind = str(atoms.info.get("config_type", "")).replace("_", "").lower()
    return len(atoms) == 1 and (kind == "isolatedatom" or not atoms.pbc.any())


def _frame(atoms, keys, require, source) -> Frame:
    labels = _labels(atoms)
    for label in require:
        if keys[label] not in labels:
            raise ValueError(f"{source}: no {label} (key '{keys[label]}').")
    positions = np.asarray(atoms.positions, float)
    if len(atoms) == 0 or not np.isfinite(positions).all():
        raise ValueError(f"{source}: " + ("positions are not finite." if len(atoms) else "no atoms."))
    if (atoms.numbers < 1).any():
        raise ValueError(f"{source}: atom {int(np.argmin(atoms.numbers))} is of no known element.")
    structure = Structure.from_ase(atoms, moves=False) if atoms.pbc.any() else None
    cell = None if structure is None else np.asarray(atoms.cell.complete(), float)
    energy = _number(labels, keys["energy"], source)
    forces = _array(labels, keys["forces"], (len(atoms), 3), source)
    stress = _stress(labels, keys["stress"], cell, source) if all(atoms.pbc) else None
    used = set(keys.values()) | {"energy", "free_energy", "forces", "stress"}
    info = {k: v for k, v in atoms.info.items() if k not in used}
    info["config_type"] = str(info.get("config_type", "default"))
    info["weight"] = float(info.get("weight", info.get("config_weight", 1.0)))
    pbc = (bool(atoms.pbc[0]), bool(atoms.pbc[1]), bool(atoms.pbc[2]))
    masses = atoms.get_masses() if atoms.has("masses") else None
    return Frame(np.asarray(atoms.numbers), positions, cell, pbc, energy, forces, stress, info, source, masses)


def _number(labels, key, source) -> float:
    if key is None or key not in labels:
        return float("nan")
    return float(_array(labels, key, (), source))


def _array(labels, key, shape, source) -> Any:
    if key is None or key not in labels:
        return None
    try:
        value = np.asarray(labels[key], float)
    except (TypeError, ValueError):
        raise ValueError(f"{source}: '{key}' is not a number: {labels[key]!r}.") from None
    if shape is not None and value.size == int(np.prod(shape)):
        value = value.reshape(shape)
    elif shape is not None:
        raise ValueError(f"{source}: '{key}' has shape {value.shape}, expected {shape}.")
    if not np.isfinite(value).all():
        where = f" of atom {int(np.argwhere(~np.isfinite(value))[0][0])}" if shape and len(shape) == 2 else ""
        raise ValueError(f"{source}: '{key}'{where} is not finite.")
    return value


def _stress(labels, key, cell, source) -> np.ndarray | None:
    from ase.stress import voigt_6_to_full_3x3_stress

    value = _array(labels, key, None, source)
    if value is None:
        return None
    if value.size not in (6, 9):
        raise ValueError(f"{source}: '{key}' has {value.size} entries; a stress has 6 (Voigt) or 9.")
    full = voigt_6_to_full_3x3_stress(value.ravel()) if value.size == 6 else value.reshape(3, 3)
    return -full / abs(np.linalg.det(cell)) if "virial" in key.lower() else full


def _check_overlap(frame: Frame) -> None:
    i, j, d = closest(frame, OVERLAP)
    if d < OVERLAP:
        raise ValueError(f"{frame.source}: atoms {i} and {j} overlap, {d:.3g} Å apart.")


def _tf(pbc) -> str:
    return " ".join("FT"[p] for p in pbc)
