"""Honest thermostability: species held out whole show what a random split hides; a reader's states draw their tree.

Planted: sequences of eight species evolved along a tree, and a melting temperature = effects of twelve sites + the
species' own temperature, which drifted along the same tree (the phylogenetic confounder) + noise.
"""

import equinox as eqx
import gallery
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

args = gallery.arguments(__doc__)

import matplotlib.pyplot as plt  # noqa: E402
import optax  # noqa: E402

from enerjax.learning.attribution import mutagenesis  # noqa: E402
from enerjax.learning.phylogeny import (  # noqa: E402
    evolve,
    group_distances,
    leave_one_group_out,
    neighbour_joining,
    robinson_foulds,
)
from enerjax.learning.schedule import run  # noqa: E402

TREE, SITES, LETTERS, EACH = (((0, 1), (2, 3)), ((4, 5), (6, 7))), 60, 6, 60
rng = np.random.default_rng(args.seed)
effects = np.zeros((SITES, LETTERS))
effects[rng.choice(SITES, 12, replace=False)] = rng.normal(0, 1.5, (12, LETTERS))


def mutate(sequence, rate):
    return np.where(rng.random(sequence.shape) < rate, rng.integers(0, LETTERS, sequence.shape), sequence)


# ancestral sequence and temperature of every species: both change on every branch
change = lambda state: (mutate(state[0], 0.25), state[1] + rng.normal(0, 3.0))
ancestors = evolve(TREE, (rng.integers(0, LETTERS, SITES), 50.0), change)
species = np.repeat(np.arange(8), EACH)
letters = np.stack([mutate(ancestors[s][0], 0.15) for s in species])
x = np.eye(LETTERS)[letters]
cause = np.einsum("nsl,sl->n", x, effects)
y = cause + np.array([ancestors[s][1] for s in species]) + 0.5 * rng.normal(size=len(species))
scale = y.std()
x, target = jnp.asarray(x, jnp.float32), jnp.asarray((y - y.mean()) / scale, jnp.float32)

net = eqx.nn.MLP(SITES * LETTERS, "scalar", 64, 2, jnp.tanh, key=jr.key(args.seed))  # reads the alignment, all sites
net = jax.tree.map(lambda v: v.astype(jnp.float32) if eqx.is_inexact_array(v) else v, net)
params, static = eqx.partition(net, eqx.is_inexact_array)
ask = lambda p, x: jax.vmap(lambda s: eqx.combine(p, static)(s.ravel()))(x)
rates = 0.01 * jnp.minimum(1.0, 2 * (1 - jnp.arange(250) / 250)).astype(jnp.float32)


@jax.jit
def trained(weights, target):
    """The network trained on the samples of weight 1: the same optimiser path for every split, compiled once."""
    decay = lambda p: sum(jnp.sum(v**2) for v in jax.tree.leaves(p))
    loss = lambda p, _: jnp.sum(weights * (ask(p, x) - target) ** 2) / jnp.sum(weights) + 3e-3 * decay(p)
    return run(loss, params, rates, None, direction=optax.scale_by_adam())


def r2(folds):
    """Out-of-fold R² of the temperature."""
    predicted = np.zeros(len(y))
    for held in folds:
        model = trained(jnp.ones(len(y), jnp.float32).at[held].set(0.0), target)
        predicted[held] = np.asarray(ask(model, x[held]))
    return 1 - np.mean((predicted - np.asarray(target)) ** 2) / np.var(np.asarray(target)), predicted


honest, by_species = r2([test for _, _, test in leave_one_group_out(species)])
random, by_chance = r2(np.array_split(rng.permutation(len(y)), 8))

# trained on differences to the species' own mean, the confounder cancels: then mutate in silico
means = np.array([np.asarray(target)[species == s].mean() for s in range(8)])
full = eqx.combine(trained(jnp.ones(len(y), jnp.float32), target - means[species].astype(np.float32)), static)
changes = np.asarray(jax.jit(jax.vmap(lambda s: mutagenesis(lambda s: full(s.ravel()), s)))(x[::5]))
planted = effects[None] - np.einsum("sl,nsl->ns", effects, np.asarray(x[::5]))[..., None]
real = np.asarray(x[::5]) == 0
rho = np.corrcoef(changes[real], planted[real])[0, 1]

# a network that only reads (masked letters, no temperatures): its hidden states place the species on their tree
reader = eqx.nn.MLP(SITES * LETTERS, SITES * LETTERS, 32, 1, jnp.tanh, key=jr.key(args.seed))
weights, rest = eqx.partition(
    jax.tree.map(lambda v: v.astype(jnp.float32) if eqx.is_inexact_array(v) else v, reader), eqx.is_inexact_array
)


def reading(p, key):
    """Cross-entropy of letters that were hidden from the network."""
    seen = jr.bernoulli(key, 0.7, x.shape[:2])[..., None]
    guess = jax.vmap(eqx.combine(p, rest))((x * seen).reshape(len(x), -1)).reshape(x.shape)
    return -jnp.sum(jax.nn.log_softmax(guess) * x * (1 - seen)) / jnp.sum(1 - seen)


def tree_error(features):
    """Robinson–Foulds distance to the planted tree; squared distances add up along its branches."""
    return robinson_foulds(neighbour_joining(group_distances(np.asarray(features), species)[0] ** 2), TREE)


keys = jr.split(jr.key(args.seed + 1), 300)
read = run(
    reading, weights, 0.01 * (1 - jnp.arange(300, dtype=jnp.float32) / 300), keys, direction=optax.scale_by_adam()
)
hidden = lambda p: jnp.tanh(jax.vmap(eqx.combine(p, rest).layers[0])(x.reshape(len(x), -1)))
missing, untrained, counts = tree_error(hidden(read)), tree_error(hidden(weights)), tree_error(x.sum(1))

figure, axes = plt.subplots(1, 3, figsize=(9.5, 3))
for axis, (title, value, predicted) in zip(
    axes, (("random split", random, by_chance), ("species held out", honest, by_species)), strict=False
):
    axis.scatter(y, predicted * scale + y.mean(), c=species, s=4, cmap="tab10")
    axis.set(title=f"{title}: R² {value:.2f}", xlabel="melting temperature", ylabel="predicted")
axes[2].plot(planted[real], changes[real] * scale, ",", color=gallery.BLUE)
axes[2].set(title=f"in-silico mutagenesis: r = {rho:.2f}", xlabel="planted effect", ylabel="predicted effect")
gallery.save(figure, args.out, __file__)
gallery.check(
    f"R² {random:.2f} on a random split, {honest:.2f} with species held out; mutagenesis against planted effects "
    f"r = {rho:.2f}; tree of a reader's states: Robinson–Foulds {missing} (untrained {untrained}, counts {counts})",
    random > honest + 0.3 and rho > 0.6 and missing == 0,
)
