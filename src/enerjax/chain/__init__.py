"""Draws of e^(−E/kT): the canonical ensemble of statistics. `sample` is the verb; the kernels are its parts."""

from . import diagnostics as diagnostics
from .adaptation import AbstractAdaptation as AbstractAdaptation
from .adaptation import Dense as Dense
from .adaptation import Diagonal as Diagonal
from .adaptation import Fixed as Fixed
from .adaptation import LowRank as LowRank
from .metric import AbstractMetric as AbstractMetric
from .metric import DenseMetric as DenseMetric
from .metric import DiagonalMetric as DiagonalMetric
from .metric import LowRankMetric as LowRankMetric
from .posterior import Posterior as Posterior
from .sample import sample as sample
from .start import uniform as uniform
