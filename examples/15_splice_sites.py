"""Where genes are cut: a bidirectional recurrent network finds splice sites, and its attribution finds GT and AG.

--download fetches the UCI splice-junction set (3186 windows of 60 bases) as Debian ships it in r-cran-mlbench (`apt-get
download`, needs Debian and `pip install rdata`); --data reads its DNA.rda. Without either, a documented grammar: donors
CAG|GTRAGT, acceptors (Y)8NCAG|G at the middle, and decoys with the bare GT or AG half of the time.
"""

import argparse
import pathlib
import subprocess
import sys
import tempfile
import warnings

import gallery
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

options = argparse.ArgumentParser(add_help=False)
options.add_argument("--data", type=pathlib.Path)
options.add_argument("--download", action="store_true")
own, sys.argv[1:] = options.parse_known_args()
args = gallery.arguments(__doc__)

import matplotlib.pyplot as plt  # noqa: E402
import optax  # noqa: E402

from enerjax.fit import cosine, train  # noqa: E402
from enerjax.learning.attribution import completeness, integrated_gradients  # noqa: E402
from enerjax.learning.sequence import Reader, one_hot  # noqa: E402

CLASSES = ("donor", "acceptor", "neither")


def grammar(rng, n=2400):
    """Windows of 60 letters, half of them splice sites whose motif letters are each kept with probability 0.9."""
    text, label = rng.choice(list("ACGT"), (n, 60)), rng.choice(3, n, p=(0.25, 0.25, 0.5))
    motif = {0: (27, "CAGGTRAGT"), 1: (17, "YYYYYYYYNCAGG")}
    letters = {"R": "AG", "Y": "CT", "N": "ACGT"}
    for row, k in zip(text, label, strict=True):
        if k == 2:
            place, pair = ((30, "GT"), (28, "AG"))[rng.integers(2)]
            if rng.random() < 0.5:
                row[place : place + 2] = list(pair)
            continue
        start, pattern = motif[int(k)]
        sure = {30, 31} if k == 0 else {27, 28}
        for i, c in enumerate(pattern, start):
            if i in sure or rng.random() < 0.9:
                row[i] = rng.choice(list(letters.get(c, c)))
    return np.stack([one_hot("".join(row), "ACGT") for row in text]), label, (30, 27)


def uci(path):
    """The mlbench table: three bits a base (A, C, G; none of them is T), classes ei (donor), ie (acceptor) and n."""
    import rdata

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table = rdata.read_rda(path)["DNA"]
    bits = table.drop(columns="Class").to_numpy().astype(float).reshape(len(table), 60, 3)
    x = np.concatenate([bits, 1 - bits.sum(2, keepdims=True)], 2)
    label = np.array([("ei", "ie", "n").index(c) for c in table["Class"]])
    return x, label, (30, 28)  # GT begins at 30, AG at 28


def download():
    folder = pathlib.Path(tempfile.mkdtemp())
    subprocess.run(["apt-get", "download", "r-cran-mlbench"], cwd=folder, check=True, capture_output=True)
    subprocess.run(["dpkg", "-x", next(folder.glob("*.deb")), folder / "x"], check=True)
    return next(folder.rglob("DNA.rda"))


rng = np.random.default_rng(args.seed)
path = download() if own.download else own.data
x, y, places = uci(path) if path else grammar(rng)
order = rng.permutation(len(y))
x, y = jnp.asarray(x[order], jnp.float32), jnp.asarray(y[order])
held = len(y) // 5
net = Reader(4, 24, 3, key=jr.key(args.seed), place=29)
net = jax.tree.map(lambda v: v.astype(jnp.float32) if hasattr(v, "dtype") else v, net)
ask = lambda net, x: jax.vmap(net)(x)
loss = lambda net, b, key: optax.softmax_cross_entropy_with_integer_labels(ask(net, b[0]), b[1]).mean()
batches = lambda epoch, key: [
    (x[held:][i], y[held:][i]) for i in jr.permutation(key, len(y) - held)[: (len(y) - held) // 64 * 64].reshape(-1, 64)
]
optimizer = optax.adamw(4e-3, weight_decay=0.02)
fitted = train(loss, net, batches, optimizer, key=jr.key(args.seed), epochs=12, max_seconds=40, rate=cosine, ema=0.98)
model = fitted.model
error = float(jnp.mean(jnp.argmax(ask(model, x[:held]), 1) != y[:held]))

base = jnp.broadcast_to(x.mean((0, 1)), x.shape[1:])
profile, gaps = [], []
for k in range(2):
    score = lambda s, k=k: model(s)[k] - jnp.mean(model(s))
    chosen = x[:held][y[:held] == k][:60]
    shares = jax.jit(jax.vmap(lambda s, f=score: integrated_gradients(f, s, base, nodes=16)))(chosen)
    gaps.append(float(jnp.abs(jax.vmap(lambda s, a, f=score: completeness(f, s, base, a))(chosen, shares)).max()))
    profile.append(np.asarray(shares.sum(2).mean(0)))
peaks = [sorted(np.argsort(p)[-2:].tolist()) for p in profile]

figure, axes = plt.subplots(2, 1, figsize=(7, 3.8), sharex=True)
for axis, p, name, place, color in zip(axes, profile, CLASSES, places, (gallery.BLUE, gallery.RED), strict=False):
    axis.bar(range(60), p, color=color)
    axis.axvspan(place - 0.5, place + 1.5, color=gallery.GREY, alpha=0.3)
    axis.set(ylabel="attribution", title=f"{name}: grey is {'GT' if name == 'donor' else 'AG'}")
axes[1].set(xlabel="base of the window")
gallery.save(figure, args.out, __file__)
right = all(peak == [place, place + 1] for peak, place in zip(peaks, places, strict=True))
gallery.check(
    f"{'UCI splice junctions' if path else 'synthetic grammar'}: error on the held-out fifth {error:.1%}; strongest "
    f"attribution at bases {peaks[0]} (GT at {places[0]}) and {peaks[1]} (AG at {places[1]}); "
    f"completeness {max(gaps):.0e}",
    error < 0.08 and right,
)
