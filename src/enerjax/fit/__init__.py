"""Fitting: move the leaves of an energy until the energy is low."""

from .batches import bucketed as bucketed
from .batches import minibatches as minibatches
from .checkpoint import load as load
from .checkpoint import save as save
from .loop import Fitted as Fitted
from .loop import cosine as cosine
from .loop import flat_then_cosine as flat_then_cosine
from .loop import train as train
from .parallel import data_parallel as data_parallel
