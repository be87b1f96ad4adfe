"""Body classes of users that do harm, in trainings that are processes of their own: one line names
the body, and the run stays whole."""
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from seed.storage import RunDir, checkpoint
from tests.support.hostile_bodies import hostile
from tests.support.processes import descendants
from tests.support.small_run import wait_until
from tests.support.tiny_run import WAIT_S, start_tiny, tiny_command, wait_for_step

pytestmark = pytest.mark.long

SMALL = ("--set=train.save_every_minutes=60", "--set=body.rows=4", "--set=body.ticks=16",
         "--set=body.chunk=8", "--set=body.passes=1")
LATER = 2200   # ticks of one process: it is not that which measures the body
KILL = "if os.getppid() == 1 and os.getpid() < 50: os.kill({}, 9)"   # never outside of a namespace


def train(folder: Path, name: str, *options: str, steps: int = 400,
          cwd: Path | None = None) -> subprocess.CompletedProcess:
    command = tiny_command(folder / "run", *SMALL, f"--body={name}", *options, steps=steps)
    return subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S, cwd=cwd)


def saved_step(folder: Path) -> int:
    return checkpoint.read(RunDir(folder / "run").checkpoint).meta["step"]


def assert_named(done: subprocess.CompletedProcess, text: str, code: int = 2) -> None:
    line = done.stderr.rstrip("\n").splitlines()[-1]
    assert done.returncode == code and re.search(text, line), done.stderr[-2000:]
    assert "hostile.py:B" in line and len(line) < 700
    assert "Traceback" not in done.stderr and "\x1b" not in done.stderr


def assert_resumes(folder: Path, name: str) -> None:
    """With the same class, once it is mended."""
    step = saved_step(folder)
    assert step > 0
    done = train(folder, name, steps=step + 3)
    assert done.returncode == 0 and f"from step {step}" in done.stderr, done.stderr[-2000:]


HARM = {
    "raises": ("raise KeyError('\\x1b[31m no motor')", r"step raises KeyError: .*\\x1b\[31m no m"),
    "raises what is no Exception": ("raise SystemExit(0)", "step raises SystemExit"),
    "hangs": ("time.sleep(987)", "step takes longer than 5 s: make it faster"),
    "computes forever": ("\n            while 1: pass", "step takes longer than 5 s"),
    "stops itself": ("os.kill(os.getpid(), 19)", "step takes longer than 5 s"),
    "NaN": ("observation = [float('nan')]", "number 0 of an observation is nan"),
    "infinite": ("observation = [-float('inf')]", "number 0 of an observation is -inf"),
    "a wrong shape": ("observation = [0.0, 0.0]", r"an observation has shape \(2,\)"),
    "a large shape": ("observation = [0.0] * 10 ** 7", r"has shape \(10000000,\)"),
    "text": ("observation = 'far'", "an observation is 'far': give 1 number"),
    "nothing": ("return None", r"step returns NoneType: return \(obs"),
    "an infinite reward": ("reward = float('inf')", "the reward inf: keep it within 1e"),
    "a reward that is no number": ("reward = float('nan')", "the reward nan"),
    "exits": ("os._exit(0)", "its process exited during step"),
    "crashes": ("import ctypes; ctypes.string_at(0)", "exited during step by signal 11"),
    "closes its files": ("os.closerange(0, 99)", "exited during step|Bad file"),
    "floods the socket": ("[os.write(int(sys.argv[1]), b'x' * 2 ** 20) for _ in range(3000)]",
                          "the reply to step is damaged"),
    "forges a reply": (
        "os.write(int(sys.argv[1]), b'\\0\\0\\0\\x16{\"id\":1,\"value\":[1,2]}')", "is damaged"),
    "more memory than there is": ("x = 'x' * 10 ** 14", "step raises MemoryError"),
    "endless recursion": ("self.step(action)", "step raises RecursionError"),
    "leaves many children": (
        "\n            for _ in range(60):\n                if os.fork() == 0: time.sleep(987)"
        "\n            raise RuntimeError('bomb')", "step raises RuntimeError: bomb")}


@pytest.mark.parametrize("how", HARM)
def test_a_body_that_does_harm_is_named_and_the_run_resumes(tmp_path, how):
    """Own: after some steps of the run."""
    step, text = HARM[how]
    assert_named(train(tmp_path, hostile(tmp_path, step, after=LATER)), text)
    assert not [pid for pid in descendants(1) if is_worker(pid, tmp_path)]
    assert_resumes(tmp_path, hostile(tmp_path))


def is_worker(pid: str, folder: Path) -> bool:
    """Of a body's class in that folder: other tests may run beside this one."""
    try:
        return f"{folder}/hostile.py".encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


@pytest.mark.parametrize("change, text", [
    (dict(top="while 1: pass"), "loading takes longer than 30 s"),
    (dict(top="os._exit(1)"), "its process exited during loading"),
    (dict(top="raise ValueError('x' * 10 ** 8)"), "loading raises ValueError: x{200}"),
    (dict(observations="[(-1, 1)] * 10 ** 6"), "observation_space has 1000000 numbers"),
    (dict(observations="'x' * 300_000_000"), "observation_space is 'xxx.*: give Box"),
    (dict(observations="[(-1, 1)] * random.randint(2, 500)"), "parts that it had before"),
    (dict(more="@property\n    def action_space(self): raise OSError('no bus')"),
     "loading raises OSError: no bus"),
    (dict(actions="10 ** 10 ** 3"), "action_space has choices beyond"),
    (dict(actions="[2, 2]"), "step raises TypeError"),
    (dict(reset="seed += random.random(); self.rng = random.Random(seed)"),
     "the same seed and actions give another observation at tick 0")])
def test_a_body_that_lies_from_the_start_is_refused_before_the_first_step(tmp_path, change, text):
    """Own: no run directory has a checkpoint of it."""
    assert_named(train(tmp_path, hostile(tmp_path, **change)), text)
    assert not RunDir(tmp_path / "run").checkpoint.exists()


@pytest.mark.parametrize("step", [
    "observation = [1e6 * (random.Random(self.ticks).random() - 0.5)]",   # beyond its space
    "end = False",
    "print('y' * 2_000_000) if B.n % 400 == 0 else None",
    "os.fork() == 0 and os._exit(0)"])
def test_a_body_that_is_only_odd_is_trained_on(tmp_path, step):
    """Own: numbers out of range, episodes without an end, megabytes of output, many processes."""
    done = train(tmp_path, hostile(tmp_path, step), steps=4)
    assert done.returncode == 0 and len(done.stderr) < 200_000, done.stderr[-2000:]
    assert ("the rest is dropped" in done.stderr) == ("print" in step)


def test_a_body_that_takes_all_memory_stops_the_run_which_resumes(tmp_path):
    """Own: the governor counts its process, saves and ends with 75."""
    name = hostile(tmp_path, "B.hog = [*getattr(B, 'hog', ()), b'x' * 2 ** 20]; time.sleep(0.01)",
                   after=LATER)
    done = train(tmp_path, name, "--memory=0.7", steps=10 ** 6)
    assert done.returncode == 75 and "Traceback" not in done.stderr, done.stderr[-2000:]
    assert_resumes(tmp_path, hostile(tmp_path))


def worker_of(pid: int) -> int:
    for child in descendants(pid):
        words = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
        if len(words) > 2 and words[2].endswith(b"user_class_worker.py"):
            return int(child)
    raise AssertionError("no worker")


def test_a_body_killed_as_by_the_kernel(tmp_path):
    """Own: exit code 75, saved; the same command resumes."""
    name = hostile(tmp_path)
    process = start_tiny(tmp_path / "run", *SMALL, f"--body={name}", steps=10 ** 6)
    wait_for_step(tmp_path / "run", 12, process)
    os.kill(worker_of(process.pid), signal.SIGKILL)
    stderr = process.communicate(timeout=WAIT_S)[1]
    assert process.returncode == 75 and re.search(
        "B: its process was killed during (step|reset)", stderr), stderr
    assert saved_step(tmp_path) >= 12
    assert_resumes(tmp_path, name)


def test_a_hanging_body_does_not_hold_a_signal_up(tmp_path):
    """Own: all rounds so far are saved."""
    name = hostile(tmp_path, "time.sleep(987)", after=LATER)
    process = start_tiny(tmp_path / "run", *SMALL, f"--body={name}", steps=10 ** 6)
    wait_for_step(tmp_path / "run", 30, process)
    time.sleep(1)
    start_s = time.monotonic()
    process.terminate()
    stderr = process.communicate(timeout=WAIT_S)[1]
    assert process.returncode == 0 and time.monotonic() < start_s + 10, stderr
    assert saved_step(tmp_path) >= 30


def test_a_slow_body_does_not_hold_a_signal_up_while_it_is_measured(tmp_path):
    """Own: nothing has begun, nothing is left."""
    name = hostile(tmp_path, "time.sleep(0.02)")
    process = start_tiny(tmp_path / "run", *SMALL, f"--body={name}", steps=10 ** 6)
    wait_until(lambda: any(is_worker(pid, tmp_path) for pid in descendants(process.pid)),
               process, 60)
    time.sleep(1)
    start_s = time.monotonic()
    process.terminate()
    stderr = process.communicate(timeout=WAIT_S)[1]
    assert process.returncode == 0 and time.monotonic() < start_s + 10, stderr
    assert "stopped at step 0; run the same command to resume" in stderr


@pytest.mark.parametrize("top", [
    "import subprocess; subprocess.Popen(['sleep', '987'])",
    "for _ in range(60):\n    if os.fork() == 0:\n        os.setsid()\n        time.sleep(987)"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_processes_of_a_body(tmp_path, top, number):
    """Own: nothing is left when the run ends, also when the trainer is killed."""
    process = start_tiny(tmp_path / "run", *SMALL, f"--body={hostile(tmp_path, top=top)}",
                         steps=10 ** 6)
    wait_for_step(tmp_path / "run", 5, process)
    pids = descendants(process.pid)
    process.send_signal(number)
    process.communicate(timeout=WAIT_S)
    wait_until(lambda: not pids & descendants(1), None, 30)


@pytest.mark.parametrize("target", ["os.getppid()", "-1"])
def test_a_body_that_kills(tmp_path, target):
    """Own: its parent or all that it can reach; the run is saved."""
    name = hostile(tmp_path, f"\n            {KILL.format(target)}", after=LATER)
    done = train(tmp_path, name)
    assert done.returncode in (0, 2, 75) and "Traceback" not in done.stderr, done.stderr
    assert saved_step(tmp_path) > 0


def test_a_file_of_a_brain_from_anybody_does_not_run(tmp_path):
    """Own: only the checkpoint names the class; no command runs it."""
    name = hostile(tmp_path)
    assert train(tmp_path, name, steps=3).returncode == 0
    mark = tmp_path / "ran"
    hostile(tmp_path, top=f"open({str(mark)!r}, 'w')")
    for words, code, text in (
            (["train", "--steps=9"], 2, "only the brain itself names the body .*: to let"),
            (["play"], 2, "left out: hostile.py:B, which only the brain"),
            (["export"], 0, "left out: hostile.py:B"), (["eval"], 0, "")):
        done = subprocess.run([sys.executable, "-m", "seed", *words, "--threads=1",
                               f"--run-dir={tmp_path / 'run'}"], capture_output=True, text=True,
                              timeout=WAIT_S)
        assert done.returncode == code and re.search(text, done.stderr), done.stderr[-2000:]
        assert not mark.exists()
    hostile(tmp_path)
    for words in (["play", "--episodes=4"], ["export"]):
        done = subprocess.run([sys.executable, "-m", "seed", *words, f"--body={name}",
                               "--threads=1", f"--run-dir={tmp_path / 'run'}"],
                              capture_output=True, text=True, timeout=WAIT_S)
        assert done.returncode == 0 and "hostile.py:B" in done.stdout, done.stderr[-2000:]


def test_bits_depend_on_neither_stops_nor_the_place_of_the_file(tmp_path):
    """Own: stopped, moved and resumed."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir(), parts.mkdir()
    assert train(whole, hostile(whole), steps=6).returncode == 0
    process = start_tiny(parts / "run", *SMALL, f"--body={hostile(parts)}", steps=6)
    wait_for_step(parts / "run", 2, process)
    process.kill()
    process.communicate(timeout=WAIT_S)
    (parts / "hostile.py").rename(tmp_path / "hostile.py")
    done = train(parts, "hostile.py:B", steps=6, cwd=tmp_path)
    assert done.returncode == 0 and "is now read from" in done.stderr, done.stderr[-2000:]
    first, second = (checkpoint.read(RunDir(folder / "run").checkpoint).tensors
                     for folder in (whole, parts))
    assert {k: v.tobytes() for k, v in first.items()} == {
        k: v.tobytes() for k, v in second.items()}
