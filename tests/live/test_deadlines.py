"""Deadlines are absolute, ticks are never bunched, and what was missed is counted."""
from seed.live.deadlines import NS, Deadlines, sleeper

MS = 1_000_000


class Clock:
    """Time stands still but for sleeps, which end `late_ns` after they should, each a number of
    the list, then at once."""

    def __init__(self, *late_ns):
        self.now, self._late, self.sleeps = 5 * NS, list(late_ns), []

    def read(self):
        return self.now

    def sleep_until(self, at_ns):
        self.sleeps.append(at_ns)
        self.now = max(self.now, at_ns) + (self._late.pop(0) if self._late else 0)


def loop(rate_hz, *late_ns):
    clock = Clock(*late_ns)
    return Deadlines(rate_hz, clock.read, clock.sleep_until), clock


def test_no_lateness_and_no_rounding_adds_up():
    deadlines, clock = loop(30, *[MS] * 3000)
    for _ in range(3000):
        assert deadlines.wait() == MS
    assert clock.sleeps[-1] == 5 * NS + 100 * NS
    assert (deadlines.missed, deadlines.late, deadlines.worst_ns) == (0, 0, MS)


def test_a_tick_is_late_from_a_tenth_of_a_period_on():
    deadlines, _ = loop(100, MS, MS + 1, 5 * MS)
    assert [deadlines.wait() for _ in range(3)] == [MS, MS + 1, 5 * MS]
    assert (deadlines.late, deadlines.missed, deadlines.worst_ns) == (2, 0, 5 * MS)


def test_what_cannot_begin_within_half_a_period_is_missed_and_not_made_up_for():
    deadlines, clock = loop(100, 0, 5 * MS + 1)
    deadlines.wait()
    assert deadlines.wait() == 0 and deadlines.missed == deadlines.missed_in_a_row == 1
    assert clock.now == 5 * NS + 30 * MS
    deadlines.wait()
    assert deadlines.missed_in_a_row == 0 and clock.now == 5 * NS + 40 * MS


def test_ticks_are_never_nearer_than_half_a_period():
    deadlines, clock = loop(100)
    began = []
    for busy_ms in (1, 14, 16, 3, 250, 1, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 1, 1):
        deadlines.wait()
        began.append(clock.now)
        clock.now += busy_ms * MS
    assert all(b - a >= 5 * MS for a, b in zip(began, began[1:]))
    assert deadlines.number == len(began) + deadlines.missed
    assert began[-1] == 5 * NS + deadlines.number * 10 * MS   # the grid has stayed


def test_a_machine_that_was_stopped_for_an_hour_misses_deadlines_and_goes_at_the_next():
    deadlines, clock = loop(500, 3600 * NS)
    assert deadlines.wait() == 0
    assert deadlines.missed == 1_800_000 and (clock.now - 5 * NS) % (2 * MS) == 0


def test_a_signal_that_asks_for_the_end_ends_the_sleep():
    calls = []
    deadlines, clock = loop(1)
    clock.sleep_until = lambda at_ns: calls.append(at_ns)   # interrupted at once
    deadlines = Deadlines(1, clock.read, clock.sleep_until)
    deadlines.wait(lambda: len(calls) == 3)
    assert len(calls) == 3


def test_the_real_sleep_reaches_its_time():
    import time
    sleep_until = sleeper()
    at_ns = time.monotonic_ns() + 2 * MS
    sleep_until(at_ns)
    assert time.monotonic_ns() >= at_ns
    sleep_until(at_ns)   # in the past: at once
