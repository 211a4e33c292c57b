"""InfoNCE on the equivariant encoder of `atoms`: embeddings know no rotation, and the bound can be raised."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax

from enerjax.atoms import Config, Equivariant, Structure
from enerjax.atoms.neighbours import neighbour_list
from enerjax.fit import train
from enerjax.learning.contrastive import cosine_similarity, infonce, information_bound

CUTOFF, CRYSTALS = 3.2, 8


def _pairs(rng, turn):
    """Two copies of each crystal: rattled, the second one turned; leaves [2, crystals, …]."""
    structures = []
    for _ in range(CRYSTALS):
        cell = 4.0 * (np.eye(3) + 0.1 * rng.normal(size=(3, 3)))
        base = np.array([[0, 0, 0], [0.5, 0.5, 0.1], [0.5, 0.0, 0.6]]) + 0.05 * rng.normal(size=(3, 3))
        species = rng.choice([13, 29], 3)
        for rotation in (np.eye(3), turn):
            positions = (base @ cell + 0.02 * rng.normal(size=(3, 3))) @ rotation
            structures.append(Structure(jnp.asarray(positions), species, jnp.asarray(cell @ rotation), (True,) * 3))
    rows = [neighbour_list(s, CUTOFF, width=24) for s in structures]
    rows = [dataclasses.replace(n, grid=rows[0].grid) for n in rows]
    stack = jax.tree.map(lambda *leaves: jnp.stack(leaves), *zip(structures, rows, strict=True))
    return jax.tree.map(lambda v: jnp.moveaxis(v.reshape(CRYSTALS, 2, *v.shape[1:]), 1, 0), stack)


class Encoder(eqx.Module):
    potential: Equivariant
    head: eqx.nn.Linear

    def __call__(self, structure, neighbours):
        return self.head(jnp.mean(self.potential.features(structure, neighbours).filter("0e").array, 0))


def test_copies_of_a_crystal_embed_together(key):
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    pairs = _pairs(np.random.default_rng(0), turn)
    first, second = (jax.tree.map(lambda v, i=i: v[i], pairs) for i in (0, 1))
    one, two = jr.split(key)
    config = Config((13, 29), (0.0, 0.0), cutoff=CUTOFF, channels=4, l_max=1, l_node=0, order=2, layers=1)
    encoder = Encoder(Equivariant(config, key=one), eqx.nn.Linear(4, 8, key=two))

    structure, rows = jax.tree.map(lambda v: v[0], first)
    turned = structure.at(structure.positions @ turn, structure.cell @ turn)
    np.testing.assert_allclose(encoder(turned, rows), encoder(structure, rows), rtol=1e-9, atol=1e-11)

    similarity = lambda e: cosine_similarity(jax.vmap(e)(*first), jax.vmap(e)(*second))
    loss = lambda e, batch, key: infonce(similarity(e), 0.1)
    fitted = train(loss, encoder, lambda epoch, key: [jnp.array(0.0)], optax.adam(1e-2), key=key, epochs=60)
    before, after = information_bound(similarity(encoder), 0.1), information_bound(similarity(fitted.model), 0.1)
    assert after > before + 0.5 and after <= np.log(CRYSTALS)
