"""The shape of a loss without its Hessian: Lanczos finds both ends and the density, and they fix the rates."""

import equinox as eqx
import gallery
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.flatten_util import ravel_pytree

args = gallery.arguments(__doc__)

import matplotlib.pyplot as plt  # noqa: E402

from enerjax.energy import hessian_vector_product  # noqa: E402
from enerjax.fit import direction, extreme_eigenvalues, newton_cg, spectrum  # noqa: E402
from enerjax.path import rollout  # noqa: E402

net, static = eqx.partition(eqx.nn.MLP(2, 1, 12, 2, jnp.tanh, key=jr.key(args.seed)), eqx.is_inexact_array)
X = jr.normal(jr.key(1), (128, 2))
y = jnp.sin(X[:, :1] * X[:, 1:])
weights, unravel = ravel_pytree(net)


def L(w):
    predicted = jax.vmap(eqx.combine(unravel(w), static))(X)
    return jnp.mean((predicted - y) ** 2) / 2 + 5e-3 * jnp.sum(w**2)


found = jax.jit(lambda w: newton_cg(L, w, tolerance=1e-11, max_steps=300))(weights)
w = found.x
H = np.asarray(jax.jit(jax.hessian(L))(w))
dense = np.linalg.eigvalsh(H)
ends = jax.jit(lambda w: extreme_eigenvalues(L, w, jr.key(2), steps=120))(w)
errors = abs(float(ends.largest) / dense[-1] - 1), abs(float(ends.smallest) / dense[0] - 1)

# at the minimum: descent with the best rate contracts by (κ − 1)/(κ + 1), Newton and natural steps do not see κ
kappa = float(ends.condition)
rate = 2 / (ends.smallest + ends.largest)
vectors = np.linalg.eigh(H)[1]
away = 1e-6 * jnp.asarray(vectors[:, 0] + vectors[:, -1])
path = jax.jit(lambda x: rollout(lambda x, _: x - rate * jax.grad(L)(x), x, length=400))(w + away)
history = np.r_[float(jnp.linalg.norm(away)), np.linalg.norm(path - w, axis=1)]
measured = (history[-1] / history[-101]) ** 0.01
g = jax.grad(L)(w + away)
newton = direction(lambda v: hessian_vector_product(L, w + away, v), g, tolerance=1e-12, max_products=500)
left_over = float(jnp.linalg.norm(away + newton.step) / jnp.linalg.norm(away))

estimate = spectrum(L, w, jr.key(3), probes=8, steps=60)
trace, error = estimate.trace()
figure, (left, right) = plt.subplots(1, 2, figsize=(7.5, 3))
grid = jnp.linspace(-0.02, dense[-1] * 1.1, 2000)
left.semilogy(grid, estimate.density(grid, 0.01), color=gallery.BLUE, label=f"{8 * 60} products")
exact = jnp.mean(jax.scipy.stats.norm.pdf(grid[:, None], dense[None], 0.01), 1)
left.semilogy(grid, exact, "--", color=gallery.INK, label=f"dense, {len(w)} parameters")
left.set(xlabel="eigenvalue", ylabel="density", ylim=(1e-3, 1e2))
left.legend(frameon=False)
right.semilogy(history / history[0], color=gallery.RED, label="descent")
right.semilogy([0, 1], [1, left_over], "o-", color=gallery.BLUE, label="Newton")
right.set(xlabel="step", ylabel="distance", title=f"κ = {kappa:.3g}")
right.legend(frameon=False)
gallery.save(figure, args.out, __file__)
gallery.check(
    f"λ_max to {errors[0]:.1e}, λ_min to {errors[1]:.1e} of dense; trace {float(trace):.3f} ± {float(error):.3f} "
    f"(dense {dense.sum():.3f}); descent contracts by {measured:.6f}, (κ−1)/(κ+1) = {(kappa - 1) / (kappa + 1):.6f}; "
    f"a Newton step leaves {left_over:.1e}",
    max(errors) < 1e-6
    and abs(measured - (kappa - 1) / (kappa + 1)) < 1e-5
    and left_over < 1e-2
    and bool(found.converged),
)
