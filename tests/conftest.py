"""What all tests share: a cache of compiled kernels and of Python's bytecode, so that none compiles
what another compiled; the end of what a failed test started; the count of attacks."""
import atexit
import contextlib
import os
import signal
import tempfile

import pytest

from seed.training.stop_signals import StopSignals
from seed.wavecore.tinygrad_seam import install
from tests.support.processes import descendants

if "XDG_CACHE_HOME" not in os.environ:   # of the process that starts the others
    kernels = tempfile.TemporaryDirectory(prefix="seed-tests-")
    atexit.register(kernels.cleanup)
    os.environ["XDG_CACHE_HOME"] = kernels.name
    if os.environ.pop("PYTHONDONTWRITEBYTECODE", ""):   # hundreds of processes would compile anew
        os.environ["PYTHONPYCACHEPREFIX"] = f"{kernels.name}/bytecode"
install()
for ignored in (signal.SIGHUP, signal.SIGQUIT):   # below nohup; behind an &
    if signal.getsignal(ignored) is signal.SIG_IGN:
        signal.signal(ignored, lambda number, frame: None)   # what is started gets it anew


@pytest.fixture(autouse=True)
def released_signals(monkeypatch):
    """Commands that a test runs in its own process let go of the signals that they watch: a later
    SIGINT would end the process of the tests."""
    watching, watch = [], StopSignals.watch

    def watch_and_remember(signals: StopSignals) -> StopSignals:
        watching.append(signals)
        return watch(signals)
    monkeypatch.setattr(StopSignals, "watch", watch_and_remember)
    yield
    for signals in reversed(watching):
        signals.release()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Ends the processes of a failed test, which would slow all others."""
    before = getattr(item, "processes_before", set())
    report = yield
    if call.when == "setup":
        item.processes_before = descendants(os.getpid())
    elif report.failed:
        for pid in descendants(os.getpid()) - before:
            with contextlib.suppress(OSError):
                os.kill(int(pid), signal.SIGKILL)
    return report


def pytest_terminal_summary(terminalreporter) -> None:
    """The line that bin/attacks.sh ends with: of the tests that are marked as attacks."""
    outcomes = {}
    for outcome in ("skipped", "passed", "failed", "error"):   # of one test the last one counts
        for report in terminalreporter.stats.get(outcome, []):
            if "attack" in getattr(report, "keywords", ()):
                outcomes[report.nodeid] = outcome
    results = list(outcomes.values())
    held, skipped = results.count("passed"), results.count("skipped")
    if results:
        terminalreporter.write_line(
            f"attacks: {len(results) - skipped} tried, {held} held, "
            f"{len(results) - skipped - held} failed; {skipped} need what is not here")
