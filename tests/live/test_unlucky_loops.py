"""A fast loop whose body, rate, files or machine are not as they should be."""
import errno
import math
import os
import signal
import socket
import subprocess
from types import SimpleNamespace

import pytest

from seed.errors import ConfigError
from seed.interpreter import seed_command
from seed.live import body_worker, fast_loop, latch, live_processes, shared_block
from seed.live.fast_loop import FastLoop, Options
from seed.live.live_processes import BodyProcess
from seed.live.safety import Fault, State
from tests.support.fast_loops import MAX_S, ROBOT, act, living, until, until_said


def robot(folder, text=ROBOT):
    (folder / "robot.py").write_text(text)
    return f"{folder}/robot.py:Robot"


@pytest.mark.parametrize("rate_hz", [0.0001, -1.0, math.nan, math.inf, 1e9])
def test_a_rate_that_no_loop_can_have_is_refused(brains, tmp_path, rate_hz):
    with pytest.raises(ConfigError, match="a fast loop cannot have .* Hz: give a rate of 0.1 to"):
        FastLoop(Options(tmp_path / "live", brains.first, "cartpole", rate_hz=rate_hz)).start()


def test_a_loop_that_sleeps_for_long_ends_at_once_with_the_safe_action(brains, tmp_path,
                                                                       monkeypatch):
    monkeypatch.setattr(fast_loop, "MIN_RATE_HZ", 0.001)
    with living(tmp_path, brains.first, robot(tmp_path), brain_body="cartpole", rate_hz=0.001,
                episodes=False) as loop:
        block = loop.block
        until(loop, lambda: block["pid"])
    assert block["state"] == State.STOPPED and (tmp_path / "closed").exists()


def test_a_body_that_begins_anew_with_other_limits_gets_them(brains, tmp_path):
    name = robot(tmp_path)
    with living(tmp_path, brains.first, name, brain_body="cartpole", episodes=False) as loop:
        act(loop)
        robot(tmp_path, ROBOT.replace("safe_action = 1", "action_limits = [(0, 0)]"))
        body = loop.body.facts["pid"]
        os.kill(body, signal.SIGKILL)
        until(loop, lambda: loop.body and loop.body.facts["pid"] != body)
        (tmp_path / "actions").write_text("")
        act(loop)
        assert set((tmp_path / "actions").read_text()) == {"0"} and loop.bounds.high == (0,)
        robot(tmp_path, ROBOT.replace("[(-1.0, 1.0)] * 4", "[(-1.0, 1.0)] * 5"))
        os.kill(loop.body.facts["pid"], signal.SIGKILL)
        assert until_said(loop, "the brain is for a body of 4 numbers, robot.py:Robot has 5")
        robot(tmp_path)
        act(loop)


def test_a_latch_that_a_full_disk_has_no_room_for_holds_when_the_tick_loop_is_killed(
        brains, tmp_path, monkeypatch):
    def write(*_):
        raise OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(latch, "write", write)
    with living(tmp_path, brains.first, robot(tmp_path), brain_body="cartpole",
                episodes=False) as loop:
        act(loop)
        tick = int(loop.block["pid"])
        os.kill(tick, signal.SIGSTOP)
        loop.block["latched"], loop.block["fault"] = 1, Fault.BODY_ERROR
        os.kill(tick, signal.SIGKILL)
        assert not until_said(loop, "never", lambda: loop.block["pid"] != tick
                              and loop.block["ticks"] and loop.block["state"] == State.LATCHED)
        latch.clear(tmp_path / "live")
        act(loop)


def test_a_process_that_cannot_start_is_tried_again(brains, tmp_path, monkeypatch):
    def start(*_, **named):
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
    with living(tmp_path, brains.first, episodes=False) as loop:
        act(loop)
        monkeypatch.setattr(live_processes, "start", start)
        os.kill(loop.brain.process.pid, signal.SIGKILL)
        assert until_said(loop, "its process cannot start: Resource temporarily unavailable: end")
        monkeypatch.undo()
        act(loop)


def test_a_directory_that_is_removed_leaves_nothing_in_memory(brains, tmp_path):
    with living(tmp_path, brains.first, episodes=False) as loop:
        act(loop)
        memory = shared_block.folder_of(tmp_path / "live")
        for path in (tmp_path / "live").iterdir():
            path.unlink()
        (tmp_path / "live").rmdir()
    assert not memory.exists()


def test_numbers_are_counted_whatever_their_space(monkeypatch):
    body = BodyProcess.__new__(BodyProcess)
    body.name = "robot"
    for space, n in (({"n": 3, "start": 0}, 1), ({"nvec": [2, 2], "shape": [2]}, 2),
                     ({"low": [0.0] * 6, "shape": [2, 3]}, 6)):
        body.facts = {"observation_space": space, "action_space": space}
        assert body.n_numbers() == n
        brain = {"n_numbers": n, "form": "numbers", "actions": [[0, 1]] * (n + 1)}
        with pytest.raises(ConfigError, match=f"actions of {n + 1} numbers, robot of {n}: give"):
            body.bounds(brain, {})


def test_the_motors_stop_where_a_signal_handler_of_the_class_raises(monkeypatch):
    calls = body_worker.Calls("robot.py", "Robot")
    stopped = []
    calls.body = SimpleNamespace(stop=lambda: stopped.append(1))
    calls._stall_s, calls._hangs_at_s = 3600, math.inf

    def serve(link):
        raise TimeoutError
    monkeypatch.setattr(calls, "_serve", serve)
    connection, other = socket.socketpair()
    with connection, other, pytest.raises(TimeoutError):
        calls.serve(connection)
    assert stopped


def test_what_a_class_says_does_not_steer_the_terminal(brains, tmp_path):
    name = robot(tmp_path, ROBOT.replace("action_space = 2", '''action_space = 2
    def __init__(self):
        raise OSError("\\x1b[2J")'''))
    command = seed_command("--live-dir", str(tmp_path / "live"), "--brain", str(brains.first),
                           "--body", name, module="seed.live.fast_loop_alone")
    ended = subprocess.run(command, capture_output=True, timeout=MAX_S)
    assert ended.returncode == 2 and b"loading raises OSError" in ended.stderr
    assert b"\x1b" not in ended.stdout + ended.stderr
    (tmp_path / "live/block").mkdir()
    ended = subprocess.run(command, capture_output=True, timeout=MAX_S)
    assert ended.returncode == 2 and ended.stderr.startswith(b"error: ")
