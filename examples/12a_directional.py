"""A loss that knows direction: pricing wrong signs raises the hit rate on heavy-tailed returns."""

import gallery
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

args = gallery.arguments(__doc__)

import matplotlib.pyplot as plt  # noqa: E402
import optax  # noqa: E402

from enerjax.learning.objectives import directional_loss  # noqa: E402
from enerjax.learning.schedule import run  # noqa: E402

FEATURES, TRAIN, TEST = 6, 400, 10_000
truth = jnp.array([0.5, -0.4, 0.3, 0.0, 0.0, 0.2])


def market(key, n):
    """Linear signal, noise with Student tails (2.2 degrees of freedom) and clustered volatility, as returns have."""
    k1, k2, k3 = jr.split(key, 3)
    x = jr.normal(k1, (n, FEATURES))
    volatility = jnp.exp(0.7 * jr.normal(k2, (n,)))
    return x, volatility * (x @ truth + jr.t(k3, 2.2, (n,)))


def trained(penalty, data):
    x, r = data
    loss = lambda w, batch: directional_loss(x @ w, r, penalty)
    return run(loss, jnp.zeros(FEATURES), jnp.linspace(0.05, 0.0, 300), None, direction=optax.scale_by_adam())


keys = jr.split(jr.key(args.seed), 60)
fresh = market(jr.key(99), TEST)
hit = lambda w: jnp.mean(jnp.sign(fresh[0] @ w) == jnp.sign(fresh[1]))
penalties = jnp.array([0.0, 0.3, 1.0, 3.0, 10.0])
rates = np.asarray(
    jax.jit(lambda p, keys: jax.lax.map(lambda k: jax.vmap(lambda p: hit(trained(p, market(k, TRAIN))))(p), keys))(
        penalties, keys
    )
)
oracle = float(hit(truth))
gain = rates[:, 3] - rates[:, 0]
mean, error = gain.mean(), gain.std(ddof=1) / np.sqrt(len(gain))

figure, axes = plt.subplots(figsize=(4.5, 3.2))
axes.errorbar(range(5), rates.mean(0), 2 * rates.std(0) / np.sqrt(len(keys)), fmt="o-", color=gallery.BLUE)
axes.axhline(oracle, color=gallery.GREY, lw=0.8)
axes.set(
    xticks=range(5), xticklabels=[f"{p:g}" for p in penalties], xlabel="price κ of a wrong sign (0: squared error)"
)
axes.set(ylabel="out-of-sample hit rate", title="grey: the true signal")
gallery.save(figure, args.out, __file__)
gallery.check(
    f"hit rate out of sample {rates[:, 3].mean():.4f} against {rates[:, 0].mean():.4f} for squared error "
    f"(true signal {oracle:.4f}): gain {mean:.4f} ± {error:.4f} over {len(keys)} markets",
    mean > 4 * error,
)
