"""A first guess from smoothed derivatives: a series' states and rates by local polynomials, a field fitted to them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike
from jaxtyping import Float

from .. import fit
from .._array import Key, PyTree


def smoothed(
    ts: Float[ArrayLike, " times"], ys: Float[ArrayLike, "times d"], width: int = 7, degree: int = 3
) -> tuple[np.ndarray, np.ndarray]:
    """States and rates of a noisy series by local polynomials over the `width` nearest points, irregular times or not.

    A. Savitzky and M. J. E. Golay, Anal. Chem. 36, 1627 (1964), fitted anew at each point. NaN readings are left out.
    """
    ts, ys = np.asarray(ts, float), np.asarray(ys, float)
    if width <= degree:
        raise ValueError(f"smoothed: width={width} points cannot carry a polynomial of degree {degree}.")
    states, rates = np.empty_like(ys), np.empty_like(ys)
    for j in range(ys.shape[1]):
        there = np.flatnonzero(np.isfinite(ys[:, j]))
        for k, t in enumerate(ts):
            near = there[np.argsort(np.abs(ts[there] - t))[:width]]
            scale = np.max(np.abs(ts[near] - t)) + 1e-300
            powers = ((ts[near] - t) / scale)[:, None] ** np.arange(degree + 1)
            c = np.linalg.lstsq(powers, ys[near, j], rcond=None)[0]
            states[k, j], rates[k, j] = c[0], c[1] / scale
    return states, rates


def collocate(
    field, ts, ys, *, key: Key, width: int = 7, epochs: int = 500, optimizer=None, args: PyTree = None, **options
):
    """The field fitted to smoothed derivatives: no solver in the loop, a start for `learn`, not the end.

    Args:
        field: the module to train.
        ts: times, [times] or [paths, times].
        ys: readings, [paths, times, d].
        key: random key.
        width: of the smoothing window.
        epochs: full-batch steps.
        optimizer: optax transformation; Adam by default.
        args: passed to the field.
        options: of `fit.train`.
    """
    ys = np.asarray(ys)
    times = np.broadcast_to(np.asarray(ts), ys.shape[:2])
    pairs = [smoothed(t, y, width) for t, y in zip(times, ys, strict=True)]
    t, y, rate = times.ravel(), *(np.concatenate(v) for v in zip(*pairs, strict=True))
    scale = np.std(rate, axis=0) + 1e-12
    batch = tuple(jnp.asarray(v, ys.dtype) for v in (t, y, rate, np.broadcast_to(scale, rate.shape)))

    def loss(field, batch, key):
        t, y, rate, scale = batch
        return jnp.mean(((jax.vmap(lambda t, y: field(t, y, args))(t, y) - rate) / scale) ** 2)

    optimizer = optax.adam(1e-2) if optimizer is None else optimizer
    identity = dict(field=field, ts=ts, ys=ys, key=key, width=width, args=args)
    options = {"rate": fit.cosine, "identity": identity} | options
    return fit.train(loss, field, lambda e, k: [batch], optimizer, key=key, epochs=epochs, **options).model
