"""Named problems with exact or stated reference solutions: each a few lines, and a pattern for your own."""

from .bars import bimaterial_bar as bimaterial_bar
from .bars import wave as wave
from .finite_strain import neo_hookean as neo_hookean
from .finite_strain import stretch as stretch
from .finite_strain import torsion as torsion
from .patch import patch_shear as patch_shear
from .patch import patch_tension as patch_tension
from .plane import cantilever as cantilever
from .plane import kirsch as kirsch
from .plane import manufactured as manufactured
from .plane import thick_cylinder as thick_cylinder
from .singular import cook as cook
from .singular import cook_incompressible as cook_incompressible
from .singular import cook_neo_hookean as cook_neo_hookean
from .singular import finite_plate as finite_plate
from .singular import pulled_strip as pulled_strip
from .singular import twisted_block as twisted_block
from .space import boussinesq as boussinesq
from .space import manufactured_3d as manufactured_3d
from .space import thick_sphere as thick_sphere


def named():
    """{name: function} of every problem, in the order they are listed."""
    ours = lambda f: callable(f) and getattr(f, "__module__", "").startswith(__name__ + ".")
    return {name: make for name, make in globals().items() if ours(make)}
