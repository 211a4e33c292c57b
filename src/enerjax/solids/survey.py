"""What a solver must know of a problem before it starts, found in one compiled pass: points, normals, levels, loads,
stiffness.

From it follow the boundary values that can be built into a field, and whether the conditions hold the body at all.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from ._clock import Clock
from .condition import Displacement, Initial, Periodic, Spring, Symmetry
from .domain import Points, join
from .field import BuiltIn
from .material import least_stiffness, modulus
from .problem import Problem


@dataclasses.dataclass(frozen=True, eq=False)
class Survey:
    """Attributes:
    problem: what was surveyed.
    inside, edges: quadrature points of the domain and of each part.
    coarse: a few points of each part, as numpy, for decisions.
    levels: {part: least level inside the domain}.
    cross: {(part, other): least level of `part` on `other`}.
    modulus: stiffness scale S.
    pull: {part: traction of the load at rest on its coarse points}.
    asked: {part: how many numbers its condition asks of the traction, and of a displacement that is not built in}.
    core, force: a few points inside and the body force there.
    inputs: how many coordinates features have.
    """

    problem: Problem
    inside: Points
    edges: dict[str, Points]
    coarse: dict[str, Points]
    levels: dict[str, float]
    cross: dict[tuple[str, str], float]
    modulus: float
    pull: dict[str, np.ndarray]
    asked: dict[str, tuple[int, int]]
    core: Points
    force: np.ndarray
    inputs: int

    def normal(self, part: str) -> np.ndarray | None:
        """The outward normal of a flat part, else None."""
        n = np.asarray(self.coarse[part].normal)
        return n[0] if np.allclose(n, n[0], atol=1e-9) else None

    @functools.cached_property
    def _prescribed(self):
        conditions, d = self.problem.conditions, self.problem.dimension
        return {part: condition.prescribed(self.normal(part), d) for part, condition in conditions.items()}

    def prescribed(self, part: str):
        """{component: (value, whether zero)} of a part's condition."""
        return self._prescribed[part]


def survey(problem: Problem, interior: int, boundary: int, clock: Clock) -> Survey:
    """Look at a problem: everything numerical in one jit."""
    domain, d = problem.domain, problem.dimension
    patches = domain.patches
    parts = {name: part for name, part in domain.parts.items() if name in problem.conditions}
    place = lambda rules: join([patch.place(*rule) for patch, rule in zip(patches, rules, strict=True)])

    def look(inner, core, outer, coarse):
        inside, core = place(inner), place(core)
        edges = {n: part.place(outer[n]) for n, part in parts.items()}
        few = {n: part.place(coarse[n]) for n, part in parts.items()}
        levels = {n: jnp.min(jax.vmap(part.level)(core.x)) for n, part in parts.items()}
        cross = {(a, b): jnp.min(jax.vmap(parts[a].level)(few[b].x)) for a in parts for b in parts if a != b}
        # two places, so that both sides of an interface count
        ends = [problem.at(x) for x in (core.x[0], core.x[-1])]
        S = jnp.stack([jnp.stack([modulus(material, d), least_stiffness(material, d)]) for material in ends])
        zero = jnp.zeros((d,))
        pull = {
            n: jax.vmap(lambda x, m, c=c: -jax.grad(lambda u: c.potential(x, m[:d], u))(zero))(few[n].x, few[n].normal)
            for n, c in problem.conditions.items()
        }
        asked = {
            n: (
                c.balance(few[n].x[0], few[n].normal[0][:d], zero, jnp.outer(zero, zero)),
                c.constraint(few[n].x[0], few[n].normal[0][:d], zero),
            )
            for n, c in problem.conditions.items()
        }
        force, xi = jax.vmap(problem.force)(core.x), problem.xi(core.x[0])
        return inside, core, edges, few, levels, cross, S, pull, asked, force, xi

    rules = lambda n: [patch.rule(n) for patch in patches]
    part_rules = lambda n: {k: [p.rule(n) for p in part.patches] for k, part in parts.items()}
    found = clock.call(look, rules(interior), rules(7), part_rules(boundary), part_rules(8))
    inside, core, edges, few, levels, cross, S, pull, asked, force, xi = found
    host = lambda tree: jax.tree.map(np.asarray, tree)
    numbers = lambda tree: {k: float(v) for k, v in tree.items()}
    S, pull, force = host((S, pull, force))
    largest, least = S.T
    if not np.all(np.isfinite(S)) or np.any(largest <= 0) or np.any(least < -1e-9 * largest):
        raise ValueError(
            f"{problem.name}: not a solid: the material's stiffness at rest against some strain is {np.min(least):.3g}"
        )
    for what, value in {**{f"the load on {n!r}": v for n, v in pull.items()}, "the body force": force}.items():
        if not np.all(np.isfinite(value)):
            raise ValueError(f"{problem.name}: {what} is not finite")
    return Survey(
        problem,
        inside,
        edges,
        host(few),
        numbers(levels),
        numbers(cross),
        float(np.max(largest)),
        pull,
        {n: (len(balance), len(constraint)) for n, (balance, constraint) in asked.items()},
        host(core),
        force,
        len(xi),
    )


def built_in(survey: Survey, components: int) -> tuple[BuiltIn, dict[str, dict[int, Callable]]]:
    """Factor and lift of the displacement, and what could not be built in: {part: {component: value}}.

    A component is built in over the parts that prescribe it if the level of each part is positive inside the domain,
    and on the other parts unless it is zero there too, none asks to be left to the residual, and the values are zero
    or belong to parts that do not meet: u = Σ_k g_k w_k / Σ w_k with w_k = Π_{j≠k} ℓ_j (Rvachev). The rest is left
    to the residual.
    """
    problem, domain = survey.problem, survey.problem.domain
    L = domain.size
    per_component: list[list] = [[] for _ in range(components)]
    soft: dict[str, dict[int, Callable]] = {}
    for name, condition in problem.conditions.items():
        usable = (
            not isinstance(condition, Initial) and survey.levels[name] > 0 and not getattr(condition, "soft", False)
        )
        # parts whose points the level holds as well: those on the line of a flat one
        along = [b for b in problem.conditions if b != name and survey.cross[name, b] < 1e-7 * L]
        for i, (value, zero) in survey.prescribed(name).items():
            if usable and all(zero and survey.prescribed(b).get(i, (None, False))[1] for b in along):
                per_component[i].append((name, value, zero))
            else:
                soft.setdefault(name, {})[i] = value
    for i, entries in enumerate(per_component):
        names = [name for name, *_ in entries]
        apart = all(survey.cross[a, b] > 1e-2 * L for a in names for b in names if a != b)
        if all(zero for *_, zero in entries) or apart:
            continue
        for name, value, _ in entries:
            soft.setdefault(name, {})[i] = value
        per_component[i] = []

    parts = domain.parts
    levels = {n: (lambda x, part=part: part.level(x) / L) for n, part in parts.items()}

    def factor(x):
        one = jnp.ones((), x.dtype)
        return jnp.stack([_product([levels[n](x) for n, *_ in entries], one) for entries in per_component])

    def lift_one(entries, x):
        if all(zero for *_, zero in entries):
            return jnp.zeros((), x.dtype)
        ell = [levels[n](x) for n, *_ in entries]
        one = jnp.ones((), x.dtype)
        others = [_product(ell[:k] + ell[k + 1 :], one) for k in range(len(entries))]
        values = [value(parts[n].project(x)) for n, value, _ in entries]
        return sum(v * w for v, w in zip(values, others, strict=True)) / sum(others)

    lift = lambda x: jnp.stack([lift_one(entries, x) for entries in per_component])
    return BuiltIn(factor, lift), soft


def _product(values, one):
    for v in values:
        one = one * v
    return one


def check_support(survey: Survey) -> None:
    """Refuse rigid-body motions that nothing holds, but for translations of a body that is periodic all around.

    Raises:
        ValueError: names the motions left free, and says whether the loads would drive them.
    """
    problem = survey.problem
    if problem.density is not None:
        return
    free, resultant = _free_motions(survey)
    if len(free) == 0:
        return
    names = rigid_names(problem.dimension)
    involved = [n for k, n in enumerate(names) if np.max(np.abs(free[:, k])) > 0.3]
    driven = np.linalg.norm(free @ resultant) > 1e-8 * (1 + np.abs(resultant).max())
    if not driven and len(afloat(survey)):
        return
    balance = "and the loads are not balanced against it" if driven else "though the loads balance"
    raise ValueError(
        f"{problem.name}: the boundary conditions leave rigid-body motion free: {', '.join(involved)} ({balance}). "
        "Hold it with Displacement, Symmetry or Spring on some part"
    )


def afloat(survey: Survey) -> np.ndarray:
    """The translations [k, d] of a body that is periodic all around, where no other motion is free: no part is left to
    hold it by, and any will do.
    """
    d = survey.problem.dimension
    around = all(isinstance(c, Periodic) for c in survey.problem.conditions.values())
    if survey.problem.density is not None or not around:
        return np.zeros((0, d))
    free, _ = _free_motions(survey)
    return free[:, :d] if np.all(np.abs(free[:, d:]) < 1e-8) else np.zeros((0, d))


def _free_motions(survey: Survey) -> tuple[np.ndarray, np.ndarray]:
    """The rigid motions that no condition resists [free, modes], and the work of the loads on each mode [modes]."""
    problem, domain = survey.problem, survey.problem.domain
    d = problem.dimension
    centre = (np.asarray(domain.lower) + np.asarray(domain.upper)) / 2
    motion = lambda X: rigid_motions((X - centre) / domain.size)  # [n, modes, d]
    modes = len(rigid_names(d))
    rows, resultant = [], np.zeros(modes)
    for name, condition in problem.conditions.items():
        points = survey.coarse[name]
        M = motion(points.x)
        prescribed = survey.prescribed(name)
        rows += [M[:, :, i] for i in prescribed]
        if isinstance(condition, Symmetry) and not prescribed:
            rows.append(np.einsum("pmi,pi->pm", M, points.normal))
        if isinstance(condition, Spring):
            k = np.stack([np.asarray(condition.pull(jnp.asarray(x), jnp.ones(d))) for x in points.x])
            rows += [M[:, :, i] * k[:, i : i + 1] / max(np.max(k), 1e-300) for i in range(d)]
        if isinstance(condition, Periodic):
            rows += [(motion(points.x + np.asarray(condition.shift)) - M)[:, :, i] for i in range(d)]
        if not isinstance(condition, Displacement | Initial | Periodic):
            resultant += np.einsum("p,pi,pmi->m", points.w, survey.pull[name], M)
    resultant += np.einsum("p,pi,pmi->m", survey.core.w, survey.force, motion(survey.core.x))
    held = np.concatenate(rows) if rows else np.zeros((1, modes))
    _, s, V = np.linalg.svd(held, full_matrices=True)
    s = np.concatenate([s, np.zeros(modes - len(s))])
    return V[s < 1e-8 * max(1.0, s[0])], resultant


def rigid_motions(X: np.ndarray) -> np.ndarray:
    """Translations, then rotations, at points [n, d]: [n, modes, d]."""
    d = X.shape[1]
    modes = [np.tile(np.eye(d)[i], (len(X), 1)) for i in range(d)]
    for i in range(d):
        for j in range(i + 1, d):
            modes.append(np.eye(d)[j] * X[:, i : i + 1] - np.eye(d)[i] * X[:, j : j + 1])
    return np.stack(modes, axis=1)


def rigid_names(d: int) -> list[str]:
    """Names of the rigid motions, in the same order."""
    names = [f"translation along x{i + 1}" for i in range(d)]
    for i in range(d):
        names += ["rotation" if d == 2 else f"rotation about x{6 - (i + 1) - (j + 1)}" for j in range(i + 1, d)]
    return names
