"""Whether the draws in a directory are of this very energy: it is evaluated again where a run before knew it."""

import numpy as np

from .compiled import Program
from .failure import LOST
from .store import Store

MOST = 16  # points: a difference shows at any, and an energy may take seconds


def check_same_energy(compiled: Program, store: Store, chains: int) -> None:
    """Compare the energy with that of the run before, at the last point of each chain.

    Two evaluations of one energy differ by rounding, in sums of terms that may be larger than their sum: allowed is
    √ε (30 + |E|), 10⁻² of a small energy in float32 and 5·10⁻⁷ in float64.

    Args:
        compiled: of the energy.
        store: where a run before may have left its chains.
        chains: how many of them have files of their own.

    Raises:
        ValueError: if it is another.
    """
    known = [found for c in range(chains) if (found := _known(store, c)) is not None]
    if not known:
        return
    points, before = (np.concatenate(part) for part in zip(*known, strict=True))
    some = np.linspace(0, len(points) - 1, min(len(points), MOST)).astype(int)
    before, now = before[some], compiled.energies(points[some])
    allowed = np.sqrt(np.finfo(now.dtype).eps) * (30 + np.minimum(np.abs(before), LOST))
    same = np.abs(now.astype(np.float64) - before) <= allowed  # not where either is NaN
    if not same.all():
        i = int(np.argmin(same))
        raise ValueError(
            f"directory: {store.directory} holds draws of another energy, {before[i]:.8g} where ours is {now[i]:.8g}: "
            "the energy or its data changed. Give another directory, or remove this one."
        )


def _known(store: Store, chain: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Points [n, d] and their energies [n]: where a chain is, or, in a shared file, where all of them are."""
    if (state := store.load(chain)) is not None:
        rows, energies = state["chain0"], state["chain1"]
    elif answers := store.recall(chain):
        rows, energies = answers[-1][4:6]
    else:
        return None
    return rows[..., 0, :].reshape(-1, rows.shape[-1]), energies.reshape(-1)
