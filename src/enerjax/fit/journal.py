"""Where a run stands and how it is written down: clock, `state.safetensors`, `metrics.jsonl`, lines of progress."""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .._array import PyTree
from .._identity import refuse_other, said
from .checkpoint import load, save, words, write_atomically


@dataclass
class Clock:
    """The place of a run: before batch `batch` of `of` in epoch `epoch`, after `steps` steps and `seconds`."""

    epoch: int = 0
    batch: int = 0
    of: int = 1
    steps: int = 0
    seconds: float = 0.0
    best: float | None = None
    stale: int = 0
    metrics: list[dict[str, float | int]] = field(default_factory=list)

    def spent(self, epochs: int | None, max_seconds: float | None) -> float:
        """Fraction of the budget that is used; 1 ends the run."""
        by_time = 0.0 if max_seconds is None else self.seconds / max_seconds
        by_epoch = 0.0 if epochs is None else (self.epoch + self.batch / self.of) / epochs
        return max(by_time, by_epoch)


class Journal:
    """Writes a run's state and metrics into a directory, and reads them back when the run is started again."""

    def __init__(
        self,
        directory: str | Path | None,
        every: float,
        progress: Callable[[str], None] | None,
        identity: dict[str, Any] | None,
    ):
        self.directory = None if directory is None else Path(directory)
        self.identity = None if directory is None or identity is None else said(identity)
        self.every = every
        self.progress = progress
        self.saved = self.spoken = time.monotonic()

    def open(self, state: PyTree) -> tuple[PyTree, Clock]:
        """The state to start from: that of the directory if there is one, else the given one.

        Raises:
            ValueError: if the directory holds a run of another identity.
        """
        if self.directory is None or not (path := self.directory / "state.safetensors").exists():
            return state, Clock()
        found = words(path)
        refuse_other(self.directory, found.pop("identity", None), self.identity)
        clock = Clock(**found)
        if self.progress:
            self.progress(f"resumed at epoch {clock.epoch}, batch {clock.batch}, step {clock.steps}")
        return load(path, state), clock

    def save(self, state: PyTree, clock: Clock) -> None:
        """Write state and metrics, each file whole or not at all."""
        self.saved = time.monotonic()
        if self.directory is not None:
            known = {} if self.identity is None else {"identity": self.identity}
            save(self.directory / "state.safetensors", state, asdict(clock) | known)
            write_atomically(self.directory / "metrics.jsonl", "".join(json.dumps(m) + "\n" for m in clock.metrics))

    def due(self) -> bool:
        """Is it time for a checkpoint?"""
        return time.monotonic() - self.saved > self.every

    def quiet(self) -> bool:
        """Has nothing been said for five seconds?"""
        return time.monotonic() - self.spoken > 5.0

    def say(self, line: str) -> None:
        """One line of progress."""
        self.spoken = time.monotonic()
        if self.progress:
            self.progress(line)
