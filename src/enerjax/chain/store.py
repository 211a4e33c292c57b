"""Draws on their way out: in memory, or in a directory where a killed run finds them again.

A directory holds `run.json` (what is sampled, and how), `draws.npy` [chains, draws, d], `stats.npy` [chains, draws, k],
both memory-mapped, and one `chain-C.npz` per chain with all it needs to go on, replaced atomically every few seconds
and at the end. The arrays are filled in place, so memory stays flat; rows beyond a chain's count are not read. While a
chain warms up, `warm-C.npz` holds what it was answered so far.
"""

import json
import os
from pathlib import Path

import numpy as np

from .._identity import refuse_other


class Store:
    """Arrays [chains, draws, …] that fill up block by block.

    Attributes:
        interval: seconds between two writes of a chain; what a kill loses is computed again, to the same bits.
    """

    interval = 3.0

    def __init__(self, chains: int, draws: int, d: int, stats: int, dtype, directory: str | Path | None, run: dict):
        self.directory = Path(directory) if directory is not None else None
        self.count = [0] * chains
        shapes = {"draws": (chains, draws, d), "stats": (chains, draws, stats)}
        if self.directory is None:
            self.draws, self.stats = (np.empty(s, dtype) for s in shapes.values())
            return
        self.directory.mkdir(parents=True, exist_ok=True)
        existing = self._existing(run)
        self.draws, self.stats = (self._array(name, shape, dtype, existing) for name, shape in shapes.items())
        if not existing:
            for path in (*self.directory.glob("chain-*.npz"), *self.directory.glob("warm-*.npz")):
                path.unlink()
        if not existing or existing["draws"] != run["draws"]:  # after the arrays, which may be longer than it says
            _write(self.directory / "run.json", lambda f: f.write(json.dumps(run, indent=1).encode()))

    def _array(self, name: str, shape: tuple[int, ...], dtype, existing: dict | None) -> np.memmap:
        """An array [chains, draws, …] in its file, with the draws of the run before, which may have wanted fewer."""
        assert self.directory is not None
        path = self.directory / f"{name}.npy"
        if not existing or not path.exists():
            return np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
        found = np.lib.format.open_memmap(path, mode="r+")
        if found.shape == shape:
            return found
        part = path.with_name(f".{path.name}.part")
        longer = np.lib.format.open_memmap(part, mode="w+", dtype=dtype, shape=shape)
        kept = min(shape[1], found.shape[1])
        longer[:, :kept] = found[:, :kept]
        longer.flush()
        part.replace(path)
        return longer

    def _existing(self, run: dict) -> dict | None:
        """The run that the directory holds, if it is this one, or the beginning of it: one of fewer draws.

        Raises:
            ValueError: if it holds another one.
        """
        assert self.directory is not None
        path = self.directory / "run.json"
        if not path.exists():
            return None
        found = json.loads(path.read_text())
        fewer = found.get("draws", 0) < run["draws"]
        refuse_other(self.directory, found | {"draws": run["draws"]} if fewer else found, run)
        return found

    def append(self, chain: int, draws: np.ndarray, stats: np.ndarray) -> None:
        """Add a block of one chain."""
        n = self.count[chain]
        self.draws[chain, n : n + len(draws)] = draws
        self.stats[chain, n : n + len(stats)] = stats
        self.count[chain] = n + len(draws)

    def save(self, chain: int, state: dict[str, np.ndarray]) -> None:
        """Make the chain's state durable: everything up to here survives a kill."""
        if self.directory is None:
            return
        for array in (self.draws, self.stats):
            if isinstance(array, np.memmap):
                array.flush()
        state = state | {"count": np.asarray(self.count[chain])}
        _write(self.directory / f"chain-{chain}.npz", lambda f: np.savez(f, allow_pickle=False, **state))

    def holds(self, chain: int) -> bool:
        """Whether a chain's state after its warm-up was saved."""
        return self.directory is not None and (self.directory / f"chain-{chain}.npz").exists()

    def load(self, chain: int) -> dict[str, np.ndarray] | None:
        """The state that was saved last, or None."""
        path = self.directory / f"chain-{chain}.npz" if self.directory is not None else None
        if path is None or not path.exists():
            return None
        with np.load(path, allow_pickle=False) as file:
            state = dict(file)
        self.count[chain] = int(state.pop("count"))
        return state

    def remember(self, chain: int, answers: list[list[np.ndarray]]) -> None:
        """Keep what a warming chain was answered: per answer the same number of arrays, each with rows."""
        assert self.directory is not None
        state = {}
        for i, parts in enumerate(zip(*answers, strict=True)):
            state[f"array{i}"] = np.concatenate(parts)
            state[f"lengths{i}"] = np.array([len(x) for x in parts])
        _write(self.directory / f"warm-{chain}.npz", lambda f: np.savez(f, allow_pickle=False, **state))

    def recall(self, chain: int) -> list[list[np.ndarray]]:
        """What `remember` kept."""
        path = self.directory / f"warm-{chain}.npz" if self.directory is not None else None
        if path is None or not path.exists():
            return []
        with np.load(path, allow_pickle=False) as file:
            state = dict(file)
        cut = lambda i: np.split(state[f"array{i}"], np.cumsum(state[f"lengths{i}"])[:-1])
        return [list(parts) for parts in zip(*(cut(i) for i in range(len(state) // 2)), strict=True)]

    def forget(self, chain: int) -> None:
        """The warm-up is over."""
        if self.directory is not None:
            (self.directory / f"warm-{chain}.npz").unlink(missing_ok=True)


def _write(path: Path, write) -> None:
    """Write a file whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    with part.open("wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
