"""A cocktail party: three voices from three microphones by natural-gradient likelihood, beside FastICA."""

import gallery
import jax
import jax.numpy as jnp
import numpy as np

args = gallery.arguments(__doc__)

import matplotlib.pyplot as plt  # noqa: E402
import optax  # noqa: E402
from sklearn.decomposition import FastICA  # noqa: E402

from enerjax.fit import train  # noqa: E402
from enerjax.learning.ica import Unmixing, amari_index, natural_gradient, whitening  # noqa: E402

rng = np.random.default_rng(args.seed)
t = np.arange(64_000) / 8_000  # eight seconds


def voice(pitch, syllables):
    """Speech-like: a buzz of harmonics whose pitch wanders and whose loudness comes in syllables and pauses."""
    phase = 2 * np.pi * np.cumsum(pitch * (1 + 0.05 * np.sin(2 * np.pi * rng.uniform(0.5, 2) * t))) / 8_000
    buzz = sum(np.sin(k * phase + rng.uniform(0, 6)) / k for k in range(1, 12))
    level = np.maximum(0, np.sin(2 * np.pi * syllables * t + rng.uniform(0, 6))) ** 2 * rng.uniform(
        0.3, 1.0, 160
    ).repeat(400)
    return buzz * level + 0.01 * rng.normal(size=t.size)


sources = np.stack([voice(110, 3.1), voice(205, 4.3), voice(160, 2.3)], 1)
sources = (sources - sources.mean(0)) / sources.std(0)
room = np.array([[1.0, 0.9, 0.4], [0.3, 1.0, 0.9], [0.8, 0.2, 0.5]])
heard = jnp.asarray(sources @ room.T)
heard = heard - heard.mean(0)

history = []
fitted = train(
    lambda W, x, key: Unmixing(x)(W),
    whitening(heard),
    lambda epoch, key: [heard],
    optax.chain(natural_gradient(), optax.sgd(0.3)),
    key=jax.random.key(args.seed),
    epochs=100,
    on_epoch=lambda W, line: history.append(float(amari_index(W @ room))),
)
ours = history[-1]
components = FastICA(3, whiten="unit-variance", random_state=0, tol=1e-6).fit(np.asarray(heard)).components_
theirs = float(amari_index(jnp.asarray(components @ room)))

figure, axes = plt.subplots(3, 3, figsize=(9, 4), sharex=True)
heard_apart = np.asarray(heard @ fitted.model.T)
for column, (title, signals) in enumerate((("spoken", sources), ("heard", heard), ("separated", heard_apart))):
    for row in range(3):
        axes[row, column].plot(
            t[:16_000], signals[:16_000, row], lw=0.3, color=(gallery.GREY, gallery.RED, gallery.BLUE)[column]
        )
        axes[row, column].set(yticks=[])
    axes[0, column].set(title=title)
gallery.save(figure, args.out, __file__)
gallery.check(
    f"Amari index {ours:.4f} (whitening alone {float(amari_index(whitening(heard) @ room)):.3f}, FastICA {theirs:.4f})",
    ours < 0.05 and ours < 1.5 * theirs + 0.005,
)
