"""Laws over all materials: objectivity, zero energy and stress at rest, symmetry; limits against closed forms."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from enerjax.solids import kinematics as kin
from enerjax.solids.material import (
    J2,
    CauchyBorn,
    IsotropicElastic,
    MixedElastic,
    MixedNeoHookean,
    MooneyRivlin,
    NeoHookean,
    Ogden,
    PlaneStrain,
    PlaneStress,
    Polyconvex,
    StVenantKirchhoff,
    Viscoelastic,
    lame,
    orthotropic,
    stress,
    tangent,
)


def lennard_jones(positions, cell):
    """Nearest images of a small f.c.c. cell, pair by pair: a crystal energy that knows nothing of continua."""
    shifts = jnp.stack(jnp.meshgrid(*[jnp.arange(-2, 3)] * 3, indexing="ij"), -1).reshape(-1, 3) @ cell
    d = positions[None, :, None] - positions[:, None, None] + shifts[None, None]
    r2 = jnp.sum(d**2, -1)
    near = r2 > 1e-6
    r6 = jnp.where(near, 1 / jnp.where(near, r2, 1.0), 0.0) ** 3
    return 2 * jnp.sum(r6**2 - r6)


FINITE = {
    "svk": StVenantKirchhoff(1.0, 0.5),
    "neo_hookean": NeoHookean(1.0, 0.5),
    "mooney_rivlin": MooneyRivlin(0.2, 0.1, 1.0),
    "ogden": Ogden(jnp.array([0.5, 0.1]), jnp.array([2.0, -2.0]), 1.0),
    "polyconvex": Polyconvex.create(jr.key(0)),
    "plane_strain": PlaneStrain(MooneyRivlin(0.2, 0.1, 1.0)),
    "plane_stress": PlaneStress(NeoHookean(1.0, 0.5)),
}
SMALL = {
    "isotropic": IsotropicElastic(1.0, 0.5),
    "orthotropic": orthotropic((1.0, 2.0, 3.0), (0.1, 0.2, 0.15), (0.5, 0.6, 0.7)),
    "j2": J2.virgin(1.0, 0.5, 0.01, 0.1),
    "viscoelastic": Viscoelastic.relaxed(1.0, 0.5, [0.3, 0.2], [1.0, 10.0], 0.1),
}
ALL = FINITE | SMALL


def gradient(name, size=0.1):
    d = 2 if name.startswith("plane") else 3
    return size * jr.normal(jr.key(1), (d, d))


@pytest.mark.parametrize("name", ALL)
def test_rest_is_free_of_energy_and_stress(name):
    rest = jnp.zeros_like(gradient(name))
    assert abs(float(ALL[name](rest))) < 1e-15
    assert float(jnp.abs(stress(ALL[name], rest)).max()) < 1e-14


@pytest.mark.parametrize("name", ALL)
def test_tangent_is_symmetric_and_positive_at_rest(name):
    G = gradient(name)
    at = jax.jit(lambda G: tangent(ALL[name], G))
    A = at(G)
    assert jnp.allclose(A, jnp.transpose(A, (2, 3, 0, 1)), atol=1e-13)
    d = G.shape[0]
    eigenvalues = jnp.linalg.eigvalsh(at(0 * G).reshape(d * d, d * d))
    rotations = d * (d - 1) // 2  # cost no energy to first order; every strain does
    assert jnp.all(eigenvalues[rotations:] > 1e-3) and jnp.all(jnp.abs(eigenvalues[:rotations]) < 1e-12)


@pytest.mark.parametrize("name", FINITE)
def test_objectivity(name):
    G = gradient(name)
    d = G.shape[0]
    Q = jnp.linalg.qr(jr.normal(jr.key(2), (d, d)))[0]
    Q = Q.at[0].multiply(jnp.sign(jnp.linalg.det(Q)))
    turned = Q @ kin.deformation(G) - jnp.eye(d)
    both = jax.jit(lambda G: (FINITE[name](G), stress(FINITE[name], G)))
    (W, P), (W_turned, P_turned) = both(G), both(turned)
    assert jnp.allclose(W_turned, W, rtol=1e-11)
    assert jnp.allclose(P_turned, Q @ P, atol=1e-12)  # P turns with the body
    sigma = kin.cauchy(P, G)
    assert jnp.allclose(sigma, sigma.T, atol=1e-13)  # moment balance


@pytest.mark.parametrize("name", SMALL)
def test_small_strain_laws_ignore_infinitesimal_rotation(name):
    G = gradient(name)
    spin = jnp.array([[0.0, 1.0, -2.0], [-1.0, 0.0, 0.5], [2.0, -0.5, 0.0]])
    assert jnp.allclose(SMALL[name](G + spin), SMALL[name](G), rtol=1e-12)


@pytest.mark.parametrize("name", ["svk", "neo_hookean"])
def test_small_strain_limit_keeps_its_digits(name):
    """At |G| = 1e-7 a naive tr C − 3 has two digits left; these forms agree with linear elasticity to 1e-6."""
    G = gradient(name, 1e-7)
    linear = IsotropicElastic(1.0, 0.5)
    assert jnp.allclose(FINITE[name](G), linear(G), rtol=3e-6)
    assert jnp.allclose(stress(FINITE[name], G), stress(linear, G), rtol=1e-5, atol=1e-13)


def test_orthotropic_constants_are_those_of_uniaxial_stress():
    """σ along one axis gives ε_i = σ/E_i and −ν_ij of it across, in space and in plane stress; shear alone is G γ."""
    young, poisson, shear = (1.0, 2.0, 3.0), (0.1, 0.2, 0.15), (0.5, 0.6, 0.7)
    solid, sheet = orthotropic(young, poisson, shear), orthotropic(young, poisson, shear, plane=True)
    pulled = jnp.diag(jnp.array([1.0, -0.15, -0.2]))
    assert jnp.allclose(stress(solid, pulled), jnp.diag(jnp.array([1.0, 0.0, 0.0])), atol=1e-14)
    assert jnp.allclose(stress(sheet, pulled[:2, :2]), jnp.diag(jnp.array([1.0, 0.0])), atol=1e-14)
    assert jnp.allclose(stress(sheet, jnp.array([[0.0, 0.1], [0.0, 0.0]]))[0, 1], 0.07)
    with pytest.raises(ValueError, match="positive definite"):
        orthotropic(young, (0.1, 0.2, 1.5), shear)


def test_ogden_with_exponent_two_is_neo_hookean():
    G = gradient("ogden", 0.2)
    assert jnp.allclose(Ogden(jnp.array([0.5]), jnp.array([2.0]), 1.0)(G), NeoHookean(1.0, 0.5)(G), rtol=1e-12)


def test_plane_stress_condensation_equals_the_reduced_modulus():
    G = gradient("plane_stress", 1e-6)
    lam, mu = lame(2.0, 0.3)
    assert jnp.allclose(
        stress(PlaneStress(NeoHookean(lam, mu)), G),
        stress(IsotropicElastic.plane_stress(2.0, 0.3), G),
        rtol=1e-4,
        atol=1e-11,
    )


def test_plane_stress_holds_at_large_stretch():
    """Equibiaxial: λ₃ solves μ(λ₃² − 1) + λ ln(λ₁²λ₃) = 0, and P = μ(λ₁ − 1/λ₁) + λ ln(λ₁²λ₃)/λ₁."""
    poisson, stretch = np.array([0.45, 0.3, 0.49, 0.49]), np.array([2.5, 5.0, 3.5, 0.3])
    mu, lam = 1 / (2 * (1 + poisson)), poisson / ((1 + poisson) * (1 - 2 * poisson))
    low, high = np.full(4, -10.0), np.full(4, 10.0)
    for _ in range(80):  # ln λ₃ by bisection
        s = (low + high) / 2
        above = mu * (np.exp(2 * s) - 1) + lam * (2 * np.log(stretch) + s) > 0
        low, high = np.where(above, low, s), np.where(above, s, high)
    exact = mu * (stretch - 1 / stretch) + lam * (2 * np.log(stretch) + low) / stretch
    pulled = lambda steps: jax.jit(
        jax.vmap(lambda lam, mu, t: stress(PlaneStress(NeoHookean(lam, mu), steps), (t - 1) * jnp.eye(2)))
    )(lam, mu, stretch)
    assert np.allclose(pulled(40), exact[:, None, None] * np.eye(2), rtol=1e-9, atol=1e-12)
    assert np.all(np.isnan(pulled(1)[:, 0, 0]))


def test_mixed_forms_condense_to_displacement_forms():
    lam, mu = lame(2.0, 0.3)
    G = gradient("neo_hookean")
    for mixed, pure in (
        (MixedElastic(mu, 1 / lam), IsotropicElastic(lam, mu)),
        (MixedNeoHookean(mu, 1 / lam), NeoHookean(lam, mu)),
    ):
        p = lam * (jnp.trace(G) if not mixed.finite else kin.log_volume(G))
        assert abs(float(jax.grad(mixed, 1)(G, p))) < 1e-14
        assert jnp.allclose(mixed(G, p), pure(G), rtol=1e-12)


def test_incompressible_displacement_form_is_refused_with_the_remedy():
    with pytest.raises(ValueError, match="MixedElastic"):
        IsotropicElastic.from_young(1.0, 0.5)
    assert float(MixedElastic.from_young(1.0, 0.5).compliance) == 0.0


def test_von_mises_shear_yields_on_the_closed_form_and_hardens():
    """Simple shear γ: τ = μγ up to τ_y = σ_y/√3, then slope μH/(3μ + H)."""
    mu, H, sy = 0.5, 0.1, 0.01
    m = J2.virgin(1.0, mu, sy, H)
    shear = lambda g: jnp.zeros((3, 3)).at[0, 1].set(g)
    yield_strain = sy / jnp.sqrt(3.0) / mu
    for g in jnp.linspace(0, 0.1, 21)[1:]:
        tau = stress(m, shear(g))[0, 1]
        exact = jnp.minimum(mu * g, mu * yield_strain + mu * H / (3 * mu + H) * (g - yield_strain))
        assert jnp.allclose(tau, exact, rtol=1e-12)
        m = m.update(shear(g))
    assert float(m.state.alpha) > 0
    unloading = (stress(m, shear(0.1))[0, 1] - stress(m, shear(0.0999))[0, 1]) / 1e-4
    assert jnp.allclose(unloading, mu, rtol=1e-6)  # elastic on the way back


def test_viscoelastic_steps_converge_to_the_integrated_evolution():
    """Backward Euler against diffrax, and against the closed form of relaxation after a step of strain."""
    e = jnp.diag(jnp.array([0.02, -0.01, -0.01]))
    m = Viscoelastic.relaxed(1.0, 0.5, [0.3, 0.2], [1.0, 5.0], 0.0)
    ts = jnp.linspace(0.0, 2.0, 5)
    sigma = m.relax(lambda t: e, ts)
    exact = 2 * e[0, 0] * (0.5 + 0.3 * jnp.exp(-ts / 1.0) + 0.2 * jnp.exp(-ts / 5.0))
    assert jnp.allclose(sigma[:, 0, 0], exact, rtol=1e-6)

    def end(n):
        step = Viscoelastic.relaxed(1.0, 0.5, [0.3, 0.2], [1.0, 5.0], 2.0 / n)
        last = jax.lax.fori_loop(0, n - 1, lambda _, m: m.update(e), step)
        return stress(last, e)[0, 0]

    errors = [abs(float(end(n) - exact[-1])) for n in (40, 80)]
    assert 1.8 < errors[0] / errors[1] < 2.2  # first order


def test_cauchy_born_gives_the_crystal_its_stress():
    """∂W/∂F of the continuum is the crystal's stress (finite differences), and cubic symmetry shows in it."""
    a = 1.5496  # f.c.c. Lennard-Jones near equilibrium
    cell = a / 2 * jnp.array([[0.0, 1, 1], [1, 0, 1], [1, 1, 0]])
    W = CauchyBorn(lennard_jones, jnp.zeros((1, 3)), cell)
    A = tangent(W, jnp.zeros((3, 3)))
    assert jnp.allclose(A[0, 0, 0, 0], A[2, 2, 2, 2], rtol=1e-10)
    assert jnp.allclose(A[0, 0, 1, 1], A[1, 1, 2, 2], rtol=1e-10)
    G = 1e-2 * jr.normal(jr.key(3), (3, 3))
    h = 1e-5
    bump = jnp.zeros((3, 3)).at[0, 1].set(h)
    assert jnp.allclose(stress(W, G)[0, 1], (W(G + bump) - W(G - bump)) / (2 * h), rtol=1e-6)
    Q = jnp.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    assert jnp.allclose(W(Q @ kin.deformation(G) - jnp.eye(3)), W(G), rtol=1e-10)


def test_polyconvex_network_is_convex_along_rank_one_directions():
    m = Polyconvex.create(jr.key(4))
    a, b = jr.normal(jr.key(5), (2, 3))
    G = 0.3 * jr.normal(jr.key(6), (3, 3))
    second = jax.grad(jax.grad(lambda t: m(G + t * jnp.outer(a, b))))
    assert all(float(second(t)) > 0 for t in jnp.linspace(-0.1, 0.1, 5))
