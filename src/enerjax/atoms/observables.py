"""What is read off a trajectory: temperature, pressure, drift, radial distribution, velocity autocorrelation, spectrum.

Plain NumPy on whole trajectories; energies in eV, lengths in Å, momenta in √(amu eV), times in fs, frequencies in cm⁻¹.

D. Frenkel and B. Smit, Understanding Molecular Simulation, 3rd ed., chapters 4 and 5.
"""

import numpy as np

from ..units import kB
from .pairs import pairs

LIGHT = 2.99792458e-5  # cm/fs: a frequency of 1/fs is 1/LIGHT cm⁻¹


def temperature(kinetic, degrees: int):
    """T = 2K/(N_f kB) [K]."""
    return 2.0 * np.asarray(kinetic) / (degrees * kB)


def drift(time, conserved, atoms: int) -> float:
    """Least-squares slope of a conserved energy [meV/atom/ps], for times in fs and energies in eV."""
    time, conserved = np.asarray(time, float), np.asarray(conserved, float)
    if len(time) < 3:
        return 0.0
    return float(np.polyfit(time - time.mean(), conserved - conserved.mean(), 1)[0] * 1e6 / atoms)


def radial_distribution(
    positions,
    cells,
    numbers,
    *,
    pbc=(True, True, True),
    pair: tuple[int, int] | None = None,
    maximum: float,
    bins: int = 200,
):
    """g(r) = V/(N_a N_b) ⟨Σ δ(r − r_ij)⟩/(4πr²) of a periodic system; for a molecule, pairs per Å and atom of kind a.

    Args:
        positions: [frames, atoms, 3].
        cells: [frames, 3, 3], or None for a molecule.
        numbers: atomic numbers, [atoms].
        pbc: periodic or not, per lattice vector.
        pair: atomic numbers of the two kinds; every pair where it is None.
        maximum: largest distance; beyond half the cell it counts images too.
        bins: number of bins.

    Returns:
        Bin centres [bins] and g [bins].
    """
    numbers, edges = np.asarray(numbers), np.linspace(0.0, maximum, bins + 1)
    first = np.ones(len(numbers), bool) if pair is None else numbers == pair[0]
    second = np.ones(len(numbers), bool) if pair is None else numbers == pair[1]
    if not first.any() or not second.any():
        raise ValueError(f"radial_distribution: no atoms of the kinds {pair}.")
    total, density = np.zeros(bins), 0.0
    for k, frame in enumerate(positions):
        box = None if cells is None else np.asarray(cells[k], float)
        i, j, d = pairs(frame, box, pbc, maximum)
        total += np.histogram(d[first[i] & second[j]], edges)[0]
        density += 0.0 if box is None else second.sum() / abs(np.linalg.det(box)) / len(positions)
    centres, width = 0.5 * (edges[1:] + edges[:-1]), edges[1]
    per_atom = total / (len(positions) * first.sum())
    if cells is None:
        return centres, per_atom / width
    return centres, per_atom / (4.0 / 3.0 * np.pi * (edges[1:] ** 3 - edges[:-1] ** 3) * density)


def internal_momenta(positions, momenta, masses):
    """Momenta without the rigid translation and rotation of each frame, for the spectrum of a free molecule.

    p − m (v̄ + ω × r) with ω = I⁻¹ L about the centre of mass; [frames, atoms, 3].
    """
    m = np.asarray(masses, float).reshape(1, -1, 1)
    total = m.sum()
    r = np.asarray(positions, float) - (m * positions).sum(1, keepdims=True) / total
    p = np.asarray(momenta, float) - m * np.sum(momenta, axis=1, keepdims=True) / total
    inertia = np.einsum("fia,fia->f", m * r, r)[:, None, None] * np.eye(3) - np.einsum("fia,fib->fab", m * r, r)
    spin = np.cross(r, p).sum(1)
    omega = np.einsum("fab,fb->fa", np.linalg.pinv(inertia, rcond=1e-8, hermitian=True), spin)
    return p - m * np.cross(omega[:, None], r)


def velocity_autocorrelation(momenta, masses):
    """C(t) = ⟨Σᵢ pᵢ(0)·pᵢ(t)/mᵢ⟩/⟨Σᵢ pᵢ²/mᵢ⟩, mass-weighted, from all time origins by the fast Fourier transform.

    Args:
        momenta: [frames, atoms, 3].
        masses: [atoms].

    Returns:
        C at lags 0 … frames − 1, [frames]; C(0) = 1. Long lags are averages over few origins.
    """
    x = np.asarray(momenta, float) / np.sqrt(np.asarray(masses, float).reshape(-1))[None, :, None]
    frames = len(x)
    x = x.reshape(frames, -1)
    transform = np.fft.rfft(x, n=2 * frames, axis=0)
    correlation = np.fft.irfft(np.sum(np.abs(transform) ** 2, axis=1))[:frames] / np.arange(frames, 0, -1)
    return correlation / correlation[0]


def spectrum(correlation, interval: float, window: float | None = None):
    """Vibrational density of states: the cosine transform of C(t) under a Hann window, ∫ = 1 over cm⁻¹.

    Args:
        correlation: C at equidistant lags.
        interval: between two lags [fs].
        window: lags beyond this time [fs] are dropped; by default half of them.

    Returns:
        Frequencies [cm⁻¹] and the density [cm].
    """
    keep = len(correlation) // 2 if window is None else min(len(correlation), int(window / interval) + 1)
    C = np.asarray(correlation[:keep]) * 0.5 * (1.0 + np.cos(np.pi * np.arange(keep) / keep))
    size = 8 * keep
    density = 2.0 * np.fft.rfft(C, n=size).real - C[0]
    frequency = np.fft.rfftfreq(size, interval) / LIGHT
    density = np.maximum(density, 0.0)
    return frequency, density / (density.sum() * (frequency[1] - frequency[0]))


def mean_square_displacement(positions):
    """⟨|R(t) − R(0)|²⟩ [Å²] against the first frame, from unwrapped positions [frames, atoms, 3]."""
    x = np.asarray(positions, float)
    return np.mean(np.sum((x - x[:1]) ** 2, axis=-1), axis=-1)
