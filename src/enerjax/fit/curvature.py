"""The second derivative of an energy, never formed: extremes, spectrum and Newton steps from products H v alone.

    lanczos          H ≈ Q T Qᵀ with T tridiagonal: its ends are those of the spectrum of H
    spectrum         stochastic Lanczos quadrature: the density of eigenvalues, traces of functions of H
    direction        the step that minimises ⟨g, d⟩ + ½⟨d, B d⟩ within a trust region, by conjugate gradients
    newton_cg        the whole minimiser; B = ∇²E

With B = ∇²E the direction is Newton's, with B = JᵀJ (`energy.gauss_newton_product`) Gauss–Newton's and, for a Gaussian
or softmax output, the natural gradient. The price of a product is about four energies, whatever the number of unknowns.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int

from .. import _tree as tree
from .._array import Energy, Key, PyTree, Scalar
from ..energy.response import hessian_vector_product

Product = Callable[[PyTree], PyTree]  # v -> H v, symmetric


class Krylov(NamedTuple):
    """T = Qᵀ H Q from Lanczos: `diagonal` [k], `offdiagonal` [k − 1], orthonormal rows `basis` [k, n]."""

    diagonal: Float[Array, " k"]
    offdiagonal: Float[Array, " k-1"]
    basis: Float[Array, "k n"]

    def ritz(self) -> tuple[Float[Array, " k"], Float[Array, "k k"]]:
        """Eigenvalues, ascending, and eigenvectors (columns) of T."""
        T = jnp.diag(self.diagonal) + jnp.diag(self.offdiagonal, 1) + jnp.diag(self.offdiagonal, -1)
        return jnp.linalg.eigh(T)


def lanczos(product: Product, start: PyTree, steps: int) -> Krylov:
    """`steps` products of Lanczos' recursion from `start`, reorthogonalised against every earlier vector.

    C. Lanczos, J. Res. Natl. Bur. Stand. 45, 255 (1950); reorthogonalised twice (Parlett, The Symmetric Eigenvalue
    Problem, sec. 6.9). Where the Krylov space is exhausted the remaining rows of the basis are zero.

    Args:
        product: v ↦ H v on pytrees like `start`.
        start: the first direction, any length.
        steps: the size k of T.
    """
    first, unravel = ravel_pytree(start)
    flat = lambda v: ravel_pytree(product(unravel(v)))[0]
    # what is left after reorthogonalisation below this fraction of |Hq| is rounding, not a new direction
    rounding = 10 * jnp.sqrt(first.size) * jnp.finfo(first.dtype).eps

    def advance(carry, k):
        basis, q = carry
        basis = basis.at[k].set(q)
        image = flat(q)
        rest = image
        for _ in range(2):
            rest = rest - basis.T @ (basis @ rest)
        beta = jnp.linalg.norm(rest)
        alive = beta > rounding * jnp.linalg.norm(image)
        after = jnp.where(alive, rest / jnp.where(alive, beta, 1.0), 0.0)
        return (basis, after), (q @ image, jnp.where(alive, beta, 0.0))

    q = first / jnp.linalg.norm(first)
    (basis, _), (alpha, beta) = jax.lax.scan(advance, (jnp.zeros((steps, q.size), q.dtype), q), jnp.arange(steps))
    return Krylov(alpha, beta[:-1], basis)


class Spectrum(NamedTuple):
    """Nodes λ and weights w (summing to one) of a quadrature of the eigenvalue density of an n × n matrix."""

    nodes: Float[Array, "probes k"]
    weights: Float[Array, "probes k"]
    size: int

    def density(self, grid: Float[Array, " m"], width: float | Scalar) -> Float[Array, " m"]:
        """The density at the points of `grid`, each node smeared by a Gaussian of standard deviation `width`."""
        x = (grid[:, None] - self.nodes.ravel()[None]) / width
        bumps = jnp.exp(-0.5 * x**2) / (width * jnp.sqrt(2 * jnp.pi))
        return bumps @ self.weights.ravel() / len(self.nodes)

    def trace(self, function: Callable = lambda x: x) -> tuple[Scalar, Scalar]:
        """tr f(H) and its standard error over the probes."""
        each = self.size * jnp.sum(self.weights * function(self.nodes), -1)
        return jnp.mean(each), jnp.std(each, ddof=1) / jnp.sqrt(len(each)) if len(each) > 1 else jnp.nan * each[0]


def spectrum(energy: Energy, x: PyTree, key: Key, *, probes: int = 8, steps: int = 32) -> Spectrum:
    """The eigenvalue density of ∇²E(x) by stochastic Lanczos quadrature: `probes` × `steps` products.

    Z. Bai, G. Fahey and G. Golub, J. Comput. Appl. Math. 74, 71 (1996); S. Ubaru et al., SIAM J. Matrix Anal. 38, 1075
    (2017). Quadrature of degree 2·steps − 1 for each probe; the average over Gaussian probes is unbiased for traces.
    """
    flat, unravel = ravel_pytree(x)
    product = lambda v: hessian_vector_product(energy, x, v)

    def probe(key):
        z = jr.normal(key, flat.shape, flat.dtype)
        values, vectors = lanczos(product, unravel(z), min(steps, flat.size)).ritz()
        return values, vectors[0] ** 2 * (z @ z) / flat.size

    nodes, weights = jax.lax.map(probe, jr.split(key, probes))
    return Spectrum(nodes, weights, flat.size)


class Extremes(NamedTuple):
    """The two ends of a spectrum, and how well they are known."""

    smallest: Scalar
    largest: Scalar
    residual: Float[Array, " 2"]  # |Hv − λv| of both: the true eigenvalue lies this close

    @property
    def condition(self) -> Scalar:
        """κ = λ_max/λ_min, of a positive definite matrix; ∞ or negative where it is not."""
        return self.largest / self.smallest


def extreme_eigenvalues(energy: Energy, x: PyTree, key: Key, *, steps: int = 64) -> Extremes:
    """λ_min and λ_max of ∇²E(x) by Lanczos, with their residuals.

    The rate of every first-order method is in them: gradient descent converges for rates below 2/λ_max, at best with
    (κ − 1)/(κ + 1) per step, the heavy ball with (√κ − 1)/(√κ + 1).
    """
    product = lambda v: hessian_vector_product(energy, x, v)
    start = tree.normal_like(key, x)
    krylov = lanczos(product, start, min(steps, ravel_pytree(x)[0].size))
    values, vectors = krylov.ritz()
    seen = vectors[0] ** 2 > jnp.finfo(values.dtype).eps ** 2  # rows after an early end see nothing of H
    smallest = jnp.argmin(jnp.where(seen, values, jnp.inf))
    largest = jnp.argmax(jnp.where(seen, values, -jnp.inf))
    unravel = ravel_pytree(x)[1]

    def residual(i):
        v = krylov.basis.T @ vectors[:, i]
        return jnp.linalg.norm(ravel_pytree(product(unravel(v)))[0] - values[i] * v) / jnp.linalg.norm(v)

    return Extremes(values[smallest], values[largest], jnp.stack([residual(smallest), residual(largest)]))


class Direction(NamedTuple):
    """A step d, what the quadratic model promises for it, the products it took and whether it ends at the boundary."""

    step: PyTree
    promise: Scalar  # −(⟨g, d⟩ + ½⟨d, B d⟩) ≥ 0
    products: Int[Array, ""]
    boundary: Bool[Array, ""]


def direction(
    product: Product,
    gradient: PyTree,
    *,
    radius: float | Scalar = jnp.inf,
    tolerance: float | Scalar = 1e-10,
    max_products: int = 200,
) -> Direction:
    """min_d ⟨g, d⟩ + ½⟨d, B d⟩ with |d| ≤ radius, by conjugate gradients from d = 0.

    Ends where the residual has fallen by `tolerance`, or at the boundary, which a direction of negative curvature
    reaches. T. Steihaug, SIAM J. Numer. Anal. 20, 626 (1983). With radius = ∞ and B positive definite: d = −B⁻¹g.
    """
    goal = tolerance * tree.norm(gradient)
    radius = jnp.asarray(radius, goal.dtype)

    def to_boundary(d, p):  # the positive root τ of |d + τp| = radius
        dd, dp, pp = tree.dot(d, d), tree.dot(d, p), tree.dot(p, p)
        reach = jnp.where(jnp.isfinite(radius), radius, 1.0)  # with no radius one unit of p, for want of a boundary
        return (-dp + jnp.sqrt(jnp.maximum(dp**2 + pp * (reach**2 - dd), 0.0))) / pp

    def going(carry):
        _, r, _, _, k, boundary = carry
        return ~boundary & (tree.norm(r) > goal) & (k < max_products)

    def advance(carry):
        d, r, p, Bd, k, _ = carry
        Bp = product(p)
        curvature, rr = tree.dot(p, Bp), tree.dot(r, r)
        safe = jnp.where(curvature > 0, curvature, 1.0)
        alpha = rr / safe
        outside = (curvature <= 0) | (tree.norm(tree.axpy(alpha, p, d)) >= radius)
        alpha = jnp.where(outside, to_boundary(d, p), alpha)
        d, r_new, Bd = tree.axpy(alpha, p, d), tree.axpy(alpha, Bp, r), tree.axpy(alpha, Bp, Bd)
        p = tree.axpy(tree.dot(r_new, r_new) / rr, p, tree.scale(-1.0, r_new))
        return d, r_new, p, Bd, k + 1, outside

    zero = tree.zeros_like(gradient)
    start = (zero, gradient, tree.scale(-1.0, gradient), zero, jnp.array(0), jnp.array(False))
    d, _, _, Bd, products, boundary = jax.lax.while_loop(going, advance, start)
    return Direction(d, -(tree.dot(gradient, d) + 0.5 * tree.dot(d, Bd)), products, boundary)


class Minimum(NamedTuple):
    """What `newton_cg` found."""

    x: PyTree
    energy: Scalar
    gradient_norm: Scalar
    iterations: Int[Array, ""]
    products: Int[Array, ""]
    converged: Bool[Array, ""]


def newton_cg(
    energy: Energy,
    x: PyTree,
    *,
    tolerance: float = 1e-8,
    max_steps: int = 100,
    max_products: int = 200,
    radius: float = 1.0,
    product: Callable[[Energy, PyTree, PyTree], PyTree] = hessian_vector_product,
) -> Minimum:
    """Minimise E by Newton's method in a trust region, each step by conjugate gradients on Hessian products.

    J. Nocedal and S. Wright, Numerical Optimization (2006), algorithms 4.1 and 7.2. Negative curvature is followed to
    the boundary, so saddles are left; near a minimum the residual of the inner solve falls with √|g| and convergence is
    superlinear. E never grows.

    Args:
        energy: E.
        x: where to start.
        tolerance: stop at |∇E| ≤ tolerance.
        max_steps: outer iterations.
        max_products: Hessian products in one step.
        radius: first trust radius.
        product: `product(energy, x, v)`; `energy.gauss_newton_product` makes it Gauss–Newton.
    """
    value_and_grad = jax.value_and_grad(energy)
    value, gradient = value_and_grad(x)

    def going(carry):
        _, _, g, radius, k, _ = carry
        # a radius that has collapsed means rounding in E decides which steps are kept: no further progress
        return (tree.norm(g) > tolerance) & (k < max_steps) & (radius > jnp.finfo(radius.dtype).eps)

    def advance(carry):
        x, value, g, radius, k, products = carry
        forcing = jnp.minimum(0.1, jnp.sqrt(tree.norm(g)))
        move = direction(
            lambda v: product(energy, x, v), g, radius=radius, tolerance=forcing, max_products=max_products
        )
        x_new = tree.add(x, move.step)
        value_new, g_new = value_and_grad(x_new)
        # differences of E below its rounding cannot judge a step: then the gradient does
        noise = 10 * jnp.finfo(value.dtype).eps * (jnp.abs(value) + jnp.abs(value_new))
        ratio = (value - value_new) / move.promise
        tiny = (move.promise < noise) & (tree.norm(g_new) < tree.norm(g))
        good = jnp.where(tiny, True, ratio > 1e-4) & jnp.isfinite(value_new)
        length = tree.norm(move.step)
        grown = jnp.where((ratio > 0.75) & move.boundary, 2 * radius, radius)
        radius = jnp.where(tiny | (ratio > 0.25), grown, 0.25 * length)
        x, g = tree.where(good, x_new, x), tree.where(good, g_new, g)
        return x, jnp.where(good, value_new, value), g, radius, k + 1, products + move.products

    start = (x, value, gradient, jnp.asarray(radius, value.dtype), jnp.array(0), jnp.array(0))
    x, value, gradient, _, iterations, products = jax.lax.while_loop(going, advance, start)
    size = tree.norm(gradient)
    return Minimum(x, value, size, iterations, products, size <= tolerance)
