"""A posterior over a potential, carried through what it is used for: errors, frequencies and dynamics of ethanol.

    python examples/uncertain_potential.py --frames 60 --seconds 40

Few configurations (DF-MP2, shipped) train a potential; the posterior of its last weights gives every force an error
bar. Potentials drawn from it are relaxed and vibrated one by one and run side by side at 300 K, one jit for all.
Checked: held-out force errors lie in their 90 % intervals as often as they should; reference frequencies are counted.
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

jax.config.update("jax_enable_x64", True)

import enerjax  # noqa: E402
from enerjax import atoms  # noqa: E402
from enerjax.atoms import dynamics, vibrations  # noqa: E402
from enerjax.flow import Bath  # noqa: E402
from enerjax.units import fs, kB  # noqa: E402

DATA = Path(__file__).parents[1] / "data" / "ethanol"
NORMAL = 1.6449  # 90 % of a Gaussian lie within 1.6449 deviations


def bond(samples, i, j):
    """Mean distance of two atoms over time, Å."""
    return jnp.mean(jnp.linalg.norm(samples.position[:, i] - samples.position[:, j], axis=-1))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=60, help="training configurations")
    parser.add_argument("--seconds", type=float, default=40.0, help="of training")
    parser.add_argument("--draws", type=int, default=16, help="potentials drawn")
    parser.add_argument("--steps", type=int, default=8000, help="of 0.5 fs, of each drawn potential")
    parser.add_argument("--seed", type=int, default=0)
    a = parser.parse_args()
    enerjax.keep_freed_memory()
    train, valid, test = (atoms.read(DATA / f"{name}.xyz") for name in ("train", "valid", "test"))
    train = train.subset(range(a.frames))
    fit_key, draw_key, md_key = jr.split(jr.key(a.seed), 3)
    config = atoms.configure(train, "small")
    potential, _ = atoms.fit(train, valid, key=fit_key, model=config, max_seconds=a.seconds, dtype=jnp.float32)
    belief = atoms.posterior(vibrations.precise(potential), train, valid)

    # 1. Forces of configurations that neither the fit nor the posterior has seen
    predicted = atoms.predict_all(belief.potential, test)
    error = np.concatenate([(p.forces - f.forces).ravel() for p, f in zip(predicted, test, strict=True)])
    stated = np.concatenate([belief.deviation(f.structure())[1].ravel() for f in test])
    inside = np.mean(np.abs(error) < NORMAL * stated)
    order = np.argsort(stated)
    thirds = [f"{1e3 * np.sqrt(np.mean(error[k] ** 2)):.0f}" for k in np.array_split(order, 3)]
    rmse = 1e3 * np.sqrt(np.mean(error**2))
    print(f"{a.frames} training configurations, {len(test)} of test; force error {rmse:.1f} meV/Å")
    print(f"force components within their 90 % intervals: {inside:.3f}; error by thirds of the stated one: {thirds}")

    # 2. Frequencies of the minimum
    reference = np.load(DATA / "reference.npz")
    start = atoms.Structure(jnp.asarray(reference["minimum_positions"]), reference["numbers"], None, (False,) * 3)
    exact = np.sort(reference["minimum_frequencies_cm1"])[6:]
    found = []
    for key in jr.split(draw_key, a.draws):
        drawn = belief.draw(key)
        relaxed = atoms.relax(drawn, start, fmax=1e-3)
        found.append(atoms.frequencies(drawn, relaxed.structure)[0])
    mean, deviation = np.mean(found, 0), np.std(found, 0, ddof=1)
    hit = np.abs(mean - exact) < NORMAL * deviation
    print("mode, cm⁻¹: DF-MP2, and the posterior's mean ± deviation")
    for e, m, d, h in zip(exact, mean, deviation, hit, strict=True):
        print(f"{e:9.1f}  {m:8.1f} ± {d:4.1f}{'' if h else '   outside 90 %'}")
    print(f"{hit.sum()} of {len(hit)} frequencies within their 90 % intervals")

    # 3. Dynamics: every drawn potential at once
    rows = atoms.neighbours_of(start, config.cutoff)
    heat = atoms.Langevin(Bath(1 / (100 * fs), 300 * kB))
    strides = jnp.full(a.steps // 20, 20)

    @jax.jit
    @jax.vmap
    def length(key):
        one, two = jr.split(key)
        drawn = belief.draw(one)
        state = dynamics.start(drawn, start, heat, rows, two, kT=300 * kB)
        _, samples = dynamics.block(drawn, heat, state, 0.5 * fs, strides)
        return bond(jax.tree.map(lambda x: x[len(strides) // 5 :], samples), 0, 1)

    lengths = np.asarray(length(jr.split(md_key, a.draws)))
    print(f"C–C at 300 K: {lengths.mean():.4f} ± {lengths.std(ddof=1):.4f} Å over potentials, {a.steps} steps each")
    return 0 if 0.8 < inside < 0.97 else 1


if __name__ == "__main__":
    raise SystemExit(main())
