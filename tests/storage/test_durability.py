"""Real file systems that fill up or turn read-only, and two real trainers in one directory.

The file systems are small ones mounted in a namespace of the test's own, which needs no root.
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

from seed.storage import RunDir
from tests.soak import storm
from seed.storage import checkpoint

ROOT = Path(__file__).parents[2]


def options(run_dir: Path, steps: int, *more: str) -> list[str]:
    return ["train", "--profile", "fast", "--steps", str(steps), "--threads", "1", "--run-dir",
            str(run_dir), "--set", "train.eval_every_minutes=0", "--set",
            "curriculum.holdout_items=1", "--set", "train.batch_size=1", "--set",
            "model.d_model=32", *more]


def train(run_dir: Path, steps: int, *more: str) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-m", "seed", *options(run_dir, steps, *more)],
                            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def wait_for(path: Path, text: str, process: subprocess.Popen) -> None:
    while not path.exists() or text not in path.read_text():
        assert process.poll() is None
        time.sleep(0.05)


def on_a_small_disk(tmp_path: Path, script: str, *more: str, steps: int = 1500) -> str:
    """Runs `script` with a 3 MB file system on $disk, where a training runs as process $run.

    Returns all that was printed. After it, the disk's checkpoint and metrics are in tmp_path/copy.
    """
    disk, copy = tmp_path / "disk", tmp_path / "copy"
    disk.mkdir()
    copy.mkdir()
    command = " ".join(f"'{word}'" for word in options(disk, steps, *more))
    text = f"""
        set -u
        disk={disk} log={tmp_path}/log
        mount -t tmpfs -o size=3m,nr_inodes=24 none $disk
        export CACHEDB={os.environ["CACHEDB"]}
        until_logged() {{ for i in $(seq 600); do grep -q "$1" $log && return; sleep 0.1; done
                          echo "never logged: $1"; }}
        until_step() {{ until grep -qs "step\\": $1," $disk/metrics.jsonl; do sleep 0.1; done; }}
        '{sys.executable}' -m seed {command} >$log 2>&1 &
        run=$!
        until_step 20
        {script}
        wait $run; echo "exit code $?"
        cat $log; cp -r $disk/. {copy}
    """
    done = subprocess.run(["unshare", "-rm", "sh", "-c", text], capture_output=True, text=True,
                          cwd=ROOT, timeout=100)
    assert not done.stderr, done.stderr
    return done.stdout


FILL = "cat /dev/zero >$disk/filler 2>/dev/null"
EVERY = ("--set", "train.save_every_minutes=0.01", "--set", "train.write_gb_per_day=1e6")


@pytest.mark.parametrize("fault, repair, says", [
    (FILL, "rm $disk/filler", "No space left on device"),
    ("for i in $(seq 30); do touch $disk/$i 2>/dev/null; done; rm -f $disk/.checkpoint.partial",
     "rm $disk/[0-9]*", "No space left on device"),
    ("mount -o remount,ro $disk", "mount -o remount,rw $disk", "Read-only file system")],
    ids=["full", "no inodes", "read-only"])
def test_a_run_goes_on_through_a_failing_disk_and_loses_nothing(tmp_path, fault, repair, says):
    out = on_a_small_disk(
        tmp_path, f"{fault}; until_logged 'WARNING: not saved'; sleep 1; {repair}", *EVERY)
    assert "exit code 0" in out and says in out and "saved again at step" in out, out
    found = checkpoint.read(RunDir(tmp_path / "copy").checkpoint)
    assert found.meta["step"] == 1500
    rows = (tmp_path / "copy/metrics.jsonl").read_text().splitlines()
    steps = [row["step"] for row in map(json.loads, rows) if row["kind"] == "step"]
    assert steps == list(range(1, 1501))
    assert not (tmp_path / "copy/.checkpoint.partial").exists()


def test_when_the_grace_is_over_the_run_stops_and_the_last_checkpoint_is_whole(tmp_path):
    out = on_a_small_disk(tmp_path, FILL, *EVERY, "--set", "train.save_grace_minutes=0")
    assert "exit code 1" in out and "No space left on device; only the checkpoint of" in out, out
    assert "Traceback" not in out
    found = checkpoint.read(RunDir(tmp_path / "copy").checkpoint)
    assert 0 <= found.meta["step"] < 1500


def test_a_stop_that_cannot_be_saved_says_which_checkpoint_is_safe(tmp_path):
    out = on_a_small_disk(tmp_path, f"{FILL}; sleep 0.5; kill -TERM $run")
    assert "exit code 1" in out and "only the checkpoint of step 0 is safe" in out, out
    assert checkpoint.read(RunDir(tmp_path / "copy").checkpoint).meta["step"] == 0


def test_an_input_output_error_at_any_step_of_a_save_loses_nothing(tmp_path):
    """The errors come from a preloaded library: what a dying card answers."""
    library, runs = storm.build_faults(tmp_path), {}
    for operation in storm.OPERATIONS:
        run_dir = tmp_path / operation
        runs[operation] = storm.start(run_dir, Path(os.environ["CACHEDB"]), library,
                                      f"{operation}:3:3:eio")
    for operation, process in runs.items():
        errors = process.communicate(timeout=100)[1]
        assert process.returncode == 0, errors
        assert "WARNING: not saved: Input/output error" in errors, (operation, errors)
        assert "saved again at step" in errors
        assert "Traceback" not in errors
        folder = tmp_path / operation
        assert checkpoint.read(RunDir(folder).checkpoint).meta["step"] == storm.STEPS
        assert not RunDir(folder).partial_checkpoint.exists()
    assert len({storm.outcome(tmp_path / operation) for operation in runs}) == 1


def test_a_full_disk_behind_its_messages_does_not_end_a_run(tmp_path):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "seed", "train", "--run-dir", str(tmp_path), "--threads=1",
             "--steps=4", "--json", "--set=train.batch_size=2", "--set=train.seq_len=32",
             "--set=curriculum.tasks={copy=1.0}"], stdout=subprocess.PIPE, stderr=full, timeout=100)
    assert done.returncode == 0 and json.loads(done.stdout)["step"] == 4
    assert checkpoint.read(RunDir(tmp_path).checkpoint).meta["step"] == 4


def test_a_directory_that_is_never_synced_keeps_the_checkpoint_that_was_promised(tmp_path):
    """Each such save has renamed its files already: the second must not push the promised one out.
    """
    library = storm.build_faults(tmp_path)
    process = storm.start(tmp_path / "run", Path(os.environ["CACHEDB"]), library,
                          "directory:3:99999:eio")
    wait_for(tmp_path / "run/metrics.jsonl", '"kind": "step"', process)
    said = ""
    while said.count("WARNING: not saved") < 3:
        process.send_signal(signal.SIGUSR1)
        said += process.stderr.readline()
        assert process.poll() is None, said
    process.send_signal(signal.SIGTERM)
    errors = said + process.communicate(timeout=60)[1]
    assert process.returncode == 1 and "Traceback" not in errors, errors
    promised = int(errors.split("only the checkpoint of step ")[1].split()[0])
    assert errors.count("WARNING: not saved") >= 2
    run_dir = RunDir(tmp_path / "run")
    kept = [checkpoint.read(path).meta["step"]
            for path in (run_dir.checkpoint, run_dir.previous_checkpoint)]
    assert promised in kept, kept


def test_links_in_the_run_directory_never_lead_to_a_write_elsewhere(tmp_path):
    mine, run_dir = tmp_path / "mine", tmp_path / "run"
    mine.write_text("mine")
    run_dir.mkdir()
    (run_dir / "lock").symlink_to(mine)
    assert f"{run_dir / 'lock'}: Too many levels of symbolic links" in refused(run_dir)
    (run_dir / "lock").unlink()
    RunDir(run_dir).partial_checkpoint.symlink_to(mine)
    process = train(run_dir, 3)
    assert process.communicate(timeout=60) and process.returncode == 0
    assert mine.read_text() == "mine"


def test_a_small_storm_of_kills_changes_no_bit():
    done = subprocess.run([sys.executable, "-m", "tests.soak.storm", "--kills", "12"], cwd=ROOT,
                          capture_output=True, text=True, timeout=200)
    assert done.returncode == 0 and "12 kills" in done.stdout, done.stdout + done.stderr


def test_a_second_trainer_is_refused_and_a_killed_one_leaves_no_lock(tmp_path):
    first = train(tmp_path, 100000)
    wait_for(tmp_path / "metrics.jsonl", '"step": 5,', first)
    second = train(tmp_path, 100000)
    errors = second.communicate(timeout=60)[1]
    assert second.returncode == 2
    assert errors == (f"seed: {tmp_path} is in use by process {first.pid}: stop it, or use "
                      f"another --run-dir\n")
    first.send_signal(signal.SIGKILL)
    first.communicate(timeout=60)
    third = train(tmp_path, 20)
    assert third.communicate(timeout=60) and third.returncode == 0


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> Path:
    return storm.build_faults(tmp_path_factory.mktemp("library"))


@pytest.fixture(scope="module")
def calm(tmp_path_factory) -> tuple[Path, tuple[str, str]]:
    """Kernel cache and outcome of a run that nothing disturbs."""
    folder = tmp_path_factory.mktemp("calm")
    cache = Path(os.environ["CACHEDB"])
    process = storm.start(folder / "run", cache)
    assert process.communicate(timeout=100) and process.returncode == 0
    return cache, storm.outcome(folder / "run")


def finish(run_dir: Path, cache: Path) -> tuple[str, str]:
    """What a run that was disturbed ends with when the same command is given again."""
    process = storm.start(run_dir, cache)
    errors = process.communicate(timeout=100)[1]
    assert process.returncode == 0, errors
    return storm.outcome(run_dir)


def compiler_runs(process: subprocess.Popen) -> bool:
    path = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return any(b"clang" in Path(f"/proc/{pid}/cmdline").read_bytes()
               for pid in path.read_text().split())


def says(run_dir: Path, text: str) -> bool:
    log = run_dir / "metrics.jsonl"
    return log.exists() and text in log.read_text()


PHASES = {
    "compile": ("", lambda process, run_dir: compiler_runs(process)),
    "warm-up": ("", lambda process, run_dir: says(run_dir, '"kind": "save", "step": 0')),
    "step": ("", lambda process, run_dir: says(run_dir, '"step": 40,')),
    "evaluation": ("", lambda process, run_dir: says(run_dir, f'"save", "step": {storm.STEPS}')),
    "save": ("fsync:3:3:slow", lambda process, run_dir: says(run_dir, '"save", "step": ')
             and RunDir(run_dir).partial_checkpoint.exists())}


@pytest.mark.parametrize("phase", PHASES)
def test_sigterm_in_any_phase_ends_the_run_within_ten_seconds(tmp_path, calm, library, phase):
    fault, reached = PHASES[phase]
    run_dir, (cache, outcome) = tmp_path / "run", calm
    process = storm.start(run_dir, tmp_path / "cold.db" if phase == "compile" else cache, library,
                          fault)
    while not reached(process, run_dir):
        assert process.poll() is None
        time.sleep(0.002)
    process.send_signal(signal.SIGTERM)
    asked = time.monotonic()
    errors = process.communicate(timeout=60)[1]
    assert process.returncode == 0 and "Traceback" not in errors, errors
    assert time.monotonic() - asked < 10
    assert checkpoint.read(RunDir(run_dir).checkpoint).meta["step"] <= storm.STEPS
    assert not RunDir(run_dir).partial_checkpoint.exists()
    assert finish(run_dir, cache) == outcome


def test_a_compiler_that_takes_for_ever_does_not_hold_a_stop_up(tmp_path, calm):
    """SIGTERM while the compiler of the first step runs: nothing is learnt yet, so nothing is lost.
    """
    slow = tmp_path / "cc"
    slow.write_text(f'#!/bin/sh\ntouch {tmp_path}/asked\nsleep 100\n')
    slow.chmod(0o755)
    process = subprocess.Popen(
        [sys.executable, "-m", "seed", "train", "--profile", "seed", "--steps", "9", "--run-dir",
         str(tmp_path / "run")], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "CC": str(slow), "CACHEDB": str(tmp_path / "cold.db")},
        start_new_session=True)
    while not (tmp_path / "asked").exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    asked = time.monotonic()
    assert process.wait(timeout=60) == 0 and time.monotonic() - asked < 10
    os.killpg(process.pid, signal.SIGKILL)   # the compiler, which holds on
    assert "stopped; run the same command to resume" in process.communicate()[1]


def test_a_wall_clock_that_jumps_by_years_changes_nothing(tmp_path, calm, library, monkeypatch):
    monkeypatch.setenv("FAULT_CLOCK", "1")
    monkeypatch.setenv("LD_PRELOAD", str(library))
    seen = subprocess.run([sys.executable, "-c", "import time; print(time.time() - time.time())"],
                          capture_output=True, text=True)
    assert abs(float(seen.stdout)) > 15 * 365 * 86400
    assert finish(tmp_path / "run", calm[0]) == calm[1]


def test_a_run_directory_that_was_moved_or_copied_goes_on(tmp_path, calm):
    process = storm.start(tmp_path / "here", calm[0])
    while not says(tmp_path / "here", '"step": 40,'):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    shutil.copytree(tmp_path / "here", tmp_path / "copy")
    (tmp_path / "here").rename(tmp_path / "moved")
    (tmp_path / "link").symlink_to(tmp_path / "moved")
    assert finish(tmp_path / "copy", calm[0]) == calm[1]
    assert finish(tmp_path / "link", calm[0]) == calm[1]


def test_a_checkpoint_that_is_a_link_is_read_and_its_target_is_never_written(tmp_path, calm):
    (tmp_path / "first").mkdir()
    assert finish(tmp_path / "first/run", calm[0]) == calm[1]
    target = RunDir(tmp_path / "first/run").checkpoint
    before, run_dir = target.read_bytes(), tmp_path / "run"
    run_dir.mkdir()
    RunDir(run_dir).checkpoint.symlink_to(target)
    errors = train(run_dir, 20).communicate(timeout=60)[1]
    assert "curriculum.eval_every_steps" in errors   # another run's brain
    assert target.read_bytes() == before


def refused(run_dir: Path, *command: str) -> str:
    done = subprocess.run([*command, sys.executable, "-m", "seed", *options(run_dir, 5)], cwd=ROOT,
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def test_a_directory_of_somebody_else_is_refused_and_nothing_in_it_changes(tmp_path):
    run_dir = tmp_path / "theirs"
    run_dir.mkdir()
    if os.geteuid() == 0:   # root may write everywhere, but for what its own namespace does not own
        os.chown(run_dir, 12345, 12345)
        says = refused(run_dir, "unshare", "-rm")
    else:
        run_dir.chmod(0o555)
        says = refused(run_dir)
    assert str(run_dir) in says and "Permission denied" in says
    assert not list(run_dir.iterdir())


def test_a_run_directory_that_is_a_file_or_a_dead_link_is_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    assert str(tmp_path / "file") in refused(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"
    (tmp_path / "link").symlink_to(tmp_path / "gone/away")
    assert str(tmp_path / "link") in refused(tmp_path / "link")


def test_a_run_directory_that_vanishes_under_a_run_is_missed_and_said(tmp_path):
    process = train(tmp_path / "run", RunDir(100000), "--set", "train.save_grace_minutes=0")
    wait_for(tmp_path / "run/metrics.jsonl", '"step": 20,', process)
    (tmp_path / "run").rename(tmp_path / "gone")
    process.send_signal(signal.SIGUSR1)
    errors = process.communicate(timeout=60)[1]
    assert process.returncode == 1 and "No such file or directory" in errors, errors
    assert "Traceback" not in errors
