"""Float64 and strict rank promotion in every test: physics is checked to rounding, nothing broadcasts by accident."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.random as jr
import pytest

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")


# most of the time of these tests is compilation: LLVM's level 1, as the library itself asks for where it can, and XLA's
# older emitters where it still has them. Set XLA_FLAGS to run the tests with other ones.
FLAGS = ("--xla_backend_optimization_level=1", "--xla_cpu_use_fusion_emitters=false")


def pytest_configure(config):
    if hasattr(config, "workerinput") or "XLA_FLAGS" in os.environ or os.environ.get("JAX_PLATFORMS", "cpu") != "cpu":
        return  # a worker inherits them
    known = [sys.executable, "-c", "import jax; jax.devices()"]
    for flags in (" ".join(FLAGS), FLAGS[0]):  # XLA ends a process whose flags it does not know
        if subprocess.run(known, env=os.environ | {"XLA_FLAGS": flags}, capture_output=True).returncode == 0:
            os.environ["XLA_FLAGS"] = flags
            return


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
