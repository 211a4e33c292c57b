"""A solution: displacement and stress anywhere in the domain, errors against what is known, and files for ParaView."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from . import jets
from . import kinematics as kin
from .domain import join
from .material import across, stress
from .problem import Problem


@eqx.filter_jit
def _displacement(field, x, d: int):
    return jax.vmap(lambda x: field(x)[:d])(x)


@eqx.filter_jit
def _gradient(field, x, d: int):
    return jax.vmap(lambda x: jets.jet(field, x, 1)[1 : 1 + d, :d].T)(x)


@eqx.filter_jit
def _evaluate(problem, field, x, law):
    """u and law(problem, x, ∇u, pressure)."""
    d = problem.dimension

    def one(x):
        z = jets.jet(field, x, 1)
        internal = (z[0, d],) if problem.mixed else ()
        return z[0, :d], law(problem, x, z[1 : 1 + d, :d].T, *internal)

    return jax.vmap(one)(x)


def _piola(problem, x, G, *internal):
    return stress(problem.at(x), G, *internal)


def _cauchy(problem, x, G, *internal):
    P = _piola(problem, x, G, *internal)
    return kin.cauchy(P, G) if problem.finite else P


def _von_mises(problem, x, G, *internal):
    sigma, beside = _cauchy(problem, x, G, *internal), 0.0
    if problem.out_of_plane is not None:
        beside = problem.out_of_plane(G, sigma)
    elif problem.dimension == 2:
        beside = across(problem.at(x), G, *internal)
    return kin.von_mises(sigma, beside)


@eqx.filter_jit
def _exact(problem, rules):
    """Points, weights, u and σ of the exact solution."""
    points = join([patch.place(*rule) for patch, rule in zip(problem.domain.patches, rules, strict=True)])
    if problem.mixed and problem.exact_stress is None:
        return points.x, points.w, jax.vmap(problem.exact)(points.x), None
    return points.x, points.w, *_exact_at(problem, points.x)


@eqx.filter_jit
def _exact_at(problem, x):
    d, exact = problem.dimension, problem.exact

    def sigma(x):
        if problem.exact_stress is not None:
            return problem.exact_stress(x)
        return _cauchy(problem, x, jax.jacfwd(exact)(x)[:, :d])

    return jax.vmap(exact)(x), jax.vmap(sigma)(x)


@dataclasses.dataclass
class Solution:
    """What `solve` returns.

    Attributes:
        problem: what was solved.
        field: x ↦ u (and p, or σ), an equinox module.
        history: one dict per step: CPU seconds, residual or energy, and errors where the exact solution is known.
        seconds: CPU seconds of solving, compilation apart.
        compile_seconds: CPU seconds of compilation.
        info: what the solver chose and found.
    """

    problem: Problem
    field: Callable
    history: list[dict[str, Any]]
    seconds: float = 0.0
    compile_seconds: float = 0.0
    info: dict[str, Any] = dataclasses.field(default_factory=dict)

    def _points(self, points, check: bool) -> Array:
        x = jnp.asarray(points, float)
        D = self.problem.domain.dimension
        if x.ndim != 2 or x.shape[1] != D:
            raise ValueError(f"points must be an array [n, {D}], not {list(x.shape)}")
        if check:
            outside = np.flatnonzero(~np.asarray(self.problem.domain.contains(x, 1e-6)))
            if len(outside):
                first = ", ".join(f"{v:.6g}" for v in np.asarray(x[outside[0]]))
                raise ValueError(
                    f"{len(outside)} of {len(x)} points lie outside {self.problem.name}'s domain, the first is number "
                    f"{outside[0]} at ({first}); domain.contains(points) says which"
                )
        return x

    def displacement(self, points, *, check: bool = True) -> Float[Array, "n d"]:
        """u at points [n, D].

        Raises:
            ValueError: points outside the domain.
        """
        with jax.enable_x64(True):
            return _displacement(self.field, self._points(points, check), self.problem.dimension)

    def gradient(self, points, *, check: bool = True) -> Float[Array, "n d d"]:
        """∇u at points [n, D]."""
        with jax.enable_x64(True):
            return _gradient(self.field, self._points(points, check), self.problem.dimension)

    def stress(self, points, *, check: bool = True) -> Float[Array, "n d d"]:
        """The Cauchy stress at points [n, D]."""
        return self._at(points, _cauchy, check)

    def piola(self, points, *, check: bool = True) -> Float[Array, "n d d"]:
        """The first Piola–Kirchhoff stress at points [n, D]."""
        return self._at(points, _piola, check)

    def _at(self, points, law, check):
        with jax.enable_x64(True):
            return _evaluate(self.problem, self.field, self._points(points, check), law)[1]

    def von_mises(self, points, *, check: bool = True) -> Float[Array, " n"]:
        """The von Mises stress at points [n, D]; of a planar problem with σ₃₃ as the law has it, or `out_of_plane`."""
        return self._at(points, _von_mises, check)

    def reaction(self, part: str, n: int = 60) -> Float[Array, " d"]:
        """∫ P n over a part of the boundary: the force that acts on the body there, by n Gauss points along each
        direction of its patches. Near singular corners it is less accurate than the displacement.

        Raises:
            ValueError: no part has this name.
        """
        with jax.enable_x64(True):
            edge = self.problem.domain.boundary(part, n)
            return jnp.einsum("p,pij,pj->i", edge.w, self.piola(edge.x, check=False), edge.normal)

    def errors(self, n: int = 31) -> dict[str, float]:
        """Relative L2 errors of displacement and stress, against the exact solution or the stated reference.

        Args:
            n: Gauss points along each direction of each patch, other than those solved on (exact solutions only).
        """
        with jax.enable_x64(True):
            x, w, u, s = truth(self.problem, n)
            mine = dict(zip(("displacement", "stress"), _evaluate(self.problem, self.field, x, _cauchy), strict=True))
            if s is None:
                del mine["stress"]
            known = {"displacement": u, "stress": s}
            return {f"{k}_relative_l2": float(relative_l2(mine[k], known[k], w)) for k in mine}

    def quantities(self) -> dict[str, float]:
        """What an engineer reads off, named by the problem."""
        with jax.enable_x64(True):
            return {name: float(f(self)) for name, f in self.problem.quantities.items()}

    def write_vtu(self, path: str | Path, n: int = 24) -> Path:
        """Displacement, stress and von Mises stress on a mesh of the patches, as VTU for ParaView. Written whole
        or not at all.
        """
        from .mesh import mesh_of

        with jax.enable_x64(True):
            mesh = mesh_of(self.problem.domain, n)
            x = mesh.points[:, : self.problem.domain.dimension]
            pad = lambda a: np.concatenate([a, np.zeros((len(a), 3 - a.shape[1]))], 1)
            u, s = np.asarray(self.displacement(x, check=False)), np.asarray(self.stress(x, check=False))
            mesh.point_data = {
                "displacement": pad(u),
                "stress": np.asarray(s).reshape(len(s), -1),
                "von_mises": np.asarray(self.von_mises(x, check=False)),
            }
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.stem}.part.vtu")
        mesh.write(part)
        part.replace(path)
        return path


def truth(problem: Problem, n: int = 31):
    """Points, weights, u and σ of the exact solution or the reference.

    Raises:
        ValueError: the problem has neither.
    """
    if problem.exact is not None:
        return _exact(problem, [tuple(map(jnp.asarray, patch.rule(n))) for patch in problem.domain.patches])
    r = problem.reference
    if r is None:
        raise ValueError(f"{problem.name} has neither an exact solution nor a reference to compare with")
    weights = np.ones(len(r.points)) if r.weights is None else r.weights
    s = None if r.stress is None else jnp.asarray(r.stress, float)
    return jnp.asarray(r.points, float), jnp.asarray(weights, float), jnp.asarray(r.displacement, float), s


def truth_at(problem: Problem, x):
    """u and σ of the exact solution at x, or None where the problem has none."""
    if problem.exact is None or (problem.mixed and problem.exact_stress is None):
        return None
    return _exact_at(problem, x)


def relative_l2(a, b, w):
    """√(Σ w |a − b|² / Σ w |b|²)."""
    square = lambda v: jnp.sum(w * jnp.sum(v.reshape(len(v), -1) ** 2, axis=1))
    return jnp.sqrt(square(a - b) / square(b))


def stopped(history: list[dict[str, Any]]) -> dict[str, str]:
    """What ended the iterations before they converged, for `info`: nothing, or {"stopped": "max_seconds"}."""
    early = [entry["stopped"] for entry in history if "stopped" in entry]
    return {"stopped": early[-1]} if early else {}


class SolveError(FloatingPointError):
    """A load step that cannot be taken. `state` is the last good solution, `load` the fraction of the load it
    carries.
    """

    def __init__(self, message: str, state: Solution | None = None, load: float = 0.0):
        super().__init__(message)
        self.state, self.load = state, load
