"""Which source a model listens to: integrated gradients that add up, and norms that sort two kinds of proteins."""

import equinox as eqx
import gallery
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

args = gallery.arguments(__doc__)

import matplotlib.pyplot as plt  # noqa: E402
import optax  # noqa: E402

from enerjax.fit import cosine, train  # noqa: E402
from enerjax.learning.attribution import completeness, integrated_gradients, source_norms  # noqa: E402


def protein(key):
    """A structure vector, an alignment vector and a switch: the answer hangs on one of the two vectors only."""
    k1, k2, k3 = jr.split(key, 3)
    structure, alignment = jr.normal(k1, (5,)), jr.normal(k2, (5,))
    orphan = jr.bernoulli(k3).astype(float)  # no homologues: the alignment says nothing
    answer = orphan * jnp.sin(structure[0] + structure[1]) + (1 - orphan) * alignment[0] * alignment[1]
    return {"structure": structure, "alignment": alignment, "orphan": orphan[None]}, answer


class TwoSources(eqx.Module):
    network: eqx.nn.MLP

    def __call__(self, s):
        return self.network(jnp.concatenate([s["structure"], s["alignment"], s["orphan"]]))


make = jax.jit(jax.vmap(protein))
x, y = make(jr.split(jr.key(args.seed), 4096))
model = TwoSources(eqx.nn.MLP(11, "scalar", 48, 3, jax.nn.gelu, key=jr.key(args.seed)))
fitted = train(
    lambda model, b, key: jnp.mean((jax.vmap(model)(b[0]) - b[1]) ** 2),
    model,
    lambda epoch, key: [jax.tree.map(lambda v, i=i: v[i], (x, y)) for i in jr.permutation(key, 4096).reshape(32, 128)],
    optax.adam(4e-3),
    key=jr.key(args.seed),
    epochs=40,
    rate=cosine,
).model
x_new, y_new = make(jr.split(jr.key(77), 400))
r2 = 1 - float(jnp.mean((jax.vmap(fitted)(x_new) - y_new) ** 2) / jnp.var(y_new))
base = jax.tree.map(lambda v: jnp.zeros_like(v[0]), x_new)


def account(s):
    shares = integrated_gradients(fitted, s, base, nodes=48)
    norms = source_norms(fitted, s)
    return completeness(fitted, s, base, shares), norms["structure"], norms["alignment"]


gap, structure, alignment = (np.asarray(v) for v in jax.jit(jax.vmap(account))(x_new))
orphan = np.asarray(x_new["orphan"])[:, 0] > 0.5
ratio = np.log(structure / alignment)
auc = np.mean(ratio[orphan][:, None] > ratio[~orphan][None])

figure, (left, right) = plt.subplots(1, 2, figsize=(7.5, 3))
left.loglog(alignment[orphan], structure[orphan], ".", ms=3, color=gallery.RED, label="orphans")
left.loglog(alignment[~orphan], structure[~orphan], ".", ms=3, color=gallery.BLUE, label="with homologues")
left.set(xlabel="|∂f/∂alignment|", ylabel="|∂f/∂structure|")
left.legend(frameon=False)
right.hist(np.log10(np.abs(gap) + 1e-18), 40, color=gallery.INK)
right.set(xlabel="log₁₀ |Σ attributions − (f(x) − f(0))|")
gallery.save(figure, args.out, __file__)
gallery.check(
    f"completeness to {np.abs(gap).max():.1e} over 400 proteins; the norm of the source tells orphans with AUC "
    f"{auc:.3f} (R² of the model {r2:.3f})",
    np.abs(gap).max() < 1e-6 and auc > 0.95,
)
