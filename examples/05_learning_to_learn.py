"""Learning to learn: every step's learning rate, learned by the gradient of the final validation loss."""

import gallery
import jax
import jax.numpy as jnp
import jax.random as jr

args = gallery.arguments(__doc__)

import matplotlib.pyplot as plt  # noqa: E402
import optax  # noqa: E402

from enerjax.fit import cosine, train  # noqa: E402
from enerjax.learning.schedule import final_loss  # noqa: E402

STEPS = 24
SCALE, TRUTH = jnp.array([1.0, 0.3, 0.1]), jnp.array([1.0, -2.0, 3.0])


def task(key):
    """A noisy, badly scaled regression: one minibatch per step, and clean data to be judged on."""
    k1, k2, k3 = jr.split(key, 3)
    X = jr.normal(k1, (STEPS, 16, 3)) * SCALE
    y = X @ TRUTH + 0.5 * jr.normal(k2, (STEPS, 16))
    X_new = jr.normal(k3, (200, 3)) * SCALE
    return (X, y), (X_new, X_new @ TRUTH)


loss = lambda w, batch: jnp.mean((batch[0] @ w - batch[1]) ** 2) / 2


def judged(log_rates, keys):
    """The final validation loss, averaged over tasks."""

    def one(key):
        batches, fresh = task(key)
        return final_loss(loss, lambda w: loss(w, fresh), stride=4)(jnp.exp(log_rates), jnp.zeros(3), batches)

    return jnp.mean(jax.vmap(one)(keys))


fresh = jr.split(jr.key(args.seed + 1), 512)
grid = jnp.geomspace(0.02, 1.2, 60)
constants = jax.jit(jax.vmap(lambda rate: judged(jnp.full(STEPS, jnp.log(rate)), fresh)))(grid)
best = grid[jnp.nanargmin(constants)]
fitted = train(
    lambda rates, keys, key: judged(rates, keys),
    jnp.full(STEPS, jnp.log(best)),
    lambda epoch, key: [jr.split(key, 64)],
    optax.adam(0.03),
    key=jr.key(args.seed),
    epochs=250,
    rate=cosine,
)
learned, constant = float(judged(fitted.model, fresh)), float(jnp.nanmin(constants))

slope = jax.grad(judged)(fitted.model, fresh[:8])
step = 1e-5
by_hand = (judged(fitted.model.at[3].add(step), fresh[:8]) - judged(fitted.model.at[3].add(-step), fresh[:8])) / (
    2 * step
)
mismatch = float(abs(slope[3] / by_hand - 1))

figure, (left, right) = plt.subplots(1, 2, figsize=(7.5, 3))
left.step(range(1, STEPS + 1), jnp.exp(fitted.model), where="mid", color=gallery.BLUE, label="learned")
left.axhline(best, color=gallery.RED, label="best constant")
left.set(xlabel="step", ylabel="learning rate", ylim=(0, None))
left.legend(frameon=False)
right.loglog(grid, constants, color=gallery.RED)
right.axhline(learned, color=gallery.BLUE)
right.set(xlabel="constant learning rate", ylabel="validation loss", ylim=(0.5 * learned, 20 * learned))
gallery.save(figure, args.out, __file__)
gallery.check(
    f"validation loss {learned:.4f} with the learned schedule, {constant:.4f} with the best constant rate "
    f"({1 - learned / constant:.0%} lower); hypergradient = finite difference to {mismatch:.1e}",
    learned < 0.9 * constant and mismatch < 1e-5,
)
