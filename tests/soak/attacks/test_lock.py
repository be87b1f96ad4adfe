"""Attacks and reports of the kind: the lock guards the name and what is behind it."""
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest

from seed.storage import RunDir, checkpoint
from tests.support.attack_run import is_refused, seed, train, works
from tests.support.tiny_run import start_tiny, wait_and_read_stderr, wait_for_step

pytestmark = pytest.mark.long
ENDLESS = 10 ** 8
TEACHER = ("--set=teacher.kind=mock", "--set=teacher.tasks={copy=1.0}",
           "--set=teacher.every_steps=1")
SAVE_OFTEN = ("--set=train.save_every_minutes=0.002", "--set=train.write_gb_per_day=1e6")


def ended(process: subprocess.Popen, code: int, *words: str) -> str:
    errors = wait_and_read_stderr(process)
    assert process.returncode == code and "Traceback" not in errors, (process.returncode, errors)
    assert all(word in errors.splitlines()[-1] for word in words), errors
    return errors


@pytest.mark.parametrize("how", ["deleted", "replaced", "renamed", "linked"])
def test_a_trainer_that_lost_its_lock_saves_nothing_more(tmp_path, how):
    """Attack 72: rm, mv or a new file in place of the lock, and a second trainer."""
    run_dir = RunDir(tmp_path / "run")
    first = start_tiny(run_dir.path, steps=ENDLESS)
    wait_for_step(run_dir.path, 5, first)
    if how == "renamed":
        run_dir.lock.rename(tmp_path / "lock")
    else:
        run_dir.lock.unlink()
    if how == "replaced":
        run_dir.lock.write_text("1\n")
    if how == "linked":
        run_dir.lock.symlink_to(tmp_path / "lock")
        (tmp_path / "lock").touch()
    else:
        assert works(train(run_dir.path, steps=10))   # a second one has it meanwhile
    bits = run_dir.checkpoint.read_bytes()
    first.send_signal(signal.SIGTERM)
    ended(first, 75, str(run_dir.lock), "run the same command again")
    assert run_dir.checkpoint.read_bytes() == bits
    if how == "linked":
        run_dir.lock.unlink()
    assert works(train(run_dir.path, steps=12))


def test_a_periodic_save_notices_it_too(tmp_path):
    """Attack 72: nobody has to stop the trainer that lost its lock."""
    run_dir = RunDir(tmp_path / "run")
    process = start_tiny(run_dir.path, *SAVE_OFTEN, steps=ENDLESS)
    wait_for_step(run_dir.path, 5, process)
    run_dir.lock.unlink()
    ended(process, 75, str(run_dir.lock))
    assert works(train(run_dir.path, steps=checkpoint.read(run_dir.checkpoint).meta["step"] + 2))


def test_a_trainer_that_was_overtaken_while_it_stood_still_writes_no_line(tmp_path):
    """Own: SIGSTOP, its lock deleted, another trainer to the end, SIGCONT: the journals stay."""
    run_dir = RunDir(tmp_path / "run")
    first = start_tiny(run_dir.path, *TEACHER, steps=ENDLESS)
    wait_for_step(run_dir.path, 30, first)
    first.send_signal(signal.SIGSTOP)
    run_dir.lock.unlink()
    assert works(train(run_dir.path, *TEACHER, steps=300))
    files = (run_dir.checkpoint, run_dir.teacher_log, run_dir.metrics)
    bytes_then = [path.read_bytes() for path in files]
    first.send_signal(signal.SIGCONT)
    ended(first, 75, str(run_dir.lock), "run the same command again")
    assert [path.read_bytes() for path in files] == bytes_then


@pytest.mark.parametrize("is_replaced", [False, True])
def test_a_directory_that_was_moved_gets_the_last_save_and_nothing_elsewhere(tmp_path,
                                                                             is_replaced):
    """Own: mv RUN ELSEWHERE under a trainer, with another directory in its place or none."""
    run_dir, moved = RunDir(tmp_path / "run"), RunDir(tmp_path / "moved")
    process = start_tiny(run_dir.path, steps=ENDLESS)
    wait_for_step(run_dir.path, 20, process)
    run_dir.path.rename(moved.path)
    if is_replaced:
        run_dir.path.mkdir()
    process.send_signal(signal.SIGTERM)
    ended(process, 2, f"is saved in {moved}")
    step = checkpoint.read(moved.checkpoint).meta["step"]
    assert step >= 20 and not run_dir.checkpoint.exists()
    assert works(train(moved.path, steps=step + 2))


def test_a_directory_that_was_deleted_ends_the_run_in_one_line(tmp_path):
    """Own: rm -r RUN under a trainer."""
    process = start_tiny(tmp_path / "run", steps=ENDLESS)
    wait_for_step(tmp_path / "run", 20, process)
    shutil.rmtree(tmp_path / "run")
    process.send_signal(signal.SIGTERM)
    ended(process, 75, "was deleted or replaced")


def test_a_reader_that_holds_the_lock_for_a_while_is_waited_for(base, tmp_path):
    """Attack 74: somebody holds flock for some seconds at the start."""
    shutil.copytree(base, tmp_path / "run")
    with open(tmp_path / "run/lock") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        threading.Timer(6, fcntl.flock, (file, fcntl.LOCK_UN)).start()
        assert works(train(tmp_path / "run"))


def test_a_lock_that_stays_held_is_exit_code_75(base, tmp_path):
    """Attack 74: systemd tries again."""
    shutil.copytree(base, tmp_path / "run")
    with open(tmp_path / "run/lock") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        began_s = time.monotonic()
        assert is_refused(train(tmp_path / "run"), "is in use by process", code=75)
        assert time.monotonic() - began_s < 60


def test_a_new_lock_can_be_held_by_its_owner_alone(tmp_path):
    """Own: another user cannot open the lock, and so cannot hold it."""
    assert works(train(tmp_path / "run", steps=1))
    assert RunDir(tmp_path / "run").lock.stat().st_mode & 0o077 == 0


def test_many_starts_at_once_are_one_trainer(tmp_path):
    """Own: eight at the same moment in a new directory: one trains, the others end with 75."""
    processes = [start_tiny(tmp_path / "run", steps=300) for _ in range(8)]
    errors = [wait_and_read_stderr(process) for process in processes]
    codes = [process.returncode for process in processes]
    assert set(codes) <= {0, 75} and 0 in codes and not any("Traceback" in e for e in errors)
    assert checkpoint.read(RunDir(tmp_path / "run").checkpoint).meta["step"] == 300


def test_a_reader_never_meets_a_save_between_its_renames(tmp_path):
    """Attack 76: reading all the time while each step is saved: no alarm, never back in time."""
    run_dir = RunDir(tmp_path / "run")
    process = start_tiny(run_dir.path, "--set=train.save_every_minutes=0",
                         "--set=train.write_gb_per_day=1e6", steps=1500)
    wait_for_step(run_dir.path, 2, process)
    messages: list[str] = []
    steps = []
    while process.poll() is None:
        steps.append(run_dir.load_newest(messages.append).meta["step"])
    wait_and_read_stderr(process)
    assert not messages and len(steps) > 50
    # Between the renames the newest whole one is the one before.
    assert all(after >= before - 1 for before, after in zip(steps, steps[1:]))


def test_other_commands_beside_a_trainer_change_no_bit(base, tmp_path, rule):
    """Attack 77, Report 60: adapt and grow are refused; generate, export and eval are right."""
    for name in ("calm", "busy"):
        shutil.copytree(base, tmp_path / name)
    assert works(train(tmp_path / "calm", steps=1200))
    run_dir = RunDir(tmp_path / "busy")
    process = start_tiny(run_dir.path, steps=1200)
    wait_for_step(run_dir.path, 25, process)
    process.send_signal(signal.SIGSTOP)   # at first, so that each command meets it on any machine
    n = 0
    while process.poll() is None:
        for words in (["generate", "--prompt=x"], ["export", "--no-verify"],
                      ["adapt", f"--data={rule}", "--steps=1"], ["grow", "--to=toy"]):
            if process.poll() is not None:
                break
            done = seed(*words, f"--run-dir={run_dir}")
            if words[0] in ("adapt", "grow") and process.poll() is None:
                assert is_refused(done, "is in use by", code=75)
            elif words[0] in ("generate", "export"):
                assert works(done)
            n += 1
        process.send_signal(signal.SIGCONT)
    wait_and_read_stderr(process)
    assert n > 3 and process.returncode == 0
    if not run_dir.checkpoint_before_adaptation.exists():
        assert run_dir.checkpoint.read_bytes() == RunDir(tmp_path / "calm").checkpoint.read_bytes()


def test_a_killed_shrink_resumes_to_the_same_bits(base, tmp_path):
    """Attack 103: killed while it cuts and while the parent reads; a flipped bit in its file."""
    def command(out: str) -> list[str]:
        return [sys.executable, "-m", "seed", "shrink", f"--run-dir={base}",
                f"--out={tmp_path / out}", "--steps=30", "--threads=1", "--profile=fast",
                "--set=model.d_model=32", "--set=model.d_ff=32", "--set=model.n_layers=1",
                "--set=model.pattern=SA", "--set=train.batch_size=2", "--set=train.seq_len=32",
                "--set=distill.batches=30"]
    subprocess.run(command("calm"), check=True, capture_output=True, timeout=120)
    calm = RunDir(tmp_path / "calm").checkpoint.read_bytes()
    for delay_s in (0.8, 1.2, 1.6, 2.0, 2.6, 3.4):
        process = subprocess.Popen(command("killed"), stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL)
        time.sleep(delay_s)
        process.kill()
        process.wait()
    soft_targets = RunDir(tmp_path / "killed").soft_targets
    if soft_targets.exists():
        data = bytearray(soft_targets.read_bytes())
        data[len(data) // 2] ^= 4
        soft_targets.write_bytes(data)
    subprocess.run(command("killed"), check=True, capture_output=True, timeout=120)
    assert RunDir(tmp_path / "killed").checkpoint.read_bytes() == calm


def test_sigquit_dies_and_resumes_and_harmless_signals_do_nothing(base, tmp_path):
    """Attacks 60, 61: SIGQUIT, SIGALRM and SIGUSR2 kill; SIGPIPE and SIGWINCH do nothing."""
    shutil.copytree(base, tmp_path / "run")
    for number in (signal.SIGQUIT, signal.SIGALRM, signal.SIGUSR2):
        process = start_tiny(tmp_path / "run", steps=ENDLESS)
        wait_for_step(tmp_path / "run", 25, process)
        os.kill(process.pid, number)
        wait_and_read_stderr(process)
        assert process.returncode == -number
        assert works(train(tmp_path / "run", steps=22))
