"""Chains spread over all devices, and their draws do not depend on how many there are."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from enerjax import chain

TWO = """
import sys
import jax, jax.numpy as jnp, jax.random as jr, numpy as np
jax.config.update("jax_enable_x64", True)
from enerjax import chain
from enerjax.chain import driver

used, real = set(), driver.Program.call

def call(self, *arguments, **options):
    result = real(self, *arguments, **options)
    used.update(d.id for d in result[1].rows.devices())
    return result

driver.Program.call = call
energy = lambda x: 0.5 * jnp.sum(x**2 * jnp.array([1.0, 4.0, 25.0])) + 0.1 * jnp.sum(x**4)
post = chain.sample(energy, jnp.ones(3), jr.key(5), chains=3, draws=60, warmup=100)
np.save(sys.argv[1], post.unconstrained)
print(len(jax.devices()), len(used))
"""


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="compares with draws made on a CPU")
def test_chains_on_two_devices_draw_what_one_device_draws(tmp_path):
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
    file = tmp_path / "draws.npy"
    command = [sys.executable, "-c", TWO, str(file)]
    out = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert out.returncode == 0, out.stderr[-2000:]
    assert out.stdout.split() == ["2", "2"]
    energy = lambda x: 0.5 * jnp.sum(x**2 * jnp.array([1.0, 4.0, 25.0])) + 0.1 * jnp.sum(x**4)
    here = chain.sample(energy, jnp.ones(3), jr.key(5), chains=3, draws=60, warmup=100)
    np.testing.assert_array_equal(np.load(file), here.unconstrained)
