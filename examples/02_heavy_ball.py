"""Momentum as mechanics: without friction training conserves energy; at critical friction it forgets fastest."""

import gallery
import jax
import jax.numpy as jnp
import numpy as np

args = gallery.arguments(__doc__)

import matplotlib.pyplot as plt  # noqa: E402

from enerjax.flow import Phase, verlet  # noqa: E402
from enerjax.learning.dynamics import critical_friction, heavy_ball  # noqa: E402
from enerjax.path import rollout  # noqa: E402

L = lambda x: jnp.sum((x**2 - 1) ** 2) + 0.3 * x[0] * x[1]
start = Phase.at(L, jnp.array([0.3, 1.4]), jnp.array([0.5, 0.0]))


def energy_error(dt, steps=100_000, stride=20):
    run = jax.jit(lambda z: rollout(lambda z, _: verlet(L, z, dt), z, length=steps, stride=stride))
    return np.asarray(jax.vmap(Phase.hamiltonian)(run(start)) - start.hamiltonian())


fine, coarse = energy_error(0.01), energy_error(0.02)
drift = np.polyfit(np.arange(fine.size) * 0.2, fine, 1)[0]
order = np.log2(np.abs(coarse).max() / np.abs(fine).max())

k = 3.0
ts = jnp.linspace(0, 8, 161)
curve = {}
for name, factor in (("half", 0.5), ("critical", 1.0), ("double", 2.0)):
    bowl = lambda x: 0.5 * k * jnp.sum(x**2)
    friction = factor * critical_friction(k)
    curve[name] = heavy_ball(bowl, jnp.ones(1), jnp.zeros(1), ts, friction=friction, rtol=1e-10, atol=1e-12)[0][:, 0]
omega = np.sqrt(k)
gap = float(jnp.abs(curve["critical"] - (1 + omega * ts) * jnp.exp(-omega * ts)).max())

figure, (left, right) = plt.subplots(1, 2, figsize=(7.5, 3))
left.plot(np.arange(fine.size) * 0.2, fine, lw=0.3, color=gallery.BLUE)
left.set(xlabel="time", ylabel="H(t) − H(0)", title="γ = 0: 10⁵ steps, no drift")
for name, color in zip(curve, (gallery.RED, gallery.INK, gallery.BLUE), strict=True):
    right.plot(ts, curve[name], color=color, label=f"{name} friction")
right.axhline(0, lw=0.5, color=gallery.GREY)
right.set(xlabel="time", ylabel="θ")
right.legend(frameon=False)
gallery.save(figure, args.out, __file__)
gallery.check(
    f"energy over 1e5 steps within {np.abs(fine).max():.1e}, drift {abs(drift):.1e} per unit time, order {order:.2f}; "
    f"critical damping (1 + ωt)e^(−ωt) to {gap:.1e}",
    abs(drift) < 1e-7 and abs(order - 2) < 0.2 and gap < 1e-8,
)
