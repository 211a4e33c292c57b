"""Identify Lamé's λ and μ of a plate from displacements at 50 points; check the coverage of their intervals.

    python examples/identify_lame.py [repeats]

The plate is Haghighat's (2021) with known loads. Noise-free readings give the moduli back; with 1 % noise, the share of
synthetic data sets whose 90 % Laplace interval holds the truth should be near 0.9.
"""

import sys
import time

import jax
import jax.numpy as jnp
import jax.random as jr

from enerjax.solids import Collocation, inverse, problems, readings
from enerjax.solids.material import IsotropicElastic

jax.config.update("jax_enable_x64", True)
truth = jnp.array([1.0, 0.5])
problem = problems.manufactured()
points = jr.uniform(jr.key(1), (50, 2), minval=0.05, maxval=0.95)
exact = jax.vmap(problem.exact)(points)
noise = 0.01 * float(jnp.std(exact))

family = lambda moduli: IsotropicElastic(moduli[0], moduli[1])
method = Collocation(features=120, interior=18, boundary=28, widths=(1.0,))
misfit = inverse.moduli_misfit(problem, family, 2, points, exact, noise, jr.key(0), method)

begin = time.process_time()
fit, _ = inverse.identify(misfit, [3.0, 3.0])
errors = jnp.abs(jnp.exp(fit.value) / truth - 1)
print(
    f"noise-free: relative errors {errors[0]:.1e} (λ) {errors[1]:.1e} (μ), "
    f"{time.process_time() - begin:.1f} CPU s with compilation"
)

repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 20
begin = time.process_time()
share = readings.coverage(misfit, jnp.log(truth), jr.key(2), repeats).mean(axis=0)
print(
    f"1 % noise: 90 % intervals held the truth in {share[0]:.2f} (λ) and {share[1]:.2f} (μ) of {repeats} data sets, "
    f"{time.process_time() - begin:.1f} CPU s"
)
assert float(errors.max()) < 1e-5
