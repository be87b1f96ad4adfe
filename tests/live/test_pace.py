"""How much a learner may take beside a fast loop: deadlines first, then the board and the robot."""
import json

import pytest

from seed.config import GovernorConfig, LiveConfig
from seed.governor import PAUSE, RUN, SLOW, STOP, Cause
from seed.live.pace import SLICE_S, WINDOW_S, Pace
from seed.live.shared_block import Slip
from tests.support.fake_board import health
from tests.support.fake_clock import FakeClock


def slip(ticks: int = 100, late: int = 0, missed: int = 0) -> Slip:
    return Slip(ticks, missed, late, 0, 0.0)


def pace_of(clock, temps=(), **governor) -> Pace:
    readings = iter(temps)
    return Pace(GovernorConfig(**governor), LiveConfig(), lambda: health(next(readings, 50.0)),
                clock)


def test_late_deadlines_slow_learning_and_more_of_them_or_a_missed_one_stop_it():
    clock = FakeClock()
    pace, actions = pace_of(clock), []
    for late, missed in ((0, 0), (1, 0), (5, 0), (0, 0), (0, 1)):
        decision = pace.poll(slip(1000, late, missed))
        actions.append((decision.action, round(decision.duty, 2)))
        clock.now += WINDOW_S + 1   # what was before is not looked at
    assert actions == [(RUN, 1.0), (RUN, 1.0), (SLOW, 0.81), (RUN, 1.0), (PAUSE, 0.0)]
    assert pace.poll(slip(1000, 10)).action == PAUSE
    assert pace.decision.reason == "10 of 1000 deadlines late or missed"
    assert pace.decision.cause is Cause.DEADLINES and not pace.may_begin and not pace.may_run
    for _ in range(4):
        clock.now += WINDOW_S / 4
        pace.poll(slip())
    assert pace.decision.action == SLOW   # 10 of 1400 are less than a hundredth
    clock.now += WINDOW_S / 4
    assert pace.poll(slip()).action == RUN


def test_nothing_is_learnt_while_no_tick_comes_at_all():
    """Its deadlines are counted as missed when one comes, which is too late."""
    clock = FakeClock()
    pace = pace_of(clock)
    assert pace.poll(slip()).action == RUN
    clock.now += 3
    decision = pace.poll(Slip(0, 0, 0, 0, 3.0, 149))
    assert (decision.action, decision.duty, decision.cause) == (PAUSE, 0.0, Cause.DEADLINES)
    assert decision.reason == "149 of 249 deadlines late or missed" and not pace.may_run
    clock.now += 0.1
    assert pace.poll(slip(1, missed=150)).reason == "150 of 251 deadlines late or missed"


def test_deadlines_come_before_heat_and_the_stricter_of_both_counts():
    clock = FakeClock()
    pace = pace_of(clock, [78.0, 82.0])
    assert pace.poll(slip(1000, 8)).action == SLOW
    assert pace.decision.reason.startswith("8 of 1000 deadlines late or missed; cpu-thermal 78")
    clock.now += 1
    assert pace.poll(slip()).action == PAUSE and pace.decision.cause is Cause.HEAT


def test_nothing_is_learnt_while_the_voltage_is_too_low():
    clock, bits = FakeClock(), iter([1, 1, 0])
    pace = Pace(GovernorConfig(), LiveConfig(), lambda: health(bits=next(bits)), clock)
    actions = []
    for _ in range(3):
        pace.poll(slip())
        actions.append((pace.decision.action, pace.decision.reason.partition(":")[0]))
        clock.now += 1
    assert actions == [(PAUSE, "under-voltage"), (PAUSE, "under-voltage"), (RUN, "")]


def test_a_learner_runs_its_duty_of_each_slice():
    clock = FakeClock()
    pace = pace_of(clock, [78.0])   # 70 %
    pace.poll(slip())
    runs = []
    for _ in range(100):
        runs.append(pace.may_run)
        clock.now += SLICE_S / 10 + 1e-9
    assert 65 <= sum(runs) <= 75 and runs[:10].count(True) == 7


@pytest.mark.parametrize("report, action, is_idle", [
    ({"level": "ok", "idle": True}, RUN, True), ({"level": "ok", "idle": False}, RUN, False),
    ({"level": "critical", "idle": True}, PAUSE, True), ({"level": "stop"}, STOP, False),
    ({"level": "ok", "idle": True, "teleoperated": True}, PAUSE, True), (None, SLOW, False)])
def test_the_robots_report_is_followed(tmp_path, report, action, is_idle):
    path = tmp_path / "report.json"
    if report:
        path.write_text(json.dumps(report))
    pace = pace_of(FakeClock(), report_file=str(path))
    assert pace.poll(slip()).action == action and pace.is_idle == is_idle
    assert pace.must_stop == (action == STOP)
    pace.close()
