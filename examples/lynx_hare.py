"""Lynx and hares: a posterior whose likelihood solves an ODE adaptively with diffrax, and says why it fails when
it does.

    python examples/lynx_hare.py

Eight parameters: forward sensitivities are one widened solve, cheaper than the adjoint. A solve that runs out of steps
hands its `result` to the sampler, which rejects the proposal and reports the reason. At the end a certificate:
some draws solved again at a hundredth of the tolerance.
"""

import diffrax
import jax
import jax.numpy as jnp
import jax.random as jr
from jax.scipy.stats import norm

from enerjax import chain
from enerjax.cli.chapters.posterior import HARES, LYNX, REFERENCE

PELTS = jnp.array([HARES, LYNX]).T
TS = jnp.arange(21.0)
NAMES = ("growth", "predation", "death", "conversion", "hares", "lynx", "sigma_hares", "sigma_lynx")


def solve(u, rtol):
    """Populations [21, 2] and the solver's verdict, for log-parameters u [8]."""
    a, b, c, d, hares, lynx = jnp.exp(u[:6])
    field = lambda t, z, _: jnp.stack([(a - b * z[1]) * z[0], (d * z[0] - c) * z[1]])
    out = diffrax.diffeqsolve(
        diffrax.ODETerm(field), diffrax.Tsit5(), 0.0, 20.0, None, jnp.stack([hares, lynx]), max_steps=500, throw=False,
        saveat=diffrax.SaveAt(ts=TS), adjoint=diffrax.ForwardMode(),
        stepsize_controller=diffrax.PIDController(rtol=rtol, atol=100 * rtol),
    )  # fmt: skip
    return out.ys, out.result


def make(rtol):
    """The energy at a solver tolerance: (−log posterior, the solver's result)."""

    def value(u):
        z, result = solve(u, rtol)
        x = jnp.exp(u)
        prior = norm.logpdf(x[:4], jnp.array([1, 0.05, 1, 0.05]), jnp.array([0.5, 0.05, 0.5, 0.05])).sum() + u[:4].sum()
        prior += norm.logpdf(u[4:6], jnp.log(10.0), 1).sum() + norm.logpdf(u[6:], -1, 1).sum()
        return -prior - norm.logpdf(jnp.log(PELTS), jnp.log(z), x[None, 6:]).sum(), result._value

    @jax.custom_vjp
    def energy(u):
        return value(u)

    def forward(u):
        tangent = lambda v: jax.jvp(lambda u: value(u)[0], (u,), (v,))[1]
        return value(u), jax.vmap(tangent)(jnp.eye(8, dtype=u.dtype))

    energy.defvjp(forward, lambda gradient, cotangents: (cotangents[0] * gradient,))
    return energy


def initial(key):
    """A factor of about 1.3 around plausible rates."""
    return jnp.log(jnp.array([0.6, 0.03, 0.8, 0.03, 30, 5, 0.4, 0.4])) + 0.25 * jr.normal(key, (8,))


if __name__ == "__main__":
    with jax.enable_x64(True):
        words = {1: "diffrax: the solver ran out of steps"}
        posterior = chain.sample(make(1e-5), initial, jr.key(0), reasons=words)
        print(posterior.summary())
        rates = jnp.exp(posterior.draws)
        for i, (name, reference) in enumerate(REFERENCE.items()):
            print(f"{name:10} {rates[..., i].mean():.4f} (reference {reference})")
            assert abs(rates[..., i].mean() - reference) < 0.15 * rates[..., i].std()
        print(chain.certify(posterior, make(1e-7)))
