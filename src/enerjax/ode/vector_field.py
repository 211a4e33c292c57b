"""Laws of motion as modules: field(t, y, args) ↦ dy/dt, of the structure of y, as diffrax and `path.solve` expect.

    Network          ẏ = f_θ(t, y)                                   the plain Neural ODE
    SecondOrder      q̇ = v, v̇ = a(t, q, v)
    Hamiltonian      q̇ = ∂H/∂p, ṗ = −∂H/∂q                          energy conserved by construction
    Lagrangian       d/dt ∂L/∂v = ∂L/∂q
    PortHamiltonian  ẏ = (J − R) ∇H + G u                            passive by construction: Ḣ ≤ (Gᵀ∇H)·u
    Universal        ẏ = known(t, y) + learned(t, y)                 physics plus what it misses
    Controlled       ẏ = f(t, y, u(t))                               inputs interpolated
    NeuralCDE        ẏ = F_θ(y) dX/dt                                driven by a data path
    Scaled           ẏ = (s/τ) f((y − m)/s)                          a network sees numbers of order one

`augmented` adds silent coordinates to a start. A recurrent cell needs no class: `lambda h, x: cell(x, h)` is a step of
`path.rollout`.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .. import _tree as tree
from .._array import Key, PyTree, Scalar
from ..energy.base import AbstractEnergy


def mlp(inputs: int, outputs: int, width: int, depth: int, key: Key, activation=jnp.tanh, final: float = 1.0):
    """A multilayer perceptron whose last layer is scaled by `final`: small to start near the known physics."""
    net = eqx.nn.MLP(inputs, outputs, width, depth, activation, key=key)
    last = lambda n: (n.layers[-1].weight, n.layers[-1].bias)
    return eqx.tree_at(last, net, tuple(final * w for w in last(net)))


def augmented(y0: Float[Array, " d"], extra: int) -> Float[Array, " d_and_extra"]:
    """y₀ with `extra` zeros: more room for paths that must not cross. E. Dupont et al., NeurIPS (2019)."""
    return jnp.concatenate([y0, jnp.zeros(extra, y0.dtype)])


class Network(eqx.Module):
    """ẏ = net(y), or net(t, y) with `timed`; args are appended to the input when they are an array."""

    net: Callable
    timed: bool = eqx.field(static=True, default=False)

    def __call__(self, t, y: Array, args=None) -> Array:
        """dy/dt, of the shape of y."""
        parts = [jnp.ravel(y)] + ([jnp.reshape(t, (1,)).astype(y.dtype)] if self.timed else [])
        parts += [jnp.ravel(args)] if eqx.is_array(args) else []
        return jnp.reshape(self.net(jnp.concatenate(parts)), y.shape)


class SecondOrder(eqx.Module):
    """Newton's form: y = (q, v), q̇ = v, v̇ = acceleration(t, q, v, args)."""

    acceleration: Callable

    def __call__(self, t, y: tuple[PyTree, PyTree], args=None) -> tuple[PyTree, PyTree]:
        """(v, a)."""
        q, v = y
        return v, self.acceleration(t, q, v, args)


class ScalarNetwork(AbstractEnergy):
    """E(x) = ½ k |x|² + net(x), x flattened: a learned energy; smooth activations, because the motion is its gradient.

    Attributes:
        net: vector ↦ scalar.
        stiffness: k, trained when it is an array. A saturating network is flat far from its data; a parabola keeps the
            motion bounded there.
    """

    net: Callable
    stiffness: float | Array = 0.0

    def __call__(self, x: PyTree) -> Scalar:
        """E(x)."""
        flat = jnp.concatenate([jnp.ravel(v) for v in jax.tree.leaves(x)])
        return jnp.reshape(self.net(flat), ()) + 0.5 * self.stiffness * (flat @ flat)


class Separable(AbstractEnergy):
    """H(q, p) = V(q) + T(p): the form that kick and drift need."""

    potential: Callable
    kinetic: Callable

    def __call__(self, x: tuple[PyTree, PyTree]) -> Scalar:
        """V(q) + T(p)."""
        q, p = x
        return self.potential(q) + self.kinetic(p)

    def leapfrog(self, x: tuple[PyTree, PyTree], dt) -> tuple[PyTree, PyTree]:
        """One symplectic, reversible step of the learned motion: kick ½, drift, kick ½."""
        q, p = x
        p = tree.axpy(-dt / 2, jax.grad(self.potential)(q), p)
        q = tree.axpy(dt, jax.grad(self.kinetic)(p), q)
        return q, tree.axpy(-dt / 2, jax.grad(self.potential)(q), p)


class Hamiltonian(eqx.Module):
    """q̇ = ∂H/∂p, ṗ = −∂H/∂q − R ∂H/∂p; y = (q, p). S. Greydanus et al., NeurIPS (2019).

    Attributes:
        energy: H((q, p)).
        damping: R ≥ 0, a number or an array that broadcasts against p; dH/dt = −R |∂H/∂p|².
    """

    energy: Callable
    damping: float | Array = 0.0

    def __call__(self, t, y: tuple[PyTree, PyTree], args=None) -> tuple[PyTree, PyTree]:
        """(∂H/∂p, −∂H/∂q − R ∂H/∂p)."""
        del t, args
        by_q, by_p = jax.grad(self.energy)(y)
        return by_p, jax.tree.map(lambda g, v: -g - self.damping * v, by_q, by_p)


class Lagrangian(eqx.Module):
    """M q̈ = ∂L/∂q − (∂²L/∂v∂q) v with M = ∂²L/∂v²; y = (q, v), vectors. M. Cranmer et al. (2020), eq. (6).

    Attributes:
        lagrangian: L(q, v).
        regular: added to the diagonal of M, which a fresh network may leave singular.
    """

    lagrangian: Callable
    regular: float = 0.0

    def __call__(self, t, y: tuple[Array, Array], args=None) -> tuple[Array, Array]:
        """(v, a)."""
        del t, args
        q, v = y
        momentum = jax.grad(self.lagrangian, 1)
        mass = jax.jacfwd(momentum, 1)(q, v) + self.regular * jnp.eye(v.size, dtype=v.dtype)
        turned = jax.jvp(lambda q: momentum(q, v), (q,), (v,))[1]
        return v, jnp.linalg.solve(mass, jax.grad(self.lagrangian)(q, v) - turned)

    def energy(self, y: tuple[Array, Array]) -> Scalar:
        """v·∂L/∂v − L, conserved."""
        q, v = y
        return v @ jax.grad(self.lagrangian, 1)(q, v) - self.lagrangian(q, v)


class PortHamiltonian(eqx.Module):
    """ẏ = (J − R) ∇H(y) + G u, J = A − Aᵀ, R = B Bᵀ; y a vector. Passive whatever the weights.

    Ḣ = −|Bᵀ∇H|² + (Gᵀ∇H)·u. A. van der Schaft, Foundations and Trends in Systems and Control 1, 173 (2014).

    Attributes:
        energy: H(y).
        skew: A, [n, n].
        friction: B, [n, k].
        ports: G, [n, m], or None for a closed system.
    """

    energy: Callable
    skew: Array
    friction: Array
    ports: Array | None = None

    def __call__(self, t, y: Array, args=None) -> Array:
        """dy/dt; `args` is u, or a callable t ↦ u, when there are ports.

        Raises:
            ValueError: ports, and no args.
        """
        g = jax.grad(self.energy)(y)
        rate = (self.skew - self.skew.T) @ g - self.friction @ (self.friction.T @ g)
        if self.ports is None:
            return rate
        if args is None:
            raise ValueError("PortHamiltonian: there are ports G but no input; pass u, or t ↦ u, as args.")
        return rate + self.ports @ jnp.atleast_1d(args(t) if callable(args) else args)

    def output(self, y: Array) -> Array:
        """Gᵀ∇H, the quantity conjugate to u: their product is the power put in."""
        if self.ports is None:
            raise ValueError("PortHamiltonian: a closed system has no output; give ports G.")
        return self.ports.T @ jax.grad(self.energy)(y)


class Universal(eqx.Module):
    """ẏ = known(t, y, args) + learned(t, y, args). C. Rackauckas et al., arXiv:2001.04385 (2020)."""

    known: Callable
    learned: Callable

    def __call__(self, t, y: PyTree, args=None) -> PyTree:
        """The sum of the two."""
        return tree.add(self.known(t, y, args), self.learned(t, y, args))


class Inputs(eqx.Module):
    """A recorded input u(t): linear between its samples, or held, and constant outside them.

    Attributes:
        ts: increasing times, [n].
        us: values, [n, …].
        held: keep each value until the next time instead of interpolating.
    """

    ts: Array
    us: Array
    held: bool = eqx.field(static=True, default=False)

    def __call__(self, t) -> Array:
        """u(t)."""
        i = jnp.clip(jnp.searchsorted(self.ts, t, side="right") - 1, 0, len(self.ts) - 2)
        s = jnp.clip((t - self.ts[i]) / (self.ts[i + 1] - self.ts[i]), 0.0, 1.0)
        s = jnp.where(s < 1.0, 0.0, 1.0) if self.held else s
        return self.us[i] + s.astype(self.us.dtype) * (self.us[i + 1] - self.us[i])

    def rate(self, t) -> Array:
        """du/dt of the linear interpolation: that of the samples' intervals up to both ends, zero outside."""
        i = jnp.clip(jnp.searchsorted(self.ts, t, side="right") - 1, 0, len(self.ts) - 2)
        rate = (self.us[i + 1] - self.us[i]) / (self.ts[i + 1] - self.ts[i]).astype(self.us.dtype)
        return jnp.where((t >= self.ts[0]) & (t <= self.ts[-1]), rate, jnp.zeros_like(rate))


class Controlled(eqx.Module):
    """ẏ = field(t, y, u(t)); u is passed as `args`, so that each trajectory of a batch has its own."""

    field: Callable

    def __call__(self, t, y: PyTree, args: Callable) -> PyTree:
        """field(t, y, args(t))."""
        return self.field(t, y, args(t))


class NeuralCDE(eqx.Module):
    """ẏ = F(y) dX/dt, F(y) of shape [d, channels]; `args` is the data path X, `Inputs` or a diffrax interpolation.

    P. Kidger et al., NeurIPS (2020). Put time among the channels: X(t) = (t, x(t)).
    """

    matrix: Callable
    channels: int = eqx.field(static=True)

    def __call__(self, t, y: Float[Array, " d"], args) -> Float[Array, " d"]:
        """F(y) dX/dt."""
        rate = args.rate(t) if hasattr(args, "rate") else args.derivative(t)
        return jnp.reshape(self.matrix(y), (y.size, self.channels)) @ rate


class Scaled(eqx.Module):
    """ẏ = (s/τ) f(t/τ, (y − m)/s, args): a law learned in units in which everything is of order one.

    Attributes:
        field: f, in units of the scales.
        mean: m.
        spread: s > 0.
        time: τ > 0.
    """

    field: Callable
    mean: Array
    spread: Array
    time: float | Array = 1.0

    @classmethod
    def of(cls, field, ts: Array, ys: Array) -> "Scaled":
        """Scales from data: mean and standard deviation of the states, and the time in which they change by about s."""
        ys = jnp.asarray(ys)
        ts = jnp.broadcast_to(jnp.asarray(ts), ys.shape[:-1])
        flat = ys.reshape(-1, ys.shape[-1])
        spread = jnp.nanstd(flat, axis=0)
        spread = jnp.where(spread > 0, spread, 1.0)
        rates = jnp.diff(ys, axis=-2) / jnp.diff(ts, axis=-1)[..., None]
        size = jnp.nanmean(rates.reshape(-1, ys.shape[-1]) ** 2, axis=0) / spread**2
        return cls(field, jnp.nanmean(flat, axis=0), spread, 1.0 / jnp.sqrt(jnp.mean(size) + 1e-30))

    def __call__(self, t, y: Array, args=None) -> Array:
        """dy/dt in the units of the data."""
        scales = jax.lax.stop_gradient((self.mean, self.spread, self.time))
        mean, spread, time = scales
        return spread / time * self.field(t / time, (y - mean) / spread, args)


class Kinetic(eqx.Module):
    """Appends k with k̇ = |f|²: integrate (y, 0) and add weight · k(T) to the loss for a straighter field.

    C. Finlay et al., ICML (2020).
    """

    field: Callable

    def __call__(self, t, y: tuple[PyTree, Scalar], args=None) -> tuple[PyTree, Scalar]:
        """(f, |f|²)."""
        rate = self.field(t, y[0], args)
        return rate, tree.dot(rate, rate)
