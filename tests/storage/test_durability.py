"""Real trainings through kills, signals, failing disks and hostile directories.

The small file systems are mounted in a namespace of the test's own, which needs no root.
"""
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from seed.errors import BAD_INPUT, RETRY_LATER
from seed.storage import RunDir, checkpoint
from tests.soak import storm
from tests.support.same_lines import reproducible
from tests.support.tiny_run import (WAIT_S, rows, start_tiny, tiny_command, wait_and_read_stderr,
                                    wait_for_step)

ROOT = Path(__file__).parents[2]
CACHE = Path(os.environ["XDG_CACHE_HOME"])
ENDLESS = 10 ** 8   # steps
DISK_STEPS = 400
PARTIAL = ".checkpoint.*.partial"   # a checkpoint while it is written
NO_SPACE = "No space left on device"
FILL_DISK = "cat /dev/zero >$disk/filler 2>/dev/null"
USE_UP_INODES = ("for i in $(seq 30); do touch $disk/$i 2>/dev/null; done; "
                 "rm -f $disk/.*.partial")
SAVE_OFTEN = ("--set=train.save_every_minutes=0.005", "--set=train.write_gb_per_day=1e6")


def step_of(path: Path) -> int:
    return checkpoint.read(path).meta["step"]


def train_on_small_disk(tmp_path: Path, fault: str, repair: str, *options: str) -> str:
    """Trains on a 3 MB file system, $disk, which `fault` meets while the process $run is stopped.

    Returns all that was printed; the disk's files are in tmp_path/copy afterwards.
    """
    disk, copy = tmp_path / "disk", tmp_path / "copy"
    disk.mkdir()
    copy.mkdir()
    command = " ".join(f"'{word}'" for word in tiny_command(disk, *options, steps=DISK_STEPS))
    script = f"""
        set -u
        disk={disk} log={tmp_path}/log
        mount -t tmpfs -o size=3m,nr_inodes=24 none $disk
        until_logged() {{ until grep -q "$1" $log; do sleep 0.05; done; }}
        {command} >$log 2>&1 &
        run=$!
        until grep -qs 'step": 20,' $disk/metrics.jsonl; do sleep 0.02; done
        kill -STOP $run; {fault}; kill -CONT $run
        {repair}
        wait $run; echo "exit code $?"
        cat $log; cp -r $disk/. {copy}
    """
    done = subprocess.run(["unshare", "-rm", "sh", "-c", script], capture_output=True, text=True,
                          cwd=ROOT, timeout=WAIT_S)
    assert not done.stderr, done.stderr
    return done.stdout


@pytest.mark.parametrize("fault, repair, error", [
    (FILL_DISK, "rm $disk/filler", NO_SPACE),
    pytest.param(USE_UP_INODES, "rm $disk/[0-9]*", NO_SPACE, marks=pytest.mark.long),
    ("mount -o remount,ro $disk", "mount -o remount,rw $disk", "Read-only file system")],
    ids=["full", "no inodes", "read-only"])
def test_a_run_trains_on_through_a_failing_disk_and_loses_nothing(tmp_path, fault, repair, error):
    out = train_on_small_disk(tmp_path, fault, f"until_logged 'WARNING: not saved'; {repair}",
                              *SAVE_OFTEN)
    assert "exit code 0" in out and error in out and "saved again at step" in out, out
    assert step_of(RunDir(tmp_path / "copy").checkpoint) == DISK_STEPS
    steps = [row["step"] for row in rows(tmp_path / "copy", "step")]
    assert steps == list(range(1, DISK_STEPS + 1))
    assert not list((tmp_path / "copy").glob(PARTIAL))


def test_when_the_grace_is_over_the_run_ends_and_the_last_checkpoint_is_whole(tmp_path):
    out = train_on_small_disk(tmp_path, FILL_DISK, "", *SAVE_OFTEN,
                              "--set=train.save_grace_minutes=0")
    assert "exit code 75" in out and f"{NO_SPACE}; only the checkpoint of" in out, out
    assert "Traceback" not in out
    assert 0 <= step_of(RunDir(tmp_path / "copy").checkpoint) < DISK_STEPS


def test_a_stop_that_cannot_save_names_the_checkpoint_that_is_safe(tmp_path):
    out = train_on_small_disk(tmp_path, f"{FILL_DISK}; kill -TERM $run", "")
    assert "exit code 75" in out and "only the checkpoint of step 0 is safe" in out, out
    assert step_of(RunDir(tmp_path / "copy").checkpoint) == 0


@pytest.fixture(scope="module")
def fault_library(tmp_path_factory) -> Path:
    return storm.build_faults(tmp_path_factory.mktemp("library"))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    """The run directory of a storm's run that nothing disturbs."""
    run_dir = tmp_path_factory.mktemp("undisturbed") / "run"
    process = storm.start(run_dir, CACHE)
    errors = wait_and_read_stderr(process)
    assert process.returncode == 0, errors
    return run_dir


def finish(run_dir: Path) -> tuple[str, str]:
    """The outcome of a disturbed run, when the same command has run again."""
    process = storm.start(run_dir, CACHE)
    errors = wait_and_read_stderr(process)
    assert process.returncode == 0, errors
    return storm.outcome(run_dir)


def test_an_input_output_error_at_any_step_of_a_save_loses_nothing(tmp_path, fault_library,
                                                                   undisturbed):
    """Each step of a save fails once, as on a dying card, and a later save succeeds."""
    occurrence = {"write": 3, "fsync": 4, "previous": 4, "newest": 6, "directory": 7}
    faults = ";".join(f"{operation}:{i}:{i}:eio" for operation, i in occurrence.items())
    process = storm.start(tmp_path / "run", CACHE, fault_library, faults,
                          options=["--set=train.save_every_minutes=0"])
    errors = ""
    for line in process.stderr:
        errors += line
        if "WARNING: not saved" in line:
            process.send_signal(signal.SIGUSR1)   # else it would wait before it retries
    wait_and_read_stderr(process)
    assert process.returncode == 0 and "Traceback" not in errors, errors
    assert errors.count("WARNING: not saved: Input/output error") == len(storm.OPERATIONS), errors
    assert errors.count("saved again at step") == len(storm.OPERATIONS), errors
    assert step_of(RunDir(tmp_path / "run").checkpoint) == storm.STEPS
    assert not list((tmp_path / "run").glob(PARTIAL))
    steps = [[*map(reproducible, rows(path, "step"))] for path in (tmp_path / "run", undisturbed)]
    assert steps[0] == steps[1]


def test_a_full_disk_behind_its_messages_does_not_end_a_run(tmp_path):
    with open("/dev/full", "w") as full:
        done = subprocess.run(tiny_command(tmp_path, "--json", steps=4), stdout=subprocess.PIPE,
                              stderr=full, timeout=WAIT_S)
    assert done.returncode == 0 and json.loads(done.stdout)["step"] == 4
    assert step_of(RunDir(tmp_path).checkpoint) == 4


def test_a_directory_that_is_never_synced_keeps_the_checkpoint_that_was_called_safe(
        tmp_path, fault_library):
    """Each such save has renamed its files already: the second must not push the safe one out."""
    run_dir = RunDir(tmp_path / "run")
    process = storm.start(run_dir.path, CACHE, fault_library, "directory:3:99999:eio",
                          options=[f"--steps={ENDLESS}"])
    wait_for_step(run_dir.path, 1, process)
    errors = ""
    while errors.count("WARNING: not saved") < 3:
        process.send_signal(signal.SIGUSR1)
        errors += process.stderr.readline()
        assert process.poll() is None, errors
    process.send_signal(signal.SIGTERM)
    errors += wait_and_read_stderr(process)
    assert process.returncode == RETRY_LATER and "Traceback" not in errors, errors
    safe_step = int(errors.split("only the checkpoint of step ")[1].split()[0])
    assert safe_step in [step_of(path) for path in
                         (run_dir.checkpoint, run_dir.previous_checkpoint)]


def refusal(run_dir: Path, *wrapper: str, code: int = BAD_INPUT) -> str:
    """The one line with which a training refuses a directory."""
    done = subprocess.run([*wrapper, *tiny_command(run_dir)], cwd=ROOT, capture_output=True,
                          text=True, timeout=WAIT_S)
    assert done.returncode == code and done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def test_links_in_the_run_directory_never_lead_to_a_write_elsewhere(tmp_path):
    mine, run_dir = tmp_path / "mine", RunDir(tmp_path / "run")
    mine.write_text("mine")
    run_dir.path.mkdir()
    run_dir.lock.symlink_to(mine)
    assert f"{run_dir.lock}: Too many levels of symbolic links" in refusal(run_dir.path)
    run_dir.lock.unlink()
    (run_dir.path / f".checkpoint.safetensors.{16 * '0'}.partial").symlink_to(mine)
    process = start_tiny(run_dir.path, steps=3)
    errors = wait_and_read_stderr(process)
    assert process.returncode == 0, errors
    assert mine.read_text() == "mine"


@pytest.mark.parametrize("kills", [2, pytest.param(100, marks=pytest.mark.long)])
def test_a_storm_of_kills_changes_no_bit(kills):
    done = subprocess.run([sys.executable, "-m", "tests.soak.storm", "--kills", str(kills)],
                          cwd=ROOT, capture_output=True, text=True, timeout=20 * WAIT_S)
    assert done.returncode == 0 and f"{kills} kills" in done.stdout, done.stdout + done.stderr


@pytest.mark.long
def test_a_storm_of_faults_of_every_kind_changes_no_bit():
    done = subprocess.run([sys.executable, "-m", "tests.soak.storm", "--minutes", "3"], cwd=ROOT,
                          capture_output=True, text=True, timeout=10 * WAIT_S)
    assert done.returncode == 0 and "all bit-identical" in done.stdout, done.stdout + done.stderr


def test_a_second_trainer_is_refused_and_a_killed_one_leaves_no_lock(tmp_path):
    first = start_tiny(tmp_path, steps=ENDLESS)
    wait_for_step(tmp_path, 5, first)
    assert refusal(tmp_path, code=RETRY_LATER) == (
        f"seed: {tmp_path} is in use by process {first.pid}: stop it, or use another --run-dir\n")
    first.kill()
    wait_and_read_stderr(first)
    third = start_tiny(tmp_path)
    errors = wait_and_read_stderr(third)
    assert third.returncode == 0, errors


def is_compiling(process: subprocess.Popen) -> bool:
    path = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return any(b"clang" in Path(f"/proc/{pid}/cmdline").read_bytes()
               for pid in path.read_text().split())


def has_saved(run_dir: Path, step: int) -> bool:
    return any(row["step"] >= step for row in rows(run_dir, "save"))


# Phase -> (injected fault that keeps the process in it, predicate that it has been reached).
PHASES = {
    "compiling": ("", lambda process, run_dir: is_compiling(process)),
    "warming up": ("", lambda process, run_dir: "MB are saved every" in process.stderr.readline()),
    "stepping": ("", lambda process, run_dir: any(row["step"] >= 40 for row in
                                                  rows(run_dir, "step"))),
    "saving": ("fsync:1:1:slow", lambda process, run_dir: list(run_dir.glob(PARTIAL))),
    "evaluating": ("", lambda process, run_dir: has_saved(run_dir, storm.STEPS))}


def test_sigterm_in_any_phase_ends_the_run_within_ten_seconds_and_changes_no_bit(
        tmp_path, undisturbed, fault_library):
    """One run is stopped in each phase in turn."""
    run_dir = tmp_path / "run"
    for phase, (fault, is_reached) in PHASES.items():
        cache = tmp_path / "cold" if phase == "compiling" else CACHE
        process = storm.start(run_dir, cache, fault_library, fault)
        while not is_reached(process, run_dir):
            assert process.poll() is None, phase
            time.sleep(0.002)
        process.send_signal(signal.SIGTERM)
        signalled_s = time.monotonic()
        errors = wait_and_read_stderr(process)
        assert process.returncode == 0 and "Traceback" not in errors, (phase, errors)
        assert time.monotonic() - signalled_s < 10, phase
        assert step_of(RunDir(run_dir).checkpoint) <= storm.STEPS
        assert not list(run_dir.glob(PARTIAL))
    assert finish(run_dir) == storm.outcome(undisturbed)


@pytest.mark.long
def test_a_compiler_that_never_ends_does_not_delay_a_stop(tmp_path):
    """SIGTERM while the first step is compiled: no step is lost by the end of the process."""
    compiler = tmp_path / "cc"
    compiler.write_text(f"#!/bin/sh\n[ $1 = --version ] && exec clang $1\n"
                        f"touch {tmp_path}/started\nexec sleep 1000\n")
    compiler.chmod(0o755)
    process = start_tiny(tmp_path / "run", start_new_session=True, env={
        **os.environ, "CC": str(compiler), "XDG_CACHE_HOME": str(tmp_path / "cold")})
    while not (tmp_path / "started").exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    signalled_s = time.monotonic()
    assert process.wait(timeout=WAIT_S) == 0 and time.monotonic() - signalled_s < 10
    assert "stopped; run the same command to resume" in wait_and_read_stderr(process)


def test_a_wall_clock_that_jumps_by_years_changes_nothing(tmp_path, undisturbed, fault_library,
                                                          monkeypatch):
    monkeypatch.setenv("FAULT_CLOCK", "1")
    monkeypatch.setenv("LD_PRELOAD", str(fault_library))
    jump = subprocess.run([sys.executable, "-c", "import time; print(time.time() - time.time())"],
                          capture_output=True, text=True)
    assert abs(float(jump.stdout)) > 15 * 365 * 86400
    assert finish(tmp_path / "run") == storm.outcome(undisturbed)


def test_a_run_directory_that_was_copied_moved_and_linked_resumes_to_the_same_bits(
        tmp_path, undisturbed):
    process = storm.start(tmp_path / "here", CACHE)
    wait_for_step(tmp_path / "here", 40, process)
    process.send_signal(signal.SIGTERM)
    wait_and_read_stderr(process)
    shutil.copytree(tmp_path / "here", tmp_path / "copy")
    (tmp_path / "copy").rename(tmp_path / "moved")
    (tmp_path / "link").symlink_to(tmp_path / "moved")
    assert finish(tmp_path / "link") == storm.outcome(undisturbed)


def test_a_checkpoint_that_is_a_link_is_read_and_its_target_is_never_written(
        tmp_path, undisturbed):
    target, run_dir = RunDir(undisturbed).checkpoint, RunDir(tmp_path / "run")
    before = target.read_bytes()
    run_dir.path.mkdir()
    run_dir.checkpoint.symlink_to(target)
    errors = wait_and_read_stderr(start_tiny(run_dir.path))   # another run's brain
    assert "curriculum.eval_every_steps" in errors
    assert target.read_bytes() == before


def test_a_directory_of_another_user_is_refused_and_nothing_in_it_changes(tmp_path):
    run_dir = tmp_path / "theirs"
    run_dir.mkdir()
    wrapper: tuple[str, ...] = ()
    if os.geteuid() == 0:   # root may write everywhere, except what its namespace does not own
        os.chown(run_dir, 12345, 12345)
        wrapper = ("unshare", "-rm")
    else:
        run_dir.chmod(0o555)
    error = refusal(run_dir, *wrapper)
    assert str(run_dir) in error and "Permission denied" in error
    assert not list(run_dir.iterdir())


def test_a_run_directory_that_is_a_file_or_a_dead_link_is_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    assert str(tmp_path / "file") in refusal(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"
    (tmp_path / "link").symlink_to(tmp_path / "gone/away")
    assert str(tmp_path / "link") in refusal(tmp_path / "link")


def test_a_run_whose_directory_is_moved_saves_into_it_and_ends(tmp_path):
    process = start_tiny(tmp_path / "run", steps=ENDLESS)
    wait_for_step(tmp_path / "run", 20, process)
    (tmp_path / "run").rename(tmp_path / "gone")
    process.send_signal(signal.SIGUSR1)
    errors = wait_and_read_stderr(process)
    assert process.returncode == BAD_INPUT and "Traceback" not in errors, errors
    assert f"is saved in {tmp_path / 'gone'}; resume with that --run-dir" in errors
    assert step_of(RunDir(tmp_path / "gone").checkpoint) >= 20
    assert not (tmp_path / "run").exists()
