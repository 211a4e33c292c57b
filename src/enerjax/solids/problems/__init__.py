"""Named problems with exact or stated reference solutions: each a function of a few lines, and a pattern for your own."""

from .plane import cantilever as cantilever
from .plane import kirsch as kirsch
from .plane import manufactured as manufactured
from .plane import thick_cylinder as thick_cylinder


def named():
    """{name: function} of every problem, in the order they are listed."""
    return {
        name: make
        for name, make in globals().items()
        if callable(make) and getattr(make, "__module__", "").startswith(__name__ + ".")
    }
