"""Crystals that belong together: InfoNCE on the invariant features of the equivariant encoder of `atoms`.

Random Al–Cu crystals of five atoms; two copies of each, rattled by 0.1 Å and turned at random, should embed together.
The loss is a free energy, log N − loss a bound on the information two copies share; new crystals judge the retrieval.
"""

import dataclasses

import equinox as eqx
import gallery
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

args = gallery.arguments(__doc__)

import matplotlib.pyplot as plt  # noqa: E402
import optax  # noqa: E402
from scipy.spatial.transform import Rotation  # noqa: E402

from enerjax.atoms import Config, Equivariant, Structure  # noqa: E402
from enerjax.atoms.neighbours import neighbour_list  # noqa: E402
from enerjax.fit import cosine, train  # noqa: E402
from enerjax.learning.contrastive import cosine_similarity, infonce, information_bound, retrieval  # noqa: E402

CUTOFF, ATOMS, COPIES, TRAIN, TEST, T = 4.0, 5, 2, 512, 60, 0.1
rng = np.random.default_rng(args.seed)


IMAGES = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3), -1).reshape(-1, 1, 3)


def crystal():
    """A sheared box of five atoms, placed one after the other at least 2.2 Å from the others and their images."""
    cell = 4.4 * (np.eye(3) + 0.12 * rng.normal(size=(3, 3)))
    positions = np.zeros((1, 3))
    for _ in range(400):
        trial = rng.random(3) @ cell
        if np.linalg.norm(trial - positions + IMAGES @ cell, axis=-1).min() > 2.2:
            positions = np.concatenate([positions, trial[None]])
        if len(positions) == ATOMS:
            return positions, rng.choice([13, 29], ATOMS), cell
    return crystal()


def copies(positions, species, cell):
    for _ in range(COPIES):
        turn = Rotation.random(random_state=rng.integers(1 << 31)).as_matrix()
        rattled = (positions + 0.1 * rng.normal(size=positions.shape)) @ turn
        yield Structure(jnp.asarray(rattled, jnp.float32), species, jnp.asarray(cell @ turn, jnp.float32), (True,) * 3)


def stacked(count):
    """Structures and neighbour rows of `count` crystals, leaves [count, copies, …]."""
    every = [structure for _ in range(count) for structure in copies(*crystal())]
    rows = [neighbour_list(s, CUTOFF, width=40) for s in every]
    rows = [dataclasses.replace(n, grid=rows[0].grid) for n in rows]  # rows are final: how they were binned is moot
    stack = jax.tree.map(lambda *leaves: jnp.asarray(np.stack(leaves)), *zip(every, rows, strict=True))
    return jax.tree.map(lambda v: v.reshape(count, COPIES, *v.shape[1:]), stack)


class Encoder(eqx.Module):
    """Mean over atoms of the invariant features, and a linear map to the sphere where crystals are compared."""

    potential: Equivariant
    head: eqx.nn.Linear

    def __call__(self, structure, neighbours):
        invariant = self.potential.features(structure, neighbours).filter("0e").array
        return self.head(jnp.mean(invariant, 0))


k1, k2, k3 = jr.split(jr.key(args.seed), 3)
config = Config(
    (13, 29), (0.0, 0.0), cutoff=CUTOFF, channels=12, l_max=2, l_node=1, order=2, layers=2, mean_neighbours=18.0
)
encoder = Encoder(Equivariant(config, key=k1), eqx.nn.Linear(24, 24, key=k2))
encoder = jax.tree.map(lambda v: v.astype(jnp.float32) if eqx.is_inexact_array(v) else v, encoder)
data, fresh = stacked(TRAIN), stacked(TEST)


def similarity(encoder, first, second):
    return cosine_similarity(jax.vmap(encoder)(*first), jax.vmap(encoder)(*second))


def batches(epoch, key):
    """32 crystals at a time, both copies of each."""
    copy = lambda who, c: jax.tree.map(lambda v: v[who, c], data)
    return [(copy(who, 0), copy(who, 1)) for who in jr.permutation(key, TRAIN).reshape(-1, 32)]


loss = lambda encoder, batch, key: infonce(similarity(encoder, *batch), T, symmetric=True)
half = lambda c: jax.tree.map(lambda v: v[:, c], fresh)
judge = eqx.filter_jit(lambda encoder: similarity(encoder, half(0), half(1)))
before = judge(encoder)
fitted = train(loss, encoder, batches, optax.adam(6e-3), key=k3, epochs=16, max_seconds=30, rate=cosine, ema=0.98)
after = judge(fitted.model)

turn = jnp.asarray(Rotation.random(random_state=1).as_matrix(), jnp.float32)
structure, rows = jax.tree.map(lambda v: v[0, 0], fresh)
turned = structure.at(structure.positions @ turn, structure.cell @ turn)
change = jnp.abs(fitted.model(structure, rows) - fitted.model(turned, rows)).max()
change = float(change / jnp.abs(fitted.model(structure, rows)).max())

figure, axes = plt.subplots(1, 3, figsize=(9, 3))
for axis, s, title in zip(axes, (before, after), ("untrained", "trained"), strict=False):
    axis.imshow(s[:40, :40], vmin=-1, vmax=1, cmap="RdBu_r")
    axis.set(title=f"{title}: retrieval {float(retrieval(s)):.2f}", xlabel="copy 2", ylabel="copy 1")
axes[2].plot([np.log(32) - m["loss"] for m in fitted.metrics], color=gallery.BLUE)
axes[2].axhline(np.log(32), color=gallery.GREY, lw=0.8)
axes[2].set(xlabel="epoch", ylabel="log N − loss [nats]", title="grey: log N")
gallery.save(figure, args.out, __file__)
gallery.check(
    f"retrieval of {TEST} new crystals {float(retrieval(after)):.2f} (untrained {float(retrieval(before)):.2f}, chance "
    f"{1 / TEST:.2f}); information bound {float(information_bound(after, T)):.2f} of at most {np.log(TEST):.2f} nats; "
    f"rotation changes an embedding by {change:.0e}",
    retrieval(after) > max(0.7, float(retrieval(before)) + 0.2) and change < 1e-4,
)
