"""Paths: a step repeated or a field integrated, with every derivative of the whole trajectory."""

from .rollout import rollout as rollout
from .solve import Replay as Replay
from .solve import Solution as Solution
from .solve import integrate as integrate
from .solve import solve as solve
