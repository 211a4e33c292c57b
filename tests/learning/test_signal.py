"""Mean field of random networks against closed forms and measured networks; the gradient as a d'Alembert wave."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from enerjax.learning.signal import MeanField, backward_signal, critical_sigma, gradient_norms, residual_wave

# exact gelu (the normal distribution function): smooth, so mean field and network use the same function
gelu = lambda x: jax.nn.gelu(x, approximate=False)
ACTIVATIONS = {"tanh": jnp.tanh, "relu": jax.nn.relu, "gelu": gelu}


def test_he_initialisation_sits_at_chi_one():
    for q in (0.1, 1.0, 30.0):
        np.testing.assert_allclose(MeanField(jax.nn.relu, np.sqrt(2.0)).chi(q), 1.0, rtol=1e-12)
        np.testing.assert_allclose(MeanField(jax.nn.relu, np.sqrt(2.0)).variance(q), q, rtol=1e-12)
        np.testing.assert_allclose(critical_sigma(jax.nn.relu, q), np.sqrt(2.0), rtol=1e-12)
    np.testing.assert_allclose(critical_sigma(jnp.tanh, 1e-10), 1.0, atol=1e-8)


@pytest.mark.parametrize("c", [-0.5, 0.0, 0.3, 0.9])
def test_relu_correlation_map_is_the_arc_cosine_kernel(c):
    """[√(1 − c²) + (π − arccos c) c]/π: Y. Cho and L. Saul, NeurIPS 2009."""
    exact = (np.sqrt(1 - c**2) + (np.pi - np.arccos(c)) * c) / np.pi
    np.testing.assert_allclose(MeanField(jax.nn.relu, np.sqrt(2.0)).correlation(c, 1.7), exact, rtol=1e-9, atol=1e-12)


def test_erf_variance_map_is_its_closed_form():
    """E[erf(√q z)²] = (2/π) arcsin(2q/(1 + 2q)): C. Williams 1998."""
    for q in (0.3, 2.0):
        exact = 2 / np.pi * np.arcsin(2 * q / (1 + 2 * q))
        np.testing.assert_allclose(MeanField(jax.lax.erf, 1.3, 0.2).variance(q), 1.69 * exact + 0.04, rtol=1e-12)


def test_slope_of_the_correlation_map_at_one_is_chi():
    field = MeanField(jnp.tanh, 1.4, 0.3)
    q = field.fixed_point(iterations=400)
    np.testing.assert_allclose(field.variance(q), q, rtol=1e-10)
    c = 1 - 1e-5
    slope = (1 - float(field.correlation(c, q))) / 1e-5
    np.testing.assert_allclose(slope, field.chi(q), rtol=1e-4)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_gradients_follow_chi_through_a_hundred_layers(key, name):
    """Depth 100, width 200, eight networks: mean growth per layer is χ, within four standard errors."""
    depth, width, networks = 100, 200, 8
    # off the critical point, so that χ^depth is far from 1
    sigma = {"tanh": 1.3, "relu": np.sqrt(1.9), "gelu": 1.4}[name]
    field = MeanField(ACTIVATIONS[name], sigma, 0.1)
    measure = jax.jit(lambda keys: jax.lax.map(lambda k: gradient_norms(field, k, depth=depth, width=width), keys))
    variances, gradients = measure(jr.split(key, networks))
    # g²(l) = χ(q_l) g²(l + 1), at the variance each layer of each finite network really has
    chi = jax.jit(jax.vmap(field.chi))(variances.ravel()).reshape(variances.shape)[:, :-1]
    ratios = gradients[:, :-1] / gradients[:, 1:] / chi
    error = jnp.std(ratios) / np.sqrt(ratios.size)
    assert error < 0.01
    assert abs(jnp.mean(ratios) - 1) < 4 * error
    growth, predicted = jnp.log(gradients[:, 0] / gradients[:, -1]), jnp.sum(jnp.log(chi), 1)
    spread = jnp.std(growth - predicted, ddof=1) / np.sqrt(networks)
    # the mean of a logarithm lies below the logarithm of the mean, by half the variance of every layer's ratio
    bias = -0.5 * (depth - 1) * jnp.var(ratios)
    assert abs(jnp.mean(growth - predicted) - bias) < 4 * spread
    assert jnp.abs(jnp.mean(predicted)) > 2.0


def test_variance_map_of_infinite_width_describes_wide_networks(key):
    field = MeanField(jnp.tanh, 1.5, 0.3)
    variances = jax.lax.map(lambda k: gradient_norms(field, k, depth=30, width=400, q=2.0)[0], jr.split(key, 8))
    theory, chi = field.profile(2.0, 30)
    np.testing.assert_allclose(jnp.mean(variances, 0), theory, rtol=0.12)
    np.testing.assert_allclose(theory[-1], field.fixed_point(), rtol=1e-6)
    np.testing.assert_allclose(chi[-1], field.chi(theory[-1]), rtol=1e-12)


def _pulse(sites, speed=0.7, time=0.5, width=8.0):
    """A ring of circumference 2π, a Gaussian pulse on it, and d'Alembert's solution."""
    s = jnp.arange(sites) * 2 * jnp.pi / sites
    bump = lambda x: jnp.exp(-width * (jnp.mod(x, 2 * jnp.pi) - jnp.pi) ** 2)
    return s, bump(s), 0.5 * (bump(s - speed * time) + bump(s + speed * time))


def test_backward_signal_converges_to_dalembert_at_second_order():
    """At fixed c Δt/Δs = 0.5 the error of the gradient that arrives at the input quarters with the spacing."""
    errors = []
    for sites in (128, 256, 512):
        s, pulse, exact = _pulse(sites)
        spacing = 2 * np.pi / sites
        blocks = round(0.5 / (0.5 * spacing / 0.7))
        network = residual_wave(0.7, spacing, 0.5 / blocks, blocks)
        rest = jnp.zeros(sites)
        g, _ = backward_signal(network, (rest, rest), (pulse, rest))
        errors.append(float(jnp.linalg.norm(g - exact) / jnp.linalg.norm(exact)))
    slopes = np.log2(np.array(errors[:-1]) / errors[1:])
    assert errors[-1] < 5e-4 and np.all(np.abs(slopes - 2) < 0.15), (errors, slopes)


def test_wave_speed_is_c():
    """The right-moving half of the pulse is where c t says, to 1e-3."""
    sites, c, time = 1024, 0.7, 2.0
    s, pulse, _ = _pulse(sites)
    spacing = 2 * np.pi / sites
    blocks = 1000
    rest = jnp.zeros(sites)
    g, _ = backward_signal(residual_wave(c, spacing, time / blocks, blocks), (rest, rest), (pulse, rest))
    right = jnp.where(s > np.pi, g, 0.0)
    place = jnp.sum(right * s) / jnp.sum(right)
    np.testing.assert_allclose((place - np.pi) / time, c, rtol=1e-3)


def test_gradient_neither_vanishes_nor_explodes():
    """The wave's energy at the input equals that at the output after a thousand layers."""
    s, pulse, _ = _pulse(256)
    spacing, rest = 2 * np.pi / 256, jnp.zeros(256)
    g, h = backward_signal(residual_wave(0.7, spacing, 0.5 * spacing, 1000), (rest, rest), (pulse, rest))
    # backwards the roles swap: g_q is a momentum for g_p; the shadow invariant equals the energy to O(Δt²)
    energy = lambda g, h: 0.5 * jnp.sum(g**2) + 0.5 * 0.49 * jnp.sum(((jnp.roll(h, -1) - h) / spacing) ** 2)
    np.testing.assert_allclose(energy(g, h), energy(pulse, rest), rtol=2e-3)
