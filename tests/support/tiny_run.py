"""Trainings of the smallest brain as real processes: all tests share its compiled kernels."""
import json
import subprocess
import sys
import time
from pathlib import Path

from seed.storage import RunDir

WAIT_S = 300.0   # on whatever machine
TINY = ("--profile=fast", "--threads=1", "--set=model.d_model=32", "--set=model.d_ff=32",
        "--set=model.n_layers=2", "--set=model.pattern=SA", "--set=train.batch_size=2",
        "--set=train.seq_len=32", "--set=train.eval_every_minutes=0",
        "--set=curriculum.tasks={copy=1.0,parity=1.0}", "--set=curriculum.holdout_items=1",
        "--set=curriculum.eval_every_steps=0")


def tiny_command(run_dir: Path, *options: str, steps: int = 20) -> list[str]:
    return [sys.executable, "-m", "seed", "train", f"--run-dir={run_dir}", f"--steps={steps}",
            *TINY, *options]


def start_tiny(run_dir: Path, *options: str, steps: int = 20, **popen) -> subprocess.Popen:
    return subprocess.Popen(tiny_command(run_dir, *options, steps=steps),
                            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, **popen)


def wait_and_read_stderr(process: subprocess.Popen) -> str:
    """Waits for the end of a process that start_tiny has started."""
    return process.communicate(timeout=WAIT_S)[1]


def rows(run_dir: Path, kind: str) -> list[dict]:
    """Whole lines of a kind in the metrics, also while they are written."""
    path = RunDir(run_dir).metrics
    text = path.read_text() if path.exists() else ""
    lines = map(json.loads, text[:text.rfind("\n") + 1].splitlines())
    return [line for line in lines if line["kind"] == kind]


def wait_for_step(run_dir: Path, step: int, process: subprocess.Popen) -> None:
    until = time.monotonic() + WAIT_S
    while not any(row["step"] >= step for row in rows(run_dir, "step")):
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.005)
