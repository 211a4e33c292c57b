"""Products with a constant matrix: every transform is that of JAX's own product."""

import jax
import jax.numpy as jnp
import numpy as np

from enerjax.atoms.equivariant.constant import Matrix

random = np.random.default_rng(0)
VALUES = random.normal(size=(5, 3))
MATRIX = Matrix(VALUES)
X, DX = jnp.asarray(random.normal(size=(2, 3, 4, 2)))


def energy(product):
    """Nonlinear, with both the matrix and its transpose's second derivative in it."""
    return lambda x: jnp.sum(jnp.sin(product(x)) ** 2)


OURS = energy(lambda x: MATRIX @ x)
THEIRS = energy(lambda x: jnp.tensordot(VALUES, x, 1))


def test_derivatives_of_every_kind():
    np.testing.assert_allclose(OURS(X), THEIRS(X), rtol=1e-14)
    for transform in (
        lambda f: jax.grad(f)(X),
        lambda f: jax.jit(jax.grad(f))(X),
        lambda f: jax.jvp(f, (X,), (DX,))[1],
        lambda f: jax.jvp(jax.grad(f), (X,), (DX,))[1],
        lambda f: jax.grad(lambda x: jnp.vdot(jax.grad(f)(x), DX))(X),
        lambda f: jax.hessian(f)(X),
        lambda f: jax.grad(jax.checkpoint(f))(X),
        lambda f: jax.vmap(jax.grad(f), 2, 1)(jnp.stack([X, DX, X + DX], 2)),
    ):
        np.testing.assert_allclose(transform(OURS), transform(THEIRS), rtol=1e-12, atol=1e-13)


def test_transpose_is_a_product_without_moving_the_cotangent():
    """The reason of its being: Cᵀ·g, not (gᵀ·C)ᵀ."""
    transposed = jax.linear_transpose(lambda x: MATRIX @ x, X)
    text = jax.jit(transposed).lower(jnp.zeros((5, 4, 2))).as_text()
    assert "dot_general" in text and "stablehlo.transpose" not in text
