"""A solid-mechanics problem of your own: a curved beam (quarter ring) clamped at one end, sheared at the other.

    python examples/write_your_own_problem.py

Checks what no reference is needed for: the support carries exactly the load, and the moment about it.
"""

import math

import jax
import jax.numpy as jnp

from enerjax.solids import Clamped, Free, Problem, Ritz, Traction, domain, material, solve

ring = domain.Annulus(1.0, 2.0, 0.0, math.pi / 2)
problem = Problem(
    domain=ring,
    material=material.IsotropicElastic.plane_stress(young=1.0, poisson=0.3),
    conditions={
        "start": Clamped(),  # θ = 0, on the x axis
        "end": Traction((1e-3, 0.0)),  # θ = π/2: a shear along x
        "inner": Free(),
        "outer": Free(),
    },
    name="curved_beam",
)
solution = solve(problem, 0, method=Ritz(features=200, interior=30, boundary=50))

with jax.enable_x64(True):
    tip = solution.displacement(jnp.array([[0.0, 1.5]]))[0]
    # the cut θ = π/4 carries the whole load
    r, w = jnp.asarray(1.5 + 0.5 * jnp.array([-0.7745966692, 0.0, 0.7745966692])), jnp.array([5, 8, 5]) / 18
    n = jnp.array([-1.0, 1.0]) / math.sqrt(2)
    x = jnp.stack([r, r], axis=1) / math.sqrt(2)
    force = jnp.einsum("p,pij,j->i", w, solution.stress(x), n)
energy = solution.info["energy"]
print(f"tip displacement        {tip[0]:.6f} {tip[1]:.6f}")
print(f"force through the cut   {force[0]:.6e} {force[1]:.1e}   (applied: 1e-03 0)")
print(f"twice the energy        {-2 * energy:.8e}   (work of the load)")
assert abs(float(force[0]) - 1e-3) < 2e-5
