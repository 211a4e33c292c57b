"""Losses of mechanics over one field and one domain: strong, mixed (pressure or stress as fields), weak, and energy
form.

A `Term` is a set of points with a pointwise function of the field's jet there; a loss is a tuple of terms. The strong
form's terms are dimensionless (stresses by the material's modulus S, lengths by the domain's size L) and carry the
square roots of their quadrature weights, so that ½‖r‖² approximates an integral and one weight serves interior and
boundary.
"""

from collections.abc import Callable
from typing import cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..energy import AbstractEnergy, AbstractMisfit
from . import jets
from . import kinematics as kin
from .condition import Initial, Periodic
from .domain import Points
from .material import stress
from .problem import Problem
from .survey import Survey, afloat

Field = Callable[[Float[Array, " D"]], Float[Array, " m"]]


class Term(eqx.Module):
    """r(load, x, n, u, ∇u, ∇∇u) [q] at a set of points.

    Attributes:
        points: where, with √weights that make Σ r² an integral mean.
        function: the residual at a point, from the jet of the field.
        order: highest derivative it needs.
        shift: for pairs of points: the function also gets the jet at x + shift.
        name: for the report.
    """

    points: Points
    function: Callable
    order: int = eqx.field(static=True)
    name: str = eqx.field(static=True)
    shift: Array | None = None
    scale: float = eqx.field(static=True, default=1.0)

    def at(self, z: Float[Array, "m S"], x, w, n, partner=None, load=1.0) -> Float[Array, " q"]:
        """√w r at one point, from the jets z of the field there, under a fraction `load` of the loads."""
        arguments = jets.unpack(z, x.shape[0], self.order)
        if partner is not None:
            arguments = (*arguments, *jets.unpack(partner, x.shape[0], self.order))
        return self.scale * jnp.sqrt(w) * self.function(load, x, n, *arguments)

    def evaluate(self, field: Field) -> Float[Array, "n q"]:
        """The residual at every point."""

        def one(x, w, n):
            z = jets.jet(field, x, self.order).T
            partner = None if self.shift is None else jets.jet(field, x + self.shift, self.order).T
            return self.at(z, x, w, n, partner)

        return jax.vmap(one)(self.points.x, self.points.w, self.points.normal)


class Collocation(AbstractMisfit):
    """E(field) = ½ Σ ∫ |r|²: the PINN loss, as a misfit that shows its residual."""

    terms: tuple[Term, ...]

    def residual(self, x: Field):
        """One array per term."""
        return tuple(term.evaluate(x) for term in self.terms)


def mean_weights(*points: Points) -> Points:
    """One set of points whose weights sum to one over each of those given: a term becomes a mean, whatever the units
    of length. On the host: eager operations would each be compiled first.
    """
    mean = lambda w: np.asarray(w) / np.sum(np.asarray(w))
    columns = zip(*((np.asarray(p.x), mean(p.w), np.asarray(p.normal)) for p in points), strict=True)
    return Points(*jax.device_put([np.concatenate(c) for c in columns]))


def strong(survey: Survey, soft: dict) -> tuple[Term, ...]:
    """Equilibrium inside, traction balance on the boundary, and the displacements that are not built in.

    Components of the field: u [d], then p where the material has a pressure; then also its volumetric law ∂Π/∂p = 0.

    Args:
        survey: the problem with its quadrature points, from `survey.survey`.
        soft: displacements left to the residual, from `survey.built_in`.
    """
    problem = survey.problem
    d, S, L = problem.dimension, survey.modulus, problem.domain.size
    terms = [Term(mean_weights(survey.inside), _equilibrium(problem), 2, "equilibrium", scale=L / S)]
    if problem.mixed:
        law = lambda load, x, n, u, du, ddu=None: jax.grad(problem.material, 1)(du[:, :d][:d], u[d])[None]
        terms.append(Term(terms[0].points, law, 1, "volume"))
    for names in _alike(survey, soft):
        terms += _boundary_terms(survey, names, soft.get(names[0], {}), _strong_stress(problem))
    return (*terms, *_anchor(survey))


def _anchor(survey: Survey) -> tuple[Term, ...]:
    """One point held, for a periodic body, against the translations that nothing else holds: at no cost."""
    ways = afloat(survey)
    if len(ways) == 0:
        return ()
    hold = lambda load, x, n, u, du=None, ddu=None: jnp.asarray(ways, u.dtype) @ u[: ways.shape[1]]
    return (Term(mean_weights(survey.inside[:1]), hold, 1, "anchor", scale=1 / survey.problem.domain.size),)


def _strong_stress(problem: Problem) -> Callable:
    d = problem.dimension

    def P(x, u, du):
        internal = (u[d],) if problem.mixed else ()
        return stress(problem.at(x), du[:d, :d], *internal)

    return P


def _equilibrium(problem: Problem) -> Callable:
    """Div P + b − ρ ü = A_ijkl ∂²u_k/∂x_l∂x_j + ∂P_ij/∂p ∂p/∂x_j + ∂P_ij/∂x_j|_∇u + b − ρ ü.

    A by one forward Jacobian: the smallest graph, so the fastest to compile of the orders of differentiation tried.
    """
    d = problem.dimension
    P = _strong_stress(problem)

    def residual(load, x, n, u, du, ddu):
        del n
        A = jax.jacfwd(P, 2)(x, u, du)[:, :, :d, :d]
        total = load * problem.force(x) + jnp.einsum("ijkl,klj->i", A, ddu[:d, :d, :d])
        if problem.mixed:
            total += jnp.einsum("ij,j->i", jax.jacfwd(P, 1)(x, u, du)[:, :, d], du[d, :d])
        if problem.heterogeneous:
            total += jnp.einsum("ijj->i", jax.jacfwd(P)(x, u, du)[:, :, :d])
        if problem.density is not None:
            total = total - problem.density * ddu[:d, d, d]
        return total

    return residual


def _alike(survey: Survey, soft: dict) -> list[list[str]]:
    """Parts with the same condition, to be compiled as one term."""
    groups: list[list[str]] = []
    problem = survey.problem
    for name, condition in problem.conditions.items():
        for group in groups:
            first = problem.conditions[group[0]]
            same = first is condition or bool(eqx.tree_equal(first, condition))
            alone = name in soft or group[0] in soft or isinstance(condition, Periodic | Initial)
            if same and not alone and bool(survey.prescribed(group[0])) == bool(survey.prescribed(name)):
                group.append(name)
                break
        else:
            groups.append([name])
    return groups


def _boundary_terms(survey: Survey, names, soft, P) -> list[Term]:
    problem, S, L = survey.problem, survey.modulus, survey.problem.domain.size
    d, condition = problem.dimension, problem.conditions[names[0]]
    points, name = mean_weights(*(survey.edges[n] for n in names)), ", ".join(names)
    terms = []
    if isinstance(condition, Initial):
        return _initial(problem, condition, points, name, L)
    if isinstance(condition, Periodic):
        return _periodic(condition, points, name, S, L, P, d)

    def balance(load, x, n, u, du, ddu=None):
        Pu = P(x, u, du)
        at_rest = condition.balance(x, n[:d], jnp.zeros_like(u[:d]), jnp.zeros_like(Pu))  # minus the full traction
        return condition.balance(x, n[:d], u[:d], Pu) - (1 - load) * at_rest

    balances, constraints = survey.asked[names[0]]
    if balances > 0:
        terms.append(Term(points, balance, 1, f"traction on {name}", scale=1 / S))
    if soft:
        fix = lambda load, x, n, u, du=None, ddu=None: jnp.stack([u[i] - load * value(x) for i, value in soft.items()])
        terms.append(Term(points, fix, 0, f"displacement on {name}", scale=1 / L))
    elif not survey.prescribed(names[0]) and constraints > 0:
        fix = lambda load, x, n, u, du=None, ddu=None: condition.constraint(x, n[:d], u[:d])
        terms.append(Term(points, fix, 0, f"displacement on {name}", scale=1 / L))
    return terms


def _periodic(condition, points, name, S, L, P, d) -> list[Term]:
    shift = jnp.asarray(condition.shift)

    def pair(load, x, n, u, du, ddu, v, dv, ddv=None):
        jump = (v[:d] - u[:d] - load * condition.jump) / L
        return jnp.concatenate([jump, (P(x + shift, v, dv) @ n[:d] - P(x, u, du) @ n[:d]) / S])

    return [Term(points, pair, 1, f"periodicity of {name}", shift=shift)]


def _initial(problem, condition, points, name, L) -> list[Term]:
    d = problem.dimension
    T = float(problem.domain.upper[d] - problem.domain.lower[d])
    value = lambda v, x: jnp.asarray(v(x) if callable(v) else v, x.dtype) + jnp.zeros((d,), x.dtype)

    def start(load, x, n, u, du, ddu=None):
        del load
        r0, r1 = u[:d] - value(condition.value, x), du[:d, d] - value(condition.velocity, x)
        return jnp.concatenate([r0, T * r1])

    return [Term(points, start, 1, f"initial state on {name}", scale=1 / L)]


def mixed(survey: Survey, soft: dict) -> tuple[Term, ...]:
    """First-order system: fields u and the symmetric stress; Div σ + b = 0, σ = ∂W/∂ε, σ n = t. Small strain only.

    Components of the field: u [d], then σ_ij for i ≤ j.
    """
    problem = survey.problem
    d, S, L = problem.dimension, survey.modulus, problem.domain.size
    where = {p: d + k for k, p in enumerate(jets.pairs(d))}
    index = jnp.array([[where[min(i, j), max(i, j)] for j in range(d)] for i in range(d)])
    points = mean_weights(survey.inside)
    divergence = lambda load, x, n, u, du, ddu=None: jnp.einsum("ijj->i", du[index]) * S + load * problem.force(x)
    law = lambda load, x, n, u, du, ddu=None: jnp.ravel(kin.strain(u[index] * S - stress(problem.at(x), du[:d, :d])))
    terms = [
        Term(points, divergence, 1, "equilibrium", scale=L / S),
        Term(points, law, 1, "constitutive law", scale=1 / S),
    ]
    for names in _alike(survey, soft):
        P = lambda x, u, du: u[index] * S
        terms += _boundary_terms(survey, names, soft.get(names[0], {}), P)
    return (*terms, *_anchor(survey))


class PotentialEnergy(AbstractEnergy):
    """Π(u) = ∫ W(∇u) − b·u dV + ∫ V(u) dA: strain energy less the work of the loads, by quadrature. The deep energy
    form.

    Attributes:
        problem: material, loads and conditions.
        inside: quadrature points of the domain.
        edges: {part: quadrature points}.
        load: factor of the loads.
    """

    problem: Problem = eqx.field(static=True)
    inside: Points
    edges: dict[str, Points]
    load: float | Array = 1.0

    @classmethod
    def create(cls, problem: Problem, interior: int, boundary: int, load=1.0) -> "PotentialEnergy":
        """With Gauss points along each direction of each patch, and of each boundary patch."""
        edges = {name: problem.domain.boundary(name, boundary) for name in problem.conditions}
        return cls(problem, problem.domain.interior(interior), edges, load)

    def __call__(self, x: Field):
        """Π of a field."""
        d = self.problem.dimension

        def density(point):
            u, du, _ = jets.unpack(jets.jet(x, point, 1).T, point.shape[0], 1)
            du = cast(Array, du)  # a jet of order 1 has it
            internal = (u[d],) if self.problem.mixed else ()
            return self.problem.at(point)(du[:d], *internal) - self.load * self.problem.force(point) @ u[:d]

        total = jnp.sum(self.inside.w * jax.vmap(density)(self.inside.x))
        for name, points in self.edges.items():
            condition = self.problem.conditions[name]
            potential = jax.vmap(lambda p, n, c=condition: c.potential(p, n, x(p)[:d]))
            total = total + condition.factor(self.load) * jnp.sum(points.w * potential(points.x, points.normal))
        return total


class WeakForm(AbstractMisfit):
    """r_k = δΠ(u)[v_k]: the virtual work on test functions v_k, built in to vanish where displacement is prescribed.

    Attributes:
        energy: Π.
        tests: fields v_k as one linear field, whose coefficients are the directions.
    """

    energy: PotentialEnergy
    tests: Callable

    def residual(self, x: Field):
        """[m, N]: one number per test function, by one reverse pass through u + Σ a_k v_k at a = 0."""
        template = self.tests
        virtual = eqx.tree_at(lambda f: f.coefficients, template, jnp.zeros_like(template.coefficients))

        def work(a):
            v = eqx.tree_at(lambda f: f.coefficients, virtual, a)
            return self.energy(lambda p: x(p) + v(p) - virtual(p))

        return jax.grad(work)(virtual.coefficients)
