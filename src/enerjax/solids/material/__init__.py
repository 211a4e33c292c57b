"""Materials: stored energies W(G), whose derivatives are stress and tangent."""

from .base import AbstractMaterial as AbstractMaterial
from .base import AbstractMixedMaterial as AbstractMixedMaterial
from .base import across as across
from .base import cauchy_stress as cauchy_stress
from .base import divergence as divergence
from .base import finite_strain as finite_strain
from .base import modulus as modulus
from .base import stress as stress
from .base import tangent as tangent
from .crystal import CauchyBorn as CauchyBorn
from .crystal import Polyconvex as Polyconvex
from .hyperelastic import MixedNeoHookean as MixedNeoHookean
from .hyperelastic import MooneyRivlin as MooneyRivlin
from .hyperelastic import NeoHookean as NeoHookean
from .hyperelastic import Ogden as Ogden
from .hyperelastic import PlaneStrain as PlaneStrain
from .hyperelastic import PlaneStress as PlaneStress
from .hyperelastic import StVenantKirchhoff as StVenantKirchhoff
from .inelastic import J2 as J2
from .inelastic import PlasticState as PlasticState
from .inelastic import Viscoelastic as Viscoelastic
from .linear import AnisotropicElastic as AnisotropicElastic
from .linear import IsotropicElastic as IsotropicElastic
from .linear import MixedElastic as MixedElastic
from .linear import lame as lame
from .linear import orthotropic as orthotropic
