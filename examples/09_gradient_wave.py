"""A gradient that neither vanishes nor explodes: in a residual network of Verlet steps it is a wave."""

import gallery
import jax
import jax.numpy as jnp
import numpy as np

args = gallery.arguments(__doc__)

import matplotlib.pyplot as plt  # noqa: E402

from enerjax.learning.signal import backward_signal, residual_wave  # noqa: E402

SPEED = 0.7
bump = lambda x: jnp.exp(-8 * (jnp.mod(x, 2 * jnp.pi) - jnp.pi) ** 2)


def arrive(sites, time, blocks):
    """The gradient at the input when a pulse leaves the output, and d'Alembert's ½[f(s − ct) + f(s + ct)]."""
    s = jnp.arange(sites) * 2 * jnp.pi / sites
    rest = jnp.zeros(sites)
    network = residual_wave(SPEED, 2 * np.pi / sites, time / blocks, blocks)
    g, _ = jax.jit(lambda pulse: backward_signal(network, (rest, rest), (pulse, rest)))(bump(s))
    return s, g, 0.5 * (bump(s - SPEED * time) + bump(s + SPEED * time))


sizes = np.array([64, 128, 256, 512, 1024])
errors = []
for sites in sizes:
    _, g, exact = arrive(int(sites), 1.0, int(sites) * 28 // 64)  # c Δt/Δs stays 16/28 · …: the same for every grid
    errors.append(float(jnp.linalg.norm(g - exact) / jnp.linalg.norm(exact)))
order = np.log2(errors[-2] / errors[-1])

times = np.linspace(0.5, 2.5, 9)
places = []
for t in times:
    s, g, _ = arrive(1024, t, 1000)
    right = jnp.where(s > np.pi, g, 0)
    places.append(float(jnp.sum(right * s) / jnp.sum(right)) - np.pi)
speed = np.polyfit(times[1:], places[1:], 1)[0]

figure, (left, right) = plt.subplots(1, 2, figsize=(7.5, 3))
for t, color in ((0.001, gallery.GREY), (1.0, gallery.BLUE), (2.0, gallery.RED)):
    s, g, exact = arrive(512, t, 600)
    left.plot(s, g, color=color, label=f"depth·Δt = {t:.0f}")
    left.plot(s, exact, ":", color=gallery.INK)
left.set(xlabel="unit", ylabel="gradient")
left.legend(frameon=False, fontsize=7)
right.loglog(sizes, errors, "o-", color=gallery.BLUE)
right.set(xlabel="units", ylabel="distance from d'Alembert", title=f"order {order:.2f}")
gallery.save(figure, args.out, __file__)
gallery.check(
    f"measured wave speed {speed:.4f} (c = {SPEED}); converges to d'Alembert at order {order:.3f}",
    abs(speed / SPEED - 1) < 2e-3 and abs(order - 2) < 0.1,
)
