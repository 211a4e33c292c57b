"""Diffusion whose score is the force of a learned energy: conformations of pentane from noise, with their likelihoods.

Two torsions (φ, ψ) of n-pentane in the potential of Ryckaert and Bellemans with a penalty on neighbouring gauche states
of opposite sign (the pentane effect); the law exp(−U/kT) at 300 K is known by quadrature.
"""

import equinox as eqx
import gallery
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

args = gallery.arguments(__doc__)

import matplotlib.pyplot as plt  # noqa: E402
import optax  # noqa: E402

from enerjax.fit import cosine, train  # noqa: E402
from enerjax.learning.diffusion import (  # noqa: E402
    EnergyNetwork,
    Noise,
    log_likelihood,
    matching_loss,
    probability_flow,
    reverse_diffusion,
)

KT, NOISE, WIDTH = 2.494, Noise(), 0.15  # kJ/mol; width of the ring in (cos, sin) that stands for stiff bonds
C = (9.28, 12.16, -13.12, -3.06, 26.24, -31.5)  # Ryckaert and Bellemans 1975, kJ/mol, trans at φ = 0


def U(phi, psi):
    bond = lambda x: sum(c * jnp.cos(x) ** k for k, c in enumerate(C))
    clash = jnp.exp(-((phi - 2.0) ** 2 + (psi + 2.0) ** 2)) + jnp.exp(-((phi + 2.0) ** 2 + (psi - 2.0) ** 2))
    return bond(phi) + bond(psi) + 10.0 * clash


side = jnp.linspace(-jnp.pi, jnp.pi, 181)[:-1]
table = jnp.exp(-(U(side[:, None], side[None]) - U(side[:, None], side[None]).min()) / KT)
table = table / table.sum()


def molecule(key):
    """One conformation of the known law, as (cos φ, sin φ, cos ψ, sin ψ) of radii 1 ± 0.15."""
    k1, k2, k3 = jr.split(key, 3)
    cell = jr.choice(k1, table.size, p=table.ravel())
    angle = jnp.stack([side[cell // 180], side[cell % 180]]) + (jr.uniform(k2, (2,)) - 0.5) * (side[1] - side[0])
    radius = 1 + WIDTH * jr.normal(k3, (2,))
    return (radius[:, None] * jnp.stack([jnp.cos(angle), jnp.sin(angle)], 1)).ravel()


angles = lambda x: jnp.arctan2(x[:, 1::2], x[:, ::2])
states = lambda x: jnp.sum(jnp.abs(angles(x)) > jnp.pi / 3, 1)  # gauche torsions: 0, 1 or 2
data = jax.jit(jax.vmap(molecule))(jr.split(jr.key(args.seed), 16_384)).astype(jnp.float32)
net = EnergyNetwork(4, 64, 3, noise=NOISE, key=jr.key(args.seed))
net = jax.tree.map(lambda x: x.astype(jnp.float32) if eqx.is_inexact_array(x) else x, net)
fitted = train(
    lambda net, x, key: matching_loss(net, x, key, noise=NOISE),
    net,
    lambda epoch, key: [data[i] for i in jr.permutation(key, len(data)).reshape(64, 256)],
    optax.adam(3e-3),
    key=jr.key(args.seed),
    epochs=40,
    max_seconds=45,
    rate=cosine,
    ema=0.995,
)
energy, n = fitted.model, 3000
start = jr.normal(jr.key(1), (n, 4), jnp.float32)
keys = jr.split(jr.key(2), n)
sde = eqx.filter_jit(jax.vmap(lambda z, k: reverse_diffusion(energy, z, k, noise=NOISE, steps=200)))(start, keys)
ode = eqx.filter_jit(jax.vmap(lambda z: probability_flow(energy, z, noise=NOISE, substeps=40)))(start)

exact, table = np.abs(np.asarray(side)) > np.pi / 3, np.asarray(table)
share = np.array([float(table[np.ix_(~exact, ~exact)].sum()), 0, float(table[np.ix_(exact, exact)].sum())])
share[1] = 1 - share[0] - share[2]
found = {
    name: np.array([float(jnp.mean(states(x) == k)) for k in range(3)]) for name, x in (("SDE", sde), ("ODE", ode))
}

fresh = jax.vmap(molecule)(jr.split(jr.key(3), 100)).astype(jnp.float32)
ours = eqx.filter_jit(jax.vmap(lambda x: log_likelihood(energy, x, noise=NOISE, substeps=60, earliest=1e-2)))(fresh)


def log_p(x):
    """Density of torsions by the law, of radii by their normal, per area r dr dφ."""
    phi = angles(x)
    r = jnp.sqrt(x[:, ::2] ** 2 + x[:, 1::2] ** 2)
    Z = jnp.log(jnp.mean(jnp.exp(-U(side[:, None], side[None]) / KT)) * (2 * jnp.pi) ** 2)
    return -U(phi[:, 0], phi[:, 1]) / KT - Z + jnp.sum(jax.scipy.stats.norm.logpdf(r, 1, WIDTH) - jnp.log(r), 1)


gap = float(jnp.mean(log_p(fresh.astype(float)) - ours))
figure, axes = plt.subplots(1, 3, figsize=(9, 3))
axes[0].imshow(table.T, extent=(-180, 180, -180, 180), origin="lower", cmap="Greys", vmax=float(table.max()) / 3)
axes[0].set(title="exp(−U/kT)", xlabel="φ", ylabel="ψ")
for axis, (name, x) in zip(axes[1:], (("reverse SDE", sde), ("probability flow", ode)), strict=True):
    axis.plot(*np.degrees(angles(x)).T, ".", ms=1, color=gallery.BLUE)
    axis.set(title=name, xlabel="φ", xlim=(-180, 180), ylim=(-180, 180), aspect="equal")
gallery.save(figure, args.out, __file__)
worst = max(np.abs(f - share).max() for f in found.values())
gallery.check(
    f"shares of 0/1/2 gauche torsions: exact {share.round(3)}, SDE {found['SDE'].round(3)}, ODE "
    f"{found['ODE'].round(3)}; likelihood by the flow {gap:.2f} nats below the exact law",
    worst < 0.04 and gap < 0.5,
)
