"""Paths: a step repeated or a field integrated, with every derivative of the whole trajectory."""

from .rollout import rollout as rollout
