"""Another brain takes over between two ticks, with the state where it can; the one before comes
back at once. With a clock, a body and brains that do as the test says."""
from seed.live import tick_brain
from seed.live.frames import Flag
from seed.live.safety import Fault
from seed.live.tick_brain import Connected
from tests.support.tick_robot import Peer, gone, made


def swapped(robot, structure, **answers):
    newer = Peer(**{"act": lambda *_: [-0.25, 0, 0, 0, 0], "save": lambda: [],
                    "load": lambda: ([], 0.0, Flag.KEEP), **answers})
    robot.ticks(3)
    robot.loop.brain.offer(Connected(newer, 2, structure))
    robot.block["next_generation"] = 2
    robot.ticks(1)
    return newer


def test_a_brain_of_the_same_structure_takes_over_the_state_between_two_ticks(robot):
    newer = swapped(robot, "shape")
    assert robot.brain.names()[-3:] == ["ACT", "SAVE", "RETIRE"] and newer.names() == ["LOAD"]
    robot.ticks(1)
    assert newer.names() == ["LOAD", "ACT"] and robot.actions() == [0.5, 0.5, 0.5, -0.25]
    assert (robot.block["swaps"], robot.block["swaps_anew"]) == (1, 0)


def test_a_brain_of_another_structure_begins_anew(robot):
    newer = swapped(robot, "grown")
    robot.ticks(1)
    assert newer.calls[0] == ("BEGIN", (), 0.0, Flag.NONE) and "SAVE" not in robot.brain.names()
    assert (robot.block["swaps"], robot.block["swaps_anew"]) == (1, 1)


def test_a_state_that_cannot_be_carried_over_in_time_is_given_up_after_some_ticks(robot):
    newer = swapped(robot, "shape", load=lambda: None)
    for count in range(1, tick_brain.MAX_SWAP_TRIES + 1):
        assert robot.block["generation"] == 1 and newer.names() == ["LOAD"] * count
        newer.answer(([], 0.0, Flag.KEEP))   # too late
        robot.ticks(1)
    assert robot.block["generation"] == 2
    robot.ticks(1)
    assert newer.names()[-2:] == ["BEGIN", "ACT"] and robot.block["swaps_anew"] == 1


def test_a_brain_that_does_not_answer_does_not_take_over(robot):
    newer = swapped(robot, "shape", load=lambda: None)
    robot.ticks(200)
    assert robot.block["generation"] == 1 and newer.names() == ["LOAD"]
    assert robot.actions()[-1] == 0.5 and not robot.block["fault"]


def test_the_brain_before_comes_back_at_once_with_the_state(robot):
    newer = swapped(robot, "shape")
    robot.ticks(2)
    robot.block["next_generation"] = 1
    robot.ticks(2)
    assert newer.names()[-2:] == ["SAVE", "RETIRE"] and robot.brain.names()[-2:] == ["LOAD", "ACT"]
    assert robot.actions()[-1] == 0.5 and robot.block["swaps"] == 2
    robot.loop.brain.drop_previous()
    assert newer.is_closed


def test_the_brain_before_comes_back_after_its_child_has_ended_and_stays(robot):
    swapped(robot, "shape", act=gone)
    robot.ticks(2)
    assert robot.block["fault"] == Fault.BRAIN_ENDED
    assert any('"generation": 2' in line for line in robot.events() if "fault" in line)
    robot.block["next_generation"] = 1
    robot.ticks(2)
    robot.loop.brain.drop_previous()   # its child is not needed any more
    robot.ticks(101)
    assert robot.actions()[-1] == 0.5 and not robot.brain.is_closed


def test_a_loop_that_was_killed_hears_of_the_brain_before(tmp_path):
    with made(tmp_path, is_restarted=True) as robot:
        robot.loop.body.needs_reset = False
        older = Peer(act=lambda *_: [-0.25, 0, 0, 0, 0], save=lambda: [],
                     load=lambda: ([], 0.0, Flag.KEEP))
        robot.ticks(1)
        robot.loop.brain.previous = Connected(older, 0, "shape")
        robot.ticks(150)
        assert robot.actions()[-1] == 0.5
        robot.loop.brain.previous.generation = robot.block["next_generation"] = 7
        robot.ticks(2)
        assert robot.actions()[-1] == -0.25
