"""Named problems with exact or stated reference solutions: each a function of a few lines, and a pattern for your own."""

from .plane import cantilever as cantilever
from .plane import kirsch as kirsch
from .plane import manufactured as manufactured
from .plane import thick_cylinder as thick_cylinder
