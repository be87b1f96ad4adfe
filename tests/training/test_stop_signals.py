"""Signals are the caller's again when a training that was called from Python has ended."""
import signal
import subprocess
import sys
import threading

import pytest

from seed.config import load_profile
from seed.errors import ConfigError
from seed.storage import RunDir
from seed.training import train
from seed.training.stop_signals import StopSignals, watched


def blocked() -> set:
    return signal.pthread_sigmask(signal.SIG_BLOCK, [])


def watchers() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "signals"]


def test_a_training_that_fails_leaves_the_caller_its_signals(tmp_path):
    before = blocked()
    with pytest.raises(ConfigError, match="more --memory"):
        train(load_profile("toy", ["governor.memory_mb=64"]), RunDir(tmp_path))
    assert blocked() == before and not watchers()


RUN = """
import os, signal, threading
from seed.training import stop_signals
stop_signals.DEADLINE_S = 0.05
with stop_signals.watched(None) as signals:
    signals.safe.clear()
    os.kill(os.getpid(), signal.SIGINT)
    assert signals.stop.wait(60)
    deadline = next(t for t in threading.enumerate() if t.name == "deadline")
signals.safe.set()
deadline.join()
try:
    os.kill(os.getpid(), signal.SIGINT)
    threading.Event().wait(60)
except KeyboardInterrupt:
    print("the caller has its signals")
"""


def test_a_signal_during_a_run_asks_it_to_stop_and_a_later_one_reaches_the_caller():
    """Nor does the deadline of the first end the process when its run has ended."""
    done = subprocess.run([sys.executable, "-c", RUN], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("the caller has its signals\n", "")


def test_signals_that_the_caller_watches_stay_watched():
    signals = StopSignals().watch()
    try:
        with watched(signals) as same:
            assert same is signals
        assert watchers()
    finally:
        signals.release()
    assert not watchers()
