"""Motions: (energy, phase point) ↦ next phase point, composed of kick, drift and bath."""

from .descent import Fire as Fire
from .descent import optax_step as optax_step
from .ensemble import CellRescaling as CellRescaling
from .ensemble import NoseHoover as NoseHoover
from .ensemble import VelocityRescaling as VelocityRescaling
from .ensemble import stretch as stretch
from .phase import AbstractMass as AbstractMass
from .phase import Bath as Bath
from .phase import DiagonalMass as DiagonalMass
from .phase import Phase as Phase
from .phase import as_mass as as_mass
from .phase import damp as damp
from .phase import drift as drift
from .phase import feel as feel
from .phase import kick as kick
from .splitting import baoab as baoab
from .splitting import descend as descend
from .splitting import diffuse as diffuse
from .splitting import verlet as verlet
from .symplectic import Composition as Composition
from .symplectic import blanes_moan4 as blanes_moan4
from .symplectic import minimum_norm as minimum_norm
from .symplectic import yoshida4 as yoshida4
from .symplectic import yoshida6 as yoshida6
