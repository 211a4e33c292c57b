"""Single precision that deserves the name: by default JAX rounds what NVIDIA's GPUs multiply to 10 bits (TF32).

That costs the forces of a potential 1e-3 of their size, and an integrator's error control its meaning.
"""

import functools
from collections.abc import Callable

import jax


def chosen_precision():
    """What the user has set for matrix products, by flag or context; None if nothing."""
    return jax.config.jax_default_matmul_precision  # pyright: ignore[reportAttributeAccessIssue]


def full_precision(function: Callable) -> Callable:
    """The function, its float32 matrix products and those of its derivatives in float32.

    Unless the user has chosen: what `jax.default_matmul_precision` or its flag says is done.
    """

    @functools.wraps(function)
    def precise(*args, **named):
        if chosen_precision() is not None:
            return function(*args, **named)
        with jax.default_matmul_precision("highest"):
            return function(*args, **named)

    return precise
