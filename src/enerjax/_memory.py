"""The C allocator between two calls of a compiled program, on Linux.

XLA allocates the temporaries of every call anew. By default glibc maps large blocks from the kernel and gives them back
when they are freed, so each call touches fresh pages again: for a training step of 40 ms half of the time was page
faults (`benchmarks/potentials/race.py`, with and without `--keep-memory`).
"""

import ctypes
import sys

_TRIM, _TOP_PAD, _MMAP = -1, -2, -3  # M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD of <malloc.h>


def keep_freed_memory(limit: int = 1 << 30) -> bool:
    """Let this process keep freed memory for its next allocation instead of returning it to the kernel.

    Changes nothing but speed and the resident size of an idle process; the `enerjax` command does it at its start.

    Args:
        limit: bytes; larger blocks are still mapped and returned one by one.

    Returns:
        True where it took effect: on Linux with glibc.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # another C library
        return False
    limit = min(limit, 2**31 - 1)
    return all([mallopt(_MMAP, limit), mallopt(_TRIM, limit), mallopt(_TOP_PAD, min(limit, 1 << 26))])
