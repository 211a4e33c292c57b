"""Every bijection: inverse, volume against the Jacobian, and the constraint it is for."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from enerjax import chain
from enerjax import energy as en

ROWS, COLUMNS = np.tril_indices(3, -1)
ZOO = {
    "real": (en.Real(), (3,), lambda x: x, lambda x: True),
    "positive": (en.Positive(), (3,), lambda x: x, lambda x: jnp.all(x > 0)),
    "above": (en.Above(2.0), (), lambda x: x, lambda x: x > 2),
    "below": (en.Below(-1.0), (2,), lambda x: x, lambda x: jnp.all(x < -1)),
    "interval": (en.Interval(-1.0, 3.0), (4,), lambda x: x, lambda x: jnp.all((x > -1) & (x < 3))),
    "ordered": (en.Ordered(), (4,), lambda x: x, lambda x: jnp.all(jnp.diff(x) > 0)),
    "positive ordered": (en.PositiveOrdered(), (3,), lambda x: x, lambda x: jnp.all(jnp.diff(x, prepend=0.0) > 0)),
    "simplex": (en.Simplex(), (4,), lambda x: x[:-1], lambda x: jnp.all(x > 0) & (abs(x.sum() - 1) < 1e-12)),
    "correlation": (
        en.CorrelationCholesky(3),
        (3,),
        lambda x: x[ROWS, COLUMNS],
        lambda x: jnp.allclose(jnp.diag(x @ x.T), 1.0) & jnp.all(jnp.diag(x) > 0),
    ),
}


@pytest.mark.parametrize("name", ZOO)
def test_bijection(name, key):
    transform, shape, coordinates, holds = ZOO[name]
    u = jr.normal(key, shape)
    x, volume = transform.forward(u)
    assert bool(holds(x))
    np.testing.assert_allclose(transform.inverse(x), u, rtol=1e-9, atol=1e-9)
    jacobian = jax.jacfwd(lambda u: coordinates(transform.forward(u)[0]).ravel())(u).reshape(u.size, u.size)
    np.testing.assert_allclose(volume, jnp.linalg.slogdet(jacobian)[1], rtol=1e-9, atol=1e-12)
    assert bool(jnp.all(jnp.isfinite(jax.grad(lambda u: transform.forward(u)[1])(50 * u)))), (
        "volumes far out stay finite"
    )


def test_posterior_is_the_sum_of_its_parts():
    from jax.scipy.stats import expon, norm

    y = jnp.array([1.0, 2.0, 4.0])
    energy = en.posterior(
        lambda x, y: norm.logpdf(y, x["mu"], x["sigma"]).sum(),
        {"mu": lambda m: norm.logpdf(m, 0, 3), "sigma": lambda s: expon.logpdf(s)},
        {"sigma": en.Positive()},
        data=y,
    )
    u = {"mu": jnp.asarray(0.3), "sigma": jnp.asarray(-0.2)}
    s = np.exp(-0.2)
    by_hand = norm.logpdf(y, 0.3, s).sum() + norm.logpdf(0.3, 0, 3) + expon.logpdf(s) - 0.2
    np.testing.assert_allclose(energy(u), -by_hand, rtol=1e-12)
    x = energy.constrain(u)
    np.testing.assert_allclose(jax.tree.leaves(energy.unconstrain(x)), jax.tree.leaves(u))
    with pytest.raises(ValueError, match="sigma"):
        en.posterior(lambda x: 0.0, transforms={"sigma": en.Positive})


@pytest.mark.parametrize("name", ["ordered", "positive ordered", "simplex", "correlation"])
def test_batches_are_taken_one_by_one(name, key):
    """[2, 3, k] is six vectors: the same points, and the sum of their volumes."""
    transform, shape, _, holds = ZOO[name]
    u = jr.normal(key, (2, 3, *shape))
    x, volume = transform.forward(u)
    ones = [transform.forward(v) for v in u.reshape(6, *shape)]
    np.testing.assert_allclose(x.reshape(6, *x.shape[2:]), jnp.stack([one for one, _ in ones]), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(volume, sum(v for _, v in ones), rtol=1e-12)
    np.testing.assert_allclose(transform.inverse(x), u, rtol=1e-9, atol=1e-9)
    with pytest.raises(ValueError, match=r"shape \[\]"):
        transform.forward(u[0, 0, 0])


class Point(NamedTuple):
    tau: float


def test_what_has_no_parameter_is_told(key):
    """A misspelt transform would be passed over, its parameter sampled on the whole line."""
    density = lambda x: -((x["tau"] - 1.0) ** 2)
    for energy, said in (
        (en.posterior(density, None, {"tua": en.Positive()}), "transform of 'tua'.*'tau'"),
        (en.posterior(density, {"tua": jnp.abs}), "prior of 'tua'.*'tau'"),
    ):
        with pytest.raises(ValueError, match=said):
            energy({"tau": jnp.ones(())})
        with pytest.raises(ValueError, match=said):
            chain.sample(energy, {"tau": 1.0}, key)
    positive = en.posterior(density, None, {"tau": en.Positive()})
    for point, said in (([1.0], "list, not a dict"), (Point(1.0), "Point"), ({"tau": {"a": 1.0}}, "for one array")):
        with pytest.raises(ValueError, match=said):
            chain.sample(positive, point, key)
    nested = {"tau": jnp.ones(()), "free": {"a": jnp.zeros(2)}}  # without a transform it may be any pytree
    assert jax.tree.structure(positive.constrain(positive.unconstrain(nested))) == jax.tree.structure(nested)
    with pytest.raises(ValueError, match="Table; give arrays"):
        en.posterior(lambda x, table: 0.0, data={"readings": Table()})


class Table:
    """As a data frame: it cannot be hashed."""

    __hash__ = None
