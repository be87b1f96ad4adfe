"""Trials: the measurements of a child and how its end becomes an outcome. Most children are cheap
stand-ins (tests/support/fake_training.py)."""
import os
import signal
import subprocess
import sys
import time
from math import exp
from pathlib import Path
from types import SimpleNamespace

import pytest

from seed import system_health
from seed.errors import ConfigError, NotEnoughMemory
from seed.profile_file import load_profile
from seed.resize import trial, trial_watch
from seed.resize.size_search import LADDER
from seed.resize.trial import run_trial
from seed.resize.trial_watch import Outcome, Sample, may_reach, settling_temp_c, speed
from seed.storage import RunDir
from tests.support import fake_training
from tests.support.fake_clock import FakeClock
from tests.support.small_run import wait_until

ROOT = Path(__file__).parents[2]
SMALL = LADDER[0]._replace(batch_size=1, seq_len=32)
COPY = load_profile("toy", ["curriculum.tasks={copy=1.0}"])


def try_small(folder: Path, seconds: float = 1.0, limit_mb: float = 1000.0, **options):
    return run_trial(COPY, SMALL, 1, seconds, limit_mb, RunDir(folder), **options)


@pytest.fixture
def fake(monkeypatch):
    """Replaces the child by a stand-in with some behaviour."""
    return lambda **behaviour: fake_training.install(monkeypatch.setattr, **behaviour)


@pytest.mark.parametrize("end, tau", [(70.0, 20.0), (85.0, 60.0)])
def test_the_settling_temperature_is_extrapolated_from_the_beginning_of_a_trace(end, tau):
    trace = [end - 40 * exp(-i / tau) for i in range(60)]
    assert settling_temp_c(trace) == pytest.approx(end, abs=3)


@pytest.mark.parametrize("end, tau, longer", [
    (74.0, 60.0, True), (74.0, 180.0, True), (74.0, 300.0, True), (90.0, 180.0, True),
    (90.0, 300.0, True), (60.0, 8.0, False), (68.0, 4.0, False)])
def test_a_board_that_may_get_too_hot_is_watched_for_longer(end, tau, longer):
    """With a reading every 0.1 s for a minute, to half a degree, as on a Pi."""
    temps = [round(2 * (end - 30 * exp(-i / 10 / tau))) / 2 for i in range(600)]
    assert may_reach(73.0, temps, 60.0) == longer
    assert not may_reach(73.0, [*temps, 73.0], 60.0)   # it has been there
    assert not may_reach(73.0, [], 60.0)


def test_a_rise_that_does_not_slow_down_is_extrapolated_and_a_level_temperature_is_not():
    assert settling_temp_c([50 + i / 4 for i in range(60)]) > 120
    assert settling_temp_c([60.0, 60.4] * 30) == pytest.approx(60.2)
    assert settling_temp_c([70 - i / 10 for i in range(60)]) < 70
    assert settling_temp_c([]) is None


def samples(*starts: float) -> list[Sample]:
    """Samples every 0.1 s of steps that begin at those seconds and take 0.1 s."""
    ends = [start + 0.1 for start in starts]
    return [Sample(i / 10, sum(end <= i / 10 + 1e-9 for end in ends), 100.0, None, ())
            for i in range(int(10 * ends[-1]) + 20)]


def test_speed_is_that_between_the_first_and_the_last_step_seen():
    step_s, jitter = speed(samples(*(5 + i / 4 for i in range(41))))
    assert step_s == pytest.approx(0.25, rel=0.02) and jitter < 0.1
    assert speed(samples(1.0)) == (None, None)


def test_a_stall_of_any_length_raises_the_jitter():
    starts = [i / 4 for i in range(40)]
    short = speed(samples(*starts[:20], *(start + 2.5 for start in starts[20:])))[1]
    longest = speed(samples(*starts, 600.0))[1]
    assert 0.4 < short < 0.6 and longest > 1.5


def test_a_real_trial_measures_a_brain_and_does_not_read_the_parent_it_was_shrunk_from(
        tmp_path, monkeypatch):
    """The parent is large and slow, and may be gone."""
    monkeypatch.setattr(trial, "_cold_cache", lambda run_dir: {})
    child = load_profile("toy", ["curriculum.tasks={copy=1.0}", "distill.parent=gone"])
    result = run_trial(child, SMALL, 1, 2.0, 1000.0, RunDir(tmp_path / "trial"))
    assert (result.outcome, result.message) == (Outcome.FINISHED, "")
    assert result.steps >= trial_watch.MIN_TREND_STEPS and 0 < result.step_s < 10
    assert 50 < result.peak_mb < 1000 and result.first_loss and result.skipped_steps == 0
    assert not (tmp_path / "trial").exists()


def test_swap_that_a_child_frees_at_its_end_is_measured(tmp_path, monkeypatch, fake):
    fake()
    used = iter([0.0, 10.0, *[510.0] * 3])
    monkeypatch.setattr("seed.system_health.swap_used_mb", lambda *root: system_health.Reading(
        next(used, 10.0)))
    assert try_small(tmp_path / "trial").swap_mb == 500.0


def test_a_child_that_is_killed_exceeds_the_memory_limit_or_hangs_has_an_outcome(tmp_path, fake):
    fake(hangs_after=3)
    result = try_small(tmp_path / "trial", 60.0, hang_timeout_s=2.0)
    assert result.outcome is Outcome.HUNG and result.steps <= 3
    assert result.message.startswith("no progress for ")
    fake(memory_mb=100)
    result = try_small(tmp_path / "trial", 60.0, limit_mb=60.0)
    assert result.outcome is Outcome.OUT_OF_MEMORY
    assert result.message == "it took more than 60 MB" and 60 < result.peak_mb < 300
    fake()
    killer = subprocess.Popen(["sh", "-c", "until kill -9 $(pgrep -f \"$0\"); do sleep 0.1; done",
                               f"{tmp_path}/[k]illed/metrics.jsonl"], stderr=subprocess.DEVNULL)
    result = try_small(tmp_path / "killed", 60.0)
    killer.wait()
    assert result.outcome is Outcome.KILLED and result.message.startswith("killed by SIGKILL")


@pytest.mark.parametrize("behaviour, outcome, message", [
    ({"says": "seed: loss is not finite at step 6", "code": 1, "skips": 1}, Outcome.DIVERGED,
     "loss is not finite at step 6"),
    ({"says": "MemoryError", "code": 1}, Outcome.OUT_OF_MEMORY, "MemoryError"),
    ({"says": "seed: needs 300 MB", "code": 75}, Outcome.NOT_ENOUGH_MEMORY_NOW, "needs 300 MB"),
    ({"governor": "memory", "code": 75}, Outcome.STOPPED,
     "training stopped itself: stop, because of memory")])
def test_the_outcome_follows_from_exit_code_and_metrics(tmp_path, fake, behaviour, outcome,
                                                        message):
    fake(**behaviour)
    result = try_small(tmp_path / "trial", 60.0)
    assert (result.outcome, result.message) == (outcome, message)
    assert result.outcome.is_retryable == (behaviour["code"] == 75)


@pytest.mark.parametrize("error, outcome", [(NotEnoughMemory, Outcome.NOT_ENOUGH_MEMORY_NOW),
                                            (ConfigError, Outcome.OUT_OF_MEMORY)])
def test_a_size_that_does_not_fit_starts_no_child(tmp_path, monkeypatch, error, outcome):
    def refuse(*args):
        raise error("it needs 300 MB")
    monkeypatch.setattr(trial, "check_fits", refuse)
    monkeypatch.setattr(trial, "train_command", None)
    result = try_small(tmp_path / "trial")
    assert result.outcome is outcome and "it needs 300 MB" in result.message


def test_a_trial_too_slow_for_a_trend_is_extended_up_to_a_limit(tmp_path, monkeypatch, fake):
    fake(pause_s=0.05)
    monkeypatch.setattr(trial_watch, "MAX_TIME_FACTOR", 1.0)
    monkeypatch.setattr(trial_watch, "MIN_TREND_STEPS", 10 ** 6)
    result = try_small(tmp_path / "short", 0.2)
    assert result.outcome is Outcome.FINISHED and result.steps and result.first_loss is None
    monkeypatch.setattr(trial_watch, "MAX_TIME_FACTOR", 1e4)   # on whatever machine
    monkeypatch.setattr(trial_watch, "MIN_TREND_STEPS", 20)
    result = try_small(tmp_path / "long", 0.2)
    assert result.outcome is Outcome.FINISHED and result.steps >= 20 and result.first_loss


def test_an_error_of_a_task_ends_the_search_and_is_no_trial(tmp_path):
    with pytest.raises(ConfigError, match="failed: .*task.py"):
        run_trial(load_profile("toy", [], [f"{tmp_path}/task.py:Nothing"]), LADDER[0], 1, 3.0,
                  1000.0, RunDir(tmp_path / "trial"))


FULL = 'mount -t tmpfs -o size=4m none "$1"; shift; exec "$@"'
FILLED = """
import sys, threading, time
from contextlib import suppress
from pathlib import Path
from seed.profile_file import load_profile
from seed.resize.trial import Size, run_trial
from seed.storage import RunDir
from tests.support import fake_training
from tests.support.fake_clock import FakeClock
folder = Path(sys.argv[1]) / "trial"

def fill():
    metrics = folder / "metrics.jsonl"
    while not metrics.exists() or '"step"' not in metrics.read_text():
        time.sleep(0.02)
    with open(folder.parent / "full", "wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass

threading.Thread(target=fill, daemon=True).start()
if sys.argv[2] == "fake":
    fake_training.install()
small = load_profile("toy", ["curriculum.tasks={copy=1.0}"])
print(run_trial(small, Size(64, 4, 1, 32), 1, 60.0, 1000.0, RunDir(folder), hang_timeout_s=4.0))
"""


@pytest.mark.parametrize("child, size", [
    ("fake", "4m"), pytest.param("real", "30m", marks=pytest.mark.long)])
def test_a_disk_that_others_fill_during_a_trial_is_reported(tmp_path, child, size):
    """The child trains without writing metrics, as if it hung."""
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", FULL.replace("4m", size), "sh", str(tmp_path),
         sys.executable, "-c", FILLED, str(tmp_path), child],
        capture_output=True, text=True, timeout=600, cwd=ROOT)
    assert done.stdout == "" and done.stderr.endswith("failed: No space left on device\n")


def test_a_signal_that_stops_child_and_search_ends_the_search(tmp_path, fake):
    """It is sent to the whole group; the child may end first."""
    fake()
    metrics = tmp_path / "trial/metrics.jsonl"

    def children() -> set[int]:
        pid = os.getpid()
        return {int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}
    others = children()   # which earlier tests in this process have not waited for

    def stop_children() -> bool:
        if metrics.exists() and '"step"' in metrics.read_text():
            for pid in children() - others:
                os.kill(pid, signal.SIGTERM)
        return not children() - others
    with pytest.raises(KeyboardInterrupt):
        try_small(tmp_path / "trial", 60.0, should_stop_fn=stop_children)


def test_a_search_is_stopped_while_it_waits_for_a_cool_board(monkeypatch):
    monkeypatch.setattr("seed.system_health.temp_c", lambda: 85.0)
    answers = iter([False, False, True])
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    with pytest.raises(KeyboardInterrupt):
        trial.cool_down(70.0, lambda: next(answers))
    clock = iter(range(100))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))
    trial.cool_down(70.0, lambda: False, max_s=5.0)   # it gives up
    assert next(clock) > 5


LATE = """
import os, subprocess, sys, time
from pathlib import Path
from seed.resize import trial
def late(parent):
    Path(sys.argv[1]).write_text(str(os.getpid()))
    while os.getppid() == parent:
        time.sleep(0.01)
    trial._die_with_parent(parent)
subprocess.Popen(["sleep", "60"], preexec_fn=lambda parent=os.getpid(): late(parent))
"""


def test_a_search_killed_while_a_trial_begins_leaves_nothing_running(tmp_path):
    """Killed after the fork, before the child has asked to end with it."""
    pid = tmp_path / "pid"
    process = subprocess.Popen([sys.executable, "-c", LATE, str(pid)], cwd=ROOT)
    wait_until(lambda: pid.exists() and pid.read_text(), process)
    process.kill()
    process.wait()
    child = Path("/proc", pid.read_text())
    wait_until(lambda: not child.exists() or ") Z " in (child / "stat").read_text())


def test_a_search_waits_for_the_robot_before_a_trial_which_has_no_report_of_its_own(
        tmp_path, monkeypatch):
    clock, report, slept = FakeClock(), tmp_path / "health.json", []
    report.write_text('{"level": "stop"}')
    profile = load_profile("toy", [f"governor.report_file={report}", "governor.only_idle=true"])

    def sleep(seconds: float) -> None:
        clock.now += seconds
        slept.append(clock.now)
        levels = {5: '{"level": "critical"}', 20: '{"level": 0, "idle": false}',
                  100: '{"level": 0, "idle": true}'}
        report.write_text(levels.get(round(clock.now), report.read_text()))
    monkeypatch.setattr(trial, "time", SimpleNamespace(monotonic=clock, sleep=sleep))
    trial.wait_for_robot(profile.governor, lambda: False)
    assert 150 < slept[-1] < 170   # a minute after it was last busy
    report.write_text('{"level": "critical"}')
    with pytest.raises(KeyboardInterrupt):
        trial.wait_for_robot(profile.governor, lambda: len(slept) > 200)
    assert not trial._child_profile(profile, SMALL, 1.0).governor.has_report
