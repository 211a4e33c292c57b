"""Our diagnostics equal ArviZ's, on white, sticky and antithetic chains of even and odd length."""

import warnings

import numpy as np
import pytest

from enerjax.chain import Posterior
from enerjax.chain import diagnostics as dg
from enerjax.chain.flat import layout

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    az = pytest.importorskip("arviz")


TAILS = (0.05, 0.95)  # ArviZ 1 has no default


def k_by_arviz(logs):
    if hasattr(az, "psislw"):
        return float(az.psislw(logs.copy())[1])
    from arviz_stats.base import array_stats

    return float(array_stats.psislw(-logs)[1])  # ArviZ 1 takes log likelihoods, of which log ratios are the negative


def chains(n, rho, seed=0):
    e = np.random.default_rng(seed).standard_normal((4, n))
    x = e.copy()
    for i in range(1, n):
        x[:, i] = rho * x[:, i - 1] + e[:, i]
    return x


@pytest.mark.parametrize("n", [4, 5, 8, 37, 100, 501])
@pytest.mark.parametrize("rho", [0.0, 0.9, -0.5, 0.99])
def test_against_arviz(n, rho):
    x = chains(n, rho)
    theirs = [az.rhat(x), az.ess(x), az.ess(x, method="tail", prob=TAILS), az.mcse(x), az.mcse(x, method="sd")]
    ours = [dg.rhat(x), dg.ess_bulk(x), dg.ess_tail(x), dg.mcse_mean(x), dg.mcse_sd(x)]
    np.testing.assert_allclose(ours, np.array(theirs, float), rtol=1e-9)


def test_ebfmi_against_arviz():
    x = chains(400, 0.8)
    np.testing.assert_allclose(dg.ebfmi(x), az.bfmi(x), rtol=1e-12)


@pytest.mark.parametrize("scale", [0.3, 1.0, 3.0])
def test_pareto_k_against_arviz(scale):
    logs = np.random.default_rng(1).standard_normal(4000) * scale
    assert dg.pareto_k(logs) == pytest.approx(k_by_arviz(logs), abs=0.02)


def test_pareto_k_knows_the_tail():
    """Ratios of a Pareto distribution of shape k have that k."""
    u = np.random.default_rng(2).random(20_000)
    for k in (0.2, 0.5, 0.9):
        assert dg.pareto_k(-k * np.log(u)) == pytest.approx(k, abs=0.12)


def test_ess_of_an_autoregression():
    """AR(1): n (1−ρ)/(1+ρ)."""
    x = chains(5000, 0.6, seed=3)
    assert dg.ess(x) == pytest.approx(20_000 * 0.4 / 1.6, rel=0.1)


def test_disagreeing_chains_and_constants():
    x = chains(500, 0.0)
    assert dg.rhat(x) < 1.01
    assert dg.rhat(x + np.array([[0.0], [0.0], [0.0], [2.0]])) > 1.2
    scaled = x * np.array([[1.0], [1.0], [1.0], [4.0]])  # same means: only the folded statistic sees it
    assert dg.rhat(scaled) > 1.1
    assert np.isnan(dg.rhat(np.ones((4, 100)))) and np.isnan(dg.ess_bulk(x * np.nan))


def posterior(draws, free, depth=2):
    """As `sample` returns it, of given draws."""
    names = ("energy", "potential", "acceptance", "step_size", "steps", "why")
    stats = {name: np.random.default_rng(9).random(free.shape[:2]) for name in names}
    stats |= {"depth": np.full(free.shape[:2], depth), "divergence": np.zeros(free.shape[:2], bool)}
    warm = {"draws": [0], "gradients": [0], "failures": {}, "path_gradients": 0, "restarts": [0]}
    return Posterior(draws, stats, free, [], warm, [None], (0.0, 0.0), layout(np.zeros(free.shape[2])))


def test_structural_constants_are_no_verdict():
    """The factor [[1, 0], [r, √(1 − r²)]]: ones and zeros have no R-hat, and the chains agree all the same."""
    u = chains(400, 0.0)
    r = np.tanh(u)
    factor = np.stack([np.ones_like(r), np.zeros_like(r), r, np.sqrt(1 - r**2)], -1).reshape(4, 400, 2, 2)
    good = posterior({"L": factor}, u[..., None])
    assert list(good.judged) == [2, 3] and good.advice() == []
    assert good.diagnostics()["max_rhat"] == pytest.approx(max(dg.rhat(r), dg.rhat(factor[..., 1, 1])))
    apart = u + np.array([[0.0], [0.0], [0.0], [2.0]])
    assert "x[0]" in posterior(apart[..., None], apart[..., None]).advice()[0]


def test_a_sampler_that_is_stuck_is_reported():
    """All coordinates, or one of two, at the same place in all chains: not a structural constant."""
    u = chains(400, 0.0)
    for free in (np.ones((4, 400, 2)), np.stack([u, np.ones_like(u)], -1)):
        stuck = posterior(free, free)
        assert np.isnan(stuck.diagnostics()["max_rhat"])
        assert any("R-hat of x[" in line for line in stuck.advice())


def test_trajectories_cut_off_are_told():
    u = chains(400, 0.0)[..., None]
    assert posterior(u, u, depth=9).advice() == []
    assert "100 % of the trajectories were cut off" in posterior(u, u, depth=10).advice()[0]
    assert "max_depth=3" in posterior(u, u, depth=3).advice(max_depth=3)[0]
