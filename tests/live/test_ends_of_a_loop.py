"""However a fast loop ends, the motors stop, nothing is left behind, and what a person has to know
is kept."""
import json
import os
import signal

import pytest

from seed.live import latch, shared_block
from seed.live.safety import Fault, State
from seed.live.shared_block import Block
from tests.support.fast_loops import (MAX_S, ROBOT, act, living, started, until, until_said,
                                      wait_for_the_end_of)
from tests.support.processes import descendants


def test_a_latched_fault_outlives_the_loop_until_a_person_clears_it(brains, tmp_path):
    (tmp_path / "robot.py").write_text(ROBOT)
    body, options = f"{tmp_path}/robot.py:Robot", {"brain_body": "cartpole", "episodes": False}
    how = f"seed live {tmp_path} --clear"
    with living(tmp_path, brains.first, body, **options) as loop:
        is_said = False
        while not is_said:
            is_said = until_said(loop, how, lambda: loop.block["state"] == State.ACTING)
            (tmp_path / "raises").touch()
            is_said |= until_said(loop, how, lambda: loop.block["fault"] == Fault.BODY_ERROR)
            (tmp_path / "raises").unlink()
        assert loop.block["latched"] and loop.block["faults"] >= 3
    with living(tmp_path, brains.first, body, **options) as loop:
        assert until_said(loop, how)
        assert "the bus is silent" in latch.read(tmp_path / "live").text
        until_said(loop, "never", lambda: loop.block["state"] == State.LATCHED)
        assert latch.clear(tmp_path / "live")
        act(loop)
    assert latch.read(tmp_path / "live") is None


def test_sigterm_ends_it_whole_with_the_state_on_the_disk(brains, tmp_path):
    with started(tmp_path, brains.first) as process:
        below = descendants(process.pid)
        assert len(below) >= 3
        os.kill(process.pid, signal.SIGTERM)
        output, _ = process.communicate(timeout=MAX_S)
    assert process.returncode == 0 and json.loads(output.splitlines()[-1])["ticks"] > 0
    wait_for_the_end_of(below)
    assert (tmp_path / "live" / "state").read_bytes().startswith(b"seed live state 1\n")
    assert not os.path.lexists(tmp_path / "live" / "block")


def test_nothing_outlives_a_parent_that_was_killed(brains, tmp_path):
    with started(tmp_path, brains.first) as process:
        below, folder = descendants(process.pid), shared_block.folder_of(tmp_path / "live")
        os.kill(process.pid, signal.SIGKILL)
        process.stdout.close()
    wait_for_the_end_of(below)
    assert not folder.exists()


@pytest.mark.parametrize("targets", [["parent"], ["parent", "tick loop"]])
def test_the_motors_stop_whoever_was_killed(brains, tmp_path, targets):
    (tmp_path / "robot.py").write_text(ROBOT)
    with started(tmp_path, brains.first, f"{tmp_path}/robot.py:Robot") as process:
        below = descendants(process.pid)
        tick = int(Block.open(tmp_path / "live")["pid"])
        pids = {"parent": process.pid, "tick loop": tick}
        for target in targets:
            os.kill(pids[target], signal.SIGSTOP)
        for target in targets:
            os.kill(pids[target], signal.SIGKILL)
        process.stdout.close()
    wait_for_the_end_of(below)
    assert (tmp_path / "stopped").exists() and (tmp_path / "closed").exists()
    if targets == ["parent"]:
        assert (tmp_path / "actions").read_text().endswith("1")   # the safe one


def test_the_motors_stop_when_a_loop_ends_while_the_body_goes_home(brains, tmp_path):
    (tmp_path / "robot.py").write_text(ROBOT)
    (tmp_path / "goes home").touch()
    with living(tmp_path, brains.first, f"{tmp_path}/robot.py:Robot", brain_body="cartpole",
                episodes=False) as loop:
        until(loop, (tmp_path / "is on its way").exists)
    assert (tmp_path / "stopped").exists() and not (tmp_path / "closed").exists()
