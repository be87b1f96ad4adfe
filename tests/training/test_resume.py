"""Real processes: the same bits for every thread count and through every interruption."""
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from seed.storage import RunDir
from seed.storage.checkpoint import read_meta

STEPS = 150


def command(run_dir: Path, *options: str, steps: int = STEPS) -> list[str]:
    return [sys.executable, "-m", "seed", "train", "--profile", "toy", "--steps", str(steps),
            "--run-dir", str(run_dir), "--set", "train.eval_every_minutes=0",
            "--set", "curriculum.holdout_items=2", "--set", "curriculum.eval_every_steps=25",
            "--set", "curriculum.eval_items=2", "--set", "curriculum.patience_evals=2",
            "--set", "train.batch_size=8", *options]


def run(run_dir: Path, *options: str, steps: int = STEPS) -> subprocess.CompletedProcess:
    return subprocess.run(command(run_dir, *options, steps=steps), capture_output=True, text=True,
                          timeout=300)


def sha256(run_dir: Path) -> str:
    return hashlib.sha256(RunDir(run_dir).checkpoint.read_bytes()).hexdigest()


def logged(run_dir: Path) -> list[dict]:
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def steps_logged(run_dir: Path) -> list[int]:
    return [row["step"] for row in logged(run_dir) if row["kind"] == "step"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> str:
    """sha256 of the final checkpoint of a run that nothing disturbs, with one thread."""
    run_dir = tmp_path_factory.mktemp("whole")
    done = run(run_dir, "--threads", "1")
    assert done.returncode == 0, done.stderr
    assert f"finished at step {STEPS}" in done.stdout and "copy" in done.stdout
    again = run(run_dir, "--threads", "1")
    assert again.returncode == 0 and f"finished at step {STEPS}" in again.stdout
    curriculum = read_meta(RunDir(run_dir).checkpoint)["curriculum"]
    assert curriculum["unlocked"] > 2 and curriculum["evaluated_at"] == 125
    return sha256(run_dir)


@pytest.mark.parametrize("threads", [2, 3, 4])
def test_the_final_checkpoint_is_the_same_for_every_thread_count(whole, tmp_path, threads):
    done = run(tmp_path, "--threads", str(threads))
    assert done.returncode == 0, done.stderr
    assert sha256(tmp_path) == whole


def test_three_stops_and_resumes_end_in_the_same_bits(whole, tmp_path):
    for stop_after in (30, 70, 110):
        process = subprocess.Popen(command(tmp_path, "--threads", "2"), stdout=subprocess.DEVNULL,
                                   stderr=subprocess.PIPE, text=True)
        wait_for_steps(process, tmp_path, stop_after)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0 and "run the same command to resume" in errors
    assert run(tmp_path, "--threads", "2").returncode == 0
    assert sha256(tmp_path) == whole
    assert steps_logged(tmp_path) == list(range(1, STEPS + 1))


def wait_for_steps(process: subprocess.Popen, run_dir: Path, steps: int) -> None:
    """Until the running process has logged so many steps."""
    path = run_dir / "metrics.jsonl"
    while not path.exists() or path.read_text().count('"kind": "step"') < steps:
        assert process.poll() is None
        time.sleep(0.05)


def test_sigusr1_saves_and_the_run_goes_on(tmp_path):
    process = subprocess.Popen(command(tmp_path, "--set", "train.save_every_minutes=9", steps=100),
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for_steps(process, tmp_path, 10)
    process.send_signal(signal.SIGUSR1)
    assert process.wait(timeout=60) == 0
    saves = [row["step"] for row in logged(tmp_path) if row["kind"] == "save"]
    assert saves[0] == 0 and 10 <= saves[1] < 100 and saves[2:] == [100]


@pytest.mark.parametrize("delay", [0.5, 1.0, 2.0, 4.0])
def test_ctrl_c_for_the_whole_process_group_exits_cleanly_at_any_moment(tmp_path, delay):
    """0.5 to 2 s fall into the compilation of the kernels, whose compiler gets the signal too."""
    env = {key: value for key, value in os.environ.items() if key != "CACHEDB"}
    process = subprocess.Popen(command(tmp_path), stdout=subprocess.DEVNULL, env=env,
                               stderr=subprocess.PIPE, text=True, start_new_session=True)
    time.sleep(delay)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 0, errors
    assert "run the same command to resume" in errors and "Traceback" not in errors
    assert delay < 2 or list(tmp_path.glob("kernels.*.db"))   # in its place by default
