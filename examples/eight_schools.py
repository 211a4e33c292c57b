"""Eight schools: is coaching worth anything? The hierarchical model of Rubin (1981), sampled with `chain.sample`.

enerjax sample examples/eight_schools.py --target 0.95     # the file is also a model for the command line
python examples/eight_schools.py                           # prints the summary and checks it against the reference
"""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.scipy.stats import cauchy, norm

from enerjax import chain
from enerjax import energy as en

EFFECT = np.array([28.0, 8, -3, 7, -1, 1, 18, 12])
ERROR = np.array([15.0, 10, 16, 11, 9, 11, 10, 18])


def log_likelihood(x, data):
    """yᵢ ~ N(μ + τ zᵢ, σᵢ): non-centred, so that small τ is no funnel."""
    effect, error = data
    return norm.logpdf(effect, x["mu"] + x["tau"] * x["z"], error).sum()


energy = en.posterior(
    log_likelihood,
    {"z": norm.logpdf, "mu": lambda m: norm.logpdf(m, 0, 5), "tau": lambda t: cauchy.logpdf(t, 0, 5)},
    {"tau": en.Positive()},
    data=(EFFECT, ERROR),
)


def initial(key):
    """Scattered starts, in the user's parameters."""
    k1, k2, k3 = jr.split(key, 3)
    return {"z": jr.normal(k1, (8,)), "mu": 5 * jr.normal(k2), "tau": jnp.exp(jr.normal(k3))}


if __name__ == "__main__":
    with jax.enable_x64(True):
        posterior = chain.sample(energy, initial, jr.key(0), target=0.95)
        print(posterior.summary())
        mu = posterior.draws["mu"]
        error = chain.diagnostics.mcse_mean(mu)
        print(f"mean of mu {mu.mean():.2f} ± {error:.2f}; 10 000 reference draws of Stan: 4.41 ± 0.03")
        assert abs(mu.mean() - 4.41) < 4 * (error + 0.034)
