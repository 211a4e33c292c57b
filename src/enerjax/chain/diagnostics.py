"""Has it converged, how many draws is it worth, how large is the error: statistics of chains, on the host.

Arrays are [chains, draws]. A. Vehtari et al., Rank-normalization, folding, and localization: an improved R̂, Bayesian
Analysis 16, 667 (2021): the definitions here are those of its appendix, as in posterior and ArviZ.
"""

import numpy as np

from .._array import Float


def split_chains(x: np.ndarray) -> np.ndarray:
    """Each chain cut into halves, [2 chains, draws // 2]; the middle draw of an odd number is dropped."""
    half = x.shape[1] // 2
    return np.concatenate([x[:, :half], x[:, -half:]], axis=0)


def rank_normalise(x: np.ndarray) -> np.ndarray:
    """Normal scores of the pooled ranks, Φ⁻¹((r − 3/8)/(S + 1/4))."""
    from scipy import special  # a tenth of a second, which a sampler that has not drawn yet need not spend

    _, place, count = np.unique(x, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(count) - 0.5 * (count - 1))[place].reshape(x.shape)  # ties share their mean rank
    return special.ndtri((ranks - 0.375) / (x.size + 0.25))


def _rhat(x: np.ndarray) -> float:
    n = x.shape[1]
    within = x.var(axis=1, ddof=1).mean()
    between = n * x.mean(axis=1).var(ddof=1)
    if within == 0:
        return float("nan")
    return float(np.sqrt((between / within + n - 1) / n))


def rhat(x: Float[np.ndarray, "chains draws"]) -> float:
    """Rank-normalised split R̂: the larger of bulk and folded tail. NaN below four draws or for a constant."""
    if not _usable(x):
        return float("nan")
    halves = split_chains(x)
    folded = np.abs(halves - np.median(halves))
    return max(_rhat(rank_normalise(halves)), _rhat(rank_normalise(folded)))


def autocovariance(x: np.ndarray) -> np.ndarray:
    """Autocovariance at every lag along the last axis, by FFT, with the 1/n normalisation."""
    n = x.shape[-1]
    size = 2 ** int(np.ceil(np.log2(2 * n)))
    f = np.fft.rfft(x - x.mean(-1, keepdims=True), size)
    return np.fft.irfft(f * np.conj(f), size)[..., :n] / n


def ess(x: np.ndarray) -> float:
    """Effective number of draws of the mean, by Geyer's initial monotone sequence over all chains [chains, draws].

    C. J. Geyer, Statist. Sci. 7, 473 (1992).
    """
    chains, n = x.shape
    if np.ptp(x) < 1e-12 * max(np.abs(x).max(), 1e-300):
        return float(x.size)
    covariance = autocovariance(x)
    within = covariance[:, 0].mean() * n / (n - 1)
    total = within * (n - 1) / n
    if chains > 1:
        total += x.mean(1).var(ddof=1)
    rho = 1 - (within - covariance.mean(0)) / total
    rho[0] = 1.0
    # sums of neighbouring pairs are positive and fall; the sequence ends where that is no longer so
    longest = max((n - 3) // 2, 0)
    pairs = rho[0 : 2 * longest + 2 : 2] + rho[1 : 2 * longest + 3 : 2]
    negative = np.nonzero(pairs < 0)[0]
    end = int(negative[0]) if len(negative) else longest
    time = -1 + 2 * np.minimum.accumulate(pairs[:end]).sum() + max(rho[2 * end], 0.0)
    time = max(time, 1 / np.log10(chains * n))
    return chains * n / time


def ess_bulk(x: np.ndarray) -> float:
    """ESS of the rank-normalised halves: the centre of the distribution."""
    return ess(rank_normalise(split_chains(x))) if _usable(x) else float("nan")


def ess_quantile(x: np.ndarray, probability: float) -> float:
    """ESS of a quantile."""
    return ess(split_chains(x <= np.quantile(x, probability)).astype(float))


def ess_tail(x: np.ndarray) -> float:
    """The smaller ESS of the 5 % and 95 % quantiles."""
    return min(ess_quantile(x, 0.05), ess_quantile(x, 0.95)) if _usable(x) else float("nan")


def mcse_mean(x: np.ndarray) -> float:
    """Monte Carlo standard error of the mean."""
    return float(x.std(ddof=1) / np.sqrt(ess(split_chains(x)))) if _usable(x) else float("nan")


def mcse_sd(x: np.ndarray) -> float:
    """Monte Carlo standard error of the standard deviation, from the error of the centred second moment.

    NaN below four draws or for a constant.
    """
    if not _usable(x) or np.ptp(x) == 0:
        return float("nan")
    square = (x - x.mean()) ** 2
    variance = square.mean()
    error = (square**2).mean() - variance**2
    return float(np.sqrt(error / ess(split_chains(square)) / (4 * variance)))


def ebfmi(energy: np.ndarray) -> np.ndarray:
    """E-BFMI of each chain, E[(ΔH)²]/Var H: below 0.3 momenta explore the energies too slowly.

    M. Betancourt, arXiv:1604.00695 (2016).
    """
    return np.mean(np.diff(energy, axis=1) ** 2, axis=1) / energy.var(axis=1, ddof=1)


def pareto_k(log_ratios: np.ndarray) -> float:
    """Shape k of the generalised Pareto distribution fitted to the largest importance ratios; below 0.7 they are
    usable.

    A. Vehtari et al., Pareto smoothed importance sampling, JMLR 25 (2024); fit of J. Zhang and M. A. Stephens,
    Technometrics 51, 316 (2009), with PSIS' weak prior.
    """
    weights = np.sort(np.exp(log_ratios - np.max(log_ratios)).ravel())
    tail = int(np.ceil(min(0.2 * weights.size, 3 * np.sqrt(weights.size))))
    if tail < 5 or weights[-1] <= weights[0] * (1 + 1e-10):
        return float("-inf") if weights[-1] <= weights[0] * (1 + 1e-10) else float("nan")
    x = weights[-tail:] - weights[-tail - 1]
    x = np.maximum(x, 1e-300)
    n = x.size
    grid = 30 + int(np.sqrt(n))
    theta = 1 / x[-1] + (1 - np.sqrt(grid / (np.arange(1, grid + 1) - 0.5))) / 3 / x[int(n / 4 + 0.5) - 1]
    k = np.mean(np.log1p(-theta[:, None] * x), axis=1)
    likelihood = n * (np.log(-theta / k) - k - 1)
    weight = 1 / np.sum(np.exp(likelihood - likelihood[:, None]), axis=1)
    best = np.sum(theta * weight)
    return float((n * np.mean(np.log1p(-best * x)) + 5) / (n + 10))


def _usable(x: np.ndarray) -> bool:
    return x.shape[1] >= 4 and bool(np.all(np.isfinite(x)))
