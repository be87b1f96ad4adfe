"""A fast loop with real processes, and a body that misbehaves on demand."""
import os
import subprocess
import time
from contextlib import contextmanager

from seed.errors import ConfigError
from seed.interpreter import seed_command
from seed.live.fast_loop import FastLoop, Options
from seed.live.safety import State
from seed.live.shared_block import Block

MAX_S = 120
ROBOT = '''
import os, time
from pathlib import Path
FOLDER = Path(__file__).parent
class Robot:
    """Four numbers, two choices; misbehaves while a file of that name is there."""
    rate_hz = 50
    observation_space = [(-1.0, 1.0)] * 4
    action_space = 2
    safe_action = 1
    def reset(self, seed=None):
        self.ticks = 0
        if (FOLDER / "goes home").exists():
            (FOLDER / "is on its way").touch()
            time.sleep(3600)
        return [0.0] * 4, {}
    def step(self, action):
        with open(FOLDER / "actions", "a") as file:
            file.write(f"{action}")
        if (FOLDER / "hangs").exists():
            time.sleep(3600)
        if (FOLDER / "raises").exists():
            raise OSError("the bus is silent")
        self.ticks += 1
        reward = float("nan") if (FOLDER / "scores nothing").exists() else 1.0
        return [0.1] * 4, reward, False, self.ticks >= 20, {}
    def stop(self):
        (FOLDER / "stopped").touch()
    def close(self):
        (FOLDER / "closed").touch()
'''


@contextmanager
def living(folder, brain, body="cartpole", **options):
    loop = FastLoop(Options(folder / "live", brain, body, **options))
    loop.start()
    try:
        yield loop
    finally:
        loop.stop()


def until(loop, is_true_fn):
    """What happened until then."""
    events, ends_s = [], time.monotonic() + MAX_S
    while not is_true_fn():
        assert time.monotonic() < ends_s, (events, loop.block.words())
        events += loop.poll()
        if loop.block["state"] == State.LATCHED:   # on a machine that is too busy
            loop.clear()
        time.sleep(0.02)
    return [event["text"] for event in events + loop.poll()]


def act(loop, n=20):
    """Waits until the brain has acted for so many ticks more."""
    texts = until(loop, lambda: loop.block["state"] == State.ACTING)
    start = loop.block["ticks"]
    return texts + until(loop, lambda: loop.block["ticks"] >= start + n
                         and loop.block["state"] == State.ACTING)


def until_said(loop, text, is_true_fn=bool):
    """Or until something else."""
    texts, ends_s = [], time.monotonic() + MAX_S
    while text not in " ".join(texts) and not is_true_fn():
        assert time.monotonic() < ends_s, (texts, loop.block.words())
        texts += [event["text"] for event in loop.poll()]
        time.sleep(0.02)
    return text in " ".join(texts)


def started(folder, brain, body="cartpole"):
    os.mkfifo(folder / "heartbeat")
    process = subprocess.Popen(
        seed_command("--live-dir", str(folder / "live"), "--brain", str(brain), "--body",
                     body, "--brain-body=cartpole", "--heartbeat", str(folder / "heartbeat"),
                     module="seed.live.fast_loop_alone"), stdout=subprocess.PIPE, text=True)
    ends_s, ticks = time.monotonic() + MAX_S, 0.0
    while ticks < 20:
        assert process.poll() is None and time.monotonic() < ends_s
        time.sleep(0.05)
        try:
            ticks = Block.open(folder / "live")["ticks"]
        except ConfigError:
            pass
    return process


def wait_for_the_end_of(pids):
    ends_s = time.monotonic() + MAX_S
    while [pid for pid in pids if os.path.exists(f"/proc/{pid}/exe")]:
        assert time.monotonic() < ends_s
        time.sleep(0.05)
