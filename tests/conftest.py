"""Float64 and strict rank promotion in every test: physics is checked to rounding, nothing broadcasts by accident."""

from pathlib import Path

import jax
import jax.random as jr
import pytest

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def key():
    return jr.key(0)


@pytest.fixture(autouse=True, scope="module")
def room_for_programs():
    """Compiled programs are dropped before the process has as many memory maps as Linux allows (65 530).

    Beyond, XLA's compiler crashes; one module of tests can make 18 000.
    """
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_text().count("\n") > 20_000:
        jax.clear_caches()
