"""Reading without alignment: a network learns digit strings from unsegmented signals by the CTC free energy."""

import gallery
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

args = gallery.arguments(__doc__)

import equinox as eqx  # noqa: E402
import matplotlib.pyplot as plt  # noqa: E402
import optax  # noqa: E402

from enerjax.fit import train  # noqa: E402
from enerjax.learning.sequence import Bidirectional, ctc, edit_distance  # noqa: E402

SYMBOLS, LENGTH, TIME, CHANNELS = 4, 4, 40, 6
patterns = jr.normal(jr.key(7), (SYMBOLS, CHANNELS))


def utterance(key):
    """A string of symbols, each spoken for 3 to 6 frames after a random pause, in noise; no alignment is kept."""
    k1, k2, k3, k4 = jr.split(key, 4)
    text = jr.randint(k1, (LENGTH,), 0, SYMBOLS)
    length = jr.randint(k2, (LENGTH,), 3, 7)
    pause = jr.randint(k3, (LENGTH,), 1, 4)
    start = jnp.cumsum(length + pause) - length
    t = jnp.arange(TIME)
    on = (t[:, None] >= start) & (t[:, None] < start + length)
    return on @ patterns[text] + 0.4 * jr.normal(k4, (TIME, CHANNELS)), text + 1


class Listener(eqx.Module):
    reading: Bidirectional
    head: eqx.nn.Linear

    def __call__(self, x):
        return jax.nn.log_softmax(jax.vmap(self.head)(self.reading(x)))


k1, k2, k3 = jr.split(jr.key(args.seed), 3)
listener = Listener(Bidirectional(CHANNELS, 24, key=k1), eqx.nn.Linear(48, SYMBOLS + 1, key=k2))
loss = lambda net, batch, key: jnp.mean(jax.vmap(lambda x, y: ctc(net(x), y))(*batch))
make = jax.jit(jax.vmap(utterance))
data = make(jr.split(k3, 1024))
batches = lambda epoch, key: [
    jax.tree.map(lambda v, i=i: v[i], data) for i in jr.permutation(key, 1024).reshape(32, 32)
]
fitted = train(loss, listener, batches, optax.adam(5e-3), key=jr.key(args.seed), epochs=10, ema=0.98)

x, text = make(jr.split(jr.key(1234), 300))
log_probs = np.asarray(eqx.filter_jit(jax.vmap(fitted.model))(x))


def collapse(path):
    return [int(k) for i, k in enumerate(path) if k and (i == 0 or k != path[i - 1])]


errors = [edit_distance(collapse(p.argmax(1)), [int(k) for k in y]) for p, y in zip(log_probs, text, strict=True)]
rate = sum(errors) / (300 * LENGTH)
ours = jax.vmap(ctc)(jnp.asarray(log_probs), text)
pads = jnp.zeros((300, TIME)), jnp.zeros((300, LENGTH))
gap = float(jnp.abs(ours - optax.ctc_loss(jnp.asarray(log_probs), pads[0], text, pads[1], log_epsilon=-1e30)).max())
alignment = -jax.grad(ctc)(jnp.asarray(log_probs[0]), text[0])

figure, (top, bottom) = plt.subplots(2, 1, figsize=(6, 3.6), sharex=True)
top.imshow(x[0].T, aspect="auto", cmap="RdBu_r")
top.set(ylabel="channel", title=f"spoken: {''.join(str(k) for k in np.asarray(text[0]))}")
bottom.imshow(alignment.T, aspect="auto", cmap="Greys", vmin=0, vmax=1)
bottom.set(xlabel="frame", ylabel="symbol (0: blank)", title="∂F/∂E: where the free energy puts each symbol")
gallery.save(figure, args.out, __file__)
gallery.check(
    f"symbol error rate {rate:.2%} on 300 new strings; ctc = optax.ctc_loss to {gap:.1e}", rate < 0.02 and gap < 1e-8
)
