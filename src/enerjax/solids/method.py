"""How a problem is solved: one small object per way, with the numbers that set its cost and accuracy."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Collocation:
    """The strong form over frozen random features: least squares by QR, Gauss–Newton where the material is nonlinear.

    Attributes:
        features: N per component.
        interior: Gauss points along each direction of each patch.
        boundary: Gauss points along each boundary patch.
        widths: candidate widths R of the random weights; the one with the smallest residual is kept.
        form: "strong" (displacement, and pressure where the material has one) or "mixed" (displacement and stress).
        load_steps: equal increments of the load to start from.
        iterations: most Gauss–Newton iterations in a step.
        tolerance: relative decrease of the residual at which iterations stop.
        pilot: fraction of the features used to choose the width.
        memory: bytes that rows may take at once with all that forms and reduces them; more come in batches.
        refine: rounds that each add half as many interior points as there were at first, where the residual is large
            (`refine.refine`), and solve again.
    """

    features: int = 400
    interior: int = 26
    boundary: int = 44
    widths: tuple[float, ...] = (0.7, 1.0, 1.4, 2.0)
    form: str = "strong"
    load_steps: int = 1
    iterations: int = 25
    tolerance: float = 1e-12
    pilot: float = 1.0
    memory: float = 3e9
    refine: int = 0


@dataclasses.dataclass(frozen=True)
class Ritz:
    """The potential energy over frozen random features: Newton in an energy-orthonormal basis, with load steps.

    For corners and other singularities, where the strong form asks for derivatives that do not exist.

    Attributes:
        features: N per component.
        interior: Gauss points along each direction of each patch.
        boundary: Gauss points along each boundary patch.
        width: R of the random weights, relative to the coordinates.
        load_steps: equal increments of the load to start from.
        iterations: most Newton iterations in a step.
        tolerance: relative energy decrement at which Newton stops.
        cut: relative eigenvalue of the basis below which a direction is dropped.
    """

    features: int = 400
    interior: int = 40
    boundary: int = 60
    width: float = 1.5
    load_steps: int = 1
    iterations: int = 40
    tolerance: float = 1e-13
    cut: float = 1e-11


@dataclasses.dataclass(frozen=True)
class Network:
    """A trained network in the strong form: Levenberg–Marquardt over the hidden layers, the last one solved inside.

    Attributes:
        hidden: widths of the hidden layers.
        interior: Gauss points along each direction of each patch.
        boundary: Gauss points along each boundary patch.
        iterations: most steps.
        max_seconds: CPU seconds to train for.
        width: R of the first layer's random weights.
        project: whether the last layer is solved exactly in every step (small strain; variable projection).
        damping: initial, relative to the squared columns of the projected Jacobian.
        ridge: of the last layer's solution, relative to its unit columns.
        tolerance: fall of the residual at which training stops.
        refine: how often all interior points are drawn anew where the residual is large (`refine.refine`), at equal
            stretches of the time or where training stalls. Helps or fails by the seed (benchmarks/solids): neurons may
            grow steeper than the spacing of points.
    """

    hidden: tuple[int, ...] = (60,)
    interior: int = 20
    boundary: int = 32
    iterations: int = 2000
    max_seconds: float = 60.0
    width: float = 1.0
    project: bool = True
    damping: float = 1e-2
    ridge: float = 1e-13
    tolerance: float = 1e-12
    refine: int = 0
