"""Every derivative of a path, against finite differences and against each other, over a zoo of fields and solvers."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from enerjax import path
from enerjax.path import march

TIGHT = dict(rtol=1e-10, atol=1e-12)


def lotka(t, y, p):
    return jnp.stack([(p[0] - p[1] * y[1]) * y[0], (-p[2] + p[3] * y[0]) * y[1]])


def forced(t, y, p):
    return {"q": y["v"], "v": -p[0] * jnp.sin(y["q"]) - p[1] * y["v"] + p[2] * jnp.cos(2 * t)}


def network(t, y, p):
    return p["V"] @ jnp.tanh(p["W"] @ y**3)


RNG = np.random.default_rng(0)
WEIGHTS = {"W": jnp.asarray(RNG.normal(size=(8, 2)) / 2), "V": jnp.asarray(RNG.normal(size=(2, 8)) / 3)}
ZOO = {
    "lotka": (lotka, jnp.array([30.0, 4.0]), jnp.linspace(0, 9, 7), jnp.array([0.55, 0.028, 0.8, 0.024])),
    "forced pendulum": (
        forced,
        {"q": jnp.array(1.0), "v": jnp.array([0.3])[0]},
        jnp.array([0.3, 0.9, 1.0, 4.0]),
        jnp.array([4.0, 0.3, 1.0]),
    ),
    "network": (network, jnp.array([2.0, 0.1]), jnp.linspace(0, 1.5, 5), WEIGHTS),
}


def loss_of(name, **options):
    field, y0, ts, p = ZOO[name]
    flat, unravel = ravel_pytree((p, y0))

    def loss(v):
        p, y0 = unravel(v)
        ys = path.solve(field, y0, ts, p, **options)
        return sum(jnp.sum(jnp.cos(v / 10)) for v in jax.tree.leaves(ys))

    return loss, flat


def difference(f, x, v, h):
    """Directional derivative by central differences of fourth order."""
    g = lambda k: f(x + k * h * v)
    return (8 * (g(1) - g(-1)) - (g(2) - g(-2))) / (12 * h)


@pytest.mark.parametrize("name", ZOO)
@pytest.mark.parametrize("solver", [diffrax.Tsit5(), diffrax.Bosh3()], ids=["Tsit5", "Bosh3"])
def test_gradient_jvp_hvp_and_gauss_newton_through_one_call(name, solver):
    loose = isinstance(solver, diffrax.Bosh3)
    tolerance = dict(rtol=1e-7, atol=1e-9) if loose else TIGHT
    loss, x = loss_of(name, solver=solver, max_steps=2048, **tolerance)
    v = jnp.asarray(np.random.default_rng(1).normal(size=x.size)) * jnp.maximum(jnp.abs(x), 0.05)

    @jax.jit
    def everything(x):
        value, tangent = jax.jvp(loss, (x,), (v,))
        gradient, curved = jax.jvp(jax.grad(loss), (x,), (v,))
        return value, tangent, gradient, curved

    value, tangent, gradient, curved = everything(x)
    np.testing.assert_allclose(tangent, gradient @ v, rtol=1e-10)
    # the steps are chosen anew at displaced points, so differences agree to the tolerance of the solve
    rtol, h = (1e-4, 1e-3) if loose else (1e-7, 3e-4)
    f = jax.jit(loss)
    np.testing.assert_allclose(tangent, difference(f, x, v, h), rtol=rtol, atol=rtol * abs(float(value)))
    g = jax.jit(lambda x: everything(x)[2])
    numeric = difference(g, x, v, h)
    np.testing.assert_allclose(curved, numeric, rtol=20 * rtol, atol=20 * rtol * float(jnp.max(jnp.abs(numeric))))


def test_gauss_newton_product_is_the_explicit_one():
    field, y0, ts, p = ZOO["lotka"]
    residual = lambda p: (path.solve(field, y0, ts, p, **TIGHT) - 20.0).ravel()
    v = jnp.array([0.1, -0.01, 0.2, 0.01])
    _, push = jax.linearize(residual, p)
    pull = jax.linear_transpose(push, p)
    forward, backward = jax.jit(jax.jacfwd(residual))(p), jax.jit(jax.jacrev(residual))(p)
    np.testing.assert_allclose(forward, backward, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(pull(push(v))[0], forward.T @ (forward @ v), rtol=1e-10)


@pytest.mark.parametrize(
    "adjoint",
    [
        diffrax.RecursiveCheckpointAdjoint(),
        diffrax.DirectAdjoint(),
        diffrax.BacksolveAdjoint(solver=diffrax.Dopri8(), stepsize_controller=diffrax.PIDController(1e-11, 1e-13)),
    ],
    ids=["checkpointed", "direct", "backsolve"],
)
def test_adjoints_agree(adjoint):
    (ours, x), (theirs, _) = loss_of("lotka", **TIGHT), loss_of("lotka", adjoint=adjoint, max_steps=512, **TIGHT)
    np.testing.assert_allclose(jax.jit(jax.grad(theirs))(x), jax.jit(jax.grad(ours))(x), rtol=2e-8, atol=1e-9)


def test_forward_adjoint_and_fixed_steps_agree():
    ours, x = loss_of("lotka", **TIGHT)
    gradient = jax.jit(jax.grad(ours))(x)
    forward, _ = loss_of("lotka", adjoint=diffrax.ForwardMode(), **TIGHT)
    np.testing.assert_allclose(jax.jit(jax.jacfwd(forward))(x), gradient, rtol=2e-8, atol=1e-9)
    fixed, _ = loss_of("lotka", substeps=200)
    np.testing.assert_allclose(jax.jit(jax.grad(fixed))(x), gradient, rtol=1e-8, atol=1e-9)


def test_batch_shares_parameters_and_keeps_its_own_times_and_steps():
    field, _, _, p = ZOO["lotka"]
    starts = jnp.array([[30.0, 4.0], [39.0, 2.0], [15.0, 8.0]])
    times = jnp.array([[0.0, 1.0, 2.0], [0.5, 0.7, 9.0], [0.0, 3.0, 3.5]])
    one = lambda p, y, ts: jnp.sum(jnp.sin(path.solve(field, y, ts, p, **TIGHT)))
    batch = lambda p, y, ts: jnp.sum(jax.vmap(one, (None, 0, 0))(p, y, ts))
    gp, gy, gt = jax.jit(jax.grad(batch, (0, 1, 2)))(p, starts, times)
    each = jax.jit(jax.grad(one, (0, 1, 2)))
    singles = [each(p, y, ts) for y, ts in zip(starts, times, strict=True)]
    np.testing.assert_allclose(gp, sum(s[0] for s in singles), rtol=1e-8)
    np.testing.assert_allclose(gy, jnp.stack([s[1] for s in singles]), rtol=1e-8)
    per_sample = jax.jit(jax.vmap(jax.grad(one), (None, 0, 0)))(p, starts, times)
    np.testing.assert_allclose(per_sample, jnp.stack([s[0] for s in singles]), rtol=1e-8)
    ensemble = jax.jit(jax.grad(lambda P: jnp.sum(jax.vmap(one, (0, 0, 0))(P, starts, times))))(jnp.stack([p] * 3))
    np.testing.assert_allclose(ensemble, per_sample, rtol=1e-8)
    v = jnp.array([0.1, 0.001, 0.1, 0.001])
    hvp = jax.jit(lambda p: jax.jvp(jax.grad(batch), (p, starts, times), (v, 0 * starts, 0 * times))[1])(p)
    np.testing.assert_allclose(
        hvp,
        difference(lambda p: sum(each(p, y, t)[0] for y, t in zip(starts, times, strict=True)), p, v, 1e-3),
        rtol=1e-5,
    )
    # ∂y/∂t₁ = f at the end, −Φ f at the start: against differences of the times
    value = jax.jit(one)
    for k in range(3):
        step = jnp.zeros(3).at[k].set(1.0)
        numeric = difference(lambda ts: value(p, starts[1], ts), times[1], step, 1e-3)
        np.testing.assert_allclose(gt[1, k], numeric, rtol=1e-4)


def test_a_long_batch_sums_its_output_times_in_blocks():
    """The adjoint of the interpolation takes blocks of times when there are many numbers: same as lane by lane."""
    ts = jnp.stack([jnp.linspace(0.1 * k, 3.0, 77) for k in range(3)])
    starts = jnp.linspace(0.5, 2.0, 3 * 40).reshape(3, 40)
    assert starts.size * 77 > march.WHOLE
    field = lambda t, y, a: -a[0] * y + a[1] * jnp.sin(t)
    one = lambda a, y, ts: jnp.sum(jnp.cos(path.solve(field, y, ts, a, rtol=1e-6)))
    whole = lambda a, y: jnp.sum(jax.vmap(one, (None, 0, 0))(a, y, ts))
    lanes = lambda a, y: jnp.sum(jax.lax.map(lambda v: one(a, *v), (y, ts)))
    for ours, true in zip(
        *(jax.jit(jax.grad(f, (0, 1)))(jnp.array([0.7, 0.3]), starts) for f in (whole, lanes)), strict=True
    ):
        np.testing.assert_allclose(ours, true, rtol=1e-10, atol=1e-12)


def test_lanes_that_refuse_steps_in_different_turns():
    """A lane that waits leaves rows of length zero between its steps; its states and gradient are as if alone."""
    field, _, _, p = ZOO["lotka"]
    starts = jnp.array([[30.0, 4.0], [5.0, 40.0], [20.0, 26.0], [80.0, 2.0]])
    ts, at = jnp.linspace(0.0, 9.0, 4), jnp.linspace(0.0, 9.0, 23)

    def one(p, y):
        solution = path.integrate(field, y, ts, p, rtol=1e-4, dt0=3.0)
        assert solution.dense is not None
        waited = solution.dense.latest + 1 - solution.steps
        return jnp.sum(jnp.cos(solution.ys / 10)), (jax.vmap(solution.dense)(at), waited)

    both = jax.value_and_grad(one, argnums=(0, 1), has_aux=True)
    (value, (states, waited)), slopes = jax.jit(jax.vmap(both, (None, 0)))(p, starts)
    (alone, (states_alone, never)), slopes_alone = jax.jit(lambda p: jax.lax.map(lambda y: both(p, y), starts))(p)
    assert jnp.any(waited > 0) and not jnp.any(never)
    np.testing.assert_allclose(states, states_alone, rtol=1e-9)
    np.testing.assert_allclose(value, alone, rtol=1e-10)
    for ours, true in zip(slopes, slopes_alone, strict=True):
        np.testing.assert_allclose(ours, true, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("solver", [diffrax.Tsit5(), diffrax.Bosh3()], ids=["Tsit5", "Bosh3"])
def test_steps_do_not_depend_on_the_unit_of_time(solver):
    """The same path in seconds and in units of 2¹⁰ s: the first step is of the path, so all others are. Also from zero,
    and from a point where nothing moves at first.
    """
    field = lambda t, y, rate: rate * jnp.stack([(0.55 - 0.028 * y[1]) * y[0], (-0.8 + 0.024 * y[0]) * y[1]])
    pushed = lambda t, y, rate: rate * jnp.stack([y[1], 1.0 - y[0] - 0.1 * y[1]])
    late = lambda t, y, rate: rate * jnp.stack([(rate * t) ** 4 + y[1], -y[0]])
    ts = jnp.linspace(0.0, 20.0, 5)
    how = dict(solver=solver, rtol=1e-4, atol=1e-6)
    for law, start in ((field, [30.0, 4.0]), (pushed, [0.0, 0.0]), (late, [0.0, 0.0])):
        run = jax.jit(lambda rate: path.integrate(law, jnp.array(start), ts / rate, rate, **how))  # noqa: B023
        first, *others = (run(rate) for rate in (1.0, 1024.0, 1 / 1024))
        for other in others:
            assert other.steps == first.steps and jnp.array_equal(other.ys, first.ys)
            assert other.code == 0 and jnp.all(jnp.isfinite(other.ys))


def test_a_solver_of_high_order_and_its_interpolation():
    """Dormand–Prince 8(7), whose interpolation is of degree six."""
    field, y0, ts, p = ZOO["lotka"]
    found = path.integrate(field, y0, ts, p, solver=diffrax.Dopri8(), rtol=1e-9, atol=1e-11)
    exact = path.integrate(field, y0, ts, p, **TIGHT)
    np.testing.assert_allclose(found.ys, exact.ys, rtol=1e-7)
    assert found.steps < exact.steps / 3


def test_dense_output_is_accurate_and_differentiable():
    field, y0, _, p = ZOO["lotka"]
    solution = path.integrate(field, y0, jnp.array([0.0, 9.0]), p, **TIGHT)
    at = jnp.array([0.37, 4.4, 8.99])
    exact = path.solve(field, y0, at, p, t0=0.0, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(jax.vmap(solution.dense)(at), exact, rtol=1e-7)
    slope = jax.jvp(solution.dense, (at[1],), (jnp.array(1.0),))[1]
    np.testing.assert_allclose(slope, field(at[1], exact[1], p), rtol=1e-5)


def test_stiff_solver_and_its_gradient():
    """Robertson's kinetics, the reference values of Hairer & Wanner's test set at t = 40."""

    def robertson(t, y, k):
        a, b, c = k[0] * y[0], k[1] * y[1] * y[2], k[2] * y[1] ** 2
        return jnp.stack([-a + b, a - b - c, c])

    k = jnp.array([0.04, 1e4, 3e7])
    run = lambda k: path.solve(
        robertson,
        jnp.array([1.0, 0.0, 0.0]),
        jnp.array([0.0, 40.0]),
        k,
        solver=diffrax.Kvaerno5(),
        rtol=1e-8,
        atol=1e-12,
    )[-1]
    np.testing.assert_allclose(run(k), [0.7158270688, 0.9185534764e-5, 0.2841637457], rtol=1e-6)
    g = jax.jit(jax.grad(lambda k: run(k)[2]))(k)
    f = jax.jit(lambda k: run(k)[2])
    v = k * jnp.array([1.0, 0.0, 0.0])
    np.testing.assert_allclose(g @ v, difference(f, k, v, 1e-2), rtol=1e-5)
