"""A brain that has passed the gate and fails on the robot: how soon its parent acts again, with
real brains, the real fast loop and a supervisor that looks ten times a second."""
import json
import sys
import time

import pytest

from seed.body import open_body
from seed.governor import Decision
from seed.live import learner, pace, supervisor
from seed.live.brains import FIRST, Brains
from seed.live.supervisor import Live, LiveOptions
from seed.profile_file import load_profile
from seed.storage import RunDir
from tests.support.changed_point import Point, Reversed, brain, export

MAX_S, MAX_TICKS, POLL_S = 300, 200, 0.1
ROBOT = '''
class {name}:
    """A point that is pushed left or right, and has to stay in the middle."""
    rate_hz, observation_space, action_space, safe_action = 100, [(-2.0, 2.0)], 2, 0
    def reset(self, seed=None):
        self.x, self.ticks = 0.3, 0
        return [self.x], {{}}
    def step(self, action):
        self.x = max(-2.0, min(2.0, self.x + {push} * (2 * int(action) - 1)))
        self.ticks += 1
        return [self.x], {reward}, {ends}, {is_cut}, {{}}
'''
BODIES = {
    "Steady": {"push": 0.02, "reward": "1 - abs(self.x)", "ends": "False", "is_cut": "False"},
    "Slow": {"push": 0.004, "reward": "1 - abs(self.x)", "ends": "False", "is_cut": "False"},
    "Falls": {"push": 0.02, "reward": "1.0", "ends": "abs(self.x) > 1",
              "is_cut": "self.ticks >= 200"}}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Run directories of a brain of the body and of one of the reversed body."""
    folder, run_dirs = tmp_path_factory.mktemp("trained"), []
    for name, body in (("good", Point), ("bad", Reversed)):
        with pytest.MonkeyPatch.context() as monkeypatch:
            monkeypatch.setitem(open_body.BODIES, "point", body)
            run_dirs.append(export(brain(folder / name, 60)))
    return run_dirs


@pytest.mark.long
@pytest.mark.parametrize("name", BODIES)
def test_what_fails_live_is_rolled_back_within_200_ticks(name, trained, tmp_path, monkeypatch,
                                                         capsys):
    (tmp_path / "robot.py").write_text(ROBOT.format(name=name, **BODIES[name]))
    profile = load_profile("control", ["live.learn_every_ticks=1500", "governor.thermal=false"])
    options = LiveOptions(RunDir(tmp_path / "run"), f"{tmp_path}/robot.py:{name}", profile,
                          loop={"rate_hz": 100})
    brains = Brains(options.live_dir)
    good, bad = map(brains.add, trained)
    brains.promote(good, FIRST)
    candidate = {"brain": bad, "parent": good, "figures": []}
    monkeypatch.setattr(learner, "learner_command", lambda *what: [
        sys.executable, "-c", f"print({json.dumps(candidate)!r})"])
    monkeypatch.setattr(pace, "decide_by_deadlines", lambda config, deadlines: Decision())
    monkeypatch.setattr(supervisor, "MIN_TICKS", 0)
    lines: list[str] = []
    live = Live(options, lines.append)
    live.start()
    try:
        ends_s, began, longest, before = time.monotonic() + MAX_S, 0, 0, 0
        while not any(line.startswith("rolled back") for line in lines):
            assert time.monotonic() < ends_s, (lines, live.loop.block.words())
            live.poll()
            ticks = int(live.loop.block["ticks"])
            began = began or (live.watch._began_ticks or 0)
            longest, before = max(longest, ticks - before) if began else 0, ticks
            time.sleep(POLL_S)
        took = ticks - began
    finally:
        live.stop()
    with capsys.disabled():
        print(f"\n{name}: rolled back after {took} ticks; the longest between two looks: {longest}:"
              f" {lines[-1]}")
    assert live.brains.promoted.brain == good
    assert took <= MAX_TICKS + longest   # that no look was at, as on a busy machine
