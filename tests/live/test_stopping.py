"""A life ends in order: the safe action first, then what is learnt, and nothing in between."""
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from seed.errors import StopRequested
from seed.live.brains import FIRST, Brains
from seed.live.fast_loop import FastLoop, Options
from seed.storage import RunDir

ROOT = Path(__file__).parents[2]
MAX_S = 120
LIFE = '''
import sys
from functools import partial
from seed.__main__ import main
from seed.live import learner, supervisor
from seed.training import stop_signals
stop_signals.DEADLINE_S, learner.STOP_S, supervisor.MIN_TICKS = 0.2, 3.0, 0
supervisor.Options = partial(supervisor.Options, brain_body="cartpole")
learner.learner_command = lambda *_: [sys.executable, "-c", """
import pathlib, signal, time
signal.signal(signal.SIGTERM, lambda *_: None)
pathlib.Path("learns").touch()
while True:
    time.sleep(1)
"""]
sys.exit(main(sys.argv[1:]))
'''


def test_a_learner_that_hangs_holds_up_neither_the_safe_action_nor_the_status(brains, tmp_path):
    source = RunDir(tmp_path / "source")
    source.path.mkdir()
    source.checkpoint.touch()
    source.exported_brain.write_bytes(brains.first.read_bytes())
    stored = Brains(tmp_path / "run/live")
    stored.promote(stored.add(source), FIRST)
    (tmp_path / "life.py").write_text(LIFE)
    (tmp_path / "robot.py").write_text('''
import time
from pathlib import Path
class Robot:
    rate_hz, observation_space, action_space, safe_action = 50, [(-1.0, 1.0)] * 4, 2, 1
    def reset(self, seed=None):
        return [0.0] * 4, {}
    def step(self, action):
        return [0.1] * 4, 1.0, False, False, {}
    def stop(self):
        Path("stopped").write_text(str(time.monotonic()))
''')
    process = subprocess.Popen(
        [sys.executable, "life.py", "live", "--run-dir=run", "--body=robot.py:Robot", "--json",
         "--profile=control", "--learn-every=10", "--set=governor.thermal=false"], cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE)
    ends_s = time.monotonic() + MAX_S
    while not (tmp_path / "learns").exists():
        assert process.poll() is None and time.monotonic() < ends_s
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    words = json.loads(process.communicate(timeout=MAX_S)[0])
    ended_s = time.monotonic()
    assert process.returncode == 0 and words["ticks"] > 0
    assert json.loads((tmp_path / "run/status.json").read_text())["state"] == "stopped"
    assert ended_s - float((tmp_path / "stopped").read_text()) > 2   # the learner had 3 s


def test_a_swap_ends_when_the_life_has_to(brains, tmp_path):
    must_stop = []
    loop = FastLoop(Options(tmp_path / "live", brains.first, "cartpole", episodes=False),
                    lambda: bool(must_stop))
    loop.start()
    try:
        must_stop.append(True)
        with pytest.raises(StopRequested):
            loop.promote(brains.second)
        assert loop.brain_path == brains.first and loop.block["generation"] <= 1
        os.kill(loop._tick.pid, signal.SIGKILL)
        loop._tick.wait()
        assert not [event for event in loop.poll() if "starts again" in event["text"]]
    finally:
        loop.stop()
