"""A brain lives: real processes of the fast loop, and learners that end in what a test needs. No
test depends on how fast the machine is."""
import json
import signal
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from seed.live import learner as learner_module
from seed.live import supervisor
from seed.live import watch as watch_module
from seed.live.brains import FIRST, Brains
from seed.live.learn import work_of
from seed.live.learner import Learner, LiveOptions
from seed.live.safety import State
from seed.live.supervisor import Live
from seed.storage import RunDir

MAX_S = 120
ROBOT = '''
from pathlib import Path
class Robot:
    """Its rewards fall while a file is there; an episode has five ticks."""
    rate_hz, observation_space, action_space, safe_action = 50, [(-1.0, 1.0)] * 4, 2, 1
    def reset(self, seed=None):
        self.ticks = 0
        return [0.0] * 4, {}
    def step(self, action):
        self.ticks += 1
        reward = -1.0 if (Path(__file__).parent / "falls").exists() else 1.0
        return [0.1] * 4, reward, False, self.ticks >= 5, {}
'''


@pytest.fixture
def life(tmp_path, brains, monkeypatch):
    """A life with a first brain, its lines, and the result of the next learner as it prints it."""
    (tmp_path / "robot.py").write_text(ROBOT)
    run_dir, lines, results = RunDir(tmp_path / "run"), list[str](), list[dict]()
    options = LiveOptions(run_dir, f"{tmp_path}/robot.py:Robot", learn_every_ticks=10,
                          loop={"brain_body": "cartpole"})
    stored = Brains(options.live_dir)
    names = []
    for file in (brains.first, brains.second):
        source = RunDir(tmp_path / file.stem)
        source.path.mkdir()
        source.checkpoint.write_bytes(b"checkpoint")
        source.exported_brain.write_bytes(file.read_bytes())
        names.append(stored.add(source))
    stored.promote(names[0], FIRST)
    monkeypatch.setattr(learner_module, "prepare",
                        lambda live_dir, parent, episodes, newest: work_of(live_dir).path.mkdir(
                            exist_ok=True))
    monkeypatch.setattr(learner_module, "learner_command", lambda options: [
        sys.executable, "-c", f"print({json.dumps(results.pop(0))!r})" if results else
        "raise SystemExit(3)"])
    monkeypatch.setattr(watch_module, "WATCH_TICKS", 20)
    monkeypatch.setattr(learner_module, "RETRY_S", 0.0)
    monkeypatch.setattr(supervisor, "MIN_TICKS", 0)

    @contextmanager
    def living():
        live = Live(options, lines.append)
        live.start()
        try:
            yield live
        finally:
            live.stop()
    return living, names, lines, results, tmp_path


def until(live, lines, text: str) -> str:
    """The first new line with that text."""
    seen, ends_s = len(lines), time.monotonic() + MAX_S
    while not any(text in line for line in lines[seen:]):
        assert time.monotonic() < ends_s, (lines, live.loop.block.words())
        live.poll()
        if live.loop.block["state"] == State.LATCHED:   # on a machine that is too busy
            live.loop.block["clear"] += 1
        time.sleep(0.02)
    return next(line for line in lines[seen:] if text in line)


def candidate(brain: str, parent: str, **fields) -> dict:
    return {"brain": brain, "parent": parent, "data": "d", "reason": "", "figures": [],
            "is_finished": True, **fields}


def test_candidates_are_refused_promoted_confirmed_and_rolled_back(life, monkeypatch):
    living, (first, second), lines, results, folder = life
    with living() as live:
        until(live, lines, "ended (3) without a candidate")
        results.append(candidate("", first, reason="it is not better", figures=[
            {"name": "cartpole", "before": 2.0, "after": 1.0}]))
        until(live, lines, "refused: it is not better")
        results.append(candidate(second, "another"))
        until(live, lines, "refused: another brain acts meanwhile")
        live.brains.file(second).rename(folder / "hidden")
        results.append(candidate(second, first))
        assert "No such file" in until(live, lines, "a candidate is refused")
        (folder / "hidden").rename(live.brains.file(second))
        append, live.brains.lineage.append = live.brains.lineage.append, lambda rows, objects: False
        results.append(candidate(second, first))
        until(live, lines, "is not on the disk")   # as where that is full: the loop acts on
        live.brains.lineage.append = append
        assert live.brains.promoted.brain == first and live.loop.brain.path == str(
            live.brains.file(first))
        results.append(candidate(second, first))
        until(live, lines, f"brain {second} acts now")
        until(live, lines, f"brain {second} is confirmed")
        monkeypatch.setattr(watch_module, "WATCH_TICKS", 10 ** 9)   # until it falls
        results.append(candidate(first, second))
        until(live, lines, f"brain {first} acts now")
        (folder / "falls").touch()
        assert "has fallen" in until(live, lines, "rolled back") or "ended below" in lines[-1]
        assert live.brains.promoted.brain == second
        (folder / "falls").unlink()
    with living() as live:   # what acted last acts again
        assert live.loop.brain_path == live.brains.file(second)
        rows = [(row.decision, row.brain) for row in live.brains.lineage.rows]
    assert rows == [("first", first), ("refused", ""), ("refused", second), ("refused", second),
                    ("promoted", second), ("confirmed", second), ("promoted", first),
                    ("rolled back", second)]


def test_the_learner_stands_still_while_the_fast_loop_is_late(tmp_path, monkeypatch):
    monkeypatch.setattr(learner_module, "prepare",
                        lambda live_dir, parent, episodes, newest: work_of(live_dir).path.mkdir(
                            parents=True))
    monkeypatch.setattr(learner_module, "learner_command", lambda options: ["sleep", "1000"])
    learner = Learner(LiveOptions(RunDir(tmp_path), "cartpole"), print)
    learner.start("parent", 0, 1000)
    assert not learner.is_due(10 ** 9, 0.0)   # one at a time

    def wait_for(states: str) -> None:
        ends_s = time.monotonic() + MAX_S
        path = Path(f"/proc/{learner._process.pid}/stat")
        while path.read_text().rpartition(")")[2].split()[0] not in states:
            assert time.monotonic() < ends_s
            time.sleep(0.01)
    for late, now_s, states in ((0.0, 0.0, "SR"), (0.01, 1.0, "T"), (0.0, 2.9, "T"),
                                (0.0, 3.1, "SR"), (0.5, 4.0, "T")):
        learner.yield_to(late, now_s)
        wait_for(states)
    process, plan = learner._process, work_of(LiveOptions(RunDir(tmp_path), "").live_dir)
    (plan.path / "plan.json").touch()
    learner.stop()
    assert process.returncode == -signal.SIGTERM and learner.is_due(10 ** 9, 0.0)
    assert (plan.path / "plan.json").exists()   # it would continue
    learner.abandon(10 ** 9)   # the body has changed
    assert not (plan.path / "plan.json").exists()
    assert not learner.is_due(10 ** 9 + 5999, 0.0) and learner.is_due(10 ** 9 + 6000, 0.0)
