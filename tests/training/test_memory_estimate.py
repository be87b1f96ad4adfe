"""The memory estimate against what real runs take, and the ceiling that a run keeps itself."""
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from seed.errors import BAD_INPUT, RETRY_LATER, ConfigError, NotEnoughMemory
from seed.evaluation.exact_match import MAX_PASS_BYTES, graph_size
from seed.profile_file import load_profile
from seed.storage import RunDir, checkpoint
from seed.system_health import MB
from seed.training.memory_estimate import check_fits, estimate_mb
from tests.support.fake_board import health
from tests.support.tiny_run import start_tiny, tiny_command, wait_and_read_stderr


def tree_mb(pid: int) -> float:
    """Resident memory of a process and its children, measured in another way than the trainer's.

    A child that shares its parent's memory, because it has not yet called exec, is left out.
    """
    try:
        text = Path(f"/proc/{pid}/status").read_text()
        rss_mb, name = int(text.split("VmRSS:")[1].split()[0]) / 1024, Path(f"/proc/{pid}/cmdline")
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return rss_mb + sum(tree_mb(int(child)) for child in children
                            if Path(f"/proc/{child}/cmdline").read_bytes() != name.read_bytes())
    except (OSError, IndexError):
        return 0.0  # it has just ended


def peak_mb(process: subprocess.Popen) -> float:
    peak = 0.0
    while process.poll() is None:
        peak = max(peak, tree_mb(process.pid))
        time.sleep(0.01)
    return peak


@pytest.mark.attack
@pytest.mark.parametrize("profile, overrides", [
    ("fast", []), pytest.param("toy", ["train.grad_accum_steps=3"], marks=pytest.mark.long),
    pytest.param("seed", ["train.batch_size=20"], marks=pytest.mark.long),
    pytest.param("toy", ["train.seq_len=8192", "train.batch_size=1"], marks=pytest.mark.long),
    pytest.param("seed", ["curriculum.eval_every_steps=2", "selfplay.every_steps=2"],
                 marks=pytest.mark.long)])
def test_the_estimate_is_within_15_percent_of_the_measured_peak(tmp_path, profile, overrides):
    """Attack 119: the case of 8192 bytes in a row."""
    options = [f"--set={text}" for text in (*overrides, "curriculum.holdout_items=4")]
    process = subprocess.Popen(
        [sys.executable, "-m", "seed", "train", "--profile", profile, "--steps", "3", "--run-dir",
         str(tmp_path), "--threads", "2", *options], stderr=subprocess.PIPE, text=True,
        stdout=subprocess.DEVNULL, env={**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cold")})
    peak = peak_mb(process)
    assert process.returncode == 0
    estimate = sum(estimate_mb(load_profile(profile, overrides), 2).values())
    assert f"memory: about {estimate:.0f} MB" in process.communicate()[1]
    assert abs(estimate / peak - 1) < 0.15, (estimate, peak)


def test_evaluations_and_rollouts_take_the_memory_of_a_step_and_what_they_need_beyond():
    large = estimate_mb(load_profile("seed"), 2)
    small = estimate_mb(load_profile("seed", ["train.batch_size=1", "train.seq_len=16"]), 2)
    logits_mb = 4 * graph_size(MAX_PASS_BYTES) * 256 / MB
    assert large["evaluation"] == pytest.approx(logits_mb) and small["evaluation"] > 2 * logits_mb
    assert small["rollouts"] == large["rollouts"] > 0   # they need less than the smaller step


def test_what_cannot_fit_is_refused_before_it_starts_with_the_sum(tmp_path):
    process = start_tiny(tmp_path, "--memory=0.15")
    errors = wait_and_read_stderr(process)
    assert process.returncode == BAD_INPUT and errors.count("\n") == 1
    assert "process 50 + compiler 105 + weights 0 + moments 0 " in errors
    assert "but the ceiling is 154 MB: use a smaller" in errors
    assert not RunDir(tmp_path).checkpoint.exists()


def test_the_board_s_free_memory_and_a_cgroup_count_as_well():
    toy = load_profile("toy")
    assert "ceiling is 6144 MB" in check_fits(toy, 2, health(left=8000.0))
    with pytest.raises(NotEnoughMemory, match="100 MB of the board's memory are free: end"):
        check_fits(toy, 2, health(left=300.0))
    with pytest.raises(ConfigError, match="the ceiling is 171 MB"):
        check_fits(toy, 2, health(cgroup=180.0))


def test_a_board_without_free_memory_ends_with_the_exit_code_that_asks_for_a_retry(tmp_path):
    """A service manager starts the run again, which it does not after bad input."""
    process = start_tiny(tmp_path, "--set=governor.min_available_mb=1e6")
    errors = wait_and_read_stderr(process)
    assert process.returncode == RETRY_LATER and errors.count("\n") == 1
    assert "of the board's memory are free: end other programs, or use a smaller" in errors
    unit = (Path(__file__).parents[2] / "bin/seed-brain.service").read_text()
    assert "Restart=on-failure" in unit and f"RestartPreventExitStatus={BAD_INPUT}\n" in unit


LEAKING = """
import sys
from pathlib import Path
from seed import system_health
from seed.__main__ import main
leaked, read = [], system_health.read
def read_and_leak(run_dir):
    if '"kind": "step"' in (run_dir / "metrics.jsonl").read_text():
        leaked.append(b"x" * 50 * 2**20)
    return read(run_dir)
system_health.read = read_and_leak
sys.exit(main(sys.argv[1:]))
"""


def test_a_run_that_leaks_saves_and_stops_at_a_ceiling_of_300_mb(tmp_path):
    """50 MB leak at each poll of the sensors, after the first step."""
    command = tiny_command(tmp_path, "--memory=0.293", steps=10 ** 8)
    (tmp_path / "metrics.jsonl").touch()
    process = subprocess.Popen([sys.executable, "-c", LEAKING, *command[3:]], text=True,
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    peak = peak_mb(process)
    errors = wait_and_read_stderr(process)
    assert process.returncode == RETRY_LATER, errors
    assert "over the ceiling of 300 MB" in errors and "run the same command to resume" in errors
    assert 300 < peak < 370
    saved = checkpoint.read(RunDir(tmp_path).checkpoint).meta["step"]
    assert saved > 0 and f"stopped at step {saved}" in errors
