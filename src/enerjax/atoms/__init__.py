"""Atoms: structures, neighbours, potentials analytic and learned, training, dynamics, vibrations."""

from .calculator import Calculator as Calculator
from .dataset import Dataset as Dataset
from .dataset import read as read
from .equivariant import Config as Config
from .equivariant import Equivariant as Equivariant
from .model_io import load as load
from .model_io import save as save
from .neighbours import neighbours_of as neighbours_of
from .pair import CoreRepulsion as CoreRepulsion
from .pair import LennardJones as LennardJones
from .pair import Morse as Morse
from .pair import StillingerWeber as StillingerWeber
from .potential import AbstractPotential as AbstractPotential
from .predict import Prediction as Prediction
from .predict import errors as errors
from .predict import predict as predict
from .predict import predict_all as predict_all
from .structure import Structure as Structure
from .training import Recipe as Recipe
from .training import configure as configure
from .training import fit as fit
