"""The basis of the energy form: random features made orthonormal in the elastic energy at rest.

That energy is ½‖√w L ∇(B c)‖² with LᵀL the tangent, so one pivoted QR of these rows gives directions in which the
linear problem's Hessian is the identity, however redundant the features are; those that depend on others, or that
would leave a wall, are dropped.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from . import jets, pressure
from ._clock import Clock, run
from .collocation import Jets, _prepare, basis_of
from .condition import Periodic, Spring, Symmetry
from .domain import Points
from .field import AbstractBasis, BuiltIn, Stacked
from .material import tangent
from .method import Ritz
from .survey import Survey, built_in

WALL = 1e-7  # singular value, relative to all displacement there, beyond which a motion counts as leaving a wall


def energy_basis(look: Survey, key, method: Ritz, call: Callable = run) -> tuple[BuiltIn, AbstractBasis]:
    """How displacements are built into the field, and the random features beside them.

    Raises:
        ValueError: some cannot be built in, or parts are periodic; the energy alone would not see them.
    """
    problem = look.problem
    built, soft = built_in(look, problem.dimension + problem.mixed)
    periodic = [name for name, condition in problem.conditions.items() if isinstance(condition, Periodic)]
    if periodic:
        raise ValueError(
            f"{problem.name}: the energy form does not tie {periodic[0]!r} to its partner: use Collocation"
        )
    if soft:
        raise ValueError(
            f"{problem.name}: the energy form needs displacements built into the field, and those on "
            f"{', '.join(map(repr, soft))} cannot be: use Collocation"
        )
    random = basis_of(look, key, method.features, method.width, call)
    return built, Stacked((*random.bases, *problem.pressure_basis))


def first_jets(built, basis, inside, edges) -> tuple[Jets, Jets]:
    """Jets of the first order inside and on the boundary."""
    found = _prepare(built, basis, (inside, *edges), 1)
    return found[: len(inside)], found[len(inside) :]


def directions(
    look: Survey,
    cut: float,
    clock: Clock,
    built: BuiltIn,
    volume: Jets,
    surface: Jets,
    pressures: pressure.Space | None = None,
) -> Float[Array, "n K"]:
    """The energy-orthonormal directions at rest among the features: those that `cut` leaves, and that do not leave the
    planes of symmetry whose normal is no axis, which cannot be built in component by component.

    Raises:
        ValueError: a displacement prescribed elsewhere leaves such a plane.
    """
    problem = look.problem
    walls = [n for n, c in problem.conditions.items() if isinstance(c, Symmetry) and not look.prescribed(n)]
    stiffness = dict.fromkeys(walls, look.modulus / problem.domain.size)
    rest = partial(_orthonormal, problem, cut, stiffness)
    T = np.asarray(clock.call(rest, look.inside, look.edges, volume, surface, pressures))
    T = T[:, np.any(T != 0, axis=0)]
    if walls:
        through, moved, all_of = clock.call(partial(_through, problem, walls, built), look.edges, surface, T)
        worst = float(np.max(np.abs(moved)))
        if worst > 1e-9 * problem.domain.size:
            raise ValueError(
                f"{problem.name}: a displacement prescribed elsewhere moves {', '.join(map(repr, walls))} through its "
                f"plane of symmetry (by {worst:.1e}): the energy form cannot hold both, use Collocation"
            )
        _, s, V = np.linalg.svd(np.asarray(through), full_matrices=True)
        T = T @ V[np.count_nonzero(s > WALL * float(all_of)) :].T
    return jax.device_put(T)


def _orthonormal(problem, cut, walls, inside: Points, edges, volume: Jets, surface: Jets, pressures):
    """T [m N, m N]: B T is orthonormal in the energy at rest, and walls of the stiffness given; columns beyond the
    numerical rank are zero.
    """
    D = problem.domain.dimension
    roots = jax.vmap(partial(_root, problem))(inside.x)
    rows = lambda w, j, L: jnp.sqrt(w) * _strain_rows(rows_of(j, D), L)
    blocks = [jax.vmap(rows)(inside.w, volume, roots).reshape(-1, volume.base.shape[2] * problem.dimension)]
    if pressures is not None:
        d = problem.dimension
        zero = jnp.zeros((len(inside), d, d), inside.x.dtype)
        cross = pressure.slopes(problem, inside.x, zero, zero[:, 0, 0])[1]
        strains = jax.vmap(lambda j, D_: _strain_rows(rows_of(j, D), D_[None])[0])(volume, cross)
        blocks.append(pressure.against(pressures, inside.w[:, None] * strains))
    # supports count, or a body that rests on them could not move as a whole
    for name, points, mine in along(edges, surface):
        condition, second = problem.conditions[name], None
        if isinstance(condition, Spring):
            second = jax.vmap(jax.hessian(condition.potential, 2))(points.x, points.normal, 0 * points.x)
        if name in walls:
            second = walls[name] * points.normal[:, :, None] * points.normal[:, None]
        if second is not None:
            root = jax.vmap(_square_root)(second) * jnp.sqrt(points.w)[:, None, None]
            value = jax.vmap(lambda j: rows_of(j, D)[:, 0])(mine)
            blocks.append(jnp.einsum("nki,niN->nkiN", root, value).reshape(-1, blocks[0].shape[1]))
    R = jnp.linalg.qr(jnp.concatenate(blocks), mode="r")
    scale = jnp.linalg.norm(R, axis=0)
    scale = jnp.where(scale > 0, scale, 1.0)
    _, upper, order = jax.scipy.linalg.qr(R / scale[None, :], mode="economic", pivoting=True)
    n = upper.shape[0]
    diagonal = jnp.abs(jnp.diag(upper))
    keep = diagonal > cut * diagonal[0]
    upper = jnp.where(keep[:, None] & keep[None, :], upper, jnp.eye(n))
    inverse = jax.scipy.linalg.solve_triangular(upper, jnp.diag(keep.astype(upper.dtype)))
    return jnp.zeros((scale.shape[0], n)).at[order].set(inverse) / scale[:, None]


def _strain_rows(B, L):
    """L ∇(B c) as rows [d², m N] at one point: B [m, S, N], L [d², d, d]."""
    return jnp.einsum("qkl,klN->qkN", L, B[:, 1:]).reshape(L.shape[0], -1)


def _root(problem, x):
    """L with LᵀL the symmetric part of the tangent at rest (without pressure), [d², d, d]."""
    d = problem.dimension
    p = jnp.zeros((1,), x.dtype) if problem.mixed else None
    A = tangents(problem, x[None], jnp.zeros((1, d, d), x.dtype), p)[0].reshape(d * d, d * d)
    return _square_root(A).reshape(d * d, d, d)


def _square_root(A):
    """L with LᵀL the symmetric part of A, as far as it is positive."""
    s, V = jnp.linalg.eigh((A + A.T) / 2)
    return jnp.sqrt(jnp.maximum(s, 0.0))[:, None] * V.T


def _through(problem, walls, built: BuiltIn, edges, surface: Jets, T):
    """√w n·(B T) on the walls [n, K], n·lift there, and the size of √w B T."""
    D = problem.domain.dimension
    t = T.reshape(surface.factor.shape[1], -1, T.shape[1])
    rows, moved, size = [], [], 0.0
    for name, points, mine in along(edges, surface):
        if name in walls:
            B = jnp.einsum("n,niN,iNK->niK", jnp.sqrt(points.w), jax.vmap(lambda j: rows_of(j, D)[:, 0])(mine), t)
            rows.append(jnp.einsum("ni,niK->nK", points.normal, B))
            moved.append(jax.vmap(lambda x, n: built.lift(x)[: len(n)] @ n)(points.x, points.normal))
            size = jnp.maximum(size, jnp.linalg.norm(B.reshape(-1, B.shape[-1]), 2))
    return jnp.concatenate(rows), jnp.concatenate(moved), size


def rows_of(j: Jets, D: int):
    S = jets.length(D, 1)
    return jax.vmap(lambda a: jets.product(a[:S], j.base[:S], D, 1))(j.factor)


def tangents(problem, x, G, p):
    """∂²W/∂G² at points, [n, d, d, d, d]; at fixed pressure where the material has one."""
    if p is not None:
        return jax.vmap(lambda x, G, p: tangent(problem.at(x), G, p))(x, G, p)
    return jax.vmap(lambda x, G: tangent(problem.at(x), G))(x, G)


def along(edges: dict[str, Points], surface):
    """Each part with its points and its rows of an array, or of arrays, over all boundary points."""
    start = 0
    for name, points in edges.items():
        rows = slice(start, start + len(points))
        yield name, points, jax.tree.map(lambda a, rows=rows: a[rows], surface)
        start += len(points)
