"""Products of matrices in single precision: in full where the physics is computed, as the user says where they say."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from enerjax import chain, path
from enerjax.atoms import Config, Equivariant, Structure, batch
from enerjax.atoms.neighbours import neighbours_of
from enerjax.atoms.potential import energy_forces, energy_forces_stress


def products(jaxpr):
    """The precisions of all matrix products in a jaxpr, those inside loops and calls included."""
    for equation in jaxpr.eqns:
        if "precision" in equation.params:
            yield equation.params["precision"]
        for inner in jax.tree.leaves(equation.params, is_leaf=lambda p: hasattr(p, "eqns") or hasattr(p, "jaxpr")):
            if hasattr(inner, "eqns") or hasattr(inner, "jaxpr"):
                yield from products(getattr(inner, "jaxpr", inner))


@pytest.fixture(scope="module")
def crystal():
    config = Config((1, 8), (0.0, 0.0), cutoff=3.0, channels=4, l_max=2, basis=4)
    cell = 4.0 * jnp.eye(3)
    positions = jnp.array([[0.0, 0, 0], [0.9, 0.1, 0], [2.1, 2, 2]])
    structure = Structure(positions, np.array([8, 1, 1]), cell, (True,) * 3)
    return Equivariant(config, key=jr.key(0)), structure, neighbours_of(structure, 3.0, skin=0.5)


def test_potential(crystal):
    model, structure, rows = crystal
    for function in (energy_forces, energy_forces_stress):
        found = list(products(jax.make_jaxpr(function)(model, structure, rows).jaxpr))
        assert len(found) > 20 and all("HIGHEST" in str(precision).upper() for precision in found)


def test_batch_of_frames(crystal):
    model, structure, _ = crystal
    one = lambda x: jnp.asarray(x)[None]
    frames = batch.Batch(
        positions=one(structure.positions), species=one(structure.species), cell=one(structure.cell),
        energy=jnp.zeros(1), forces=jnp.zeros((1, 3, 3)), weight=jnp.ones(1), stress=None, has_stress=None,
        index=None, image=None, mask=None,
    )  # fmt: skip
    found = list(products(jax.make_jaxpr(lambda b: batch.predict(model, b, False))(frames).jaxpr))
    assert len(found) > 20 and all("HIGHEST" in str(precision).upper() for precision in found)


def test_user_s_choice(crystal):
    model, structure, rows = crystal
    with jax.default_matmul_precision("tensorfloat32"):
        found = list(products(jax.make_jaxpr(energy_forces)(model, structure, rows).jaxpr))
    assert found and not any("HIGHEST" in str(precision).upper() for precision in found)


def test_users_functions_are_traced_in_full_precision():
    seen = set()

    def note(x):
        seen.add(jax.config.jax_default_matmul_precision)
        return x

    matrix = jnp.array([[-1.0, 0.5], [0.0, -2.0]])
    path.solve(lambda t, y, _: note(matrix @ y), jnp.ones(2), jnp.linspace(0.0, 1.0, 3))
    path.solve(lambda t, y, _: note(matrix @ y), jnp.ones(2), jnp.linspace(0.0, 1.0, 3), substeps=2)
    path.rollout(lambda y, _: note(matrix @ y), jnp.ones(2), length=3)
    assert seen == {"highest"} | ({None} & seen)
    seen.clear()
    chain.sample(lambda x: note(0.5 * jnp.sum(x * x)), jnp.zeros(2), jr.key(0), chains=1, draws=10, warmup=20)
    assert "highest" in seen
