"""Compiled equals eager beyond 16 384 rows.

jax 0.10.2 silently miscompiled exactly these on CPU (jax-ml/jax#39103): |cell·r|², tr FᵀF, a whitened residual.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

ROWS = 20_000
M = jnp.array([[1.0, 0.2, 0.0], [0.1, 1.3, -0.2], [0.0, 0.4, 0.9]])
kernels = {
    "|cell r|^2": (lambda r: jnp.sum((M @ r) ** 2), (ROWS, 3)),
    "tr F'F": (lambda F: jnp.trace(F.T @ F) + jnp.linalg.det(F), (ROWS, 3, 3)),
    "whitened residual": (lambda r: 0.5 * jnp.sum(jnp.square(M.T @ (r - 1.0))), (ROWS, 3)),
}


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("name", kernels)
def test_jit_agrees_with_eager_at_many_rows(name, dtype):
    kernel, shape = kernels[name]
    rows = 2 * ROWS if dtype == jnp.float32 else ROWS
    x = jnp.sin(jnp.arange(np.prod((rows, *shape[1:])), dtype=dtype)).reshape(rows, *shape[1:])
    tolerance = {"rtol": 1e-12, "atol": 1e-13} if dtype == jnp.float64 else {"rtol": 1e-4, "atol": 1e-5}
    for f in (jax.vmap(kernel), jax.vmap(jax.grad(kernel))):
        np.testing.assert_allclose(jax.jit(f)(x), f(x), **tolerance)
