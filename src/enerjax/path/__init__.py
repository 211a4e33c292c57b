"""Paths: a step repeated or a field integrated, every derivative of the whole of it, and paths judged by data."""

from .assimilate import Background as Background
from .assimilate import ModelError as ModelError
from .assimilate import Observations as Observations
from .assimilate import gauss_newton as gauss_newton
from .assimilate import strong as strong
from .assimilate import weak as weak
from .reversible import reversible as reversible
from .rollout import rollout as rollout
from .solve import Replay as Replay
from .solve import Solution as Solution
from .solve import integrate as integrate
from .solve import solve as solve
