"""`sample`: energy in, posterior out. Chains in parallel, one compilation, streamed, resumable, reproducible."""

import threading
import time
import warnings
from collections.abc import Callable, Generator
from pathlib import Path

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from .._array import Energy, Key, PyTree
from ..flow.splitting import verlet
from . import driver, flat, start
from .adaptation import AbstractAdaptation, LowRank
from .driver import Draws, Options, Program, Request
from .posterior import Failure, Posterior
from .program import STATS, Chain, Point, Tuning
from .progress import Progress, Silent
from .store import Store
from .warmup import Schedule, adapt, find_step_size


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
    climb: int = 0,
    vectorise: bool | None = None,
    directory: str | Path | None = None,
    progress: bool | Callable[[str], None] = False,
    reasons: dict[int, str] | None = None,
    block: int | None = None,
) -> Posterior:
    """Draw from e^(−E) with the no-U-turn sampler.

    Args:
        energy: `energy(x) -> E` or `(E, why)`, x a pytree of floats and E = −log p up to a constant; see `failure` for
            `why`. An energy with `constrain` and `unconstrain` (`energy.Posterior`) is sampled on the real line, while
            `initial` and the draws are in the user's space.
        initial: a start point, or `initial(key) -> start point`, called per chain; see `uniform`.
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
        climb: L-BFGS evaluations towards the mode before warm-up.
        vectorise: one program for all chains; default: on accelerators, while a CPU runs one thread per chain.
        directory: stream draws there in blocks; the same call with the same directory resumes where it was.
        progress: show a progress bar on stderr, or call this with a line of text.
        reasons: words for the user's own `why` codes.
        block: draws per call of the compiled program.

    Returns:
        The posterior: `draws`, `stats`, `summary()`, `to_arviz()`.

    Raises:
        ValueError: before any sampling, when the energy does not return a real scalar, a parameter is not floating, no
            start with a finite energy is found, or the directory holds another run.
    """
    if min(chains, draws, thin) < 1 or warmup < 0:
        raise ValueError("sample: chains, draws and thin must be at least 1, and warmup at least 0.")
    key = jr.wrap_key_data(key) if jnp.issubdtype(key.dtype, jnp.integer) else key
    starts, keys = driver.chain_keys(key, chains)
    free = getattr(energy, "unconstrain", lambda x: x)
    propose = initial if callable(initial) else (lambda _: initial)
    shape = flat.layout(free(propose(starts[0])))
    flat.check_energy(energy, shape)
    rows = block or int(np.clip(1_000_000 // shape.size, 8, 100))
    compiled = Program(energy, shape, Options(integrator, max_depth, rows=rows))
    metric = LowRank() if metric is None else metric
    schedule = Schedule(warmup, early)
    run = {
        "key": np.asarray(jr.key_data(key)).tolist(), "chains": chains, "warmup": warmup, "draws": draws, "thin": thin,
        "parameters": [f"{n}{list(s)}" for n, s in zip(shape.names, shape.shapes, strict=True)],
        "dtype": str(shape.dtype), "target": target, "max_depth": max_depth, "early": early,
    }  # fmt: skip
    store = Store(chains, draws, shape.size, len(STATS), shape.dtype, directory, run)
    report = Silent() if not progress else Progress(chains, warmup, draws, progress if callable(progress) else None)
    told = _Told(chains)

    def position(c: int, attempt: int) -> np.ndarray:
        k = starts[c] if attempt == 0 else jr.fold_in(starts[c], attempt)
        x = shape.ravel(free(propose(k)))
        if attempt and not callable(initial):  # the same point again would fail again
            x = x + np.asarray(0.1 * (1 + np.abs(x)) * jr.uniform(k, x.shape, x.dtype, -1, 1))
        return x

    lives = [
        _life(
            c,
            position,
            shape,
            metric,
            schedule,
            store,
            report,
            told,
            target,
            max_depth,
            thin,
            climb,
            rows,
            reasons or {},
        )
        for c in range(chains)
    ]
    together = jax.default_backend() != "cpu" if vectorise is None else vectorise
    serve = driver.serve_together if together else driver.serve_in_threads
    began = time.perf_counter(), time.process_time()
    try:
        with report:
            metrics = serve(compiled, keys, lives, report.refresh)
    except KeyboardInterrupt:
        done = min(store.count)
        if directory is not None or done < 4:
            raise
        warnings.warn(f"interrupted: the first {done} draws of every chain are returned.", stacklevel=2)
        store.draws, store.stats, metrics = store.draws[:, :done], store.stats[:, :done], [None] * chains
    seconds = time.perf_counter() - began[0], time.process_time() - began[1]
    return Posterior.of(energy, shape, store, told, metrics, seconds, reasons or {})


class _Told:
    """What chains tell beside their draws."""

    def __init__(self, chains: int):
        self.lock = threading.Lock()
        self.failures: list[Failure] = []
        self.warmup_failures: dict[int, int] = {}
        self.warmup_draws = [0] * chains
        self.warmup_gradients = [0] * chains

    def failed(self, chain: int, draw: int, why: int, place: np.ndarray) -> None:
        """Record a refused trajectory; those of the warm-up (draw < 0) are only counted."""
        with self.lock:
            if draw < 0:
                self.warmup_failures[why] = self.warmup_failures.get(why, 0) + 1
            else:
                self.failures.append(Failure(chain, draw, why, place))


def _life(
    c, position, shape, adaptation, schedule, store, report, told, target, max_depth, thin, climb, rows, reasons
) -> Generator[Request, Draws, object]:
    """Start, warm-up and sampling of chain c."""
    state = store.load(c)
    if state is None:
        guess = adaptation.first(np.ones(shape.size, shape.dtype))
        first = yield from start.find(lambda attempt: position(c, attempt), shape, guess, c, reasons)
        if climb:
            first = yield from start.climb(first, guess, climb)
        chain, metric = yield from _warm(c, first, adaptation, schedule, told, report, target, max_depth, rows)
        store.save(c, _pack(chain, metric))
    else:
        template = adaptation.first(np.ones(shape.size, shape.dtype))
        chain, metric = _unpack(state, template)
    while (count := store.count[c]) < store.draws.shape[1]:
        wanted = min(rows // thin * thin or thin, (store.draws.shape[1] - count) * thin)
        blocks = []
        while wanted > 0:
            result = yield Request(chain, metric, min(wanted, rows), max_depth)
            chain = result.chain
            blocks.append(result)
            wanted -= len(result.draws)
        stats = np.concatenate([b.stats for b in blocks])
        kept = np.concatenate([b.draws for b in blocks])[thin - 1 :: thin]
        for i in np.nonzero(stats[:, STATS.index("why")])[0]:
            place = np.concatenate([b.ends for b in blocks])[i]
            told.failed(c, count + int(i) // thin, int(stats[i, STATS.index("why")]), place)
        store.append(c, kept, _thinned(stats, thin))
        store.save(c, _pack(chain, metric))
        report.tell(c, True, len(kept), stats)
    return metric


def _warm(c, first, adaptation, schedule, told, report, target, max_depth, rows):
    chain = first.chain
    metric = adaptation.first(first.forces[0])
    if schedule.length == 0:
        return chain, metric

    def attempt(step):
        nonlocal chain
        tuned = Chain(chain.point, Tuning.at(step, chain.point.rows.dtype), chain.index)
        result = yield Request(tuned, metric, 1, 1, adapt=True)
        told.warmup_gradients[c] += 1
        return float(result.acceptance[0])

    step = yield from find_step_size(attempt)
    chain = Chain(chain.point, Tuning.at(step, chain.point.rows.dtype), chain.index)

    def run(metric, n, last):
        nonlocal chain
        parts = []
        while n > 0:
            # while the metric is a guess, long trajectories are not worth their gradients
            depth = max_depth if told.warmup_draws[c] > 25 or last else min(max_depth, 6)
            request = Request(chain, metric, min(n, rows), depth, adapt=True, symmetric=last, target=target)
            result = yield request
            chain = result.chain
            parts.append(result)
            n -= len(result.draws)
            told.warmup_draws[c] += len(result.draws)
            told.warmup_gradients[c] += int(result.steps.sum())
            for why in result.why[result.why > 0]:
                told.failed(c, -1, int(why), result.ends[0])
            report.tell(c, False, len(result.draws), result.stats)
        join = lambda name: np.concatenate([getattr(p, name) for p in parts])
        return Draws(chain, join("draws"), join("forces"), join("ends"), join("stats"))

    metric = yield from adapt(adaptation, schedule, metric, run)
    return chain, metric


def _thinned(stats: np.ndarray, thin: int) -> np.ndarray:
    """Statistics of the kept draws; gradients of the dropped ones are counted with the next kept one."""
    if thin == 1:
        return stats
    kept = stats[thin - 1 :: thin].copy()
    for name, together in (("steps", np.sum), ("why", np.max)):
        column = STATS.index(name)
        kept[:, column] = together(stats[:, column].reshape(-1, thin), axis=1)
    return kept


def _pack(chain: Chain, metric) -> dict[str, np.ndarray]:
    """All that a chain needs to go on, as plain arrays."""
    state = {f"chain{i}": np.asarray(x) for i, x in enumerate(jax.tree.leaves(chain))}
    return state | {f"metric{i}": np.asarray(x) for i, x in enumerate(jax.tree.leaves(metric))}


def _unpack(state: dict[str, np.ndarray], template) -> tuple[Chain, object]:
    rows = jnp.asarray(state["chain0"])
    chain = Chain(Point(rows, rows[0, 0]), Tuning.at(1.0, rows.dtype), jnp.zeros((), jnp.int32))
    fill = lambda like, name: jax.tree.unflatten(
        jax.tree.structure(like), [jnp.asarray(state[f"{name}{i}"]) for i in range(len(jax.tree.leaves(like)))]
    )
    return fill(chain, "chain"), fill(template, "metric")
