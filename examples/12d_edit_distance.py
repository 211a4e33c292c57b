"""Editing by gradient and by reward: soft edit distance freezes to Levenshtein's; REINFORCE learns from it too."""

import gallery
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

args = gallery.arguments(__doc__)

import matplotlib.pyplot as plt  # noqa: E402
import optax  # noqa: E402

from enerjax.fit import train  # noqa: E402
from enerjax.learning.objectives import reinforce  # noqa: E402
from enerjax.learning.sequence import edit_distance, soft_edit_distance  # noqa: E402

first, second = "thermodynamics", "thermonamics of"
cost = jnp.array([[float(a != b) for b in second] for a in first])
exact = edit_distance(first, second)
temperatures = np.geomspace(1.0, 0.02, 15)
soft = [float(soft_edit_distance(cost, temperature=float(T))) for T in temperatures]
frozen = float(soft_edit_distance(cost, temperature=0))
alignment = jax.grad(lambda c: soft_edit_distance(c, temperature=0.1))(cost)

# one task, two gradients: letters of a word, chosen at random with learnable odds, should be close to a target
letters, target = "adehmprst", "themes"
place = {c: i for i, c in enumerate(letters)}
goal = jax.nn.one_hot(jnp.array([place[c] for c in target]), len(letters))
length = len(target)


def soft_cost(logits, batch, key):
    p = jax.nn.softmax(logits)
    return soft_edit_distance(1 - p @ goal.T, temperature=0.1)


def exact_cost(word):
    """Levenshtein's distance of a sampled word, at T = 0: no use is made of its gradient."""
    return soft_edit_distance(1 - jax.nn.one_hot(word, len(letters)) @ goal.T, temperature=0)


def rewarded(logits, batch, key):
    log_p = lambda logits, word: jnp.sum(jnp.take_along_axis(jax.nn.log_softmax(logits), word[:, None], 1))
    draw = lambda logits, key: jr.categorical(key, logits, axis=1)
    return reinforce(log_p, draw, exact_cost, logits, jr.split(key, 64))


expected = lambda logits, key: jnp.mean(
    jax.vmap(lambda k: exact_cost(jr.categorical(k, logits, axis=1)))(jr.split(key, 400))
)
curves, words = {}, {}
for name, loss in (("soft edit distance", soft_cost), ("REINFORCE", rewarded)):
    seen = []
    judge = jax.jit(expected)
    fitted = train(
        loss,
        0.1 * jr.normal(jr.key(args.seed), (length, len(letters))),
        lambda epoch, key: [jnp.array(i) for i in range(10)],
        optax.adam(0.1),
        key=jr.key(args.seed),
        epochs=40,
        on_epoch=lambda model, line, seen=seen, judge=judge: seen.append(float(judge(model, jr.key(5)))),
    )
    curves[name], words[name] = seen, "".join(letters[i] for i in np.argmax(fitted.model, 1))

figure, (left, middle, right) = plt.subplots(1, 3, figsize=(9.5, 3))
left.semilogx(temperatures, soft, "o-", ms=3, color=gallery.BLUE)
left.axhline(exact, color=gallery.INK, lw=0.8)
left.set(xlabel="temperature", ylabel="soft edit distance", title=f"exact: {exact}")
middle.imshow(alignment, cmap="Greys")
middle.set(xticks=range(len(second)), yticks=range(len(first)))
middle.set_xticklabels(second, fontsize=6)
middle.set_yticklabels(first, fontsize=6)
for (name, curve), color in zip(curves.items(), (gallery.BLUE, gallery.RED), strict=True):
    right.plot(np.arange(1, 41) * 10, curve, color=color, label=f"{name}: “{words[name]}”")
right.set(xlabel="step", ylabel="expected distance")
right.legend(frameon=False, fontsize=7)
gallery.save(figure, args.out, __file__)
finals = ", ".join(f"{name} {curve[-1]:.2f}" for name, curve in curves.items())
gallery.check(
    f"T → 0: {soft[-1]:.4f} at T = 0.02, {frozen:g} at 0, Levenshtein {exact}; "
    f"expected distance to “{target}”: {finals}",
    frozen == exact and abs(soft[-1] - exact) < 0.1 and max(c[-1] for c in curves.values()) < 0.5,
)
