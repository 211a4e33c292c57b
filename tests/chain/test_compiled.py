"""Programs in one kernel where XLA can, in many where it cannot: the same values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from enerjax._compile import quickly
from enerjax.chain import compiled


def _loop(step):
    """Ten steps, with a gather whose gradient is a scatter."""
    pull = jax.grad(lambda x: jnp.sum(x[jnp.array([0, 2, 2, 1])] ** 2))
    return lambda x: jax.lax.fori_loop(0, 10, lambda i, x: step(x) - 0.01 * pull(x), x)


@pytest.mark.parametrize(
    "step, whole",
    [(jnp.tanh, True), (jnp.sort, False), (lambda x: jnp.linalg.cholesky(jnp.diag(2 + x**2))[0], False)],
    ids=["arithmetic", "sort", "lapack"],
)
def test_one_kernel_or_many(step, whole):
    x = jnp.array([0.7, -0.2, 1.1])
    function = _loop(step)
    program = compiled.Compiled(function)
    np.testing.assert_allclose(program(x), function(x), rtol=1e-12)
    marked = "xla_cpu_small_call" in program._chosen.lower(x).as_text()  # type: ignore[union-attr]
    expands = "xla_cpu_use_fusion_emitters" in (quickly(xla_cpu_use_fusion_emitters=False) or {})  # the scatter
    assert marked == (whole and expands and jax.default_backend() == "cpu")


def test_what_xla_refuses_runs_in_many_kernels():
    """A callback is not looked for: XLA drops those of which nothing comes, and refuses the others."""
    from_host = lambda x: jax.pure_callback(np.tanh, jax.ShapeDtypeStruct(x.shape, x.dtype), x)
    x = jnp.array([0.7, -0.2, 1.1])
    step = lambda x: jax.lax.fori_loop(0, 3, lambda i, x: from_host(x), x)
    np.testing.assert_allclose(compiled.Compiled(step)(x), step(x), rtol=1e-12)
