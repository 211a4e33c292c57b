"""The scan's transpose is the textbook's: back-propagation through time, the 4D-Var adjoint, hypergradients."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from enerjax import flow, path
from enerjax.energy import AbstractEnergy


def test_gru_equals_handwritten_back_propagation_through_time(key):
    """K. Cho et al. (2014): r, u gates; the recursion below is written out from the forward formulas."""
    n, m, T = 5, 3, 12
    cell = eqx.nn.GRUCell(m, n, key=key)
    xs, target = jr.normal(jr.key(1), (T, m)), jr.normal(jr.key(2), (T, n))
    h0 = jnp.zeros(n)

    def loss(cell, h0):
        return 0.5 * jnp.sum((path.rollout(lambda h, x: cell(x, h), h0, xs) - target) ** 2)

    ours, ours_h0 = jax.jit(jax.grad(loss, (0, 1)))(cell, h0)

    Wi, Wh, b, bn = (np.asarray(v) for v in (cell.weight_ih, cell.weight_hh, cell.bias, cell.bias_n))
    sigmoid = lambda a: 1 / (1 + np.exp(-a))
    h, tape = np.zeros(n), []
    for x in np.asarray(xs):
        a, c = Wi @ x + b, Wh @ h
        r, u = sigmoid(a[:n] + c[:n]), sigmoid(a[n : 2 * n] + c[n : 2 * n])
        v = np.tanh(a[2 * n :] + r * (c[2 * n :] + bn))
        tape.append((x, h, r, u, v, c[2 * n :] + bn))
        h = v + u * (h - v)
    dWi, dWh, db, dbn = np.zeros_like(Wi), np.zeros_like(Wh), np.zeros_like(b), np.zeros_like(bn)
    dh = np.zeros(n)
    after = h
    for (x, h, r, u, v, s), y in zip(tape[::-1], np.asarray(target)[::-1], strict=True):
        dh = dh + (after - y)
        dv, du = dh * (1 - u) * (1 - v**2), dh * (h - v) * u * (1 - u)
        dr = dv * s * r * (1 - r)
        da, dc = np.concatenate([dr, du, dv]), np.concatenate([dr, du, dv * r])
        dWi, dWh, db, dbn = dWi + np.outer(da, x), dWh + np.outer(dc, h), db + da, dbn + dv * r
        dh, after = dh * u + Wh.T @ dc, h
    for a, b in ((ours.weight_ih, dWi), (ours.weight_hh, dWh), (ours.bias, db), (ours.bias_n, dbn), (ours_h0, dh)):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


def lorenz96(x):
    return (jnp.roll(x, -1) - jnp.roll(x, 2)) * jnp.roll(x, 1) - x + 8.0


def rk4(f, dt):
    def step(x, _=None):
        k1 = f(x)
        k2 = f(x + dt / 2 * k1)
        k3 = f(x + dt / 2 * k2)
        k4 = f(x + dt * k3)
        return x + dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4)

    return step


def test_discrete_4dvar_gradient_is_the_textbook_recursion(key):
    """λ_K = R⁻¹(x_K − y_K), λₖ = Mₖᵀ λₖ₊₁ + R⁻¹(xₖ − yₖ), ∇J = λ₀ + B⁻¹(x₀ − x_b): Talagrand & Courtier (1987)."""
    n, K, σ, b = 8, 15, 0.5, 0.3
    M = rk4(lorenz96, 0.05)
    xb, data = jr.normal(key, (n,)), jr.normal(jr.key(5), (K, n))
    data = data.at[3, 2].set(jnp.nan)
    J = path.strong(lambda x: path.rollout(M, x, length=K), data, σ, background=path.Background(xb, b), missing=True)
    x0 = xb + 0.1
    gradient = jax.jit(jax.grad(J))(x0)
    xs = [x0]
    for _ in range(K):
        xs.append(M(xs[-1]))
    λ = jnp.zeros(n)
    for k in range(K, 0, -1):
        λ = λ + jnp.nan_to_num((xs[k] - data[k - 1]) / σ**2)
        λ = jax.jacfwd(M)(xs[k - 1]).T @ λ
    np.testing.assert_allclose(gradient, λ + (x0 - xb) / b**2, rtol=1e-10, atol=1e-10)


def test_hypergradient_of_a_learning_rate_schedule():
    """d(validation loss)/d(rate of every step) of heavy-ball training, against differences; eager memory bounded."""
    A = jnp.asarray(np.random.default_rng(0).normal(size=(6, 4)))
    rates, T = jnp.linspace(0.02, 0.08, 24), 24

    def trained(rates):
        loss = lambda w: 0.5 * jnp.sum((jnp.tanh(A @ w) - 0.3) ** 2)

        def step(z, rate):
            w, m = z
            m = 0.8 * m - rate * jax.grad(loss)(w)
            return w + m, m

        w, _ = path.rollout(step, (jnp.ones(4), jnp.zeros(4)), rates, stride=T, levels=3)
        return jnp.sum((A[:3] @ w[-1]) ** 2)

    gradient, f = jax.jit(jax.grad(trained))(rates), jax.jit(trained)
    for k in (0, 11, 23):
        e, h = jnp.zeros(T).at[k].set(1.0), 1e-4
        numeric = (8 * (f(rates + h * e) - f(rates - h * e)) - (f(rates + 2 * h * e) - f(rates - 2 * h * e))) / (12 * h)
        np.testing.assert_allclose(gradient[k], numeric, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("length, stride, levels", [(60, 12, 1), (60, 60, 2), (60, 60, 6), (59, 59, 3)])
def test_checkpoints_change_nothing(length, stride, levels):
    xs = jnp.sin(jnp.arange(length))
    step = lambda z, x: z + 0.1 * jnp.sin(z * jnp.array([1.0, 2.0]) + x)
    run = lambda z, **how: jnp.sum(path.rollout(step, z, xs, **how)[-1] ** 2)
    z = jnp.array([0.3, 0.5])
    plain = jax.value_and_grad(run)(z)
    np.testing.assert_allclose(
        jnp.hstack(jax.jit(jax.value_and_grad(lambda z: run(z, stride=stride, levels=levels)))(z)),
        jnp.hstack(plain),
        rtol=1e-14,
    )


def test_nested_checkpoints_bound_memory():
    """Temporary memory of the backward pass falls from n towards log n states."""
    n, d = 4096, 64
    W = jnp.asarray(np.random.default_rng(0).normal(size=(d, d)) / 8)
    run = lambda z, **how: jnp.sum(path.rollout(lambda z, _: jnp.tanh(W @ z), z, length=n, **how)[-1])
    size = lambda **how: (
        jax.jit(jax.grad(lambda z: run(z, **how))).lower(jnp.ones(d)).compile().memory_analysis().temp_size_in_bytes
    )
    state = d * 8
    every, root, logarithm = size(stride=1), size(stride=n, levels=2), size(stride=n, levels=12)
    assert every > n * state
    assert root < 10 * np.sqrt(n) * state
    assert logarithm < 12 * np.log2(n) * state
    assert logarithm < root


class Bumps(AbstractEnergy):
    W: jax.Array
    a: jax.Array

    def __call__(self, q):
        return self.a @ jnp.tanh(self.W @ q) + 0.5 * q @ q


@pytest.mark.parametrize("step", [flow.verlet, flow.yoshida4], ids=["verlet", "yoshida4"])
def test_reversible_adjoint_equals_the_scan(step, key):
    d = 6
    energy = Bumps(jr.normal(key, (12, d)), jr.normal(jr.key(3), (12,)) / 12)
    q, p, mass = jr.normal(jr.key(4), (d,)), jnp.ones(d), jnp.linspace(0.5, 2.0, d)

    def judged(run):
        def loss(energy, q, p, dt, mass):
            z = run(energy, flow.Phase.at(energy, q, p), dt, mass)
            return jnp.sum(jnp.sin(z.position)) + jnp.sum(z.momentum[-1] ** 2) + jnp.sum(z.energy)

        return jax.jit(jax.value_and_grad(loss, (0, 1, 2, 3, 4)))(energy, q, p, jnp.array(0.05), mass)

    scan = judged(
        lambda energy, z, dt, mass: path.rollout(lambda z, _: step(energy, z, dt, mass), z, length=60, stride=20)
    )
    back = judged(
        lambda energy, z, dt, mass: path.reversible(energy, z, dt, length=60, stride=20, step=step, mass=mass)
    )
    for a, b in zip(jax.tree.leaves(scan), jax.tree.leaves(back), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-10, atol=1e-10)


def test_reversible_memory_does_not_grow(key):
    energy = Bumps(jr.normal(key, (12, 8)), jr.normal(jr.key(3), (12,)) / 12)
    z = flow.Phase.at(energy, jnp.ones(8))

    def size(n):
        last = lambda energy: jnp.sum(path.reversible(energy, z, 0.02, length=n, stride=n).position)
        return jax.jit(jax.grad(last)).lower(energy).compile().memory_analysis().temp_size_in_bytes

    assert size(100_000) <= size(1000)
