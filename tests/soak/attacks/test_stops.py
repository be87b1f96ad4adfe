"""Ends, pauses, clocks and outputs at a bad moment: no step is lost, and no bit is another."""
import contextlib
import os
import pty
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from seed.storage import RunDir, checkpoint
from tests.support.attack_run import train, works
from tests.support.preloaded import build_library
from tests.support.processes import fill
from tests.support.tiny_run import (
    WAIT_S, rows, start_tiny, tiny_command, wait_and_read_stderr, wait_for_step)

pytestmark = pytest.mark.long
ENDLESS = 10 ** 8
UNSAVED = ("--set=train.save_every_minutes=60",)
STEPS = 600


def saved_step(run_dir: Path) -> int:
    return checkpoint.read(RunDir(run_dir).checkpoint).meta["step"]


@pytest.fixture(scope="module")
def calm(tmp_path_factory) -> bytes:
    """The checkpoint of a run that nothing has disturbed."""
    run_dir = tmp_path_factory.mktemp("calm") / "run"
    assert works(train(run_dir, steps=STEPS))
    return RunDir(run_dir).checkpoint.read_bytes()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_pipe_that_fills_up_during_a_run(tmp_path, number):
    """Attack 57: at step 205 nobody reads stderr any more; it trains, and its end saves."""
    reader, writer = os.pipe()
    process = subprocess.Popen(
        tiny_command(tmp_path, *UNSAVED, "--set=curriculum.eval_every_steps=50", steps=ENDLESS),
        stderr=writer, stdout=writer)
    wait_for_step(tmp_path, 205, process)
    fill(writer)
    wait_for_step(tmp_path, rows(tmp_path, "step")[-1]["step"] + 200, process)
    process.send_signal(number)
    began_s = time.monotonic()
    assert process.wait(timeout=60) == 0 and time.monotonic() - began_s < 10
    assert saved_step(tmp_path) == rows(tmp_path, "step")[-1]["step"] >= 405
    os.close(reader)
    os.close(writer)


def test_a_reader_of_stderr_that_goes_away(tmp_path):
    """Own: `train 2>&1 | head`: the other side of the pipe is closed during the run."""
    reader, writer = os.pipe()
    process = subprocess.Popen(tiny_command(tmp_path, *UNSAVED, steps=ENDLESS), stderr=writer,
                               stdout=writer)
    os.close(writer)
    wait_for_step(tmp_path, 20, process)
    os.close(reader)
    wait_for_step(tmp_path, 200, process)
    process.terminate()
    assert process.wait(timeout=60) in (0, 1)
    assert saved_step(tmp_path) >= 200


def test_a_terminal_that_is_closed(tmp_path):
    """Report 1: ssh drops: the kernel sends SIGHUP, and the terminal can no longer be written."""
    ours, theirs = pty.openpty()
    code = (f"import fcntl, os, termios\nos.setsid()\nfcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
            f"os.execv({sys.executable!r}, {tiny_command(tmp_path, *UNSAVED, steps=ENDLESS)!r})")
    process = subprocess.Popen([sys.executable, "-c", code], stdin=theirs, stdout=theirs,
                               stderr=theirs)
    os.close(theirs)
    wait_for_step(tmp_path, 20, process)
    os.close(ours)   # whoever leads the session gets SIGHUP
    process.wait(timeout=60)
    assert saved_step(tmp_path) == rows(tmp_path, "step")[-1]["step"] >= 20


def test_a_clock_that_jumps_between_the_parts_of_a_run(tmp_path, calm):
    """Attack 104: a board without a clock of its own: 20 years back, then the year 2100."""
    library, year_s, years = build_library("moved_clock.c", tmp_path), 31_557_600, []
    for part, shift in enumerate((-20, 74, -50, 0), 1):
        env = {**os.environ, "LD_PRELOAD": str(library), "CLOCK_SHIFT_S": str(shift * year_s)}
        done = subprocess.run([sys.executable, "-c", "import time; print(time.gmtime()[0])"],
                              env=env, capture_output=True, text=True, check=True)
        years.append(int(done.stdout))
        process = start_tiny(tmp_path / "run", steps=STEPS, env=env)
        if part < 4:
            wait_for_step(tmp_path / "run", 120 * part, process)
            process.terminate()
        wait_and_read_stderr(process)
        assert process.returncode == 0
    assert years[0] + 94 == years[1] == years[3] + 74
    assert RunDir(tmp_path / "run").checkpoint.read_bytes() == calm


@pytest.mark.parametrize("variables, python, missing", [
    ({"PYTHONIOENCODING": "ascii"}, [], []),
    ({"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}, [], []), ({}, ["-OO"], []),
    ({"TMPDIR": "/nonexistent"}, [], ["HOME"])], ids=["ascii", "LC_ALL=C", "-OO", "no HOME"])
def test_surroundings_that_are_poor(tmp_path, calm, variables, python, missing):
    """Attack 71: PYTHONIOENCODING=ascii, LC_ALL=C, -OO, no HOME and TMPDIR: the same bits."""
    env = {name: text for name, text in os.environ.items() if name not in missing}
    command = tiny_command(tmp_path / "run", steps=STEPS)
    done = subprocess.run([command[0], *python, *command[1:]], capture_output=True, timeout=WAIT_S,
                          env={**env, **variables})
    assert works(done) and RunDir(tmp_path / "run").checkpoint.read_bytes() == calm


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("after_s", [0.05, 0.2, 0.5, 1.0])
def test_a_signal_while_it_starts(tmp_path, number, after_s):
    """Own: while modules are imported, before the first step: an end without a traceback of ours,
    and the same command continues."""
    process = start_tiny(tmp_path / "run", steps=20)
    time.sleep(after_s)
    process.send_signal(number)
    errors = wait_and_read_stderr(process)
    assert process.returncode in (0, 130, -number), errors
    assert process.returncode == -number or "Traceback" not in errors or after_s < 0.3
    assert works(train(tmp_path / "run", steps=20))


def test_a_storm_of_signals(tmp_path, calm):
    """Own: 300 signals that ask for a save, or for nothing, and three pauses in between."""
    process, dice = start_tiny(tmp_path / "run", steps=STEPS), random.Random(0)
    wait_for_step(tmp_path / "run", 2, process)
    for i in range(300):
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(dice.choice((signal.SIGUSR1, signal.SIGWINCH, signal.SIGCONT)))
            if i % 100 == 50:
                process.send_signal(signal.SIGSTOP)
                time.sleep(0.3)
                process.send_signal(signal.SIGCONT)
        time.sleep(0.002)
    errors = wait_and_read_stderr(process)
    assert process.returncode == 0, errors
    assert RunDir(tmp_path / "run").checkpoint.read_bytes() == calm


def test_stops_one_after_the_other(tmp_path, calm):
    """Own: stopped as soon as it makes a step, until it is finished."""
    run_dir, n = tmp_path / "run", 0
    while not RunDir(run_dir).checkpoint.exists() or saved_step(run_dir) < STEPS:
        process = start_tiny(run_dir, steps=STEPS)
        begin = saved_step(run_dir) if RunDir(run_dir).checkpoint.exists() else 0
        while process.poll() is None and not any(
                row["step"] > begin for row in rows(run_dir, "step")[-3:]):
            time.sleep(0.01)
        time.sleep(0.1 * n)
        with contextlib.suppress(ProcessLookupError):
            process.send_signal((signal.SIGTERM, signal.SIGHUP, signal.SIGINT)[n % 3])
        errors = wait_and_read_stderr(process)
        assert process.returncode == 0 and "Traceback" not in errors, errors
        n += 1
    assert n > 2 and RunDir(run_dir).checkpoint.read_bytes() == calm


def test_two_interrupts_end_at_once(tmp_path):
    """Own: Ctrl-C twice while a compiler hangs: it ends with 130, and the step is saved."""
    compiler = tmp_path / "cc"
    compiler.write_text('#!/bin/sh\n[ "$1" = --version ] && exec clang --version\n'
                        f"touch {tmp_path}/hangs\nsleep 1000\n")
    compiler.chmod(0o755)
    process = start_tiny(tmp_path / "run", steps=20, env={
        **os.environ, "CC": str(compiler), "XDG_CACHE_HOME": str(tmp_path / "cache")})
    until = time.monotonic() + 60
    while not (tmp_path / "hangs").exists():
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.02)
    began_s = time.monotonic()
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
    errors = wait_and_read_stderr(process)
    assert process.returncode == 130 and time.monotonic() - began_s < 5, errors
    assert "Traceback" not in errors
    left = subprocess.run(["pgrep", "-f", f"^/bin/sh {compiler}"], capture_output=True, text=True)
    assert not left.stdout
