"""Commands that a test runs in its own process let go of the signals that they watch."""
import pytest

from seed.training.stop_signals import StopSignals


@pytest.fixture(autouse=True)
def released_signals(monkeypatch):
    watching, watch = [], StopSignals.watch

    def watch_and_remember(signals: StopSignals) -> StopSignals:
        watching.append(signals)
        return watch(signals)
    monkeypatch.setattr(StopSignals, "watch", watch_and_remember)
    yield
    for signals in reversed(watching):
        signals.release()
