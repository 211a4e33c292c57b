"""Ctrl-C and kills: finished blocks stay, a run goes on where it was, bit for bit, in the warm-up too."""

import _thread
import signal
import time

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from enerjax import chain
from enerjax.chain.store import Store

SCALES = jnp.logspace(-1, 1, 5)
OPTIONS = dict(chains=3, draws=400, block=50, start=chain.Given())


def energy(x):
    return 0.5 * jnp.sum((x / SCALES) ** 2) + 0.05 * jnp.sum(x**4)


def run(**more):
    return chain.sample(energy, chain.uniform(jnp.zeros(5)), jr.key(4), **(OPTIONS | more))


@pytest.fixture
def ctrl_c(monkeypatch):
    """The user presses Ctrl-C after 5 blocks of draws."""
    real, seen = Store.append, []

    def append(self, *block):
        real(self, *block)
        seen.append(block)
        if len(seen) == 5:
            _thread.interrupt_main()
            time.sleep(0.5)  # until the main thread has noticed

    monkeypatch.setattr(Store, "append", append)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    yield seen
    signal.signal(signal.SIGINT, before)
    monkeypatch.undo()


@pytest.mark.parametrize("vectorise", [False, True])
def test_ctrl_c_in_memory_returns_what_there_is(ctrl_c, vectorise):
    with pytest.warns(UserWarning, match="interrupted: the first"):
        part = run(vectorise=vectorise)
    assert 5 <= len(ctrl_c) < 24
    chains, draws = part.unconstrained.shape[:2]
    assert chains >= 1 and draws >= (50 if vectorise else 100) and len(part.warmup["draws"]) == chains
    whole = run(vectorise=vectorise).unconstrained[:, :draws]
    assert all(any(np.array_equal(mine, theirs) for theirs in whole) for mine in part.unconstrained)
    assert np.isfinite(part.diagnostics()["acceptance"])


@pytest.mark.parametrize("how", [{"vectorise": False}, {"vectorise": True}, {"vectorise": True, "pooled": True}])
def test_ctrl_c_with_a_directory_resumes_exactly(ctrl_c, tmp_path, monkeypatch, how):
    with pytest.raises(KeyboardInterrupt):
        run(directory=tmp_path, **how)
    monkeypatch.undo()
    kept = sum(int(np.load(f)["count"]) for f in tmp_path.glob("chain-*.npz"))
    assert kept >= (50 if "pooled" in how else 200), "finished blocks were lost"  # a crowd's count is one for all
    resumed, whole = run(directory=tmp_path, **how), run(**how)
    np.testing.assert_array_equal(resumed.unconstrained, whole.unconstrained)
    assert resumed.gradients == whole.gradients and resumed.warmup == whole.warmup
    again = run(directory=tmp_path, **how)  # nothing left to do
    np.testing.assert_array_equal(again.unconstrained, whole.unconstrained)


@pytest.mark.parametrize("vectorise", [False, True])
def test_killed_in_the_warm_up(tmp_path, monkeypatch, vectorise):
    """The warm-up hears its answers again, and the draws are those of a run that was never stopped."""

    class Killed(Exception):
        pass

    real, seen = Store.remember, []

    def remember(self, *state):
        if len(seen) < 33:
            real(self, *state)
        seen.append(state)
        if len(seen) == 33:
            raise Killed

    monkeypatch.setattr(Store, "interval", 0.0)
    monkeypatch.setattr(Store, "remember", remember)
    with pytest.raises(Killed):
        run(directory=tmp_path, vectorise=vectorise)
    monkeypatch.undo()
    answers = {f.name: len(np.load(f)["array0"]) for f in tmp_path.glob("warm-*.npz")}
    assert answers and max(answers.values()) > 10
    resumed, whole = run(directory=tmp_path, vectorise=vectorise), run(vectorise=vectorise)
    np.testing.assert_array_equal(resumed.unconstrained, whole.unconstrained)
    assert resumed.warmup == whole.warmup and not list(tmp_path.glob("warm-*.npz"))
