"""Float64 and strict rank promotion in every test: physics is checked to rounding, nothing broadcasts by accident."""

import jax
import jax.random as jr
import pytest

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def key():
    return jr.key(0)
