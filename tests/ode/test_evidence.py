"""The evidence of a law whose path is linear in its parameters is a Gaussian integral: known exactly."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from enerjax import ode

TS = jnp.linspace(0.0, 2.0, 9)
NOISE = 0.3


class Drift(eqx.Module):
    """ẏ = a + b t: y = y₀ + a t + b t²/2."""

    a: jax.Array
    b: jax.Array

    def __call__(self, t, y, args=None):
        return self.a + self.b * t


def exact(data, alphas):
    """ln ∫ p(y | a, b, y₀) N(a, b; 0, 1/α) da db dy₀ of one series, without its constants."""
    t = np.asarray(TS)
    J = np.stack([t, t**2 / 2, np.ones_like(t)], axis=1) / NOISE
    r = np.asarray(data).ravel() / NOISE
    H = J.T @ J + np.diag([*alphas, 0.0])
    mean = np.linalg.solve(H, J.T @ r)
    value = 0.5 * np.sum((J @ mean - r) ** 2) + 0.5 * np.sum(np.array(alphas) * mean[:2] ** 2)
    return -value - 0.5 * np.linalg.slogdet(H)[1] + 0.5 * np.sum(np.log(alphas))


def test_evidence_and_its_best_strengths_are_the_exact_ones(key):
    data = (0.5 + 1.5 * TS + NOISE * jr.normal(key, TS.shape))[None, :, None]
    first = ode.Learned(Drift(jnp.ones(1), jnp.ones(1)), jnp.zeros((1, 1)))
    how = dict(noise=NOISE, solver=dict(substeps=1, solver=diffrax.Bosh3()))
    best = ode.weigh(first, TS, data, rounds=40, tolerance=1e-6, **how)
    alphas = [best.strength.a, best.strength.b]
    np.testing.assert_allclose(best.log_evidence, exact(data, alphas), rtol=1e-7)
    # no strength nearby explains the data better, and the curvature that is not there is switched off
    for k in range(2):
        for factor in (0.7, 1.4):
            other = [a * (factor if j == k else 1.0) for j, a in enumerate(alphas)]
            assert exact(data, other) < best.log_evidence + 1e-3
    assert best.determined < 1.6
