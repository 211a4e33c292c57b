"""Fixed-step symplectic paths: `rollout` and `reversible` against diffrax; memory of the reversible adjoint.

    python benchmarks/odes/paths.py

4 atoms in three dimensions with a pairwise potential, 2000 leapfrog steps, last position squared; CPU µs per step of
value and gradient, interleaved, minimum of 5. diffrax takes the same number of SemiImplicitEuler steps (it has no
Verlet): the same one gradient a step. Then temporary memory of the compiled gradient at 1e3, 1e4 and 1e5 steps.
"""

import os
import time

os.environ.setdefault("PJRT_NPROC", "1")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")
os.environ["EQX_ON_ERROR"] = "nan"

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

jax.config.update("jax_enable_x64", True)

from enerjax import flow, path  # noqa: E402

STEPS, DT = 2000, 0.01
I, J = np.triu_indices(4, 1)


class Pair(eqx.Module):
    depth: jax.Array

    def __call__(self, q):
        r2 = jnp.sum((q[I] - q[J]) ** 2, axis=-1)
        return self.depth * jnp.sum((r2 - 1.5) ** 2)


def main():
    q = jnp.asarray(np.random.default_rng(0).normal(size=(4, 3)))

    def scan(energy, **how):
        z = flow.Phase.at(energy, q)
        z = path.rollout(lambda z, _: flow.verlet(energy, z, DT), z, length=STEPS, stride=how.get("stride", STEPS))
        return jnp.sum(z.position[-1] ** 2)

    def back(energy):
        z = path.reversible(energy, flow.Phase.at(energy, q), DT, length=STEPS, stride=STEPS)
        return jnp.sum(z.position[-1] ** 2)

    def diff(energy, adjoint):
        terms = diffrax.ODETerm(lambda t, p, a: p), diffrax.ODETerm(lambda t, q, a: -jax.grad(a)(q))
        solution = diffrax.diffeqsolve(
            terms,
            diffrax.SemiImplicitEuler(),
            0.0,
            STEPS * DT,
            DT,
            (q, 0 * q),
            energy,
            adjoint=adjoint,
            max_steps=STEPS,
        )
        return jnp.sum(solution.ys[0][-1] ** 2)

    cases = {
        "rollout, stride 50": lambda e: scan(e, stride=50),
        "rollout, all stored": lambda e: scan(e, stride=1),
        "reversible": back,
        "diffrax, default adjoint": lambda e: diff(e, diffrax.RecursiveCheckpointAdjoint()),
        "diffrax, checkpoints=steps": lambda e: diff(e, diffrax.RecursiveCheckpointAdjoint(checkpoints=STEPS)),
    }
    energy, compiled, cost = Pair(jnp.array(0.3)), {}, {}
    for name, loss in cases.items():
        begin = time.process_time()
        compiled[name] = jax.jit(jax.value_and_grad(loss)).lower(energy).compile()
        value, gradient = compiled[name](energy)
        cost[name] = [time.process_time() - begin]
        print(
            f"{name:28s} value {float(value):.10f} gradient {float(gradient.depth):.8f} compile {cost[name][0]:.1f} s"
        )
    for _ in range(5):
        for name, run in compiled.items():
            begin = time.process_time()
            jax.block_until_ready(run(energy))
            cost[name].append((time.process_time() - begin) / STEPS * 1e6)
    slow = min(cost["diffrax, default adjoint"][1:])
    for name, times in cost.items():
        best = min(times[1:])
        print(f"{name:28s} {best:8.2f} µs a step   {slow / best:6.1f} x diffrax's default")
    for n in (1000, 10_000, 100_000):
        last = lambda e, n=n: jnp.sum(path.reversible(e, flow.Phase.at(e, q), DT, length=n, stride=n).position ** 2)
        stored = lambda e, n=n: path.rollout(lambda z, _: flow.verlet(e, z, DT), flow.Phase.at(e, q), length=n)
        kept = lambda e, stored=stored: jnp.sum(stored(e).position[-1] ** 2)
        size = lambda f: jax.jit(jax.grad(f)).lower(energy).compile().memory_analysis().temp_size_in_bytes / 1e6
        print(f"{n:7d} steps: gradient's memory {size(last):.4f} MB reversible, {size(kept):.2f} MB stored")


if __name__ == "__main__":
    main()
