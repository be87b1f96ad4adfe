"""The memory estimate against what real runs take, and the ceiling that a run keeps itself."""
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from seed.config import load_profile
from seed.errors import ConfigError
from seed.errors import BAD_INPUT, RETRY_LATER
from seed.storage import RunDir
from seed.storage import checkpoint
from seed.training.memory_estimate import check_fits, estimate_mb
from seed.errors import NotEnoughMemory
from tests.support.fake_board import health


def tree_mb(pid: int) -> float:
    """Resident memory of a process and its children. One that shares its parent's memory, because
    it has not yet called exec, is left out."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
        own, name = int(text.split("VmRSS:")[1].split()[0]) / 1024, Path(f"/proc/{pid}/cmdline")
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return own + sum(tree_mb(int(child)) for child in children
                         if Path(f"/proc/{child}/cmdline").read_bytes() != name.read_bytes())
    except (OSError, IndexError):
        return 0.0  # it has just ended


def peak_mb(process: subprocess.Popen) -> float:
    peak = 0.0
    while process.poll() is None:
        peak = max(peak, tree_mb(process.pid))
        time.sleep(0.01)
    return peak


@pytest.mark.parametrize("profile, overrides", [
    ("fast", []), ("toy", ["train.grad_accum_steps=3"]), ("seed", ["train.batch_size=20"]),
    ("seed", ["curriculum.eval_every_steps=2", "selfplay.every_steps=2"])])
def test_the_estimate_is_within_15_percent_of_the_measured_peak(tmp_path, profile, overrides):
    options = [f"--set={text}" for text in (*overrides, "curriculum.holdout_items=4")]
    process = subprocess.Popen(
        [sys.executable, "-m", "seed", "train", "--profile", profile, "--steps", "3", "--run-dir",
         str(tmp_path), "--threads", "2", *options], stderr=subprocess.PIPE, text=True,
        stdout=subprocess.DEVNULL, env={**os.environ, "CACHEDB": str(tmp_path / "cold.db")})
    peak = peak_mb(process)
    assert process.returncode == 0
    estimate = sum(estimate_mb(load_profile(profile, overrides), 2).values())
    assert f"memory: about {estimate:.0f} MB" in process.communicate()[1]
    assert abs(estimate / peak - 1) < 0.15, (estimate, peak)


def test_what_cannot_fit_is_refused_before_it_starts_with_the_arithmetic(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "seed", "train", "--profile", "seed", "--steps", "3", "--run-dir",
         str(tmp_path), "--memory", "0.25"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "process 66 + compiler 105 + weights 3 + moments 3 " in done.stderr
    assert "the ceiling is 256 MB" in done.stderr
    assert not RunDir(tmp_path).checkpoint.exists()


def test_the_board_s_free_memory_and_a_cgroup_count_as_well():
    toy = load_profile("toy")
    assert "ceiling is 6144 MB" in check_fits(toy, 2, health(left=8000.0))
    with pytest.raises(NotEnoughMemory, match="100 MB of the board's memory are free: end other"):
        check_fits(toy, 2, health(left=300.0))
    with pytest.raises(ConfigError, match="the ceiling is 190 MB"):
        check_fits(toy, 2, health(cgroup=200.0))


def test_a_board_that_has_no_memory_left_now_is_to_be_tried_again_later(tmp_path):
    """A service manager starts it again, which it does not after bad input."""
    done = subprocess.run(
        [sys.executable, "-m", "seed", "train", "--steps", "3", "--run-dir", str(tmp_path),
         "--set", "governor.min_available_mb=1e6"], capture_output=True, text=True, timeout=60)
    assert done.returncode == RETRY_LATER and done.stderr.count("\n") == 1
    assert "of the board's memory are free: end other programs, or use a smaller" in done.stderr
    unit = (Path(__file__).parents[2] / "bin/seed-brain.service").read_text()
    assert "Restart=on-failure" in unit and f"RestartPreventExitStatus={BAD_INPUT}\n" in unit


GROWING = """
import sys, threading, time
held = []
def grow():
    while True:
        held.append(b"x" * 2**20)
        time.sleep(0.04)
threading.Thread(target=grow, daemon=True).start()
from seed.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


def test_a_run_that_grows_saves_and_stops_at_a_ceiling_of_300_mb(tmp_path):
    """25 MB a second are lost to a leak; the run looks each second."""
    options = ["train", "--profile", "toy", "--steps", "100000", "--run-dir", str(tmp_path),
               "--memory", "0.293"]
    process = subprocess.Popen([sys.executable, "-c", GROWING, *options], text=True,
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    peak = peak_mb(process)
    errors = process.communicate()[1]
    assert process.returncode == RETRY_LATER, errors
    assert "over the ceiling of 300 MB" in errors and "run the same command to resume" in errors
    assert 300 < peak < 370
    saved = checkpoint.read(RunDir(tmp_path).checkpoint).meta["step"]
    assert saved > 0 and f"stopped at step {saved}" in errors
