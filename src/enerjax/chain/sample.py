"""`sample`: energy in, posterior out. Chains in parallel, one compilation, streamed, resumable, reproducible."""

import contextlib
import functools
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import jax
import jax.random as jr
import numpy as np
from threadpoolctl import threadpool_limits

from .._array import Energy, Key, PyTree
from ..flow.splitting import verlet
from . import driver, flat
from .adaptation import AbstractAdaptation, Fixed, LowRank
from .compiled import Options, Program
from .crowd import Crowd
from .life import Run, Told
from .pathfinder import Pathfinder, Pool
from .posterior import Posterior
from .program import STATS
from .progress import Progress, Silent
from .resume import check_same_energy
from .start import AbstractStart
from .store import Store
from .warmup import Schedule


def sample(
    energy: Energy,
    initial: PyTree | Callable[[Key], PyTree],
    key: Key,
    *,
    chains: int = 4,
    warmup: int = 1000,
    draws: int = 1000,
    metric: AbstractAdaptation | None = None,
    target: float = 0.8,
    max_depth: int = 10,
    integrator: Callable = verlet,
    thin: int = 1,
    early: bool = True,
    start: AbstractStart | None = None,
    vectorise: bool | None = None,
    pooled: bool | None = None,
    directory: str | Path | None = None,
    progress: bool | Callable[[str], None] = False,
    reasons: dict[int, str] | None = None,
    block: int | None = None,
) -> Posterior:
    """Draw from e^(−E) with the no-U-turn sampler.

    Args:
        energy: `energy(x) -> E` or `(E, why)`, x a pytree of floats and E = −log p up to a constant; see `failure` for
            `why`. Its data belong in its leaves (`energy.posterior(data=…)`, or arrays of an `equinox.Module`): what it
            finds elsewhere, in globals or attributes of a mutable object, is compiled in at the first call and not
            looked at again, as with `jax.jit`. An energy with `constrain` and `unconstrain` (`energy.Posterior`) is
            sampled on the real line, while `initial` and the draws are in the user's space.
        initial: a start point, or `initial(key) -> start point`, called per chain; see `uniform`. A module with arrays
            is a point, callable or not.
        key: makes everything reproducible; chain c's numbers depend on `key` and c alone.
        chains: how many, independent of one another.
        warmup: draws of warm-up at most; it ends sooner when it is good (`early`).
        draws: kept draws per chain.
        metric: how the mass matrix is learned: `LowRank()` (default), `Dense()`, `Diagonal()`, `Fixed(metric)`.
        target: acceptance that the step size is tuned for; raise it where trajectories diverge.
        max_depth: trajectories have at most 2^max_depth − 1 steps.
        integrator: a step of `flow`.
        thin: keep every thin-th draw.
        early: whether warm-up may end before `warmup` draws.
        start: what becomes of the start points: `Pathfinder()` (default) sends L-BFGS from several of them and starts
            chains from draws where the weight is; `Mode()` goes to the mode; `Given()` takes them as they are.
        vectorise: one program for all chains; default: on accelerators, while a CPU runs one thread per chain.
        pooled: whether vectorised chains learn one metric and one step size from the draws of all; a chain then depends
            on those beside it, and warms up in tens of draws. Default: where more than 64 chains are vectorised.
        directory: stream draws there in blocks; the same call with the same directory resumes where it was, and with
            more `draws` goes on, as one longer call would have. The energy is compared with that of the draws there.
        progress: show a progress bar on stderr, or call this with a line of text.
        reasons: words for the user's own `why` codes.
        block: draws per call of the compiled program.

    Returns:
        The posterior: `draws`, `stats`, `summary()`, `to_arviz()`.

    Raises:
        ValueError: before any sampling, when the energy does not return a real scalar, a parameter is not floating, no
            start with a finite energy is found, or the directory holds another run or draws of another energy.
        TypeError: if `key`, `start` or `metric` is of another kind.
    """
    if min(chains, draws, thin) < 1 or warmup < 0:
        raise ValueError("sample: chains, draws and thin must be at least 1, and warmup at least 0.")
    if not 0 < target < 1:
        raise ValueError(f"target: an acceptance between 0 and 1, such as 0.8, not {target}.")
    for name, given, kind, known in (
        ("start", start, AbstractStart, "Pathfinder(), Mode() or Given()"),
        ("metric", metric, AbstractAdaptation, "LowRank(), Dense(), Diagonal() or Fixed(metric)"),
    ):
        if given is not None and not isinstance(given, kind):
            raise TypeError(f"{name}: give {known} of `chain`, not {given!r}.")
    key = flat.as_key(key)
    together = jax.default_backend() != "cpu" if vectorise is None else vectorise
    shared = together and chains > 64 if pooled is None else pooled
    if shared and not together:
        raise ValueError("sample: pooled chains learn from one another, so they run together; give vectorise=True.")
    start = Pathfinder() if start is None else start
    many = max(chains, start.paths if isinstance(start, Pathfinder) else 0)
    starts, keys = driver.chain_keys(key, many)
    propose, same = flat.proposer(energy, initial), flat.is_point(initial)
    shape = flat.layout(propose(starts[0]))
    widest = flat.check_energy(energy, shape)
    metric = LowRank() if metric is None else metric
    rows = block or int(np.clip(2_000_000 // (shape.size * chains), 40, 100) if shared else
                        np.clip(1_000_000 // shape.size, 8, 100))  # fmt: skip
    options = Options(integrator, max_depth, rows=rows, small=widest <= 512, shared=shared)
    compiled = Program(energy, shape, options)
    schedule = Schedule(warmup, early)
    run = {
        "format": 2, "key": np.asarray(jr.key_data(key)).tolist(),
        "chains": chains, "warmup": warmup, "draws": draws, "thin": thin,
        "parameters": [f"{n}{list(s)}" for n, s in zip(shape.names, shape.shapes, strict=True)],
        "dtype": str(shape.dtype), "target": target, "max_depth": max_depth, "early": early,
        "start": repr(start), "metric": repr(metric) if not isinstance(metric, Fixed) else "Fixed",
    } | ({"pooled": True} if shared else {})  # fmt: skip
    if integrator is not verlet:
        run["integrator"] = getattr(integrator, "__name__", repr(integrator))
    store = Store(chains, draws, shape.size, len(STATS), shape.dtype, directory, run)
    check_same_energy(compiled, store, 1 if shared else chains)
    report = Silent() if not progress else Progress(chains, warmup, draws, progress if callable(progress) else None)

    def position(c: int, attempt: int) -> np.ndarray:
        k = starts[c] if attempt == 0 else jr.fold_in(starts[c], attempt)
        x = shape.ravel(propose(k))
        if same and (attempt or (c and isinstance(start, Pathfinder))):  # the same point says the same
            x = x + np.asarray(0.1 * (1 + np.abs(x)) * jr.uniform(k, x.shape, x.dtype, -1, 1))
        return x

    told = Told(chains)
    common = Run(position, keys, shape, start, metric, schedule, store, report, told, target, max_depth, thin, rows,
                 reasons or {})  # fmt: skip
    one = functools.partial(driver.serve_together, lanes=chains) if together else driver.serve_in_threads
    serve = lambda lives: one(compiled, keys, lives, report.refresh)
    # metrics are small, and each chain fits its own: BLAS' threads would only wait for one another
    single = contextlib.nullcontext() if together else threadpool_limits(1, user_api="blas")
    began = time.perf_counter(), time.process_time()
    try:
        with single, report:
            pool = None
            if isinstance(start, Pathfinder) and not all(store.holds(c) for c in range(1 if shared else chains)):
                alone = shared or not together and widest <= 512
                groups = 1 if alone else min(start.paths, chains if together else driver.cores())
                lives = [common.paths(range(g, start.paths, groups)) for g in range(groups)]
                found = [driver.serve_evaluations(compiled, lives[0])] if shared else serve(lives)
                pool = Pool([found[c % groups][c // groups] for c in range(start.paths)])
                told.path_gradients = sum(path.gradients for path in pool.paths)
            if shared:
                metrics = Crowd(common, compiled, chains).live(pool)
            else:
                metrics = serve([common.chain(c, pool) for c in range(chains)])
    except KeyboardInterrupt:
        kept, done = _worth_keeping(store.count)
        if directory is not None or done < 4:
            raise
        warnings.warn(f"interrupted: the first {done} draws of chains {kept} are returned.", stacklevel=2)
        store.draws, store.stats, metrics = store.draws[kept, :done], store.stats[kept, :done], [None] * len(kept)
        told.only(kept, done)
    seconds = time.perf_counter() - began[0], time.process_time() - began[1]
    per_step = len(getattr(integrator, "drifts", (1.0,)))
    return Posterior.of(energy, shape, store, told, metrics, seconds, reasons or {}, per_step, max_depth)


def _worth_keeping(counts: list[int]) -> tuple[list[int], int]:
    """Chains and the number of draws they all have, such that most draws are kept: some chains may not have begun."""
    order = sorted(range(len(counts)), key=lambda c: -counts[c])
    most = max(range(len(order)), key=lambda i: (i + 1) * counts[order[i]])
    return sorted(order[: most + 1]), counts[order[most]]
