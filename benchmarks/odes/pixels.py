"""The pixel pendulum of the Hamiltonian-network paper (S. Greydanus et al., NeurIPS 2019), in its own metric.

    python benchmarks/odes/pixels.py [--seeds 3] [--progress]

Data as experiment-pixels/data.py makes them: 200 swings of 103 frames of OpenAI gym's Pendulum-v0 without torque, from
angles below 30°, the first fifth kept for testing; the pendulum (its step, its capsule of length 1 and width 0.2) is
moved and drawn here, cropped and shrunk to 28 × 28 as there, so that no environment is needed. A model sees pairs of
frames, never an angle.

Ours: an encoder of one frame to a number q, a decoder back, and a Hamiltonian V(q) + p²/2 that moves q by leapfrog, one
step a frame; the momentum comes from two frames. The paper's has a pair of frames for its input, a penalty
that makes its second latent the rate of the first, and one step of Euler.

Metric, as analyze-pixels.ipynb computes it: from the first pair of a fresh swing (start between π/11 and π/10), 200
frames are predicted and decoded, encoded again, mapped linearly to (θ, θ̇/4) by the map that fits the training data, and
the energy 1.9 (1 − cos θ) + (θ̇/4)² is compared with the true swing's. The paper shows one swing; we take 20 and its
mean. A constant equal to the true energy's mean is printed beside it: that "energy" is not quite conserved by gym.
"""

import argparse
import os
import time

os.environ.setdefault("PJRT_NPROC", "1")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax

from enerjax import fit, ode, path

PUBLISHED = {"baseline": 9.2748e-3, "Hamiltonian network": 1.5315e-4}
SIDE, FINE, KEPT, WIDTH = 28, 112, 48, 96  # pixels, drawn before shrinking, principal components, hidden units


def swing(rng, low, high, steps):
    """Angles from hanging and rates of one swing without torque, [steps + 1]: gym's step of 0.05 s, g = 10."""
    while True:
        angle, rate = rng.uniform(-np.pi, np.pi), rng.uniform(-1.0, 1.0)
        if low < abs(angle) < high:
            break
    states = [(angle, rate)]
    for _ in range(steps):
        rate = np.clip(rate - 15.0 * np.sin(angle) * 0.05, -8.0, 8.0)
        angle = angle + rate * 0.05
        states.append((angle, rate))
    return np.array(states)


@jax.jit
def draw(angles):
    """Frames [frames, 784] of the rod (1 on 0), the axle cut out; the paper's crop of gym's window, 4.4 units wide."""
    scale = 1000 / 4.4
    at = (np.arange(FINE) + 0.5) * (340 / FINE)
    x, y = (330 + at - 500) / scale, (500 - 440 - at) / scale
    width = 340 / FINE / scale  # of a drawn pixel: edges are shaded by the part of it that is covered
    weights = np.maximum(1 - np.abs((np.arange(SIDE)[:, None] + 0.5) - (np.arange(FINE) + 0.5) * SIDE / FINE), 0)
    shrink = jnp.asarray(weights / weights.sum(1, keepdims=True), jnp.float32)

    def one(angle):
        along = x[None] * jnp.sin(angle) - y[:, None] * jnp.cos(angle)
        nearest = jnp.clip(along, 0.0, 1.0)
        rod = jnp.hypot(x[None] - nearest * jnp.sin(angle), y[:, None] + nearest * jnp.cos(angle))
        axle = jnp.hypot(x[None], y[:, None])
        inside = jnp.clip(0.5 + (0.1 - rod) / width, 0, 1) * jnp.clip(0.5 + (axle - 0.05) / width, 0, 1)
        return (shrink @ inside @ shrink.T).ravel()

    return jax.lax.map(one, angles.astype(jnp.float32), batch_size=64)


class Pendulum(eqx.Module):
    """Encoder, decoder and law: one frame ↔ q, and V(q) + p²/2 with the frame as unit of time.

    Frames are seen in their principal components, whitened for the encoder: a first and last layer that is fixed.
    """

    fixed: tuple  # mean [784], basis [KEPT, 784], deviations [KEPT]: no gradient
    encoder: eqx.nn.MLP
    decoder: eqx.nn.MLP
    energy: ode.Separable

    def components(self, frames):
        mean, basis, _ = jax.lax.stop_gradient(self.fixed)
        return (frames - mean) @ basis.T

    def pixels(self, components):
        mean, basis, _ = jax.lax.stop_gradient(self.fixed)
        return mean + components @ basis

    def encode(self, components):
        return self.encoder(components / jax.lax.stop_gradient(self.fixed[2]))

    def decode(self, q):
        return self.decoder(q) * jax.lax.stop_gradient(self.fixed[2])

    def predict(self, before, now, frames):
        """Positions of the next frames, [frames, 1]; the momentum is leapfrog's own between the first two."""
        z = now, now - before - 0.5 * jax.grad(self.energy.potential)(now)
        return path.rollout(lambda z, _: self.energy.leapfrog(z, 1.0), z, length=frames)[0]


def model(frames, key):
    some = frames[:: max(1, len(frames) // 4000)]
    mean = some.mean(0)
    _, s, vt = np.linalg.svd(some - mean, full_matrices=False)
    keys = jr.split(key, 3)
    potential = ode.ScalarNetwork(ode.mlp(1, 1, 16, 2, keys[2], final=0.1), jnp.array(0.05))
    return Pendulum(
        tuple(map(jnp.asarray, (mean, vt[:KEPT], s[:KEPT] / np.sqrt(len(some))))),
        ode.mlp(KEPT, 1, WIDTH, 2, keys[0]),
        ode.mlp(1, KEPT, WIDTH, 2, keys[1]),
        ode.Separable(potential, lambda p: 0.5 * jnp.sum(p**2)),
    )


def train(swings, key, say):
    """Windows that grow: reconstruct every frame, predict the later ones from the first two."""
    learned = model(swings.reshape(-1, SIDE**2), key)
    seen_as = np.asarray(learned.components(jnp.asarray(swings)))
    variance = float(jnp.sum(learned.fixed[2] ** 2))

    def loss(learned, windows, key):
        apart = lambda a, b: jnp.mean(jnp.sum((a - b) ** 2, axis=-1)) / variance

        def one(window):
            q = jax.vmap(learned.encode)(window)
            ahead = learned.predict(q[0], q[1], len(window) - 2)
            made = jax.vmap(learned.decode)(ahead)
            again = jax.vmap(learned.encode)(made)
            gaps = jnp.mean((ahead - q[2:]) ** 2) + jnp.mean((again - ahead) ** 2)
            return apart(jax.vmap(learned.decode)(q), window) + apart(made, window[2:]), gaps, q

        pixels, gaps, q = jax.vmap(one)(windows)
        return jnp.mean(pixels) + jnp.mean(gaps) / (jnp.var(q) + 1e-6)

    for width, epochs, rate in ((4, 100, 3e-3), (12, 100, 2e-3), (40, 150, 2e-3), (100, 60, 1e-3)):
        count = 16 if width > 40 else 32

        def batches(epoch, key, width=width, count=count):
            draw = np.random.default_rng(np.asarray(jr.key_data(key)))
            rows, at = draw.integers(len(swings), size=(16, count)), draw.integers(104 - width, size=(16, count))
            return [seen_as[r[:, None], a[:, None] + np.arange(width)] for r, a in zip(rows, at, strict=True)]

        learned = fit.train(
            loss, learned, batches, optax.adam(rate), key=jr.fold_in(key, width), epochs=epochs, rate=fit.cosine,
            progress=say,
        ).model  # fmt: skip
    return learned


def judge(learned, swings, coords, test):
    """Energy MSE over the test swings, the same of a constant, and the RMS error of the angle."""

    @eqx.filter_jit
    def pairs(frames):
        """The latent of every two successive frames but the first and last pair: (q, its difference)."""
        q = jax.vmap(learned.encode)(learned.components(frames))
        return jnp.concatenate([q[1:], q[1:] - q[:-1]], axis=1)

    latent = np.concatenate([np.asarray(pairs(frames[1:-1])) for frames in swings])
    A = np.concatenate([latent, np.ones((len(latent), 1))], axis=1)
    to_canonical = np.linalg.lstsq(A, np.concatenate(coords), rcond=None)[0]
    energy = lambda c: 1.9 * (1 - np.cos(c[..., 0])) + c[..., 1] ** 2

    @eqx.filter_jit
    def imagine(frames, count):
        q = jax.vmap(learned.encode)(learned.components(frames))
        ahead = learned.predict(q[0], q[1], count - 1)
        return learned.pixels(jax.vmap(learned.decode)(jnp.concatenate([q, ahead])))

    errors, still, angle = [], [], []
    for frames, true in test:
        z = np.asarray(pairs(imagine(frames[1:3], len(true))))
        ours = np.concatenate([z, np.ones((len(z), 1))], axis=1) @ to_canonical
        ours[0] = true[0]  # as there
        errors.append(np.mean((energy(ours) - energy(true)) ** 2))
        still.append(np.var(energy(true)))
        angle.append(np.mean((ours[:, 0] - true[:, 0]) ** 2))
    return np.array(errors), np.array(still), float(np.sqrt(np.mean(angle)))


def coordinates(states):
    """(θ, θ̇/4) as the paper stores them for the pairs of frames (1, 2), (2, 3), …: those of the frame after."""
    return np.stack([states[3:-1, 0], 0.25 * states[3:-1, 1]], axis=1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--progress", action="store_true")
    options = parser.parse_args()
    rng = np.random.RandomState(0)
    states = np.stack([swing(rng, 0.0, np.pi / 6, 103) for _ in range(200)])[40:]  # the first fifth is kept back
    frames = np.asarray(draw(jnp.asarray(states[:, :-1, 0].reshape(-1)))).reshape(len(states), 103, -1)
    coords = [coordinates(s) for s in states]
    rng, test = np.random.RandomState(1), []
    for _ in range(20):
        s = swing(rng, np.pi / 11, np.pi / 10, 203)
        test.append((np.asarray(draw(jnp.asarray(s[:-1, 0]))), coordinates(s)))
    for seed in range(options.seeds):
        begin = time.process_time()
        learned = train(frames, jr.key(seed), print if options.progress else None)
        errors, still, angle = judge(learned, frames, coords, test)
        print(
            f"seed {seed}: energy MSE {errors.mean():.3e} (median {np.median(errors):.2e}, worst {errors.max():.2e} of "
            f"{len(errors)} swings of 200 frames), a constant {still.mean():.2e}, angle RMS {angle:.4f} rad | paper "
            f"{PUBLISHED['Hamiltonian network']:.3e}, baseline {PUBLISHED['baseline']:.2e}: "
            f"{PUBLISHED['Hamiltonian network'] / errors.mean():.1f}x better, {time.process_time() - begin:.0f} CPU-s",
            flush=True,
        )


if __name__ == "__main__":
    main()
