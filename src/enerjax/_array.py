"""Names for the shapes and functions that travel through the library.

Annotations stay live objects everywhere (no postponed evaluation): jaxtyping checks dataclasses through them.
"""

from collections.abc import Callable

from jaxtyping import Array, Float, PRNGKeyArray, PyTree

Scalar = Float[Array, ""]
Key = PRNGKeyArray
Energy = Callable[[PyTree], Scalar]  # x -> E(x): any callable; `energy.AbstractEnergy` adds the algebra

__all__ = ["Array", "Energy", "Float", "Key", "PyTree", "Scalar"]
