"""A trained network in the strong form: all weights by Levenberg–Marquardt, from a last layer solved by least squares.

The first layer starts with random weights of width R, as random features do, and the last one from the least-squares
solution for them: the network starts where the frozen one ends, and training moves the features to where the solution
needs them.
"""

import time
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jax.flatten_util import ravel_pytree

from ..fit.least_squares import lstsq, reduce
from ._clock import Clock
from .field import MLP, NetworkField
from .method import Network
from .residual import Collocation as Loss
from .residual import strong
from .solution import Solution
from .survey import Survey, built_in


def network_loss(look: Survey, method: Network, key):
    """The starting field and the PINN loss of a problem: any optimiser of the ecosystem takes it from here."""
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

    def residual(terms, theta):
        net = eqx.combine(unravel(theta), static)
        f = eqx.tree_at(lambda f: f.network, field, net)
        return jnp.concatenate([r.ravel() for r in Loss(terms).residual(f)])

    step, linearised = partial(_step, residual), partial(_linearised, residual)
    start, damping, history = float(jnp.linalg.norm(clock.call(residual, loss.terms, theta))), 1e-3, []
    best = start
    if method.solve_last and not problem.finite:
        new, norm = clock.call(partial(_solve_last, residual), _head(params), loss.terms, theta)
        theta, best = (new, float(norm)) if float(norm) < best else (theta, best)
    deadline = min(deadline, time.process_time() + method.max_seconds)
    for iteration in range(method.iterations):
        accepted, R = False, clock.call(linearised, loss.terms, theta)
        for _ in range(12):
            new, norm = clock.call(step, loss.terms, theta, R, jnp.asarray(damping))
            if float(norm) < best:
                accepted = True
                break
            damping = max(4 * damping, 1e-15)
        if not accepted:
            break
        gain, theta, best = 1 - float(norm) / best, new, float(norm)
        damping = max(damping / (10 if gain > 0.3 else 3), 1e-18)
        history.append({"iteration": iteration, "seconds": clock.seconds, "residual": best, "damping": damping})
        if iteration % 10 == 0:
            say(f"iteration {iteration}: residual {best:.3e}")
        if best < method.tolerance * start or time.process_time() > deadline + clock.compile:
            break
    solved = eqx.tree_at(lambda f: f.network, field, eqx.combine(unravel(theta), static))
    info = {"parameters": int(theta.size), "residual": best, "method": "network"}
    return Solution(problem, solved, history, clock.seconds, clock.compile, info)


def _head(params: MLP):
    """Where the last layer's numbers are among the flattened parameters."""
    zeros = jax.tree.map(jnp.zeros_like, params)
    marked = eqx.tree_at(lambda p: (p.weights[-1], p.biases[-1]), zeros, replace_fn=jnp.ones_like)
    return jnp.flatnonzero(ravel_pytree(marked)[0] > 0)


def _jacobian(residual, terms, theta):
    """r and J: forward mode in batches of columns, so that memory stays bounded."""
    r, push = jax.linearize(lambda v: residual(terms, v), theta)
    J = jax.lax.map(push, jnp.eye(theta.size, dtype=theta.dtype), batch_size=64).T
    return r, J


def _linearised(residual, terms, theta):
    """The triangle of [J, −r]: all that steps of any damping need."""
    r, J = _jacobian(residual, terms, theta)
    return reduce(J, -r)


def _step(residual, terms, theta, R, damping):
    """The Levenberg–Marquardt step of one damping, and ‖r‖ after it."""
    n = theta.size
    rows = jnp.concatenate([R[:n, :n], jnp.sqrt(damping) * jnp.eye(n, dtype=R.dtype)])
    T = reduce(rows, jnp.concatenate([R[:n, n], jnp.zeros(n, R.dtype)]))
    new = theta + jax.scipy.linalg.solve_triangular(T[:n, :n], T[:n, n])
    return new, jnp.linalg.norm(residual(terms, new))


def _solve_last(residual, head, terms, theta):
    """The last layer solved exactly for the hidden weights at hand: r is linear in it."""
    base, push = jax.linearize(lambda c: residual(terms, theta.at[head].set(c)), jnp.zeros_like(theta[head]))
    columns = jax.lax.map(push, jnp.eye(head.shape[0], dtype=theta.dtype), batch_size=64).T
    new = theta.at[head].set(lstsq(columns, -base, 1e-4))
    return new, jnp.linalg.norm(residual(terms, new))
