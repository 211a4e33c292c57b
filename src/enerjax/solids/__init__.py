"""Solid mechanics as scalars: materials, domains, boundary values built into fields, and solvers of solver-grade
accuracy.
"""

from . import domain as domain
from . import inverse as inverse
from . import kinematics as kinematics
from . import law as law
from . import material as material
from . import problems as problems
from . import readings as readings
from . import specimen as specimen
from .condition import Clamped as Clamped
from .condition import Displacement as Displacement
from .condition import Free as Free
from .condition import Initial as Initial
from .condition import Periodic as Periodic
from .condition import Pressure as Pressure
from .condition import Spring as Spring
from .condition import Symmetry as Symmetry
from .condition import Traction as Traction
from .march import March as March
from .march import march as march
from .method import Collocation as Collocation
from .method import Network as Network
from .method import Ritz as Ritz
from .modes import Modes as Modes
from .modes import modes as modes
from .problem import Problem as Problem
from .problem import Reference as Reference
from .solution import Solution as Solution
from .solution import SolveError as SolveError
from .solve import solve as solve
