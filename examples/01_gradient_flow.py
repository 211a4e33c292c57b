"""Training as a flow: θ̇ = −∇L. Descent is Euler's step of it and converges to it at first order."""

import gallery
import jax
import jax.numpy as jnp
import jax.random as jr

args = gallery.arguments(__doc__)

import matplotlib.pyplot as plt  # noqa: E402

from enerjax.flow import Phase, descend  # noqa: E402
from enerjax.learning.dynamics import gradient_flow  # noqa: E402
from enerjax.path import rollout  # noqa: E402

n, time = 6, 3.0
A = jr.normal(jr.key(args.seed), (n, n))
H = A @ A.T / n + 0.1 * jnp.eye(n)
start = jr.normal(jr.key(args.seed + 1), (n,))
L = lambda x: 0.5 * x @ H @ x

ts = jnp.linspace(0, time, 61)
flow = gradient_flow(L, start, ts, rtol=1e-12, atol=1e-13, max_steps=4096)
exact = jnp.stack([jax.scipy.linalg.expm(-H * t) @ start for t in ts])
error = float(jnp.abs(flow - exact).max())


def descent(steps):
    z = rollout(lambda z, _: descend(L, z, jnp.sqrt(time / steps), jnp.inf), Phase.at(L, start), length=steps)
    return z.position


steps = [25, 50, 100, 200, 400, 800]
errors = [float(jnp.linalg.norm(descent(k)[-1] - exact[-1])) for k in steps]
order = float(jnp.log2(errors[-2] / errors[-1]))

figure, (left, right) = plt.subplots(1, 2, figsize=(7.5, 3))
left.semilogy(ts, jax.vmap(L)(flow), color=gallery.INK, label="gradient flow")
for k, color in zip((10, 25, 100), (gallery.RED, gallery.BLUE, gallery.GREEN), strict=True):
    path = jnp.concatenate([start[None], descent(k)])
    left.semilogy(jnp.linspace(0, time, k + 1), jax.vmap(L)(path), ".", ms=4, color=color, label=f"descent, {k} steps")
left.set(xlabel="time = rate × step", ylabel="loss")
left.legend(frameon=False)
right.loglog(time / jnp.array(steps), errors, "o-", color=gallery.BLUE)
right.set(xlabel="learning rate", ylabel="distance from the flow", title=f"order {order:.3f}")
gallery.save(figure, args.out, __file__)
gallery.check(
    f"flow on a quadratic = exp(−Ht)θ₀ to {error:.1e}; descent converges to it at order {order:.3f}",
    error < 1e-10 and abs(order - 1) < 0.05,
)
