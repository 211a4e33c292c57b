"""jinns on the same problem: error against CPU seconds, with its natural gradient, its SSBroyden, or Adam.

    pip install jinns                   # an environment of its own
    python benchmarks/solids/peer_jinns.py ngd|ssbroyden|adam SECONDS [NAME]

NAME is manufactured, thick_cylinder, kirsch_polar or cantilever, in the formulation of peer_deepxde.py (five outputs,
boundary values built in), float64, 2-24-24-5 tanh. Each `jinns.solve` compiles again: one of a single iteration is
timed first and taken off. Compilation varies by a second or so, which a short run does not survive: the last line has
the seconds per iteration from the difference of the second and the third run, compilation cancelled.
"""

import sys
import time

import equinox as eqx
import jax
import jax.numpy as jnp
import jinns
import numpy as np
import optax
from peer_problems import PROBLEMS, errors

jax.config.update("jax_enable_x64", True)
problem = PROBLEMS[sys.argv[3] if len(sys.argv) > 3 else "manufactured"]()


class Elasticity(jinns.loss.PDEStatio):
    """Equilibrium and the constitutive law, first order."""

    def equation(self, x, u, params):
        f, J = u(x, params), jax.jacfwd(lambda y: u(y, params))(x)
        return jnp.stack(problem.residual(jnp, x[0], x[1], f, lambda i, j: J[i, j]))


def callback_value(params, batch, loss):
    """The loss, as jinns's line search wants it (the name's first word matters to it)."""
    return loss.evaluate(params, batch)[0]


def callback_gradient(params, batch, loss):
    """Its gradient."""
    return loss.ponderate_and_sum_gradient(loss.values_and_grads(params, batch)[1])


def main():
    """Solve with three times as many iterations each time, from scratch, within the budget."""
    mode, budget = sys.argv[1], float(sys.argv[2])
    key = jax.random.PRNGKey(0)
    layers = ((eqx.nn.Linear, 2, 24), (jax.nn.tanh,), (eqx.nn.Linear, 24, 24), (jax.nn.tanh,), (eqx.nn.Linear, 24, 5))
    hard = lambda x, f, params: jnp.stack(problem.hard(jnp, x[0], x[1], f))
    u, start = jinns.nn.PINN_MLP.create(key=key, eqx_list=layers, eq_type="PDEStatio", output_transform=hard)
    data = jinns.data.CubicMeshPDEStatio(
        key=key,
        n=1000,
        nb=None,
        omega_batch_size=None,
        omega_border_batch_size=None,
        dim=2,
        min_pts=problem.lower,
        max_pts=problem.upper,
        method="uniform",
    )
    params = jinns.parameters.Params(nn_params=start, eq_params={})
    loss = jinns.loss.LossPDEStatio(
        u=u,
        loss_weights=jinns.loss.LossWeightsPDEStatio(dyn_loss=1.0),
        dynamic_loss=Elasticity(),
        params=params,
        boundary_condition=None,
    )
    x, y, w = problem.grid()
    points = jnp.stack([x, y], 1)
    optimiser = {
        "ngd": jinns.optimizers.vanilla_ngd,
        "ssbroyden": jinns.optimizers.scale_by_SSBroyden_family,
        "adam": lambda: optax.adam(1e-3),
    }[mode]()
    name = jinns.solver.GetJinnsVariableName
    extra = {}
    if mode == "ssbroyden":
        extra["extra_optax_args_and_kwargs"] = {
            "value": name("train_loss_value"),
            "grad_pt": name("grads"),
            "value_fn": callback_value,
            "grad_fn": callback_gradient,
            "batch": name("batch"),
            "loss": name("loss"),
        }

    def solve(n):
        begin = time.process_time()
        out = jinns.solve(
            init_params=params,
            data=data,
            optimizer=optimiser,
            loss=loss,
            n_iter=n,
            print_loss_every=10**6,
            verbose=False,
            **extra,
        )
        jax.block_until_ready(jax.tree.leaves(eqx.filter(out[0], eqx.is_array)))
        return out[0], time.process_time() - begin

    _, overhead = solve(1)
    print(f"jinns {mode}: one iteration with compilation {overhead:.1f} CPU s (taken off below)")
    first = n = {"ngd": 20, "ssbroyden": 300, "adam": 1000}[mode]
    all_seconds = []
    while True:
        found, seconds = solve(n)
        e = errors(problem, x, y, w, np.asarray(jax.vmap(lambda p: u(p, found))(points)))
        spent = max(seconds - overhead, 0.0)
        all_seconds.append(seconds)
        print(f"{spent:8.1f} CPU s  {n:6d}  displacement {e[0]:.1e}  stress {e[1]:.1e}", flush=True)
        if 3 * spent > budget:
            break
        n *= 3
    if len(all_seconds) > 2:
        each = (all_seconds[2] - all_seconds[1]) / (6 * first)
        known = ", ".join(f"{n * each:.2f} CPU s for {n}" for n in (first, 3 * first, 9 * first))
        print(f"{1e3 * each:.2f} ms an iteration: {known}")


if __name__ == "__main__":
    main()
