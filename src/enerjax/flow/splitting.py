"""One equation of motion, and the compositions of its three sub-steps.

    γ = 0             Newton, HMC               kick drift kick             `verlet`
    0 < γ             Langevin                  kick drift bath drift kick  `baoab`
    kT = 0            heavy ball                damp kick drift             `descend`
    γ = ∞             Brownian, SGLD, MALA      bath kick drift             `diffuse`
    γ = ∞, kT = 0     gradient descent          damp kick drift             `descend`

Each takes the energy first and returns the next phase point at the cost of one gradient. They were checked, with the
same random keys, against the velocity Verlet of BlackJAX and NumPyro, jax-md's NVE and Langevin, BlackJAX's SGLD and
MALA proposal, optax's sgd with momentum and diffrax's Euler; `tests/test_twins.py` holds those whose library is
installed.
"""

import jax.numpy as jnp

from .._array import Energy, Key
from .phase import Bath, Phase, damp, drift, feel, kick


def verlet(energy: Energy, z: Phase, dt, mass=1.0) -> Phase:
    """Newton's equation: second order, symplectic, time-reversible.

    W. C. Swope et al., J. Chem. Phys. 76, 637 (1982).
    """
    z = kick(z, dt / 2)
    z = drift(z, dt, mass)
    z = feel(energy, z)
    return kick(z, dt / 2)


def baoab(energy: Energy, z: Phase, dt, bath: Bath, key: Key, mass=1.0) -> Phase:
    """Langevin's equation; fourth order in configurations at high friction.

    B. Leimkuhler and C. Matthews, J. Chem. Phys. 138, 174102 (2013).
    """
    z = kick(z, dt / 2)
    z = drift(z, dt / 2, mass)
    z = bath(z, dt, key, mass)
    z = drift(z, dt / 2, mass)
    z = feel(energy, z)
    return kick(z, dt / 2)


def diffuse(energy: Energy, z: Phase, dt, kT, key: Key, mass=1.0) -> Phase:
    """Overdamped Langevin: forget the momentum, half a kick, drift.

    q ← q + (dt²/2m) F + dt √(kT/m) ξ: the Euler–Maruyama step of dq = F/m dτ + √(2kT/m) dW with dτ = dt²/2. SGLD when
    the energy is a minibatch's; the proposal of MALA.
    """
    z = Bath(jnp.inf, kT)(z, dt, key, mass)
    z = kick(z, dt / 2)
    z = drift(z, dt, mass)
    return feel(energy, z)


def descend(energy: Energy, z: Phase, dt, friction, mass=1.0) -> Phase:
    """Heavy ball: learning rate dt²/m, memory e^(−γdt). γ = ∞ is gradient descent.

    B. T. Polyak, USSR Comput. Math. Math. Phys. 4, 1 (1964).
    """
    z = damp(z, dt, friction)
    z = kick(z, dt)
    z = drift(z, dt, mass)
    return feel(energy, z)
