"""The fast loop with real processes, real signals and a body that misbehaves on demand. No test
depends on how fast the machine is: each waits for what must come, for as long as it takes."""
import os
import signal
import time
from pathlib import Path

import pytest

from seed.body.episodes import EpisodeFolder
from seed.errors import ConfigError, InUse
from seed.live import fast_loop, shared_block
from seed.live.fast_loop import FastLoop, Options
from seed.live.safety import Fault
from tests.support.fast_loops import ROBOT, act, living, until, until_said


def test_it_lives_records_and_continues_after_it_was_switched_off(brains, tmp_path):
    with living(tmp_path, brains.first) as loop:
        assert "cartpole has no safe_action: on a fault it gets 0" in act(loop, 60)
        assert loop.block["episodes"] > 0 and loop.block["last_return"] > 5
        assert loop.block["pid"] != os.getpid() and loop.block["period_ns"] == 20_000_000
        with pytest.raises(InUse, match="has a fast loop already"):
            FastLoop(Options(tmp_path / "live", brains.first, "cartpole")).start()
    folder = EpisodeFolder(tmp_path / "live" / "episodes")
    steps = list(folder.steps())
    assert len(steps) > 60 and any(step.is_terminal for step in steps)
    assert {step.reward for step in steps if step.choices} == {1.0}

    with living(tmp_path, brains.first) as loop:
        assert not [text for text in act(loop) if "begins anew" in text]
    state = tmp_path / "live" / "state"
    data = bytearray(state.read_bytes())
    data[-5] ^= 1
    state.write_bytes(data)
    with living(tmp_path, brains.second) as loop:
        texts = act(loop)
        assert [text for text in texts if "checksum is wrong" in text and "begins anew" in text]


def test_brains_are_promoted_refused_and_rolled_back(brains, tmp_path):
    with living(tmp_path, brains.first, safety={"safe_action": [1]}) as loop:
        act(loop)
        for path, why in ((brains.broken, "checksum"), (tmp_path / "none", "No such file"),
                          (Path(__file__), "not a TFLite file"), (brains.nan, "not finite")):
            with pytest.raises(ConfigError, match=why):
                loop.promote(path)
            assert loop.block["generation"] == 1
        loop.rate_hz, rate_hz = 1e4, loop.rate_hz
        with pytest.raises(ConfigError, match="ms a tick, more than 70 % of a period at 10000 Hz"):
            loop.promote(brains.large)
        loop.rate_hz = rate_hz
        assert loop.promote(brains.second) == loop.block["generation"] > 1
        assert not loop.block["swaps_anew"]
        act(loop)
        loop.roll_back(brains.first)
        until(loop, lambda: loop.block["generation"] == 1)
        loop.confirm()
        loop.promote(brains.grown)
        assert loop.block["swaps"] == 3 and loop.block["swaps_anew"] == 1
        act(loop)


def test_each_process_may_be_killed(brains, tmp_path):
    (tmp_path / "robot.py").write_text(ROBOT)
    with living(tmp_path, brains.first, f"{tmp_path}/robot.py:Robot",
                brain_body="cartpole") as loop:
        act(loop)
        brain, body, tick = (loop.brain.process.pid, loop.body.facts["pid"],
                             int(loop.block["pid"]))
        memory = shared_block.folder_of(tmp_path / "live")
        assert (memory / "scratch-1").exists()
        os.kill(tick, signal.SIGKILL)
        texts = until(loop, lambda: loop.block["pid"] != tick)
        assert "restarted: the tick loop was ended from outside" in " ".join(texts + act(loop))
        assert loop.brain.process.pid == brain and loop.body.facts["pid"] == body
        os.kill(brain, signal.SIGKILL)
        until(loop, lambda: loop.brain and loop.brain.process.pid != brain)
        act(loop)
        assert not list(memory.glob("scratch-1*"))
        os.kill(body, signal.SIGKILL)
        until(loop, lambda: loop.body and loop.body.facts["pid"] != body)
        act(loop)
        assert loop.block["pid"] not in (tick, 0)
    assert (tmp_path / "closed").exists()


def test_a_brain_comes_back_whichever_process_was_killed_meanwhile(brains, tmp_path):
    with living(tmp_path, brains.first, episodes=False) as loop:
        act(loop)

        def kill(pid):
            os.kill(int(pid), signal.SIGKILL)

        def rolls_back():
            loop.roll_back(brains.first)
            assert loop.brain_path == brains.first
            until(loop, lambda: loop.brain and loop.brain.path == str(brains.first)
                  and loop.block["generation"] == loop.brain.generation)
            act(loop)
        loop.promote(brains.second)
        tick = loop.block["pid"]
        kill(tick)
        until(loop, lambda: loop.block["pid"] != tick)
        act(loop)
        older = loop.previous.process.pid
        rolls_back()
        assert loop.brain.process.pid == older   # it stayed warm
        loop.promote(brains.second)
        kill(loop.brain.process.pid)
        until(loop, lambda: loop.brain is None)
        rolls_back()
        loop.promote(brains.second)
        kill(loop.previous.process.pid)
        loop.previous.process.wait()
        rolls_back()
        for lost, path in (("body", brains.second), ("brain", brains.first)):   # as it is promoted
            pid = loop.body.facts["pid"] if lost == "body" else loop.brain.process.pid
            kill(pid)
            until(loop, lambda: getattr(loop, lost) is None)
            loop.promote(path)
            act(loop)
            assert loop.brain.path == str(path)


def test_a_brain_that_is_killed_leaves_nothing_in_memory(brains, tmp_path):
    """Whenever that is: a robot's memory is small, and brains may crash again and again."""
    with living(tmp_path, brains.first, episodes=False) as loop:
        act(loop)
        memory = shared_block.folder_of(tmp_path / "live")
        loop.promote(brains.second)
        older = loop.previous
        os.kill(older.process.pid, signal.SIGKILL)
        older.process.wait()
        (memory / f"scratch-{older.generation}.partial").touch()   # in the midst of a save
        loop.confirm()
        act(loop)
        assert not list(memory.glob(f"scratch-{older.generation}*"))
        lost = loop.brain
        os.kill(lost.process.pid, signal.SIGSTOP)   # whose end is not waited for, as it may hang
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(lost.process, "wait", None)
            until(loop, lambda: loop.brain not in (None, lost))
        act(loop)
        assert not list(memory.glob(f"scratch-{lost.generation}*"))


def test_processes_that_stand_still_are_faults(brains, tmp_path):
    """As SIGSTOP leaves them: alive, and silent."""
    with living(tmp_path, brains.first, episodes=False) as loop:
        act(loop)
        brain, tick = loop.brain.process.pid, int(loop.block["pid"])
        os.kill(brain, signal.SIGSTOP)
        texts = until(loop, lambda: loop.brain and loop.brain.process.pid != brain)
        assert [text for text in texts if text.startswith("brain late: 5 ticks in a row")]
        act(loop)
        missed = loop.block["missed"]
        os.kill(tick, signal.SIGSTOP)
        until(loop, lambda: loop.block.slip(time.monotonic_ns()).silent_s > 0.5)
        os.kill(tick, signal.SIGCONT)
        assert [text for text in act(loop) if text.startswith("missed deadlines: ")]
        assert loop.block["missed"] >= missed + 20 and loop.block["pid"] == tick


@pytest.mark.long
def test_memory_does_not_grow_with_ticks(brains, tmp_path):
    with living(tmp_path, brains.first, rate_hz=500) as loop:
        act(loop, 5000)
        before = [rss_kb(pid) for pid in (loop.block["pid"], loop.brain.process.pid)]
        act(loop, 30_000)
        after = [rss_kb(pid) for pid in (loop.block["pid"], loop.brain.process.pid)]
    assert after[0] - before[0] < 100 and after[1] - before[1] < 1000


def rss_kb(pid):
    lines = Path(f"/proc/{int(pid)}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmRSS")))


def test_a_body_that_raises_or_hangs_is_a_fault_and_its_motors_stop(brains, tmp_path):
    (tmp_path / "robot.py").write_text(ROBOT)
    actions = tmp_path / "actions"
    with living(tmp_path, brains.first, f"{tmp_path}/robot.py:Robot", brain_body="cartpole",
                episodes=False) as loop:
        act(loop)
        (tmp_path / "raises").touch()
        texts = until(loop, lambda: loop.block["fault"] == Fault.BODY_ERROR)
        assert [text for text in texts if "step raises OSError: the bus is silent: the body gets "
                "the safe action" in text]
        until(loop, lambda: actions.read_text().endswith("1111"))
        (tmp_path / "raises").unlink()
        act(loop)
        (tmp_path / "hangs").touch()
        until(loop, lambda: loop.block["fault"] == Fault.BODY_STALLED)
        until(loop, lambda: (tmp_path / "stopped").exists())
        (tmp_path / "hangs").unlink()
        act(loop)


def test_a_reward_that_is_no_number_is_the_bodys_fault(brains, tmp_path):
    (tmp_path / "robot.py").write_text(ROBOT)
    with living(tmp_path, brains.first, f"{tmp_path}/robot.py:Robot", brain_body="cartpole",
                episodes=False) as loop:
        act(loop)
        (tmp_path / "scores nothing").touch()
        texts = until(loop, lambda: loop.block["fault"] == Fault.BODY_ERROR)
        assert "step returns the reward nan: keep it within 1e+06" in " ".join(texts)
        assert loop.block["total_reward"] > 0


def test_the_tick_loop_comes_back_before_a_brain_does(brains, tmp_path):
    """Somebody has to command the body."""
    (tmp_path / "robot.py").write_text(ROBOT)
    actions = tmp_path / "actions"
    with living(tmp_path, brains.first, f"{tmp_path}/robot.py:Robot", brain_body="cartpole",
                episodes=False) as loop:
        act(loop)
        loop.brain_path, tick = brains.broken, int(loop.block["pid"])
        for pid in (loop.brain.process.pid, tick):
            os.kill(pid, signal.SIGKILL)
        until_said(loop, "checksum")
        until(loop, lambda: loop.block["pid"] != tick)
        actions.write_text("")
        until(loop, lambda: actions.read_text().startswith("1111"))   # the safe one
        assert loop.brain is None
        loop.brain_path = brains.second
        act(loop)


def test_a_brain_that_does_not_load_is_given_up(brains, tmp_path, monkeypatch):
    with living(tmp_path, brains.first, episodes=False) as loop:
        act(loop)
        monkeypatch.setattr(fast_loop, "MAX_LOAD_S", 0.0)
        os.kill(loop.brain.process.pid, signal.SIGKILL)
        until_said(loop, "takes longer than 0 s to load: its process begins anew")
        monkeypatch.undo()
        act(loop)
