"""A learner on the road to chaos: fixed point, period doubling and a positive Lyapunov exponent as the rate grows."""

import gallery
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

args = gallery.arguments(__doc__)

import matplotlib.pyplot as plt  # noqa: E402

from enerjax.learning.stability import bifurcation, descent, feigenbaum, lyapunov, period_doubling  # noqa: E402

# gradient descent on x²/2 − x³/3: curvature 1 at the minimum 0, and conjugate to the logistic map with r = 1 + rate
family = descent(lambda x: jnp.sum(x**2 / 2 - x**3 / 3))
first = period_doubling(family, 1.7, jnp.array(0.05)).parameter
rates, ratios = feigenbaum(family, lambda eta: (eta - 1) / (2 * eta), 1.0, 2.2, 9)
delta = float(ratios[-1])

grid = jnp.linspace(1.7, 3.0, 700)
orbits = np.asarray(jax.jit(lambda g: bifurcation(family, jnp.array(0.1), g, transient=1500, keep=100))(grid))
exponent = jax.jit(
    jax.vmap(lambda eta: lyapunov(lambda x: family(eta, x), jnp.array(0.3), jr.key(0), length=4000, transient=1000))
)(grid)
chaos = float(lyapunov(lambda x: family(3.0, x), jnp.array(0.3217), jr.key(args.seed), length=100_000, transient=1000))

figure, (top, bottom) = plt.subplots(2, 1, figsize=(7.5, 5), sharex=True, height_ratios=(2, 1))
top.plot(np.repeat(grid, orbits.shape[1]), orbits.ravel(), ",", color=gallery.INK, alpha=0.25)
top.axvline(first, lw=0.7, color=gallery.RED)
top.set(ylabel="weight after training", title="descent on x²/2 − x³/3; red: 2/λ")
bottom.plot(grid, exponent, lw=0.7, color=gallery.BLUE)
bottom.axhline(0, lw=0.5, color=gallery.GREY)
bottom.set(xlabel="learning rate", ylabel="Lyapunov exponent", ylim=(-2, 1))
gallery.save(figure, args.out, __file__)
gallery.check(
    f"period doubles at rate {float(first):.9f} (2/λ = 2); Feigenbaum's δ {delta:.5f} (4.66920); "
    f"exponent in full chaos {chaos:.4f} (log 2 = 0.6931)",
    abs(first - 2) < 1e-6 and abs(delta / 4.669201609 - 1) < 0.02 and abs(chaos - np.log(2)) < 5e-3,
)
