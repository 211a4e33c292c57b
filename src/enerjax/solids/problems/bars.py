"""Bars: two materials in series, and an elastic wave."""

import jax.numpy as jnp

from ..condition import Displacement, Initial, Traction
from ..domain import Interval, Rectangle
from ..field import Enrichment
from ..material import IsotropicElastic
from ..method import Collocation, Ritz
from ..problem import Problem


def bimaterial_bar(length=2.0, interface=0.8, young=(1.0, 5.0), stress=0.1) -> Problem:
    """Two materials in series, clamped on the left, pulled on the right: the strain jumps at the interface."""
    c = interface

    def exact(x):
        return (stress / young[0] * jnp.minimum(x, c) + stress / young[1] * jnp.maximum(x - c, 0.0)).reshape(1)

    # |x − c|, less its value at 0 and over the factor x that holds the left end: the one function with the right kink
    kink = Enrichment(lambda x: jnp.where(x < c, -1.0, (x - 2 * c) / jnp.maximum(x, c)), 1)
    return Problem(
        Interval(0.0, length, breaks=(c,)),
        lambda x: IsotropicElastic(0.0, jnp.where(x[0] < c, young[0], young[1]) / 2),
        {"left": Displacement(0.0), "right": Traction(stress)},
        name="bimaterial_bar",
        title="Two materials in series",
        exact=exact,
        basis=(kink,),
        heterogeneous=True,
        method=Ritz(features=20, interior=30, boundary=1, cut=1e-6),
    )


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
