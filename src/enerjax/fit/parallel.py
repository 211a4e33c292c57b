"""Data parallelism by sharding: the batch is split over devices and hosts, XLA inserts the sums."""

from collections.abc import Callable, Sequence

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from .._array import PyTree


def data_parallel(devices: Sequence | None = None) -> Callable[[PyTree], PyTree]:
    """`place` for `fit.train`: splits the leading axis of every array of a batch over devices.

    The loss must be a mean over that axis; its gradient is then the same as on one device, to rounding. With
    `jax.distributed.initialize()` called first, the devices of all hosts take part.

    Args:
        devices: all of `jax.devices()` unless given.

    Raises:
        ValueError: (by the returned function) if a leading axis is not a multiple of the number of devices.
    """
    mesh = Mesh(np.array(jax.devices() if devices is None else list(devices)), ("batch",))
    sharding = NamedSharding(mesh, PartitionSpec("batch"))

    def place(batch: PyTree) -> PyTree:
        for leaf in jax.tree.leaves(batch):
            if leaf.ndim == 0 or leaf.shape[0] % mesh.size:
                raise ValueError(
                    f"data_parallel: an array of shape {leaf.shape} can't be split over {mesh.size} devices."
                )
        return jax.device_put(batch, sharding)

    return place
