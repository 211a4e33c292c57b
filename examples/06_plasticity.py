"""Methylated synapses: gates that freeze most of a network let it learn a second task without losing its features."""

import equinox as eqx
import gallery
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

args = gallery.arguments(__doc__)

import matplotlib.pyplot as plt  # noqa: E402
import optax  # noqa: E402

from enerjax.fit import train  # noqa: E402
from enerjax.learning.plasticity import gate, gates_of  # noqa: E402

key = jr.key(args.seed)
x = jnp.linspace(-2, 2, 200)[:, None]
tasks = {"many": jnp.sin(3 * x), "few": jnp.sin(3 * x + 0.8) + 0.3 * x}
few = jnp.linspace(4, 195, 10).astype(int)
loss = lambda net, batch, key: jnp.mean((jax.vmap(net)(batch[0]) - batch[1]) ** 2)


def fit(net, gates, data, epochs):
    optimizer = optax.chain(optax.adam(5e-3), gate(gates))
    return train(loss, net, lambda epoch, key: [data], optimizer, key=key, epochs=epochs).model


fresh = eqx.nn.MLP(1, 1, 48, 3, jnp.tanh, key=key)
everything = gates_of(fresh, lambda m: m.layers, inside=1.0)
source = fit(fresh, everything, (x, tasks["many"]), 1500)
data = x[few], tasks["few"][few]
head_only = gates_of(source, lambda m: m.layers[:-1])
slow = gates_of(source, lambda m: m.layers[:-1], inside=0.02)
models = {
    "from scratch": fit(fresh, everything, data, 1500),
    "features frozen (gate 0)": fit(source, head_only, data, 1500),
    "features slow (gate 0.02)": fit(source, slow, data, 1500),
}
rmse = {name: float(jnp.sqrt(loss(net, (x, tasks["few"]), key))) for name, net in models.items()}
frozen = models["features frozen (gate 0)"].layers[:-1]
bits = all(
    np.asarray(a).tobytes() == np.asarray(b).tobytes()
    for a, b in zip(
        jax.tree.leaves(eqx.filter(frozen, eqx.is_array)),
        jax.tree.leaves(eqx.filter(source.layers[:-1], eqx.is_array)),
        strict=True,
    )
)

figure, axes = plt.subplots(figsize=(6, 3.2))
axes.plot(x, tasks["few"], color=gallery.GREY, lw=3, alpha=0.5, label="second task")
for (name, net), color in zip(models.items(), (gallery.RED, gallery.BLUE, gallery.GREEN), strict=True):
    axes.plot(x, jax.vmap(net)(x), color=color, label=f"{name}: {rmse[name]:.3f}")
axes.plot(*data, "o", ms=4, color=gallery.INK)
axes.legend(frameon=False, fontsize=8)
axes.set(xlabel="x", ylabel="y", ylim=(-3.2, 2))
gallery.save(figure, args.out, __file__)
best = min(rmse["features frozen (gate 0)"], rmse["features slow (gate 0.02)"])
gallery.check(
    f"frozen parameters unchanged to the bit: {bits}; RMSE from ten labels "
    + ", ".join(f"{name} {value:.3f}" for name, value in rmse.items()),
    bits and best < rmse["from scratch"],
)
