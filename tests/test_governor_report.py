"""What the governor makes of the robot's own health report, beside the board's sensors."""
from dataclasses import replace

import pytest

from seed import governor
from seed.config import GovernorConfig
from seed.governor import PAUSE, RUN, SLOW, SLOW_DUTY, STOP, UNKNOWN_DUTY, Cause, History, decide
from seed.robot_report import Level, Report
from tests.support.fake_board import health

PLAIN = GovernorConfig(report_file="/run/robot/health.json")
OK, WARN, CRITICAL = Report(Level.OK), Report(Level.WARN, "CPU 72 C"), Report(Level.CRITICAL, "fan")
LOST = Report(failure="no report from x: it is 31 s old")


def decisions(*reports: Report, config=PLAIN, seconds=1.0, temps=()):
    history, made = History(), []
    for i, report in enumerate(reports):
        board = health(temps[i] if temps else 50.0)
        decision, history = decide(config, history, board, i * seconds, report)
        made.append(decision)
    return made


def actions(*reports: Report, **more) -> list[str]:
    return [decision.action for decision in decisions(*reports, **more)]


def test_levels_slow_pause_and_stop_a_run_each_with_the_robots_reason():
    slow, pause, stop = (decisions(r)[0] for r in (WARN, CRITICAL, Report(Level.STOP, "shut down")))
    assert slow == (SLOW, SLOW_DUTY, False, "the robot reports: CPU 72 C", Cause.REPORT)
    assert pause == (PAUSE, 0.0, False, "the robot reports: fan", Cause.REPORT)
    assert stop == (STOP, 0.0, True, "the robot reports: shut down", Cause.REPORT)
    assert decisions(Report(Level.UNKNOWN))[0][:2] == (SLOW, UNKNOWN_DUTY)
    assert actions(OK) == [RUN]


def test_what_a_report_asks_for_counts_for_a_minute_however_it_flickers():
    assert actions(CRITICAL, OK, CRITICAL, OK, OK, OK, seconds=25) == [PAUSE] * 5 + [RUN]
    assert actions(CRITICAL, WARN, WARN, WARN, OK, OK, OK, OK, seconds=25) == \
        [PAUSE] * 3 + [SLOW] * 3 + [RUN] * 2
    flicker = actions(*[(WARN, OK)[i % 2] for i in range(300)])
    assert flicker == [SLOW] * 300


def test_a_report_that_cannot_be_used_slows_and_ends_no_pause():
    assert actions(OK, LOST, LOST, OK) == [RUN, SLOW, SLOW, RUN]
    lost = decisions(LOST)[0]
    assert lost == (SLOW, UNKNOWN_DUTY, False, LOST.failure, Cause.REPORT)
    assert actions(CRITICAL, *[LOST] * 5, OK, seconds=100) == [PAUSE] * 6 + [RUN]
    assert actions(WARN, LOST, OK, OK, seconds=40) == [SLOW, SLOW, RUN, RUN]


@pytest.mark.parametrize("gate", [{"min_battery_percent": 30.0}, {"only_idle": True}])
def test_a_gate_is_closed_while_no_report_opens_it(gate):
    config = replace(PLAIN, **gate)
    assert decisions(LOST, config=config)[0].action == PAUSE
    closed = decisions(OK, config=config)[0]
    assert closed.action == PAUSE and closed.reason.startswith("the report has no ")


def test_a_run_learns_from_enough_battery_or_a_charger():
    config = replace(PLAIN, min_battery_percent=30.0)
    batteries = [Report(Level.OK, battery_percent=p, charging=c) for p, c in
                 ((30, None), (29.9, False), (5, True), (None, True))]
    assert [actions(r, config=config)[0] for r in batteries] == [RUN, PAUSE, RUN, RUN]
    low = decisions(replace(batteries[1], battery_percent=24), config=config)[0]
    assert low.reason == "the battery has 24 %; learns from 30 % on, or while it charges"
    assert low.cause is Cause.GATE and actions(batteries[1]) == [RUN]


def test_a_run_never_learns_while_the_robot_is_teleoperated_and_if_asked_only_while_idle():
    idle, busy = replace(OK, idle=True), replace(OK, idle=False)
    assert [actions(r, config=replace(PLAIN, only_idle=True))[0] for r in (idle, busy)] == [
        RUN, PAUSE]
    assert actions(idle, busy) == [RUN, RUN]
    driven = decisions(replace(idle, teleoperated=True))[0]
    assert driven[:4] == (PAUSE, 0.0, False, "the robot is teleoperated")
    hot = decisions(replace(CRITICAL, teleoperated=True))[0]
    assert hot.cause is Cause.REPORT and hot.reason == "the robot reports: fan"


def test_the_stricter_of_board_and_robot_decides_and_both_are_told():
    both = decisions(WARN, temps=[79.0])[0]
    assert both.action == SLOW and both.duty == SLOW_DUTY and both.cause is Cause.REPORT
    assert both.reason == "cpu-thermal 79.0 C; the robot reports: CPU 72 C"
    assert decisions(WARN, temps=[82.0])[0][:2] == (PAUSE, 0.0)
    assert decisions(Report(Level.STOP), temps=[82.0])[0].action == STOP
    assert decisions(CRITICAL, temps=[60.0])[0].cause is Cause.REPORT
    stop = decide(PLAIN, History(), health(rss=9000.0), 0.0, OK)[0]
    assert stop.action == STOP and stop.cause is Cause.MEMORY


def test_a_pause_of_the_robots_leaves_no_pause_for_heat_behind():
    """71 C is too warm to end a pause for heat, which this was not."""
    assert actions(CRITICAL, OK, OK, seconds=70, temps=[71.0] * 3) == [PAUSE, RUN, RUN]
    assert actions(OK, CRITICAL, OK, seconds=70, temps=[81.0, 71.0, 71.0]) == [PAUSE] * 3


@pytest.mark.parametrize("report, level", [
    (OK, "ok"), (WARN, "warn"), (CRITICAL, "critical"), (LOST, "warn"),
    (replace(OK, teleoperated=True), "ok")])
def test_a_decision_has_the_level_of_a_check_and_a_closed_gate_is_no_fault(report, level):
    assert governor.level(decisions(report)[0]) == level
