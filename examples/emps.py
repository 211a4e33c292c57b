"""A digital twin of the EMPS, a real electro-mechanical positioning system, by simulation error.

    python examples/emps.py --train emps.csv --test emps_pulses.csv

Data: A. Janot, M. Gautier and M. Brunot, "Data set and reference models of EMPS" (2019), not shipped here; columns
time_exp [s], q_meas (position, in the source's csv files (q − 0.125 m)/0.125 m) and u_in [V]. u_in, the controller's
voltage, is the input of the published neural fit as well (EMPS_fit_truncated.py, EMPS_eval_sim.py of
forgi86/sysid-neural-continuous: fitted to DATA_EMPS_SC.csv, judged on all of DATA_EMPS_PULSES_SC.csv from (q_meas, 0),
as here). The twin is q̈ = k u − friction(q̇) with asymmetric Coulomb and viscous friction. It is fitted by
Levenberg–Marquardt on windows first and then on the whole record, simulated from the voltage alone, and judged on the
record with force pulses, which it never saw.
"""

import argparse
import csv
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx

jax.config.update("jax_enable_x64", True)

from enerjax import path  # noqa: E402

SMOOTH = 2e-3  # of the record's unit of length a second: width of the step in Coulomb friction
UNIT = 125.0  # mm, the record's unit of length


def read(file):
    if not file or not Path(file).exists():
        sys.exit(
            f"EMPS data not found at {file!r}; give --train and --test (see the top of this file for their source)."
        )
    with open(file) as rows:
        table = list(csv.DictReader(rows))
    column = lambda name: jnp.array([float(r[name]) for r in table])
    return column("time_exp"), column("u_in"), column("q_meas")


def rate(p, v, u):
    """v̇ of the twin; p in units of its first guess."""
    s = jnp.tanh(v / SMOOTH)
    up, down = 0.5 * (1 + s), 0.5 * (1 - s)
    return (
        p["gain"] * u
        - up * (p["coulomb_up"] + p["viscous_up"] * v)
        + down * (p["coulomb_down"] - p["viscous_down"] * v)
    )


def simulate(p, start, us, dt):
    """Positions under the recorded voltage: the midpoint rule, semi-implicit in position, one scan."""

    def step(z, u):
        q, v = z
        half = v + dt / 2 * rate(p, v, u)
        after = v + dt * rate(p, half, u)
        return q + dt / 2 * (v + after), after

    q, _ = path.rollout(step, start, us)
    return q


def fit(p, starts, us, qs, dt, steps):
    """Levenberg–Marquardt on law and starts together; forward mode, because the unknowns are few."""

    def residual(x, _):
        p, starts = x
        return (jax.vmap(lambda s, u: simulate(p, s, u, dt))(starts, us) - qs) * 1e3

    solver = optx.LevenbergMarquardt(rtol=1e-6, atol=1e-6)
    return optx.least_squares(
        residual, solver, (p, starts), max_steps=steps, throw=False, options=dict(jac="fwd")
    ).value


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train")
    parser.add_argument("--test")
    options = parser.parse_args()
    begin = time.process_time()
    t, u, q = read(options.train)
    dt = float(jnp.mean(jnp.diff(t)))
    v = jnp.gradient(jnp.convolve(jnp.pad(q, 5, mode="edge"), jnp.ones(11) / 11, mode="valid"), dt)
    a = jnp.gradient(v, dt)
    # first guess by linear least squares on differenced data
    s = jnp.sign(v) * (jnp.abs(v) > 0.01)
    A = jnp.stack(
        [u, -jnp.where(s > 0, 1.0, 0), -jnp.where(s > 0, v, 0), jnp.where(s < 0, 1.0, 0), -jnp.where(s < 0, v, 0)], 1
    )
    c = jnp.linalg.lstsq(A[jnp.abs(s) > 0], a[jnp.abs(s) > 0])[0]
    p = dict(zip(("gain", "coulomb_up", "viscous_up", "coulomb_down", "viscous_down"), c, strict=True))
    # u[k] acts from t[k] to t[k + 1]: positions follow by one sample
    for window, steps in ((300, 30), (1500, 30), (len(u) - 1, 60)):
        rows = np.arange(0, len(u) - window, window)[:16]
        starts = (q[rows], v[rows])
        inputs = jnp.stack([u[r : r + window] for r in rows])
        p, starts = fit(p, starts, inputs, jnp.stack([q[r + 1 : r + 1 + window] for r in rows]), dt, steps)
    r2 = lambda y, f: float(1 - jnp.sum((y - f) ** 2) / jnp.sum((y - jnp.mean(y)) ** 2))
    print("law: " + ", ".join(f"{k} {float(x):.3f}" for k, x in p.items()))
    ours = simulate(p, jax.tree.map(lambda v: v[0], starts), u[:-1], dt)
    print(f"train: R² {r2(q[1:], ours):.4f} over {len(u)} points, simulated")
    t, u, q = read(options.test)
    ours = simulate(p, (q[0], jnp.array(0.0)), u[:-1], dt)
    error = UNIT * float(jnp.sqrt(jnp.mean((ours - q[1:]) ** 2)))
    print(f"test:  R² {r2(q[1:], ours):.4f}, RMSE {error:.2f} mm, from the voltage alone  (goal R² > 0.99)")
    print(f"{time.process_time() - begin:.1f} CPU-s with compilation (goal 120)")


if __name__ == "__main__":
    main()
