"""Which line of the user's an exception comes from: tracebacks through JAX end far from it."""

import linecache
import os
import sysconfig
import traceback
from pathlib import Path

_HOUSE = (
    *(f"{folder}{os.sep}" for folder in (Path(__file__).parents[1], sysconfig.get_path("stdlib"))),
    "<frozen", "<@beartype",
)  # fmt: skip


def users_line(error: BaseException, folder: Path | None = None) -> str | None:
    """`file:line` of the innermost frame that is neither ours, nor installed, nor of Python's library; None without.

    Args:
        error: as caught.
        folder: only files in this folder count.
    """
    frames = [(frame.f_code.co_filename, number) for frame, number in traceback.walk_tb(error.__traceback__)]
    for file, number in reversed(frames):
        installed = "site-packages" in Path(file).parts or file.startswith(_HOUSE)
        if not installed and (folder is None or Path(file).resolve().parent == folder.resolve()):
            return f"{file}:{number}"
    return None


def code(line: str) -> str:
    """What stands at a `file:line`, if it can be read."""
    file, number = line.rsplit(":", 1)
    return linecache.getline(file, int(number)).strip()
