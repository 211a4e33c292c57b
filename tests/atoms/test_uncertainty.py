"""The posterior of the last weights: draws are potentials, deviations are their spread, errors are as stated."""

from pathlib import Path

import equinox as eqx
import jax
import jax.random as jr
import numpy as np
import pytest
from ase.build import molecule

from enerjax import atoms
from enerjax.atoms.potential import energy_forces
from enerjax.atoms.predict import predict_all
from enerjax.atoms.training import refit_shift

DATA = atoms.read(Path(__file__).parents[2] / "data" / "ethanol" / "train.xyz")
TRAIN, VALID = DATA.subset(range(12)), DATA.subset(range(12, 18))


@pytest.fixture(scope="module")
def fitted():
    """Offsets fitted, the rest random: the laws below hold for any weights."""
    config = atoms.configure(TRAIN, "small", l_max=1, channels=4, hidden=(8,), readout=4, basis=4, cutoff=4.0)
    model = refit_shift(atoms.Equivariant(config, key=jr.key(0)), TRAIN)
    return atoms.posterior(model + atoms.CoreRepulsion(scale=0.5, cutoff=4.0), TRAIN, VALID)


def test_deviation_is_the_spread_of_draws(fitted):
    """Energies and forces of 600 drawn potentials: their standard deviations, within Monte Carlo error."""
    structure = VALID[0].structure()
    rows = atoms.neighbours_of(structure, 4.0)

    @jax.jit
    def drawn(key):
        return energy_forces(eqx.Partial(fitted.draw(key).interaction), structure, rows)

    energies, forces = jax.lax.map(drawn, jr.split(jr.key(1), 600), batch_size=50)
    energy, force = fitted.deviation(structure)
    np.testing.assert_allclose(np.std(energies), energy, rtol=0.15)
    np.testing.assert_allclose(np.std(forces, 0), force, rtol=0.2)
    mean, _, _ = atoms.predict(fitted.potential, structure)
    reference = fitted.potential.reference(structure.species).sum()
    np.testing.assert_allclose(np.mean(energies) + reference, mean, atol=5 * energy / 600**0.5)


def test_errors_on_validation_are_as_large_as_stated(fitted):
    """68.3 % of force errors on the validation set lie within one deviation, by the definition of α."""
    within = [
        np.abs(p.forces - f.forces) <= fitted.deviation(f.structure())[1]
        for p, f in zip(predict_all(fitted.potential, VALID), VALID, strict=True)
    ]
    assert abs(np.mean(within) - 0.6827) <= 1.5 / np.size(within)


def test_a_weight_that_the_data_fix_is_known(fitted):
    """The posterior is the textbook's: its precision is the Hessian of the misfit, by finite differences in θ."""
    from enerjax.atoms import uncertainty

    learned = fitted.potential.terms[0]
    theta, unravel = uncertainty._last(learned)
    pairs = lambda model, data: zip(predict_all(model, data), data, strict=True)
    noise_e = np.mean([(p.energy - f.energy) ** 2 for p, f in pairs(fitted.potential, VALID)])
    noise_f = np.mean(np.concatenate([((p.forces - f.forces) ** 2).ravel() for p, f in pairs(fitted.potential, VALID)]))

    def misfit(k, h):
        moved = uncertainty._with(learned, unravel(theta.at[k].add(h)))
        return sum(
            0.5 * (p.energy - f.energy) ** 2 / noise_e + 0.5 * ((p.forces - f.forces) ** 2).sum() / noise_f
            for p, f in pairs(moved, TRAIN)
        )

    factor = np.asarray(fitted.factor, float)
    precision = np.linalg.inv(factor @ factor.T)
    curvature = np.array([misfit(k, 1.0) - 2 * misfit(k, 0.0) + misfit(k, -1.0) for k in (0, 5)])
    ridge = 1e-6 * np.trace(precision) / len(precision)
    ratio = curvature / (np.diag(precision)[[0, 5]] - ridge)
    np.testing.assert_allclose(ratio[0], ratio[1], rtol=1e-4)  # both α²


def test_refusals(fitted):
    with pytest.raises(ValueError, match="Z=14"):
        fitted.deviation(molecule("SiH4"))
    with pytest.raises(ValueError, match="at least two"):
        atoms.posterior(fitted.potential, TRAIN, VALID.subset(range(1)))
    with pytest.raises(TypeError, match="not a learned potential"):
        atoms.posterior(atoms.StillingerWeber(), TRAIN, VALID)
