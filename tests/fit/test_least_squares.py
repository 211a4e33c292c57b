"""Least squares: certified numbers; dense, kernel and matrix-free steps agree; damping on a hard valley."""

import jax
import jax.numpy as jnp
import jax.random as jr
import pytest

from enerjax.energy import AbstractEnergy, Gaussian, Misfit, gauss_newton_product, has_residual, residual
from enerjax.fit.least_squares import (
    gauss_newton,
    jacobian,
    levenberg_marquardt,
    lstsq,
    natural_gradient,
    reduce,
    solve_reduced,
)

# NIST StRD "Longley" (certified), https://www.itl.nist.gov/div898/strd/lls/data/Longley.shtml
LONGLEY = jnp.array(
    [
        [60323, 83.0, 234289, 2356, 1590, 107608, 1947],
        [61122, 88.5, 259426, 2325, 1456, 108632, 1948],
        [60171, 88.2, 258054, 3682, 1616, 109773, 1949],
        [61187, 89.5, 284599, 3351, 1650, 110929, 1950],
        [63221, 96.2, 328975, 2099, 3099, 112075, 1951],
        [63639, 98.1, 346999, 1932, 3594, 113270, 1952],
        [64989, 99.0, 365385, 1870, 3547, 115094, 1953],
        [63761, 100.0, 363112, 3578, 3350, 116219, 1954],
        [66019, 101.2, 397469, 2904, 3048, 117388, 1955],
        [67857, 104.6, 419180, 2822, 2857, 118734, 1956],
        [68169, 108.4, 442769, 2936, 2798, 120445, 1957],
        [66513, 110.8, 444546, 4681, 2637, 121950, 1958],
        [68655, 112.6, 482704, 3813, 2552, 123366, 1959],
        [69564, 114.2, 502601, 3931, 2514, 125368, 1960],
        [69331, 115.7, 518173, 4806, 2572, 127852, 1961],
        [70551, 116.9, 554894, 4007, 2827, 130081, 1962],
    ]
)
CERTIFIED = jnp.array(
    [-3482258.63459582, 15.0618722713733, -0.358191792925910e-01, -2.02022980381683, -1.03322686717359,
     -0.511041056535807e-01, 1829.15146461355]
)  # fmt: skip


def test_longley_to_nine_digits():
    A = jnp.concatenate([jnp.ones((16, 1)), LONGLEY[:, 1:]], axis=1)
    assert jnp.allclose(lstsq(A, LONGLEY[:, 0]), CERTIFIED, rtol=1e-8)


def test_rows_in_batches_give_the_same_triangle(key):
    A, b = jr.normal(key, (60, 7)), jr.normal(jr.key(1), (60,))
    R = reduce(A[20:], b[20:], reduce(A[:20], b[:20]))
    whole, _ = solve_reduced(reduce(A, b))
    batched, misfit = solve_reduced(R)
    assert jnp.allclose(whole, batched, rtol=1e-11)
    assert jnp.allclose(misfit, jnp.linalg.norm(A @ whole - b), rtol=1e-10)


def rosenbrock(x):
    return jnp.stack([10 * (x["b"] - x["a"] ** 2), 1 - x["a"]])


START = {"a": jnp.array(-1.2), "b": jnp.array(1.0)}


@pytest.mark.parametrize("options", [{}, {"matrix_free": True}, {"damping": 0.0}])
def test_rosenbrock(options):
    fit = levenberg_marquardt(Misfit(rosenbrock), START, iterations=200, **options)
    assert fit.energy < 1e-20 and jnp.allclose(fit.value["a"], 1.0, atol=1e-9)
    assert all(b <= a for a, b in zip(fit.history, fit.history[1:], strict=False))


def test_gauss_newton_ends_in_one_step_on_a_linear_problem(key):
    A, y = jr.normal(key, (12, 4)), jr.normal(jr.key(1), (12,))
    fit = gauss_newton(Gaussian(lambda x: A @ x, y, 0.5), jnp.zeros(4), iterations=3)
    assert jnp.allclose(fit.value, jnp.linalg.lstsq(A, y)[0], rtol=1e-9)


def test_fewer_residuals_than_parameters_uses_the_kernel_and_fits(key):
    A, y = jr.normal(key, (4, 30)), jr.normal(jr.key(1), (4,))
    fit = levenberg_marquardt(Misfit(lambda x: jnp.tanh(A @ x) - jnp.tanh(y)), jnp.zeros(30), iterations=60)
    assert fit.energy < 1e-20


def test_residual_of_sums_and_multiples():
    E = 2.0 * Misfit(rosenbrock) + Gaussian(lambda x: x["a"], jnp.array(3.0), 0.1)
    r, J = jacobian(E, START)
    assert has_residual(E) and r.shape == (3,)
    assert jnp.allclose(0.5 * r @ r, E(START), rtol=1e-14)
    v = {"a": jnp.array(0.3), "b": jnp.array(-0.2)}
    product = gauss_newton_product(E, START, v)
    assert jnp.allclose(jnp.stack([product["a"], product["b"]]), J.T @ (J @ jnp.array([0.3, -0.2])), rtol=1e-12)


def test_natural_gradient_of_a_quadratic_energy_is_newton(key):
    A, b = jr.normal(key, (9, 5)), jr.normal(jr.key(1), (5,))

    class Quadratic(AbstractEnergy):
        def __call__(self, x):
            return 0.5 * jnp.sum((A @ x) ** 2) - b @ x

    step = natural_gradient(Misfit(lambda x: A @ x), Quadratic(), jnp.zeros(5), damping=1e-24)
    assert jnp.allclose(step, jnp.linalg.solve(A.T @ A, b), rtol=1e-8)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="not of the form"):
        residual(lambda x: x**2, jnp.array(1.0))
    with pytest.raises(ValueError, match="negative multiple"):
        residual(-1.0 * Misfit(rosenbrock), START)
    with pytest.raises(FloatingPointError, match="not finite"):
        levenberg_marquardt(Misfit(lambda x: jnp.log(x)), jnp.array([-1.0]))


def test_jit_and_grad_compose(key):
    A, b = jr.normal(key, (8, 3)), jr.normal(jr.key(1), (8,))
    g = jax.jit(jax.grad(lambda b: jnp.sum(lstsq(A, b, 1e-12))))(b)
    assert jnp.allclose(g, jnp.linalg.pinv(A).T @ jnp.ones(3), rtol=1e-8)
