"""The first step that `path.solve` tries, against Hairer's: tries (refused steps included) over twenty fields.

    python benchmarks/odes/first_step.py [Tsit5 Dopri5 Bosh3 Dopri8 Heun ...]

Every field has 64 starts. The loop below is that of `path.march`, in numpy and float64, so that tries can be counted;
the first step of ours is `path.march`'s own. Prints the geometric mean over the fields of tries, ours over Hairer's,
and the worst that ours costs on any field, in tries per path.
"""

import sys

import diffrax
import jax
import jax.numpy as jnp
import numpy as np

from enerjax.path.march import Law, Tableau, _first_step

jax.config.update("jax_enable_x64", True)
rng = np.random.default_rng(0)
rms = lambda v: np.sqrt((v * v).mean(-1))
stack = lambda *v: np.stack(v, axis=-1) if isinstance(v[0], np.ndarray) else jnp.stack(v, axis=-1)


def network(scale, d, hidden, bounded):
    """A random tanh network, d-hidden-d."""
    W, V = rng.normal(size=(d, hidden)) * scale / np.sqrt(d), rng.normal(size=(hidden, d)) * scale / np.sqrt(hidden)
    b = 0.3 * rng.normal(size=hidden)

    def field(y):
        xp = np if isinstance(y, np.ndarray) else jnp
        out = xp.tanh(y @ W + b) @ V
        return xp.tanh(out) if bounded else out

    return field


def kepler(y):
    """Two bodies in the plane."""
    x, v = y[..., :2], y[..., 2:]
    xp = np if isinstance(y, np.ndarray) else jnp
    return xp.concatenate([v, -x / (x * x).sum(-1, keepdims=True) ** 1.5], axis=-1)


def fields():
    """{name: (field, starts [64, d], end)}."""
    box = lambda low, high, d=2: rng.uniform(low, high, (64, d))
    wave = lambda rate: lambda y: stack(rate * y[..., 1], -rate * y[..., 0])
    spiral = np.array([[-0.1, 2.0], [-2.0, -0.1]])
    prey = lambda y: stack((0.55 - 0.028 * y[..., 1]) * y[..., 0], (-0.8 + 0.024 * y[..., 0]) * y[..., 1])

    def lorenz(y):
        a, b, c = y[..., 0], y[..., 1], y[..., 2]
        return stack(10 * (b - a), a * (28 - c) - b, a * b - 8 / 3 * c)

    zoo = {
        "Lotka-Volterra": (prey, box(5, 50), 20.0),
        "Lotka-Volterra, short": (prey, box(5, 50), 1.0),
        "pendulum": (lambda y: stack(y[..., 1], -2 * (np if isinstance(y, np.ndarray) else jnp).sin(y[..., 0])),
                     box(-2, 2), 3.0),
        "Lorenz": (lorenz, box(-15, 15, 3) + [0, 0, 25], 1.0),
        "van der Pol": (lambda y: stack(y[..., 1], 5 * (1 - y[..., 0] ** 2) * y[..., 1] - y[..., 0]), box(-2, 2), 10.0),
        "cubic spiral": (lambda y: (y**3) @ spiral, box(-2, 2), 1.5),
        "tutorial": (lambda y: stack(y[..., 1] / (1 + y[..., 1]), -y[..., 0] / (1 + y[..., 0])), box(-0.6, 1), 10.0),
        "decay": (lambda y: -3 * y, box(0.1, 2), 2.0),
        "fast wave": (wave(50.0), box(-1, 1), 1.0),
        "slow wave": (wave(0.01), box(-1, 1), 1000.0),
        "two bodies": (kepler, np.concatenate([box(-0.1, 0.1) + [1, 0], box(-0.1, 0.1) + [0, 1]], axis=1), 6.0),
    }  # fmt: skip
    for scale in (0.5, 1.0, 2.0):
        zoo[f"network {scale:g}"] = (network(scale, 2, 50, False), rng.normal(size=(64, 2)), 1.0)
        zoo[f"network {scale:g}, 16"] = (network(scale, 16, 64, False), rng.normal(size=(64, 16)), 1.0)
        zoo[f"network {scale:g}, bounded"] = (network(scale, 2, 50, True), rng.normal(size=(64, 2)), 10.0)
    return zoo


def hairer(law, span, y, f, size):
    """Hairer, Nørsett and Wanner, section II.4."""
    d0, d1 = rms(y / size), rms(f / size)
    guess = 0.01 * d0 / d1
    d2 = rms((law((), 0.0, y + guess[:, None] * f) - f) / size) / guess
    return np.minimum(100 * guess, (0.01 / np.maximum(d1, d2)) ** (1 / law.tableau.order))


def ours(law, span, y, f, size):
    """`path.march`'s."""
    norm = lambda v: jnp.sqrt(jnp.mean(v * v, axis=-1))
    t0, span = jnp.zeros(len(y)), jnp.full(len(y), span)
    return np.asarray(_first_step(law, (), t0, span, jnp.asarray(y), jnp.asarray(f), norm, lambda _: size))


def tries(law, y, end, rtol, atol, first):
    """Accepted and refused steps per path."""
    tab, field = law.tableau, law.field
    weigh = lambda weights, k: sum(w * v for w, v in zip(weights, k, strict=False))
    size = lambda *v: atol + rtol * np.max(np.abs(np.stack(v)), axis=0)
    t, kept, refused, f = np.zeros(len(y)), 0, 0, field([], 0.0, y)
    h = first(law, end, y, f, size(y))
    while np.any(t < end):
        alive = t < end
        h = np.where(alive, np.minimum(h, end - t), 0.0)
        k = [f]
        for row in tab.a:
            k.append(field([], 0.0, y + h[:, None] * weigh(row, k)))
        after = y + h[:, None] * weigh(tab.b, k)
        error = rms(h[:, None] * weigh(tab.e, k) / size(y, after))
        error = np.where(np.isfinite(error), error, np.inf)
        keep = alive & (error < 1)
        best = 0.9 * np.maximum(error, 1e-10) ** (-1 / tab.order)
        t = np.where(keep, np.where(t + h > end * (1 - 1e-12), end, t + h), t)
        y = np.where(keep[:, None], after, y)
        f = field([], 0.0, y)
        h = np.where(alive, h * np.clip(best, 0.2, np.where(keep, 10.0, 1.0)), h)
        kept, refused = kept + keep.mean(), refused + (alive & ~keep).mean()
    return kept, refused


def main():
    """One line per pair and tolerance."""
    zoo = fields()
    for name in sys.argv[1:] or ["Heun", "Bosh3", "Dopri5", "Tsit5", "Dopri8"]:
        tableau = Tableau.of(getattr(diffrax, name)())
        for rtol, atol in ((1e-3, 1e-6), (1e-6, 1e-9) if tableau.order > 3 else (1e-4, 1e-7)):
            found = []
            for field, y, end in zoo.values():
                law = Law(lambda consts, t, y, f=field: f(y), tableau, ())
                with np.errstate(all="ignore"):
                    found.append([tries(law, y, end, rtol, atol, first) for first in (hairer, ours)])
            kept, refused = np.moveaxis(np.array(found), 2, 0)
            total = kept + refused
            worst = int(np.argmax(total[:, 1] - total[:, 0]))
            print(
                f"{name}, rtol {rtol:g}: {np.exp(np.mean(np.log(total[:, 1] / total[:, 0]))):.3f} of the tries "
                f"({', '.join(f'{v:.2f}' for v in np.mean(total, axis=0))} per path on average), refused "
                f"{', '.join(f'{v:.2f}' for v in np.mean(refused, axis=0))}; worst "
                f"{total[worst, 1] - total[worst, 0]:+.2f} ({list(zoo)[worst]}), of {len(zoo)} fields",
                flush=True,
            )


if __name__ == "__main__":
    main()
