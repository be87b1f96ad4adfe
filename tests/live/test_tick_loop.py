"""The logic of a tick, with a clock, a body and a brain that do as the test says."""
import gc
import math
import os
import tracemalloc

import pytest

from seed.live.deadlines import NS
from seed.live.frames import Flag
from seed.live.heartbeat import Heartbeat
from seed.live.safety import Fault, State
from seed.live.tick_brain import Connected
from seed.live.tick_loop import TickLoop
from tests.support.tick_robot import FIELDS, Peer, gone, made


def test_the_brain_acts_on_what_the_body_has_answered(robot):
    robot.ticks(5)
    assert robot.body.calls[0] == ("RESET", (), 5.0, 0)
    assert robot.brain.calls[:3] == [("BEGIN", (), 0.0, Flag.KEEP), ("ACT", (0.25,), 0.0, 0),
                                     ("ACT", (0.5,), 1.0, 0)]
    assert robot.actions() == [0.5] * 4 and robot.state == State.ACTING
    assert robot.block["ticks"] == 5 and robot.block["value"] == 3.0
    assert robot.block["surprise"] > 0 and robot.block["generation"] == 1


def test_an_episode_ends_where_the_body_says(robot):
    robot.ticks(4)
    robot.body.answers["step"] = lambda *_: ([0.9], -2.0, Flag.TERMINATED)
    robot.ticks(1)
    robot.body.answers["step"] = lambda *_: ([0.5], 1.0, 0)
    robot.ticks(3)
    assert ("END", (0.9,), -2.0, Flag.TERMINATED) in robot.brain.calls
    assert robot.brain.names().count("BEGIN") == 2 and robot.body.calls[-3][:3:2] == ("RESET", 6.0)
    assert robot.block["last_return"] == 1 and robot.block["episodes"] == 1


def test_a_late_brain_holds_the_last_action_then_is_a_fault(robot):
    robot.ticks(3)
    robot.brain.answers["act"] = lambda *_: None
    robot.ticks(4)
    assert robot.actions()[-4:] == [0.5] * 4 and robot.block["late_brain"] == 4
    assert robot.brain.names().count("ACT") == 3   # it is not asked again before it has answered
    robot.ticks(1)
    assert robot.block["fault"] == Fault.BRAIN_LATE and robot.actions()[-1] == 0.0
    robot.brain.answers["act"] = robot.act
    robot.brain.answer([0.5] * 5)
    robot.ticks(101)
    assert robot.state == State.ACTING and robot.actions()[-1] == 0.5


def test_a_brain_that_is_late_hears_what_was_done_and_where_ticks_are_missing(robot):
    """Else the recording and its own memory would have the action that nobody did."""
    robot.action = 0.25
    robot.ticks(2)
    robot.brain.answers["act"] = lambda *_: None
    robot.ticks(1)
    assert robot.actions()[-1] == 0.25 and robot.brain.calls[-1] == ("TOOK", (0.25,), 0.0, 0)
    robot.ticks(1)   # it is not asked
    assert robot.brain.names()[-1] == "TOOK"
    robot.brain.answers["act"] = robot.act
    robot.brain.answer([-1.0, 0.5, 3.0, 0.0, 0.0])   # of before
    robot.ticks(2)
    assert robot.actions()[-3:] == [0.25] * 3
    assert [call[::3] for call in robot.brain.calls[-2:]] == [("ACT", Flag.GAP), ("ACT", 0)]


def test_the_answer_to_another_request_is_no_action(robot):
    """Found by 500 Hz with swaps: a state that was saved late was taken for an action."""
    robot.ticks(3)
    robot.brain.answers["save"] = lambda: None
    robot.loop.brain.offer(Connected(Peer(), 2, "shape"))
    robot.block["next_generation"] = 2
    robot.ticks(1)
    assert robot.brain.names()[-1] == "SAVE"
    robot.block["next_generation"] = 1
    robot.ticks(1)
    assert robot.block["late_brain"] == 1 and robot.actions()[-1] == 0.5
    robot.brain.answer([])
    robot.ticks(1)
    assert robot.block["late_brain"] == 1 and not robot.block["fault"]
    assert robot.brain.names()[-1] == "ACT" and robot.actions()[-1] == 0.5


def test_a_brain_that_never_answers_is_replaced(robot):
    robot.ticks(3)
    robot.brain.answers["act"] = lambda *_: None
    robot.ticks(1000)
    assert robot.brain.is_closed and any('"lost": "brain"' in line for line in robot.events())
    assert set(robot.actions()[-700:]) == {0.0}


@pytest.mark.parametrize("action", [math.nan, math.inf, -math.inf])
def test_an_action_that_is_not_finite_never_reaches_the_body(robot, action):
    robot.ticks(3)
    robot.action = action
    robot.ticks(1)
    assert robot.actions()[-1] == 0.0 and robot.block["fault"] == Fault.BRAIN_ERROR
    robot.action = -0.5
    robot.ticks(101)
    assert robot.actions()[-1] == -0.5
    begins = [call for call in robot.brain.calls if call[0] == "BEGIN"]
    assert begins[-1][3] == Flag.NONE   # it forgets what may have been wrong


def test_a_brain_that_fails_again_and_again_is_latched_until_a_person_clears_it(robot):
    robot.brain.answers["act"] = lambda *_: "ValueError: no"
    robot.ticks(500)
    assert robot.state == State.LATCHED and set(robot.actions()) == {0.0}
    robot.brain.answers["act"] = robot.act
    robot.ticks(500)
    assert robot.state == State.LATCHED
    robot.block["clear"] += 1
    robot.ticks(2)
    assert robot.state == State.ACTING


def test_a_brain_that_has_ended_leaves_the_body_with_the_safe_action(robot):
    robot.ticks(3)
    robot.brain.answers["act"] = gone
    robot.ticks(200)
    assert robot.state == State.STARTING and robot.actions()[-1] == 0.0
    newer = Peer(act=lambda *_: [0.75, 0, 0, 0, 0])
    robot.loop.brain.offer(Connected(newer, 2, "other"))
    robot.block["next_generation"] = 2
    robot.ticks(2)
    assert robot.actions()[-1] == 0.75 and newer.calls[0] == ("BEGIN", (), 0.0, Flag.KEEP)


def test_limits_hold_and_the_brain_hears_what_was_done(tmp_path):
    bounds = {**FIELDS["bounds"], "high": [0.4], "max_change": [10.0]}
    with made(tmp_path, bounds=bounds) as robot:
        robot.ticks(3)
        assert robot.actions() == [0.4, 0.4] and robot.block["clamped"] == 2
        assert robot.brain.calls[-1] == ("TOOK", (0.4,), 0.0, 0)
        robot.action = -1.0
        robot.ticks(3)
        assert robot.actions()[-3:] == pytest.approx([0.3, 0.2, 0.1])
        assert robot.block["slewed"] == 3


def test_a_body_that_raises_gets_the_safe_action_and_after_ten_times_a_new_process(robot):
    robot.ticks(3)
    robot.body.answers["step"] = lambda *_: "step raises OSError: bus"
    robot.ticks(9)
    assert robot.block["fault"] == Fault.BODY_ERROR and set(robot.actions()[-7:]) == {0.0}
    assert not robot.body.is_closed and "bus" in "".join(robot.events())
    robot.ticks(3)
    assert robot.body.is_closed and '"lost": "body"' in "".join(robot.events())
    assert robot.loop.body.needs_reset


def test_sensors_that_always_fail_begin_the_body_anew_though_its_steps_succeed(tmp_path):
    with made(tmp_path, has_sense=True) as robot:
        robot.ticks(3)
        robot.body.answers["sense"] = lambda: "sense raises OSError: bus"
        robot.ticks(9)
        assert not robot.body.is_closed and robot.body.names()[-2:] == ["SENSE", "STEP"]
        robot.ticks(3)
        assert robot.body.is_closed


def test_a_body_that_recovers_acts_on_a_second_later_in_a_new_episode(robot):
    robot.ticks(3)
    robot.body.answers["step"] = lambda *_: "step raises OSError: bus"
    robot.ticks(2)
    robot.body.answers["step"] = lambda *_: ([0.5], 1.0, 0)
    robot.ticks(99)
    assert robot.state == State.SAFE
    robot.ticks(5)
    assert robot.state == State.ACTING and robot.brain.names().count("BEGIN") == 2
    assert robot.body.names().count("RESET") == 1   # the robot stays where it is


def test_a_body_that_hangs_is_given_up_after_its_time(robot):
    robot.ticks(3)
    robot.body.answers["step"] = lambda *_: None
    robot.ticks(10)
    assert robot.block["late_body"] == 9 and robot.state == State.ACTING
    robot.ticks(3)
    assert robot.block["fault"] == Fault.BODY_STALLED and robot.body.is_closed
    assert "step has not returned for 0.11 s" in "".join(robot.events())
    newer = Peer(reset=lambda *_: [0.0], step=lambda *_: ([0.0], 0.0, 0))
    robot.loop.body.connect(newer, True)
    robot.ticks(50)
    assert newer.names()[:2] == ["RESET", "STEP"] and newer.calls[1][1] == (0.0,)
    robot.ticks(60)
    assert newer.calls[-1][1] == (0.5,)


def test_a_reset_may_take_longer_than_a_step(robot):
    robot.body.answers["reset"] = lambda *_: None
    robot.ticks(2000)
    assert robot.state == State.RESETTING and not robot.block["fault"]
    robot.body.answer([0.25])
    robot.ticks(2)
    assert robot.actions() == [0.5, 0.5]


def test_many_missed_deadlines_in_a_row_are_a_fault(robot):
    robot.ticks(3)
    robot.now += 95 * NS // 1000
    robot.ticks(1)
    assert robot.block["missed"] == 9 and not robot.block["fault"]
    robot.now += 105 * NS // 1000
    robot.ticks(1)
    assert robot.block["fault"] == Fault.MISSED_DEADLINES and robot.actions()[-1] == 0.0


def test_ticks_leave_nothing_in_memory(robot):
    for peer in (robot.body, robot.brain):
        peer.send = lambda call, *_, **named: None
    tracemalloc.start()
    try:
        robot.ticks(200)
        before = allocated()
        robot.ticks(2000)
        assert allocated() - before < 2000   # bytes; 1 for each tick
    finally:
        tracemalloc.stop()


def allocated():
    """Bytes that the loop's own lines hold; the test's peers leave garbage."""
    gc.collect()
    snapshot = tracemalloc.take_snapshot().filter_traces(
        [tracemalloc.Filter(True, "*/seed/live/*")])
    return sum(row.size for row in snapshot.statistics("filename"))


def test_on_hold_the_body_gets_the_safe_action(robot):
    robot.ticks(3)
    robot.block["hold"] = 1
    robot.ticks(2)
    assert robot.actions()[-2:] == [0.0, 0.0] and robot.state == State.HELD
    robot.block["hold"] = 0
    robot.ticks(1)
    assert robot.actions()[-1] == 0.5 and robot.brain.names()[-2:] == ["BEGIN", "ACT"]


def test_sensors_are_read_at_the_deadline_where_the_body_can(tmp_path):
    with made(tmp_path, has_sense=True) as robot:
        robot.ticks(3)
        assert robot.body.names() == ["RESET", "SENSE", "STEP", "SENSE", "STEP"]
        assert [call[1:3] for call in robot.brain.calls[1:]] == [((9.0,), 0.0), ((9.0,), 1.0)]


def test_a_loop_that_was_killed_goes_on_without_a_reset_from_the_safe_action(tmp_path):
    with made(tmp_path, is_restarted=True) as robot:
        robot.loop.body.needs_reset = False
        robot.ticks(50)
        assert set(robot.actions()) == {0.0} and "RESET" not in robot.body.names()
        assert robot.block["fault"] == Fault.RESTARTED
        robot.ticks(60)
        assert robot.actions()[-1] == 0.5


def test_a_loop_that_was_killed_leaves_the_action_and_the_faults_to_the_next(tmp_path):
    bounds = {**FIELDS["bounds"], "max_change": [10.0]}
    with made(tmp_path, bounds=bounds) as robot:
        robot.ticks(20)
        assert robot.actions()[-1] == 0.5
        for count in (1, 2, 3):
            fields = {**FIELDS, "bounds": bounds, "is_restarted": True}
            robot.loop = TickLoop(fields, robot.block, robot.loop.deadlines, robot.loop.control,
                                  lambda: robot.now)
            robot.loop.body.connect(robot.body, False)
            robot.loop.brain.offer(Connected(robot.brain, 1, "shape"))
            robot.block["generation"] = 0
            robot.ticks(2)
            assert robot.actions()[-2:] == pytest.approx([0.4, 0.3])
            assert robot.state == (State.LATCHED if count == 3 else State.SAFE)
            robot.ticks(200)
        assert robot.state == State.LATCHED and robot.actions()[-1] == 0.0


def test_a_loop_that_starts_latched_waits_for_a_person(tmp_path):
    with made(tmp_path, latched=int(Fault.BODY_STALLED)) as robot:
        robot.ticks(500)
        assert robot.state == State.LATCHED and set(robot.actions()) == {0.0}
        assert robot.block["latched"] == 1 and robot.block["fault"] == Fault.BODY_STALLED
        robot.block["clear"] += 1
        robot.ticks(2)
        assert robot.state == State.ACTING and robot.block["latched"] == 0


def test_the_end_is_the_safe_action_and_the_brain_saves(robot):
    robot.ticks(3)
    robot.block["stop"] = 1
    robot.loop.run()
    assert robot.actions()[-1] == 0.0 and robot.body.names()[-1] == "FINISH"
    assert robot.brain.names()[-1] == "FINISH" and robot.state == State.STOPPED


def test_the_end_comes_no_faster_to_the_safe_action_than_changes_are_limited_to(tmp_path):
    bounds = {**FIELDS["bounds"], "max_change": [20.0]}
    with made(tmp_path, bounds=bounds) as robot:
        robot.ticks(10)
        robot.block["stop"] = 1
        robot.loop.run()
        assert robot.actions()[-4:] == pytest.approx([0.5, 0.3, 0.1, 0.0])
        robot.body.answers["step"] = lambda *_: "step raises OSError: bus"
        robot.loop.body.pending, robot.loop.limits.last = None, [0.5]
        robot.loop.finish()   # it does not insist
        assert robot.actions()[-2:] == pytest.approx([0.0, 0.3])


def test_a_loop_whose_parent_has_ended_ends(robot):
    robot.control.close()
    robot.ticks(30)
    assert robot.loop.must_end


def test_a_supervisor_hears_ten_beats_a_second_while_the_body_answers(robot, tmp_path):
    os.mkfifo(tmp_path / "beats")
    robot.loop.heartbeat = Heartbeat(str(tmp_path / "beats"))
    robot.ticks(30)   # nobody reads
    reader = os.open(tmp_path / "beats", os.O_RDONLY | os.O_NONBLOCK)
    robot.ticks(20)
    os.read(reader, 100)
    robot.ticks(100)
    assert os.read(reader, 100) == b"\n" * 10
    robot.body.answers["step"] = lambda *_: None
    robot.ticks(11)
    os.read(reader, 100)
    robot.ticks(100)
    with pytest.raises(BlockingIOError):
        os.read(reader, 100)
    os.close(reader)
    robot.loop.heartbeat.end()
