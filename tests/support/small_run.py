"""Run directories with a small brain, and the command line of seed, as most tests need them."""
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from seed.config import Profile
from seed.curriculum.state import CurriculumState
from seed.profile_file import load_profile
from seed.resize import shrink
from seed.storage import RunDir
from seed.training.step import Learner

SMALL = ["curriculum.tasks={copy=1.0,parity=1.0}", "train.batch_size=2", "train.seq_len=32"]
META = {"step": 0, "skipped": 0, "elapsed_s": 0.0, "rollbacks": 0, "nonfinite_in_a_row": 0,
        "plan": {"decay_start": None, "total_steps": None},
        "curriculum": CurriculumState(1, 1).to_dict()}


def untrained_run(folder: Path, *overrides: str) -> Profile:
    """Saves an untrained brain of three layers, with its optimizer, in a new run directory."""
    profile = load_profile("toy", [*SMALL, "model.n_layers=3", *overrides])
    folder.mkdir()
    RunDir(folder).save(Learner(profile, 1).state_dict(), {"profile": profile.to_dict(), **META})
    return profile


def batches(n: int = 4):
    return shrink.calibration_batches(load_profile("toy", SMALL), n)


def seed(*options: str, timeout_s: float = 300) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "seed", *options], capture_output=True, text=True,
                          timeout=timeout_s)


def wait_until(is_true_fn: Callable[[], object], process: subprocess.Popen | None = None,
               timeout_s: float = 300) -> None:
    """Fails if the process ends first, or after so long on whatever machine."""
    until = time.monotonic() + timeout_s
    while not is_true_fn():
        if process is not None and process.poll() is not None:
            pytest.fail(f"the process ended with {process.returncode}")
        if time.monotonic() > until:
            pytest.fail(f"not true after {timeout_s} s")
        time.sleep(0.02)
