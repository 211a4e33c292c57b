"""Laws of motion: fields, learned from their paths, read, and steered."""

from .symbolic import Reading as Reading
from .symbolic import sparse_law as sparse_law
from .training import Learned as Learned
from .training import collocate as collocate
from .training import learn as learn
from .training import path_loss as path_loss
from .training import shooting as shooting
from .training import smoothed as smoothed
from .vector_field import Controlled as Controlled
from .vector_field import Hamiltonian as Hamiltonian
from .vector_field import Inputs as Inputs
from .vector_field import Kinetic as Kinetic
from .vector_field import Lagrangian as Lagrangian
from .vector_field import Network as Network
from .vector_field import NeuralCDE as NeuralCDE
from .vector_field import PortHamiltonian as PortHamiltonian
from .vector_field import ScalarNetwork as ScalarNetwork
from .vector_field import Scaled as Scaled
from .vector_field import SecondOrder as SecondOrder
from .vector_field import Separable as Separable
from .vector_field import Universal as Universal
from .vector_field import augmented as augmented
from .vector_field import mlp as mlp
