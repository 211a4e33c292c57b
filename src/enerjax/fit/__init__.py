"""Fitting: move the leaves of an energy until the energy is low."""

from .batches import bucketed as bucketed
from .batches import minibatches as minibatches
from .checkpoint import load as load
from .checkpoint import save as save
from .curvature import direction as direction
from .curvature import extreme_eigenvalues as extreme_eigenvalues
from .curvature import lanczos as lanczos
from .curvature import newton_cg as newton_cg
from .curvature import spectrum as spectrum
from .loop import Fitted as Fitted
from .loop import cosine as cosine
from .loop import flat_then_cosine as flat_then_cosine
from .loop import train as train
from .parallel import data_parallel as data_parallel
from .quasi_newton import quasi_newton as quasi_newton
from .soap import soap as soap
