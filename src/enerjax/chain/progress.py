"""Progress of a sampling run: draws, divergences, step size and gradients per draw, on stderr or through a callback."""

import threading
import time
from collections.abc import Callable

import numpy as np

from .program import STATS


class Silent:
    """No progress."""

    def __enter__(self):
        return self

    def __exit__(self, *exc) -> None:
        return None

    def tell(self, chain: int, sampling: bool, draws: int, stats: np.ndarray) -> None:
        """A block is finished."""

    def refresh(self) -> None:
        """Show what was told."""


class Progress(Silent):
    """A rich progress bar on stderr, or a line of text every five seconds through `say`."""

    def __init__(self, chains: int, warmup: int, draws: int, say: Callable[[str], None] | None):
        self.total, self.say = chains * draws, say
        self.lock = threading.Lock()
        self.warm = self.kept = self.divergences = 0
        self.steps = np.zeros(chains)
        self.step_size = np.full(chains, np.nan)
        self.spoke = time.monotonic()
        self.bar = None

    def tell(self, chain, sampling, draws, stats):
        with self.lock:
            self.kept += draws * sampling
            self.warm += draws * (not sampling)
            self.divergences += int(np.sum(stats[:, STATS.index("why")] > 0)) * sampling
            self.step_size[chain] = stats[-1, STATS.index("step_size")]
            self.steps[chain] = stats[:, STATS.index("steps")].mean()

    def line(self) -> str:
        """What there is to say."""
        with self.lock:
            if np.all(np.isnan(self.step_size)):
                return "compiling"
            return (
                f"{self.warm} warm-up, {self.kept} of {self.total} draws, {self.divergences} divergences, "
                f"step size {np.nanmedian(self.step_size):.3g}, "
                f"{np.mean(self.steps[self.steps > 0]):.0f} gradients a draw"
            )

    def refresh(self):
        if self.say is not None:
            if time.monotonic() - self.spoke > 5:
                self.spoke = time.monotonic()
                self.say(self.line())
        elif self.bar is not None:
            self.bar.update(self.task, completed=self.kept, description=self.line())

    def __enter__(self):
        if self.say is None:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (BarColumn(20), TextColumn("{task.description}"), TimeRemainingColumn())
            self.bar = Progress(*columns, console=Console(stderr=True))
            self.task = self.bar.add_task("compiling", total=self.total)
            self.bar.start()
        return self

    def __exit__(self, *exc):
        if self.bar is not None:
            self.refresh()
            self.bar.stop()
        elif self.say is not None:
            self.say(self.line())
