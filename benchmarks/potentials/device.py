"""Energy and forces on the default device, a GPU say: time against size, and what each precision does to the forces.

    python benchmarks/potentials/device.py [--sides 4 6 8 12] [--channels 32]

Boxes of 3 side³ atoms of water and a potential with random parameters: l_max 3, vectors, correlation 3, two layers,
cutoff 5 Å. "full" is what the library does by itself; "default" is what JAX does where nobody asks, which on NVIDIA's
GPUs rounds the factors of single precision products to TF32. Wall-clock ms of one call; the error is the RMS
deviation of the forces from those in double precision, relative to their RMS.
"""

import argparse
import time

from race_common import CUTOFF, OUT, SPECIES, water_box  # first: it takes stdout

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from enerjax.atoms import Config, Equivariant, Structure
from enerjax.atoms.neighbours import neighbours_of
from enerjax.atoms.potential import energy_forces

WAYS = {
    "double": (jnp.float64, None, {}),
    "single, full": (jnp.float32, None, {}),
    "single, default": (jnp.float32, "default", {}),
    "single, full, deterministic": (jnp.float32, None, {"xla_gpu_deterministic_ops": True}),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sides", type=int, nargs="+", default=[4, 6, 8, 12])
    parser.add_argument("--channels", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=20)
    a = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    config = Config(SPECIES, (0.0,) * len(SPECIES), CUTOFF, a.channels, mean_neighbours=16.7)
    model = Equivariant(config, key=jr.key(0))
    print(jax.devices()[0].device_kind, file=OUT, flush=True)
    for side in a.sides:
        numbers, positions, cell = water_box(side)
        exact = None
        for name, (dtype, precision, options) in WAYS.items():
            if options and jax.default_backend() != "gpu":
                continue
            own = jax.tree.map(lambda x: x.astype(dtype) if eqx.is_inexact_array(x) else x, model)
            params, static = eqx.partition(own, eqx.is_array)
            structure = Structure(jnp.asarray(positions, dtype), numbers, jnp.asarray(cell, dtype), (True,) * 3)
            rows = neighbours_of(structure, CUTOFF)
            function = jax.jit(
                lambda p, s, r: energy_forces(eqx.combine(p, static), s, r), compiler_options=options or None
            )
            with jax.default_matmul_precision(precision):
                start = time.perf_counter()
                _, forces = jax.block_until_ready(function(params, structure, rows))
                first = time.perf_counter() - start
                times = []
                for _ in range(a.repeats):
                    start = time.perf_counter()
                    jax.block_until_ready(function(params, structure, rows))
                    times.append(time.perf_counter() - start)
            forces = np.asarray(forces, float)
            exact = forces if exact is None else exact
            error = np.sqrt(np.mean((forces - exact) ** 2) / np.mean(exact**2))
            print(
                f"{len(numbers):6d} atoms  {name:28s} {1e3 * np.median(times):9.2f} ms, first call {first:5.1f} s,"
                f" forces off by {error:.1e}",
                file=OUT,
                flush=True,
            )


if __name__ == "__main__":
    main()
