"""Each signal that asks for an end saves and ends; a run in a program leaves its signals alone."""
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from seed.storage import RunDir, checkpoint
from seed.training.schedule import WorkClock
from seed.training.stop_signals import STOP, StopSignals, watched
from tests.support.processes import full_pipe
from tests.support.small_run import wait_until
from tests.support.tiny_run import TINY, rows, start_tiny, wait_and_read_stderr, wait_for_step

UNSAVED = ("--set=train.save_every_minutes=60",)


def saved_step(run_dir) -> int:
    return checkpoint.read(RunDir(run_dir).checkpoint).meta["step"]


@pytest.mark.attack
@pytest.mark.parametrize("number", [
    signal.SIGTERM, signal.SIGHUP, *(
        pytest.param(number, marks=pytest.mark.long)
        for number in STOP if number not in (signal.SIGTERM, signal.SIGHUP))],
    ids=lambda number: number.name)
def test_each_signal_that_asks_for_an_end_saves_and_ends_with_0(tmp_path, number):
    """Attack 58, Report 1: the terminal or the ssh session is closed; and its siblings."""
    process = start_tiny(tmp_path, *UNSAVED, steps=10 ** 8)
    wait_for_step(tmp_path, 5, process)
    process.send_signal(number)
    errors = wait_and_read_stderr(process)
    assert process.returncode == 0 and "Traceback" not in errors
    assert saved_step(tmp_path) >= 5


@pytest.mark.attack
def test_a_run_under_nohup_goes_on_when_the_terminal_closes(tmp_path):
    """Report 1: nohup stays nohup."""
    process = start_tiny(tmp_path, *UNSAVED, steps=10 ** 8,
                         preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    wait_for_step(tmp_path, 5, process)
    process.send_signal(signal.SIGHUP)
    wait_for_step(tmp_path, 50, process)
    process.terminate()
    wait_and_read_stderr(process)
    assert process.returncode == 0 and saved_step(tmp_path) >= 50


def test_after_a_run_in_a_program_its_signals_do_again_what_they_did():
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    for number in STOP:
        with watched(None) as signals:
            os.kill(os.getpid(), number)
            wait_until(signals.stop.is_set)
        assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == mask
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
        signals.stop.wait(0)


def test_signals_that_the_caller_watches_stay_watched():
    signals = StopSignals().watch()
    with watched(signals) as same:
        assert same is signals
    os.kill(os.getpid(), signal.SIGUSR1)
    wait_until(signals.save.is_set)
    signals.release()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
def test_the_first_signal_is_answered_with_what_a_second_would_lose(tmp_path, number):
    process = start_tiny(tmp_path, *UNSAVED, steps=10 ** 8)
    wait_for_step(tmp_path, 5, process)
    process.send_signal(number)
    errors = wait_and_read_stderr(process)
    answers = re.findall(r"^saving \.\.\. \(Ctrl-C again: quit without saving, (\d+) steps would "
                         r"be lost\)$", errors, re.MULTILINE)
    assert len(answers) == 1 and 5 <= int(answers[0]) <= saved_step(tmp_path), errors


def test_a_signal_before_the_run_has_begun_is_answered_too():
    done = subprocess.run([sys.executable, "-c", EARLY], stderr=subprocess.PIPE, text=True)
    assert done.stderr == ("stopping ... (Ctrl-C again: at once)\nstopped at once; run the same "
                           "command to resume from the last save\n") and done.returncode == 130


EARLY = """
import os, signal, sys, time
from seed.training.stop_signals import StopSignals
signals = StopSignals().watch()
os.kill(os.getpid(), signal.SIGINT)
signals.stop.wait()
time.sleep(0.1)
os.kill(os.getpid(), signal.SIGINT)
time.sleep(60)
"""
FULL_PIPE = """
import os, time
from seed.training.stop_signals import StopSignals
import seed.training.stop_signals as module
module.DEADLINE_S = 0.1
signals = StopSignals(exit_code=7).watch()
os.kill(os.getpid(), 15)
time.sleep(60)
"""


@pytest.mark.attack
def test_an_end_that_is_late_is_not_held_up_by_a_full_pipe():
    """Attack 56: the thread that ends the run does not print."""
    reader, writer = full_pipe()
    done = subprocess.run([sys.executable, "-c", FULL_PIPE], stderr=writer, timeout=30)
    os.close(reader)
    os.close(writer)
    assert done.returncode == 7


STRIKING = """#!/bin/sh
# Passes on to clang until the run has made a step.
if [ "$1" != --version ] && [ -e RUN/metrics.jsonl ] && grep -q '"step": 5,' RUN/metrics.jsonl; then
    touch RUN.struck
    {strike}
fi
exec clang "$@"
"""


@pytest.mark.attack
@pytest.mark.parametrize("strike, code", [
    ("sleep 1000", 0), pytest.param("echo internal error >&2; exit 1", 75, marks=pytest.mark.long),
    pytest.param("kill -9 $$", 75, marks=pytest.mark.long)], ids=["hangs", "fails", "is killed"])
def test_a_compiler_that_is_lost_in_a_run_costs_no_step(tmp_path, strike, code):
    """Attacks 52, 54. The first evaluation compiles kernels, seven steps after the last save."""
    compiler, run_dir = tmp_path / "cc", tmp_path / "run"
    compiler.write_text(STRIKING.format(strike=strike).replace("RUN", str(run_dir)))
    compiler.chmod(0o755)
    process = start_tiny(run_dir, *UNSAVED, "--set=curriculum.eval_every_steps=7", steps=10 ** 8,
                         env={**os.environ, "CC": str(compiler),
                              "XDG_CACHE_HOME": str(tmp_path / "cache")})
    wait_until((tmp_path / "run.struck").exists, process if code == 0 else None)
    process.send_signal(signal.SIGTERM)
    errors = wait_and_read_stderr(process)
    assert process.returncode == code and "Traceback" not in errors, errors
    assert saved_step(run_dir) == 7


@pytest.mark.attack
def test_time_in_which_a_run_is_stopped_is_not_time_of_training(tmp_path):
    """Attack 62: stopped for longer than its minutes, it makes its steps and its rate falls."""
    minutes = 0.05
    process = subprocess.Popen(
        [sys.executable, "-m", "seed", "train", f"--run-dir={tmp_path}", f"--minutes={minutes}",
         *TINY], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for_step(tmp_path, 10, process)
    process.send_signal(signal.SIGSTOP)
    time.sleep(60 * minutes + 2)
    process.send_signal(signal.SIGCONT)
    assert process.wait(timeout=300) == 0
    rates = [row["lr"] for row in rows(tmp_path, "step")]
    assert len(rates) > 50 and rates[-1] < 0.1 * max(rates)


def test_a_work_clock_counts_computing_alone():
    clock = WorkClock()
    time.sleep(0.3)
    asleep_s = clock()
    until = time.process_time() + 0.3
    while time.process_time() < until:
        pass
    assert asleep_s < 0.2 < clock() - asleep_s


OLDER_THREAD = """
import os, signal, threading, time
threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
from seed.training.stop_signals import watched
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    with watched(None) as signals:
        os.kill(os.getpid(), number)
        until = time.monotonic() + 20
        while not signals.stop.is_set() and time.monotonic() < until:
            time.sleep(0.01)
        print(signals.stop.is_set())
"""


def test_a_thread_that_is_older_than_the_watch_does_not_let_a_signal_end_the_process():
    done = subprocess.run([sys.executable, "-c", OLDER_THREAD], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "True\n" * 3), done.stderr
