"""Which samples make up which minibatch: seeded, complete, and in few shapes so that nothing recompiles."""

from collections.abc import Sequence

import numpy as np

from .._array import Key


def _generator(key: Key) -> np.random.Generator:
    import jax.random as jr

    return np.random.default_rng(np.asarray(jr.key_data(key)).ravel().tolist())


def minibatches(count: int, size: int, key: Key) -> list[np.ndarray]:
    """A random partition of range(count) into batches of `size`; a remainder is dropped for this epoch.

    Another key drops another remainder, so over epochs every sample is seen equally often.
    """
    order = _generator(key).permutation(count)
    size = min(size, count)
    return [order[i : i + size] for i in range(0, count - size + 1, size)]


def bucketed(buckets: Sequence[int] | np.ndarray, size: int, key: Key) -> list[tuple[int, np.ndarray]]:
    """Random minibatches of samples that share a bucket (a padded shape), in random order.

    Args:
        buckets: the bucket of every sample; samples of one bucket are padded to the same shape.
        size: samples per batch. A bucket's last batch is filled up with samples of the same bucket drawn again, so each
            bucket has exactly one batch shape and every sample occurs at least once.
        key: random key.

    Returns:
        (bucket, sample indices [size]) pairs.
    """
    random = _generator(key)
    buckets = np.asarray(buckets)
    batches = []
    for bucket in np.unique(buckets):
        members = random.permutation(np.flatnonzero(buckets == bucket))
        if remainder := -len(members) % size:
            members = np.concatenate([members, random.choice(members, remainder, replace=remainder > len(members))])
        batches += [(int(bucket), members[i : i + size]) for i in range(0, len(members), size)]
    random.shuffle(batches)
    return batches
