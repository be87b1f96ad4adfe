"""Real runs end in the same bits with any thread count, and through stops and resumes."""
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from seed.storage import RunDir, checkpoint
from tests.support.tiny_run import (WAIT_S, rows, start_tiny, tiny_command, wait_and_read_stderr,
                                    wait_for_step)

STEPS = 150
# Tasks of four grades, which unlock by patience.
CURRICULUM = ("--set=curriculum.tasks={copy=1.0,count=1.0,add=1.0,compare=1.0,parity=1.0}",
              "--set=curriculum.eval_every_steps=25", "--set=curriculum.eval_items=2",
              "--set=curriculum.patience_evals=2",
              "--set=train.write_gb_per_day=1e6", "--set=train.average_fraction=0.9")


def start(run_dir: Path, *options: str) -> subprocess.Popen:
    return start_tiny(run_dir, *CURRICULUM, *options, steps=STEPS)


def run(run_dir: Path, *options: str) -> bytes:
    """The last checkpoint of a run that nothing disturbs."""
    process = start(run_dir, *options)
    errors = wait_and_read_stderr(process)
    assert process.returncode == 0, errors
    return RunDir(run_dir).checkpoint.read_bytes()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> bytes:
    """The last checkpoint of a run with one thread."""
    run_dir = tmp_path_factory.mktemp("undisturbed")
    bits = run(run_dir)
    curriculum = checkpoint.read_meta(RunDir(run_dir).checkpoint)["curriculum"]
    assert curriculum["unlocked"] > 2 and curriculum["evaluated_at"] == STEPS - 25
    return bits


@pytest.mark.parametrize("threads", [3, pytest.param(2, marks=pytest.mark.long),
                                     pytest.param(4, marks=pytest.mark.long)])
def test_the_last_checkpoint_is_the_same_for_every_thread_count(undisturbed, tmp_path, threads):
    assert run(tmp_path, f"--threads={threads}") == undisturbed


def test_three_stops_and_resumes_end_in_the_same_bits(undisturbed, tmp_path):
    for step in (30, 70, 110):
        process = start(tmp_path, "--threads=2")
        wait_for_step(tmp_path, step, process)
        process.send_signal(signal.SIGTERM)
        errors = wait_and_read_stderr(process)
        assert process.returncode == 0 and "run the same command to resume" in errors
    assert run(tmp_path, "--threads=2") == undisturbed
    assert [row["step"] for row in rows(tmp_path, "step")] == list(range(1, STEPS + 1))


def test_a_finished_run_evaluates_again_and_stays_as_it_is(tmp_path):
    for _ in range(2):
        done = subprocess.run(tiny_command(tmp_path, steps=3), capture_output=True, text=True,
                              timeout=WAIT_S)
        assert done.returncode == 0 and "Done: 3 steps" in done.stdout, done.stderr
        assert "copy" in done.stdout
    assert [row["step"] for row in rows(tmp_path, "step")] == [1, 2, 3]


def test_sigusr1_saves_and_the_run_trains_on(tmp_path):
    process = start_tiny(tmp_path, "--set=train.save_every_minutes=9", steps=10 ** 8)
    wait_for_step(tmp_path, 10, process)
    process.send_signal(signal.SIGUSR1)
    until = time.monotonic() + WAIT_S
    while len(rows(tmp_path, "save")) < 2 and time.monotonic() < until:
        time.sleep(0.01)
    saved = [row["step"] for row in rows(tmp_path, "save")]
    assert len(saved) == 2 and saved[0] == 0 and saved[1] >= 10
    wait_for_step(tmp_path, saved[1] + 10, process)
    process.send_signal(signal.SIGTERM)
    wait_and_read_stderr(process)
    assert process.returncode == 0


@pytest.mark.parametrize("delay_s", [
    0.5, *(pytest.param(delay_s, marks=pytest.mark.long) for delay_s in (1.5, None))])
def test_ctrl_c_for_the_whole_process_group_ends_cleanly_at_any_moment(tmp_path, delay_s):
    """In the compilation, or after the first step."""
    env = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cold")}
    process = start_tiny(tmp_path, steps=10 ** 8, env=env, start_new_session=True)
    while "memory: about" not in process.stderr.readline():   # the signals are watched by then
        assert process.poll() is None
    if delay_s is None:
        wait_for_step(tmp_path, 1, process)
        assert list((tmp_path / "cold" / "seed-brain" / "kernels").iterdir())
    else:
        time.sleep(delay_s)
    os.killpg(process.pid, signal.SIGINT)
    errors = wait_and_read_stderr(process)
    assert process.returncode == 0, errors
    assert "run the same command to resume" in errors and "Traceback" not in errors
