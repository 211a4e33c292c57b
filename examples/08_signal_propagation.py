"""Order and chaos in depth: gradients of random networks follow χ^depth; He's initialisation sits at χ = 1."""

import gallery
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

args = gallery.arguments(__doc__)

import matplotlib.pyplot as plt  # noqa: E402

from enerjax.learning.signal import MeanField, gradient_norms  # noqa: E402

DEPTH, WIDTH, NETWORKS = 100, 256, 6
gelu = lambda x: jax.nn.gelu(x, approximate=False)
cases = [
    ("tanh", jnp.tanh, (0.9, 1.0, 1.3)),
    ("relu", jax.nn.relu, (np.sqrt(1.8), np.sqrt(2.0), np.sqrt(2.2))),
    ("gelu", gelu, (1.3, 1.5, 1.6)),
]
figure, axes = plt.subplots(1, 3, figsize=(9, 3), sharex=True)
worst = 0.0
for axis, (name, phi, sigmas) in zip(axes, cases, strict=True):
    for sigma, color in zip(sigmas, (gallery.BLUE, gallery.INK, gallery.RED), strict=True):
        field = MeanField(phi, sigma)
        measure = lambda k, field=field: gradient_norms(field, k, depth=DEPTH, width=WIDTH)
        variances, gradients = jax.jit(lambda keys, m=measure: jax.lax.map(m, keys))(
            jr.split(jr.key(args.seed), NETWORKS)
        )
        chi = jax.jit(jax.vmap(field.chi))(variances.ravel()).reshape(variances.shape)[:, :-1]
        ratios = gradients[:, :-1] / gradients[:, 1:] / chi
        deviation = abs(float(jnp.mean(ratios)) - 1) / (float(jnp.std(ratios)) / np.sqrt(ratios.size))
        worst = max(worst, deviation)
        theory = jnp.exp(jnp.cumsum(jnp.log(jnp.mean(chi, 0))[::-1]))
        axis.semilogy(jnp.arange(DEPTH), jnp.exp(jnp.mean(jnp.log(gradients), 0))[::-1], ".", ms=2, color=color)
        axis.semilogy(jnp.arange(1, DEPTH), theory, lw=0.8, color=color, label=f"σ_w² = {sigma**2:.2f}")
    axis.set(title=name, xlabel="layers from the output")
    axis.legend(frameon=False, fontsize=7)
axes[0].set(ylabel="squared gradient")
gallery.save(figure, args.out, __file__)
he = float(MeanField(jax.nn.relu, np.sqrt(2.0)).chi(1.0))
gallery.check(
    f"growth per layer is χ within {worst:.1f} standard errors in nine cases of depth {DEPTH}; χ of He = {he:.12f}",
    worst < 4 and abs(he - 1) < 1e-10,
)
