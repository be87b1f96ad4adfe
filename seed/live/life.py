"""A life from its start to its end: what is due some times a second, told in a line and in the
status files."""
import math
import time

from seed.errors import StopRequested
from seed.live.status import LiveStatus
from seed.live.supervisor import Live, LiveOptions
from seed.systemd import notify
from seed.terminal.screen import Screen
from seed.training.stop_signals import StopSignals

POLL_S = 0.1


def live(options: LiveOptions, minutes: float | None, signals: StopSignals) -> dict[str, float]:
    """Until a signal, or for so long. The last words of the fast loop. Raises SeedError, OSError.
    """
    screen = Screen(time.monotonic)
    living = Live(options, screen.log, should_stop_fn=signals.stop.is_set)
    status = LiveStatus(living, screen.log)
    with screen.working(lambda: "starting"):
        living.start()
    signals.safe.clear()   # a late end is one without the safe action
    notify("READY=1")
    ends_s, ending = math.inf if minutes is None else time.monotonic() + 60 * minutes, "failed"
    try:
        while not signals.stop.wait(POLL_S) and time.monotonic() < ends_s:
            living.poll()
            status.update()
            screen.show_text(living.describe())
        ending = "stopped"
    except StopRequested:
        ending = "stopped"
    finally:
        screen.close()
        notify("STOPPING=1")
        words = living.stop()
        status.write(ending, words)
    return words
