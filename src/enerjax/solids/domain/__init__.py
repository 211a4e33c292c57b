"""Domains: patches for quadrature, named boundary parts with normals, and Boolean combinations."""

from .base import AbstractDomain as AbstractDomain
from .base import Part as Part
from .base import Patch as Patch
from .base import Points as Points
from .base import gauss as gauss
from .base import join as join
from .meshed import Meshed as Meshed
from .planar import Annulus as Annulus
from .planar import Disc as Disc
from .planar import Interval as Interval
from .planar import PerforatedQuarter as PerforatedQuarter
from .planar import Polygon as Polygon
from .planar import Rectangle as Rectangle
from .spatial import Box as Box
from .spatial import Cylinder as Cylinder
from .spatial import SphericalShell as SphericalShell
