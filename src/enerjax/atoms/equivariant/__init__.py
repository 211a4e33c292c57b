"""An E(3)-equivariant message-passing potential: tables, edge functions, layers, model."""

from .model import SIZES as SIZES
from .model import Config as Config
from .model import Equivariant as Equivariant
