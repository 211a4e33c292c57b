"""Noise that regularises: a memristor's read noise acts as ridge regression with a coefficient known beforehand."""

import gallery
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

args = gallery.arguments(__doc__)

import matplotlib.pyplot as plt  # noqa: E402
import optax  # noqa: E402
from sklearn.datasets import load_diabetes  # noqa: E402

from enerjax.learning.plasticity import soft_bounds, tikhonov  # noqa: E402
from enerjax.learning.regularisation import ridge  # noqa: E402
from enerjax.path import rollout  # noqa: E402

X, y = load_diabetes(return_X_y=True)  # B. Efron et al. 2004: ten correlated measurements, disease progression
X, y = jnp.asarray(X), jnp.asarray(y)
X, y = (X - X.mean(0)) / X.std(0), (y - y.mean()) / y.std()
n = len(X)
H, b = X.T @ X / n, X.T @ y / n


def memristor(noise, bound, key, rate=4e-3, steps=200_000, stride=200):
    """The mean weights of memristors trained with noisy reads, and their standard error.

    Two of them see opposite noise: what noise does linearly cancels in their mean, what it does by its size stays.
    """

    def run(noise):
        optimizer = optax.chain(soft_bounds(bound, noise, key), optax.scale_by_learning_rate(rate))

        def step(z, _):
            w, state = z
            update, state = optimizer.update(H @ w - b, state, w)
            return optax.apply_updates(w, update), state

        return rollout(step, (jnp.zeros(10), optimizer.init(jnp.zeros(10))), length=steps, stride=stride)[0]

    pair = jax.jit(jax.vmap(run))(jnp.array([noise, -noise]))
    batches = np.asarray(pair.mean(0)[steps // stride // 5 :]).reshape(40, -1, 10).mean(1)
    return batches.mean(0), batches.std(0, ddof=1) / np.sqrt(40)


def explains(mean, error, lam):
    """The ridge coefficient that best explains measured weights, near `lam`."""
    grid = np.linspace(0.7 * lam, 1.4 * lam, 141)
    misfit = [np.sum(((np.asarray(ridge(X, y, n * p, offset=False).weights) - mean) / error) ** 2) for p in grid]
    return grid[np.argmin(misfit)]


bound = 0.3
penalties = np.geomspace(1e-3, 10, 60)
path = np.array([ridge(X, y, n * p, offset=False).weights for p in penalties])
figure, (left, right) = plt.subplots(1, 2, figsize=(7.5, 3.2))
left.semilogx(penalties, path, lw=0.8, color=gallery.GREY)
rows = []
for i, noise in enumerate((0.4, 1.5)):
    mean, error = memristor(noise, bound, jr.fold_in(jr.key(args.seed), i))
    lam = float(tikhonov(bound, noise))
    expected = np.asarray(ridge(X, y, n * lam, offset=False).weights)
    fitted = explains(mean, error, lam)
    rows.append((lam, fitted, np.sqrt(np.mean(((mean - expected) / error) ** 2))))
    left.errorbar(np.full(10, lam), mean, 3 * error, fmt="o", ms=3, color=(gallery.BLUE, gallery.RED)[i])
left.set(xlabel="λ", ylabel="weight", title="ridge path (grey), memristors (dots)")
X2 = jnp.c_[X, X[:, :1] + 1e-4 * jr.normal(jr.key(1), (n, 1))]  # a column twice: multicollinearity
condition = [float(ridge(X2, y, n * p, offset=False).condition) for p in penalties]
right.loglog(penalties, condition, color=gallery.INK)
right.set(xlabel="λ", ylabel="condition number", title="a repeated column, cured")
gallery.save(figure, args.out, __file__)
gallery.check(
    "Tikhonov coefficient derived/measured "
    + ", ".join(f"{lam:.4f}/{fitted:.4f}" for lam, fitted, _ in rows)
    + f"; condition number {float(ridge(X2, y, 0.0).condition):.1e} → {condition[20]:.1e} at λ = {penalties[20]:.2g}",
    all(abs(fitted / lam - 1) < 0.1 for lam, fitted, _ in rows),
)
