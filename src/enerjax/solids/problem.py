"""A problem of solid mechanics: domain, material, loads, boundary conditions, and what is known of its solution."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .condition import AbstractCondition, Displacement, Initial, Periodic, Spring
from .domain import AbstractDomain
from .field import AbstractBasis, BuiltIn
from .material import AbstractMixedMaterial


@dataclasses.dataclass(frozen=True)
class Reference:
    """A solution by other means, at points: a finite-element array, or one integrated independently.

    Attributes:
        points: [n, d].
        displacement: [n, d].
        stress: Cauchy stress, [n, d, d], or None.
        weights: quadrature weights of the norms, [n]; equal by default.
        source: how it was made.
    """

    points: np.ndarray
    displacement: np.ndarray
    stress: np.ndarray | None = None
    weights: np.ndarray | None = None
    source: str = ""


@dataclasses.dataclass(frozen=True)
class Problem:
    """Equilibrium Div P + b = 0 in a domain, P = ∂W/∂G, with conditions on its boundary.

    Attributes:
        domain: where.
        material: W(G), or Π(G, p) with a pressure; `material(x)` where `heterogeneous`.
        conditions: {part of the boundary: condition}; each part of the domain needs one.
        name: for messages and files.
        body: b(x) [force/volume], or None.
        density: ρ: makes the last coordinate of the domain time and the equation ρ ü = Div P + b.
        exact: u(x) if known; the exact stress follows through the material.
        exact_stress: σ(x), where it is not the material's response to `exact` (a pressure field).
        reference: a solution by other means, where no exact one is known.
        method: how to solve it by default (`Collocation`, `Ritz`, `Network`); chosen from the material if None.
        basis: extra basis functions known to be in the solution (`field.Enrichment`).
        coordinates: x ↦ ξ, where features live; the domain's own by default.
        heterogeneous: whether `material` is a function x ↦ material.
        out_of_plane: σ₃₃ of a planar stress, a function of (G, σ), for the von Mises figure.
        quantities: {name: f(solution) -> number}: what an engineer reads off, such as a stress concentration.
    """

    domain: AbstractDomain
    material: Any
    conditions: Mapping[str, AbstractCondition]
    name: str = "problem"
    body: Callable | None = None
    density: float | None = None
    exact: Callable | None = None
    exact_stress: Callable | None = None
    reference: Reference | None = None
    method: Any = None
    basis: tuple[AbstractBasis, ...] = ()
    coordinates: Callable | None = None
    heterogeneous: bool = False
    out_of_plane: Callable | None = None
    quantities: Mapping[str, Callable] = dataclasses.field(default_factory=dict)
    title: str = ""

    def __post_init__(self):
        parts = self.domain.parts
        unknown = [name for name in self.conditions if name not in parts]
        if unknown:
            raise ValueError(f"{self.name}: no boundary part {unknown[0]!r}; the domain has {', '.join(parts)}")
        partners = {n for n, c in self.conditions.items() if isinstance(c, Periodic)}
        missing = [name for name in parts if name not in self.conditions]
        if self.density is not None:
            missing = [m for m in missing if m != "top"]  # the end of time asks for nothing
        if missing and not partners:
            raise ValueError(
                f"{self.name}: no condition on {', '.join(map(repr, missing))}; give Free() where nothing acts on it"
            )

    @property
    def dimension(self) -> int:
        """d: the dimension of space."""
        return self.domain.dimension - (self.density is not None)

    @property
    def mixed(self) -> bool:
        """Whether the material carries a pressure."""
        return isinstance(self.material, AbstractMixedMaterial)

    @property
    def finite(self) -> bool:
        """Whether the material is of finite strain."""
        return bool(getattr(self.material, "finite", False))

    def at(self, x):
        """The material at x."""
        return self.material(x) if self.heterogeneous else self.material

    def force(self, x):
        """b(x)."""
        zero = jnp.zeros((self.dimension,), x.dtype)
        return zero if self.body is None else zero + jnp.asarray(self.body(x))

    def xi(self, x):
        """ξ(x), the coordinates features live in."""
        return (self.coordinates or self.domain.coordinates)(x)


def flat_normal(problem: Problem, part: str) -> np.ndarray | None:
    """The outward normal of a flat part, else None."""
    n = np.asarray(problem.domain.boundary(part, 5).normal)
    return n[0] if np.allclose(n, n[0], atol=1e-9) else None


def built_in(problem: Problem, components: int) -> tuple[BuiltIn, dict[str, dict[int, Callable]]]:
    """Factor and lift of the displacement, and what could not be built in: {part: {component: value}}.

    A component is built in over the parts that prescribe it if the level of each part is positive inside the domain, and the
    values are zero or belong to parts that do not meet: u = Σ_k g_k w_k / Σ w_k with w_k = Π_{j≠k} ℓ_j (Rvachev). The rest is
    left to the residual.
    """
    domain, d = problem.domain, problem.dimension
    inside = domain.interior(7).x
    usable = {}
    for name, condition in problem.conditions.items():
        if not isinstance(condition, Initial):
            level = jax.vmap(domain.parts[name].level)(inside)
            usable[name] = bool(jnp.all(level > 0))
    per_component: list[list] = [[] for _ in range(components)]
    soft: dict[str, dict[int, Callable]] = {}
    for name, condition in problem.conditions.items():
        prescribed = condition.prescribed(flat_normal(problem, name), d)
        for i, (value, zero) in prescribed.items():
            if usable.get(name, False):
                per_component[i].append((name, value, zero))
            else:
                soft.setdefault(name, {})[i] = value
    for i, entries in enumerate(per_component):
        if all(zero for *_, zero in entries) or _apart(domain, [name for name, *_ in entries]):
            continue
        for name, value, _ in entries:
            soft.setdefault(name, {})[i] = value
        per_component[i] = []

    L = domain.size
    levels = {n: (lambda x, part=part: part.level(x) / L) for n, part in domain.parts.items()}

    def factor(x):
        one = jnp.ones((), x.dtype)
        return jnp.stack([_product([levels[n](x) for n, *_ in entries], one) for entries in per_component])

    def lift_one(entries, x):
        if all(zero for *_, zero in entries):
            return jnp.zeros((), x.dtype)
        ell = [levels[n](x) for n, *_ in entries]
        one = jnp.ones((), x.dtype)
        others = [_product(ell[:k] + ell[k + 1 :], one) for k in range(len(entries))]
        values = [value(domain.parts[n].project(x)) for n, value, _ in entries]
        return sum(v * w for v, w in zip(values, others, strict=True)) / sum(others)

    lift = lambda x: jnp.stack([lift_one(entries, x) for entries in per_component])
    return BuiltIn(factor, lift), soft


def _product(values, one):
    for v in values:
        one = one * v
    return one


def _apart(domain: AbstractDomain, names: list[str]) -> bool:
    """Whether the parts named do not meet: each level stays above zero on the other parts."""
    for k, name in enumerate(names):
        for other in names[k + 1 :]:
            for a, b in ((name, other), (other, name)):
                if float(jnp.min(jax.vmap(domain.parts[a].level)(domain.boundary(b, 12).x))) < 1e-2 * domain.size:
                    return False
    return True


def check_support(problem: Problem) -> None:
    """Refuse rigid-body motions that nothing holds.

    Raises:
        ValueError: names the motions left free, and says whether the loads would drive them.
    """
    d, domain = problem.dimension, problem.domain
    if problem.density is not None:
        return
    centre = (np.asarray(domain.lower) + np.asarray(domain.upper)) / 2
    modes, names = rigid_modes(d)
    rows, resultant = [], np.zeros(len(names))
    for name, condition in problem.conditions.items():
        points = domain.boundary(name, 6)
        X, N = np.asarray(points.x), np.asarray(points.normal)
        motion = np.stack([[m((x - centre) / domain.size) for m in modes] for x in X])  # [n, modes, d]
        prescribed = condition.prescribed(flat_normal(problem, name), d)
        for i in prescribed:
            rows.append(motion[:, :, i])
        if not prescribed and type(condition).__name__ == "Symmetry":
            rows.append(np.einsum("pmi,pi->pm", motion, N))
        if isinstance(condition, Spring):
            rows += [motion[:, :, i] for i in range(d)]
        if isinstance(condition, Periodic):
            shift = np.asarray(condition.shift)
            moved = np.stack([[m((x + shift - centre) / domain.size) for m in modes] for x in X])
            rows += [(moved - motion)[:, :, i] for i in range(d)]
        if not isinstance(condition, Displacement | Initial | Periodic):
            pull = jax.vmap(lambda x, n, c=condition: -jax.grad(lambda u: c.potential(x, n, u))(jnp.zeros(d, x.dtype)))
            resultant += np.einsum(
                "p,pi,pmi->m", np.asarray(points.w), np.asarray(pull(points.x, points.normal)), motion
            )
    if problem.body is not None:
        points = domain.interior(8)
        X, b = np.asarray(points.x), np.asarray(jax.vmap(problem.force)(points.x))
        motion = np.stack([[m((x - centre) / domain.size) for m in modes] for x in X])
        resultant += np.einsum("p,pi,pmi->m", np.asarray(points.w), b, motion)
    held = np.concatenate(rows) if rows else np.zeros((1, len(names)))
    _, s, V = np.linalg.svd(held.reshape(-1, len(names)), full_matrices=True)
    s = np.concatenate([s, np.zeros(len(names) - len(s))])
    free = V[s < 1e-8 * max(1.0, s[0])]
    if len(free) == 0:
        return
    involved = [n for k, n in enumerate(names) if np.max(np.abs(free[:, k])) > 0.3]
    drive = np.linalg.norm(free @ resultant)
    balance = (
        "and the loads are not balanced against it"
        if drive > 1e-8 * (1 + np.abs(resultant).max())
        else "though loads balance"
    )
    raise ValueError(
        f"{problem.name}: the boundary conditions leave rigid-body motion free: {', '.join(involved)} ({balance}). "
        "Hold it with Displacement, Symmetry or Spring on some part"
    )


def rigid_modes(d: int):
    """Rigid motions of ℝ^d and their names: translations, then rotations."""
    modes = [lambda x, i=i: np.eye(d)[i] for i in range(d)]
    names = [f"translation along x{i + 1}" for i in range(d)]
    for i in range(d):
        for j in range(i + 1, d):
            modes.append(lambda x, i=i, j=j: np.eye(d)[j] * x[i] - np.eye(d)[i] * x[j])
            names.append("rotation" if d == 2 else f"rotation about x{6 - (i + 1) - (j + 1)}")
    return modes, names
