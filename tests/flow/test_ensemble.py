"""Thermostats and the barostat: the right distribution, the conserved quantity, time reversal."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from enerjax.flow import Phase, verlet
from enerjax.flow.ensemble import CellRescaling, NoseHoover, VelocityRescaling, stretch

KT, MASS = 0.7, 1.7


def free(momentum):
    """A phase point without forces: what is left is the bath."""
    zero = jnp.zeros_like(momentum)
    return Phase(zero, momentum, zero, jnp.zeros(()))


@pytest.mark.parametrize("degrees", [3, 12])
def test_rescaling_reaches_and_keeps_the_canonical_kinetic_energy(key, degrees):
    """K of N_f degrees is gamma distributed: mean N_f kT/2, variance N_f kT²/2; from a cold start, to four errors."""
    bath, replicas = VelocityRescaling(KT, 1.0), 4000
    cold = jnp.full((replicas, degrees), 0.05)

    def step(z, key):
        return jax.vmap(lambda z, k: bath(z, 0.4, k, MASS, degrees=degrees))(z, jr.split(key, replicas)), None

    z = Phase(cold, cold, cold, jnp.zeros(replicas))
    z = jax.jit(lambda z, keys: jax.lax.scan(step, z, keys)[0])(z, jr.split(key, 30))
    K = 0.5 * jnp.sum(z.momentum**2, axis=1) / MASS
    mean, variance = degrees * KT / 2, degrees * KT**2 / 2
    assert abs(K.mean() - mean) < 4 * np.sqrt(variance / replicas)
    fourth = 3 * variance**2 * (1 + 4 / degrees)  # of the gamma distribution with shape N_f/2
    assert abs(K.var() - variance) < 4 * np.sqrt((fourth - variance**2) / replicas)


def well(x):
    return jnp.sum(0.5 * x**2 + 0.1 * x**4)


def run_chain(dt, steps, z, chain, bath):
    def step(carry, _):
        z, chain = bath(*carry, dt / 2, MASS, degrees=6)
        z = verlet(well, z, dt, MASS)
        z, chain = bath(z, chain, dt / 2, MASS, degrees=6)
        return (z, chain), z.hamiltonian(MASS) + bath.energy(chain, 6)

    return jax.lax.scan(step, (z, chain), None, length=steps)


def test_chain_conserves_to_second_order_and_reverses(key):
    """H plus the chain's energy errs four times less at half the step; negated velocities lead back to the start."""
    bath = NoseHoover(KT, 3.0)
    z = Phase.thermal(well, jnp.linspace(-1.0, 1.0, 6), KT, key, MASS)
    run = eqx.filter_jit(run_chain)
    errors = [float(jnp.ptp(run(dt, n, z, bath.start(), bath)[1])) for dt, n in ((0.1, 200), (0.05, 400))]
    assert 3.5 < errors[0] / errors[1] < 4.6

    (end, chain), _ = run(0.1, 200, z, bath.start(), bath)
    back = Phase(end.position, -end.momentum, end.force, end.energy)
    chain = eqx.tree_at(lambda c: c.velocity, chain, -chain.velocity)
    (home, _), _ = run(0.1, 200, back, chain, bath)
    np.testing.assert_allclose(home.position, z.position, atol=1e-9)


def test_chain_samples_the_canonical_ensemble(key):
    """⟨p²/m⟩ = kT and ⟨x ∂E/∂x⟩ = kT along one long chain in a non-harmonic well."""
    bath = NoseHoover(KT, 1.5)

    def step(carry, _):
        z, chain = bath(*carry, 0.05, MASS, degrees=6)
        z = verlet(well, z, 0.1, MASS)
        z, chain = bath(z, chain, 0.05, MASS, degrees=6)
        return (z, chain), (jnp.sum(z.momentum**2) / MASS, -jnp.sum(z.position * z.force))

    z = Phase.thermal(well, jnp.linspace(-1.0, 1.2, 6) ** 3, KT, key, MASS)
    _, (kinetic, virial) = jax.jit(lambda c: jax.lax.scan(step, c, None, length=60_000))((z, bath.start()))
    np.testing.assert_allclose(kinetic.mean() / 6, KT, rtol=0.03)
    np.testing.assert_allclose(virial.mean() / 6, KT, rtol=0.04)


@pytest.mark.parametrize("isotropic", [True, False])
def test_cell_of_an_ideal_gas(key, isotropic):
    """V of n free particles with the centre of mass at rest is gamma distributed: mean n kT/P, variance n (kT/P)²."""
    n, P, replicas, dt = 6, 0.05, 2000, 0.025
    barostat = CellRescaling(KT, P, 1.0, 1.0 / P, isotropic)
    thermostat = VelocityRescaling(KT, 0.5)
    volume = lambda h: jnp.abs(jnp.linalg.det(h))
    kinetic = lambda z: z.momentum.T @ z.momentum / MASS

    def one(carry, key):
        z, h, given = carry
        a, b = jr.split(key)
        before, V = kinetic(z) / volume(h), volume(h)
        E = barostat.increment(before, V, dt, a)
        y, h = stretch(z, h, E)
        work = barostat.work(E, before, V, kinetic(y) / volume(h), volume(h), dt)
        x = thermostat(y, dt, b, MASS, degrees=3 * n - 3)
        heat = 0.5 * (jnp.trace(kinetic(x)) - jnp.trace(kinetic(y))) / 1.0
        return x, h, given + work + heat

    @jax.jit
    def run(z, h, keys):
        step = lambda c, k: (jax.vmap(one)(c, jr.split(k, replicas)), volume(c[1]))
        (z, h, given), V = jax.lax.scan(step, (z, h, jnp.zeros(replicas)), keys)
        conserved = jax.vmap(lambda z, h: 0.5 * jnp.trace(kinetic(z)) + P * volume(h))(z, h) - given
        return V, conserved

    p = jnp.sqrt(KT * MASS) * jr.normal(key, (replicas, n, 3))
    p = p - p.mean(1, keepdims=True)
    z = Phase(jnp.zeros_like(p), p, jnp.zeros_like(p), jnp.zeros(replicas))
    start = (n * KT / P) ** (1 / 3) * jnp.broadcast_to(jnp.eye(3), (replicas, 3, 3))
    V, conserved = run(z, start, jr.split(key, 400))
    late = V[200::20].ravel()
    mean = n * KT / P
    assert abs(late.mean() / mean - 1) < 0.03
    assert abs(late.var() / (n * (KT / P) ** 2) - 1) < 0.15
    # what the baths are said to have given explains the change of H + PV, but for the error of the step
    begun = 0.5 * jnp.sum(p**2, (1, 2)) / MASS + P * volume(start)
    assert jnp.median(jnp.abs(conserved - begun)) < (0.1 if isotropic else 0.5) * KT
    assert jnp.median(jnp.abs(P * (V[-1] - V[0]))) > KT


def test_stretch_keeps_phase_space_volume_and_fractions(key):
    """Fractional coordinates stay, and the Jacobian of (q, p) ↦ (q′, p′) is one."""
    a, b, c = jr.split(key, 3)
    E = 0.2 * jr.normal(a, (3, 3))
    E, h = E + E.T, jnp.eye(3) * 4 + 0.3 * jr.normal(b, (3, 3))
    q, p = jr.normal(c, (2, 5, 3))
    z, new = stretch(Phase(q, p, q, jnp.zeros(())), h, E)
    np.testing.assert_allclose(z.position @ jnp.linalg.inv(new), q @ jnp.linalg.inv(h), atol=1e-12)
    np.testing.assert_allclose(jnp.sum(z.position * z.momentum), jnp.sum(q * p), rtol=1e-12)
    np.testing.assert_allclose(jnp.linalg.det(new), jnp.linalg.det(h) * jnp.exp(jnp.trace(E)), rtol=1e-12)
