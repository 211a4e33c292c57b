"""What stands beside the sampler: replica exchange, the solver's certificate, NumPyro models, molecules at kT."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from enerjax import chain
from enerjax import energy as en
from enerjax.chain import diagnostics as dg
from enerjax.flow import Phase


def test_replicas_cross_a_barrier(key):
    """A double well of depth 16 kT, tilted: the weight of the deeper well by quadrature. One chain alone never
    crosses."""
    energy = lambda x: 16 * (x**2 - 1) ** 2 + 0.5 * x
    ladder = jnp.array([1.0, 2.0, 4.0, 8.0, 16.0])
    kernel = lambda kT: chain.Hmc(0.12, 8, kT=kT, jitter=True)
    run = jax.jit(lambda key: chain.exchange(energy, kernel, ladder, jnp.asarray(1.0), key, 6000))
    out = run(key)
    grid = np.linspace(-3, 3, 4001)
    weight = np.exp(-np.asarray(energy(grid)))
    exact = weight[grid < 0].sum() / weight.sum()
    left = np.asarray(out.draws < 0, float)[None, 500:]
    assert abs(left.mean() - exact) < 4.5 * dg.mcse_mean(left)
    assert np.all(np.asarray(out.swaps) > 0.2)
    assert len(np.unique(np.asarray(out.replicas)[:, 0])) == 5, "every replica visits the coldest place"
    alone = jax.jit(lambda z, k: chain.walk(kernel(1.0), energy, z, k, 6000))(Phase.at(energy, jnp.asarray(1.0)), key)[
        1
    ]
    assert float(jnp.min(alone)) > 0


def test_replicas_of_a_constrained_posterior(key):
    """s of e⁻ˢ on (0, ∞), a failure reported below 1/10: mean 1.1, and all in the user's space."""
    energy = en.posterior(
        lambda x: (jnp.zeros(()), jnp.where(x["s"] < 0.1, 7, 0)), {"s": lambda s: -s}, {"s": en.Positive()}
    )
    ladder = jnp.array([1.0, 2.0, 4.0])
    kernel = lambda kT: chain.Hmc(0.4, 6, kT=kT, jitter=True)
    starts = lambda key: {"s": jr.uniform(key, (), minval=1.0, maxval=2.0)}
    run = jax.jit(lambda key: chain.exchange(energy, kernel, ladder, starts, key, 8000))
    out = run(key)
    s = np.asarray(out.draws["s"])[None]
    assert s.min() >= 0.1 and abs(s.mean() - 1.1) < 4.5 * dg.mcse_mean(s)
    assert np.all(np.asarray(out.acceptance) > 0.6)
    np.testing.assert_allclose(np.exp(out.last.position["s"][0]), s[0, -1], rtol=1e-12)
    with pytest.raises(ValueError, match="real scalar"):
        chain.exchange(lambda x: x, kernel, ladder, jnp.ones(3), key, 2)


def test_one_time_step_for_all_temperatures(key):
    """A harmonic well scaled by √kT is itself: at one step all temperatures accept alike; one that grows fails."""
    ladder = jnp.array([1.0, 4.0, 16.0])
    run = lambda kernel: chain.exchange(lambda x: 0.5 * jnp.sum(x**2), kernel, ladder, jnp.ones(4), key, 3000)
    accepted = run(lambda kT: chain.Hmc(1.2, 10, kT=kT)).acceptance
    assert accepted[0] < 0.95 and np.ptp(accepted) < 0.02
    assert run(lambda kT: chain.Hmc(1.2 * jnp.sqrt(kT), 10, kT=kT)).acceptance[1] < 1e-3


def test_certificate_tells_solver_from_monte_carlo(key):
    """Euler with many and with few steps for the same decay: only the coarse one fails its certificate."""
    t, y = jnp.linspace(0.2, 2, 10), jnp.exp(-1.3 * jnp.linspace(0.2, 2, 10)) + 0.01 * jnp.sin(jnp.arange(10.0))

    def energy(steps):
        def solve(rate):
            return (1 - rate * t / steps) ** steps  # Euler's solution of y' = −rate y

        return lambda x: 0.5 * jnp.sum(((solve(jnp.exp(x)) - y) / 0.01) ** 2) + 0.5 * x**2

    coarse = chain.sample(energy(8), jnp.asarray(0.0), key, draws=300)
    fine = chain.sample(energy(100_000), jnp.asarray(0.0), key, draws=300)
    bad, good = (chain.certify(p, energy(10_000_000)) for p in (coarse, fine))
    assert good.max_error < 0.1 and good.pareto_k < 0.7 and "Monte Carlo limits" in str(good)
    assert bad.shift > 5 * bad.mcse and "tolerance limits" in str(bad)


def test_numpyro_model(key):
    numpyro = pytest.importorskip("numpyro")
    dist = numpyro.distributions
    y = np.array([1.2, 0.4, 2.2, 1.7])

    def model(y):
        mu = numpyro.sample("mu", dist.Normal(0, 2))
        sigma = numpyro.sample("sigma", dist.HalfNormal(1))
        numpyro.sample("y", dist.Normal(mu, sigma), obs=y)

    energy, initial = chain.from_numpyro(model, y)
    post = chain.sample(energy, initial, key, draws=1000)
    assert set(post.draws) == {"mu", "sigma"} and np.all(post.draws["sigma"] > 0)
    m, s = np.meshgrid(np.linspace(-4, 6, 801), np.linspace(0.01, 6, 1200))
    log_p = -(m**2) / 8 - s**2 / 2 - sum(0.5 * ((v - m) / s) ** 2 + np.log(s) for v in y)
    w = np.exp(log_p - log_p.max())
    for name, grid in (("mu", m), ("sigma", s)):
        exact = (w * grid).sum() / w.sum()
        assert abs(post.draws[name].mean() - exact) < 4.5 * dg.mcse_mean(post.draws[name])


def test_numpyro_supports_that_depend_on_parameters(key):
    """a ~ U(0, 1), b ~ U(0, a): ⟨b⟩ = 1/4, ⟨b²⟩ = 1/9, and b never exceeds a; by hand b = a σ(u)."""
    numpyro = pytest.importorskip("numpyro")
    dist = numpyro.distributions

    def model():
        a = numpyro.sample("a", dist.Uniform(0, 1))
        numpyro.deterministic("twice", 2 * numpyro.sample("b", dist.Uniform(0, a)))

    energy, initial = chain.from_numpyro(model)
    u = {"a": jnp.asarray(0.3), "b": jnp.asarray(-1.0)}
    x = energy.constrain(u)
    assert float(x["b"]) == pytest.approx(1 / (1 + np.exp(-0.3)) / (1 + np.e), rel=1e-12)
    np.testing.assert_allclose(jax.tree.leaves(energy.unconstrain(x)), jax.tree.leaves(u), rtol=1e-9)
    draws = chain.sample(energy, initial, key, draws=1000).draws
    assert set(draws) == {"a", "b"} and np.all(draws["b"] <= draws["a"])
    for b, exact in ((draws["b"], 1 / 4), (draws["b"] ** 2, 1 / 9)):
        assert abs(b.mean() - exact) < 4.5 * dg.mcse_mean(b)


def test_molecule_in_the_canonical_ensemble(key):
    """A diatomic at 300 K by HMC in eV, Å, amu: ⟨stretch²⟩ = kT/k and the acceptance as gauge, for any atoms energy."""
    from enerjax import units

    k, r0 = 5.0, 1.1
    energy = lambda R: 0.5 * k * (jnp.linalg.norm(R[1] - R[0]) - r0) ** 2 + 0.5 * 0.1 * jnp.sum(jnp.mean(R, 0) ** 2)
    kT = units.kB * 300
    kernel = chain.Hmc(1.0 * units.fs, 25, mass=jnp.array([[12.0], [16.0]]), kT=kT, jitter=True)
    R = jnp.array([[0.0, 0, 0], [0, 0, r0]])
    start = jax.vmap(lambda _: Phase.at(energy, R))(jnp.arange(8))
    _, x, info = jax.jit(jax.vmap(lambda z, k: chain.walk(kernel, energy, z, k, 1500)))(start, jr.split(key, 8))
    r = jnp.linalg.norm(x[:, 200:, 1] - x[:, 200:, 0], axis=-1)
    # in three dimensions the density of r carries r²
    grid = np.linspace(0.8, 1.4, 2001)
    w = grid**2 * np.exp(-0.5 * k * (grid - r0) ** 2 / kT)
    exact = (w * (grid - r0) ** 2).sum() / w.sum()
    square = np.asarray((r - r0) ** 2)
    assert abs(square.mean() - exact) < 4.5 * dg.mcse_mean(square)
    assert float(info.acceptance.mean()) > 0.95


def test_canonical_energy_of_an_atoms_potential(key):
    """A Morse dimer of `atoms` at 2000 K: mean energy, acceptance and its exact anharmonic value by quadrature."""
    from enerjax import units
    from enerjax.atoms import Structure
    from enerjax.atoms.neighbours import neighbours_of
    from enerjax.atoms.pair import Morse

    model = Morse(0.6, 1.5, 2.2, cutoff=9.0, inner=8.0)
    R = jnp.array([[0.0, 0, 0], [0, 0, 2.2]])
    dimer = Structure(species=jnp.array([18, 18]), positions=R)
    neighbours = neighbours_of(dimer, 9.0)
    tether = lambda R: 0.5 * 0.2 * jnp.sum(jnp.mean(R, 0) ** 2)  # holds the centre of mass
    bound = lambda r: 0.5 * 40.0 * jnp.maximum(r - 4.0, 0.0) ** 2  # a dimer in free space falls apart
    energy = lambda R: model(dimer.at(R), neighbours) + tether(R) + bound(jnp.linalg.norm(R[1] - R[0]))
    kT = units.kB * 2000
    kernel = chain.Hmc(5.0 * units.fs, 30, mass=dimer.masses(), kT=kT, jitter=True)
    start = jax.vmap(lambda _: Phase.at(energy, R))(jnp.arange(16))
    _, x, info = jax.jit(jax.vmap(lambda z, k: chain.walk(kernel, energy, z, k, 600)))(start, jr.split(key, 16))
    U = np.asarray(jax.vmap(jax.vmap(energy))(x[:, 100:]))
    r = np.linspace(0.8, 5.5, 20001)
    V = np.asarray(0.6 * (np.exp(-3.0 * (r - 2.2)) - 2 * np.exp(-1.5 * (r - 2.2))) + bound(r))
    w = r**2 * np.exp(-(V - V.min()) / kT)
    exact = (w * V).sum() / w.sum() + 1.5 * kT  # and ½ kT for each direction of the tether
    assert abs(U.mean() - exact) < 4.5 * dg.mcse_mean(U)
    assert abs(exact - (V.min() + 2 * kT)) > 6 * dg.mcse_mean(U), "the anharmonic part must matter"
    assert float(info.acceptance.mean()) > 0.9
