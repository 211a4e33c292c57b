"""Energies: pure functions from a pytree to a scalar, their algebra and their derivatives."""

from .base import AbstractEnergy as AbstractEnergy
from .base import Scaled as Scaled
from .base import Sum as Sum
from .free import entropy as entropy
from .free import free_energy as free_energy
from .free import gibbs as gibbs
from .free import grid_lattice as grid_lattice
from .free import lattice as lattice
from .misfit import AbstractMisfit as AbstractMisfit
from .misfit import Gaussian as Gaussian
from .misfit import Misfit as Misfit
from .misfit import gauss_newton_product as gauss_newton_product
from .misfit import has_residual as has_residual
from .misfit import linearise as linearise
from .misfit import residual as residual
from .response import directional as directional
from .response import energy_and_force as energy_and_force
from .response import energy_forces_stress as energy_forces_stress
from .response import force as force
from .response import hessian as hessian
from .response import hessian_vector_product as hessian_vector_product
from .response import rayleigh as rayleigh
