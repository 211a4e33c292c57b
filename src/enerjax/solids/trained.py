"""A trained network in the strong form: Levenberg–Marquardt over its hidden layers, the last one solved exactly inside.

Variable projection (Golub & Pereyra 1973; Kaufman 1975). For a linear problem the residual is r = r₀(h) + Φ(h) c in
the last layer's c, so with c(h) its least-squares solution only h is searched. One QR of [Φ J_h r] gives at once the
Jacobian and residual projected on what the last layer cannot reach: the trailing triangle. A step in h so judged sees
the last layer move with it, which is what a plain step over all weights spends its iterations on. Finite strain, where
r is not linear in c, takes plain steps over all weights.
"""

import time
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.flatten_util import ravel_pytree

from ..fit.least_squares import reduce, solve_reduced
from ._clock import Clock
from .field import MLP, NetworkField
from .method import Network
from .refine import refine_terms
from .residual import Collocation as Loss
from .residual import strong
from .solution import Solution
from .survey import Survey, built_in


def network_loss(look: Survey, method: Network, key):
    """The starting field and the PINN loss of a problem: any optimiser of the ecosystem takes it from here.

    The first layer has weights uniform in ± `width`, as random features have.
    """
    problem = look.problem
    components = problem.dimension + problem.mixed
    built, soft = built_in(look, components)
    network = MLP.create(key, (look.inputs, *method.hidden, components))
    k1, k2 = jr.split(jr.fold_in(key, 1))
    weights, biases = network.weights[0], network.biases[0]
    spread = lambda k, a: method.width * jr.uniform(k, a.shape, minval=-1.0, maxval=1.0, dtype=float)
    network = eqx.tree_at(lambda n: (n.weights[0], n.biases[0]), network, (spread(k1, weights), spread(k2, biases)))
    return NetworkField(network, built, problem.xi), Loss(strong(look, soft))


def solve_network(look: Survey, key, method: Network, clock: Clock, deadline, say) -> Solution:
    """Train on the strong form until the time, the iterations or the progress end."""
    problem = look.problem
    field, loss = network_loss(look, method, key)
    params, static = eqx.partition(field.network, eqx.is_array)
    theta, unravel = ravel_pytree(params)
    rebuild = lambda theta: eqx.tree_at(lambda f: f.network, field, eqx.combine(unravel(theta), static))
    project = method.project and not problem.finite
    head, hidden = _head(params) if project else (jnp.zeros(0, int), jnp.arange(theta.size))
    rows, ridge = partial(_rows, rebuild), method.ridge
    look_at, attempt = partial(_look, rows, head, hidden), partial(_attempt, rows, head, hidden, ridge)
    solve_head = partial(_solve_head, rows, head, ridge)

    theta, norm = clock.call(solve_head, loss.terms, theta)
    best, damping, history = float(norm), method.damping, []
    if not np.isfinite(best):
        raise FloatingPointError(f"{problem.name}: the residual of the starting network is not finite: lower `width`")
    begin, started, terms, stalled = best, clock.seconds, loss.terms, False
    draws = list(jr.split(jr.fold_in(key, 7), method.refine)) if method.refine else []
    for iteration in range(method.iterations):
        turn = method.max_seconds * (1 - len(draws) / (method.refine + 1))
        if draws and (stalled or clock.seconds - started > turn):
            terms = refine_terms(terms, rebuild(theta), problem.domain, draws.pop(0), call=clock.call)
            theta, norm = clock.call(solve_head, terms, theta)
            best, damping, stalled = float(norm), method.damping, False
            say(f"iteration {iteration}: points drawn anew, residual {best:.3e}")
        triangle, scale = clock.call(look_at, terms, theta)
        new, norm = theta, np.inf
        for _ in range(12):
            new, norm = clock.call(attempt, terms, theta, triangle, scale, jnp.asarray(damping))
            norm = float(norm)
            if norm < best:
                break
            damping = max(4 * damping, 1e-15)
        if not norm < best:
            if not draws:
                break
            stalled = True
            continue
        gain, theta, best = 1 - norm / best, new, norm
        damping = max(damping / (8 if gain > 0.3 else 3), 1e-18)
        history.append({"iteration": iteration, "seconds": clock.seconds, "residual": best, "damping": damping})
        if iteration % 20 == 0:
            say(f"iteration {iteration}: residual {best:.3e}")
        late = clock.seconds - started > method.max_seconds or time.process_time() > deadline
        if best < method.tolerance * begin or late:
            break
    info = {"parameters": int(theta.size), "residual": best, "method": "network"}
    return Solution(problem, rebuild(theta), history, clock.seconds, clock.compile, info)


def _head(params: MLP):
    """Where the last layer's numbers are among the flattened parameters, and the others."""
    zeros = jax.tree.map(jnp.zeros_like, params)
    marked = eqx.tree_at(lambda p: (p.weights[-1], p.biases[-1]), zeros, replace_fn=jnp.ones_like)
    last = np.asarray(ravel_pytree(marked)[0] > 0)
    return jnp.flatnonzero(last), jnp.flatnonzero(~last)


def _rows(rebuild, terms, theta, chosen):
    """r [M] and ∂r/∂θ[chosen] [M, n]: one reverse pass per residual through the jets of the layers, point by point."""
    residuals, jacobians = [], []
    for term in terms:

        def at(part, point, term=term):
            single = eqx.tree_at(lambda t: t.points, term, jax.tree.map(lambda a: a[None], point))
            return single.evaluate(rebuild(theta.at[chosen].set(part)))[0]

        points, part = term.points, theta[chosen]
        r = jax.vmap(at, (None, 0))(part, points)
        J = jax.vmap(jax.jacrev(at), (None, 0))(part, points)
        residuals.append(r.ravel())
        jacobians.append(J.reshape(-1, chosen.shape[0]))
    return jnp.concatenate(residuals), jnp.concatenate(jacobians)


def _look(rows, head, hidden, terms, theta):
    """The triangle of [J_h, −r] with what the last layer reaches taken out, and the column norms of J_h there."""
    order = jnp.concatenate([head, hidden])
    r, J = rows(terms, theta, order)
    n = head.shape[0]
    R = reduce(J, -r)[n:, n:]
    scale = jnp.linalg.norm(R[:, :-1], axis=0)
    return R, jnp.maximum(scale, 1e-8 * jnp.max(scale))


def _attempt(rows, head, hidden, ridge, terms, theta, R, scale, damping):
    """The damped step in the hidden layers, then the last layer; and ‖r‖ after it."""
    n = scale.shape[0]
    damped = jnp.concatenate([R[:n, :n] / scale[None, :], jnp.sqrt(damping) * jnp.eye(n, dtype=R.dtype)])
    T = reduce(damped, jnp.concatenate([R[:n, n], jnp.zeros(n, R.dtype)]))
    step = jax.scipy.linalg.solve_triangular(T[:n, :n], T[:n, n]) / scale
    return _solve_head(rows, head, ridge, terms, theta.at[hidden].add(step))


def _solve_head(rows, head, ridge, terms, theta):
    """The last layer solved exactly for the hidden weights at hand, and ‖r‖ there (nothing to solve: ‖r‖)."""
    r, Phi = rows(terms, theta, head)
    if head.shape[0] == 0:
        return theta, jnp.linalg.norm(r)
    c = theta[head]
    c, norm = solve_reduced(reduce(Phi, Phi @ c - r), ridge)
    return theta.at[head].set(c), norm
