"""Bars: two materials in series, and an elastic wave."""

import jax.numpy as jnp

from ..condition import Displacement, Initial
from ..domain import Rectangle
from ..material import IsotropicElastic
from ..method import Collocation
from ..problem import Problem


def wave(length=1.0, time=1.0, young=1.0, density=1.0, mode=1) -> Problem:
    """A standing elastic wave in a bar fixed at both ends: u = sin(kπx/L) cos(kπct/L), c² = E/ρ, over space and
    time.
    """
    c = (young / density) ** 0.5
    k = mode * jnp.pi / length
    exact = lambda x: (jnp.sin(k * x[0]) * jnp.cos(k * c * x[1]))[None]
    return Problem(
        Rectangle((0.0, 0.0), (length, time)),
        IsotropicElastic(0.0, young / 2),
        {
            "left": Displacement(0.0),
            "right": Displacement(0.0),
            "bottom": Initial(lambda x: jnp.sin(k * x[0])[None], 0.0),
        },
        name="wave",
        title="Standing elastic wave in a bar, space–time",
        density=density,
        exact=exact,
        method=Collocation(features=300, interior=24, boundary=40, widths=(1.0, 1.4, 2.0)),
    )
