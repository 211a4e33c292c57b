"""Trained readers against what was planted: attribution at the splice site, and the species' tree in hidden states."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax

from enerjax.learning.attribution import completeness, integrated_gradients, mutagenesis
from enerjax.learning.phylogeny import evolve, group_distances, leave_one_group_out, neighbour_joining, robinson_foulds
from enerjax.learning.schedule import run
from enerjax.learning.sequence import Reader, one_hot


def test_attribution_of_a_trained_reader_peaks_at_gt_and_ag():
    """Windows of 16 bases: donors have GT at 8, acceptors AG at 6, decoys one right letter of either pair."""
    rng = np.random.default_rng(0)
    text, label = rng.choice(list("ACGT"), (400, 16)), rng.choice(3, 400)
    for row, k in zip(text, label, strict=True):
        place, pair = ((8, "GT"), (6, "AG"))[int(k) if k < 2 else rng.integers(2)]
        if k < 2:
            row[place : place + 2] = list(pair)
        else:
            kept = rng.integers(2)
            row[place + kept], row[place + 1 - kept] = pair[kept], "C"
    x, y = jnp.asarray(np.stack([one_hot("".join(row), "ACGT") for row in text])), jnp.asarray(label)
    net = Reader(4, 8, 3, key=jr.key(0), place=7)
    held, rates = 100, 0.02 * (1 - jnp.arange(120) / 120)

    def loss(net, key):
        i = jr.randint(key, (64,), held, len(y))
        return optax.softmax_cross_entropy_with_integer_labels(jax.vmap(net)(x[i]), y[i]).mean()

    net = jax.jit(lambda net: run(loss, net, rates, jr.split(jr.key(1), 120), direction=optax.scale_by_adam()))(net)
    assert jnp.mean(jnp.argmax(jax.vmap(net)(x[:held]), 1) != y[:held]) < 0.1
    base = jnp.full((16, 4), 0.25)
    score = lambda s, k: net(s)[k] - net(s).mean()
    shares = jax.jit(jax.vmap(lambda s, k: integrated_gradients(lambda s: score(s, k), s, base, nodes=24)))
    for k, place in ((0, 8), (1, 6)):
        sites = x[:held][y[:held] == k]
        parts = shares(sites, jnp.full(len(sites), k))
        profile = np.asarray(parts.sum(2).mean(0))
        assert sorted(np.argsort(profile)[-2:]) == [place, place + 1]
        assert abs(completeness(lambda s, k=k: score(s, k), sites[0], base, parts[0])) < 1e-4


TREE = (((0, 1), (2, 3)), ((4, 5), (6, 7)))


def planted(rng, sites=48, letters=4, each=24, rate=0.3):
    """Sequences of eight species along TREE; temperature = effects of eight sites + the species' own + noise."""
    mutate = lambda s, rate: np.where(rng.random(s.shape) < rate, rng.integers(0, letters, s.shape), s)

    change = lambda state: (mutate(state[0], rate), state[1] + rng.normal(0, 3.0))
    ancestors = evolve(TREE, (rng.integers(0, letters, sites), 50.0), change)
    effects = np.zeros((sites, letters))
    effects[rng.choice(sites, 8, replace=False)] = rng.normal(0, 1.5, (8, letters))
    species = np.repeat(np.arange(8), each)
    x = np.eye(letters)[np.stack([mutate(ancestors[s][0], 0.15) for s in species])]
    y = np.einsum("nsl,sl->n", x, effects) + np.array([ancestors[s][1] for s in species])
    return x, y + 0.3 * rng.normal(size=len(y)), species, effects


def ridge(x, y, decay=1.0):
    X = x.reshape(len(x), -1)
    mean = X.mean(0), y.mean()
    w = np.linalg.solve((X - mean[0]).T @ (X - mean[0]) + decay * np.eye(X.shape[1]), (X - mean[0]).T @ (y - mean[1]))
    return lambda x: (x.reshape(*x.shape[:-2], -1) - mean[0]) @ w + mean[1]


def test_mutagenesis_finds_planted_effects_once_the_species_are_taken_out():
    """A random split flatters; centred on their species, the sequences show the effects of their sites."""
    x, y, species, effects = planted(np.random.default_rng(1))
    error = lambda folds: sum(np.sum((ridge(x[train], y[train])(x[test]) - y[test]) ** 2) for train, test in folds)
    order = np.random.default_rng(2).permutation(len(y))
    random = error((np.setdiff1d(order, fold), fold) for fold in np.array_split(order, 8))
    honest = error((train, test) for _, train, test in leave_one_group_out(species))
    spread = np.sum((y - y.mean()) ** 2)
    assert 1 - random / spread > 0.8 and honest > 2 * random

    own = lambda v: np.stack([v[species == s].mean(0) for s in range(8)])[species]
    model = ridge(x - own(x), y - own(y), 0.3)
    changes = np.asarray(jax.vmap(lambda s: mutagenesis(model, s))(jnp.asarray(x[::4])))
    truth = effects[None] - np.einsum("sl,nsl->ns", effects, x[::4])[..., None]
    other = x[::4] == 0
    assert np.corrcoef(changes[other], truth[other])[0, 1] > 0.8


def test_hidden_states_of_a_reader_draw_the_species_tree():
    """A network that guesses hidden letters, never told the species: neighbour joining of its states gives TREE."""
    x, _, species, _ = planted(np.random.default_rng(0), rate=0.2)
    x = jnp.asarray(x.reshape(len(x), -1))
    sites = x.shape[1] // 4
    a, b = jr.split(jr.key(0))
    weights = {"in": 0.1 * jr.normal(a, (x.shape[1], 32)), "out": 0.1 * jr.normal(b, (32, x.shape[1]))}

    def reading(w, key):
        seen = jnp.repeat(jr.bernoulli(key, 0.7, (len(x), sites)), 4, axis=1)
        guess = jax.nn.log_softmax((jnp.tanh((x * seen) @ w["in"]) @ w["out"]).reshape(-1, sites, 4))
        return -jnp.sum(guess.reshape(x.shape) * x * (1 - seen)) / jnp.sum(1 - seen) * 4

    rates = 0.01 * (1 - jnp.arange(200) / 200)
    read = jax.jit(lambda w: run(reading, w, rates, jr.split(jr.key(2), 200), direction=optax.scale_by_adam()))(weights)
    states = lambda w: group_distances(np.asarray(jnp.tanh(x @ w["in"])), species)[0] ** 2
    assert robinson_foulds(neighbour_joining(states(read)), TREE) == 0
    assert robinson_foulds(neighbour_joining(states(weights)), TREE) > 0
