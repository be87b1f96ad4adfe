"""No state of the standard streams stops a command, or changes what it trains."""
import os
import pty
import select
import signal
import subprocess
import sys
import time

import pytest

from seed.storage import RunDir
from tests.support.processes import full_pipe
from tests.support.small_run import untrained_run
from tests.support.tiny_run import tiny_command, wait_for_step


@pytest.fixture(scope="module")
def calm(tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("calm") / "run"
    subprocess.run(tiny_command(run_dir), check=True, capture_output=True)
    return RunDir(run_dir).checkpoint.read_bytes()


@pytest.mark.attack
@pytest.mark.parametrize("redirection", [
    ">&-", "<&- >&- 2>&-", ">/dev/full 2>/dev/full",
    *(pytest.param(text, marks=pytest.mark.long) for text in ("<&-", "2>&-", ">&- 2>&-"))])
def test_a_training_with_closed_or_full_streams_ends_with_0_and_the_same_bits(
        tmp_path, calm, redirection):
    """Attacks 65, 67, 68: each stream, and all of them."""
    done = subprocess.run(["sh", "-c", f'exec "$@" {redirection}', "sh",
                           *tiny_command(tmp_path / "run")], capture_output=True, text=True)
    assert done.returncode == (75 if "full" in redirection else 0), done.stderr
    assert RunDir(tmp_path / "run").checkpoint.read_bytes() == calm


@pytest.mark.attack
def test_a_pipe_that_nobody_reads_neither_stops_the_run_nor_its_end(tmp_path):
    """Attack 56: a pipe that is full at the start."""
    reader, writer = full_pipe()
    process = subprocess.Popen(tiny_command(tmp_path, steps=10 ** 8), stderr=writer,
                               stdout=subprocess.DEVNULL)
    wait_for_step(tmp_path, 30, process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 0
    os.close(reader)
    os.close(writer)


@pytest.mark.attack
@pytest.mark.parametrize("encoding", [
    "latin-1", *(pytest.param(name, marks=pytest.mark.long) for name in ("ascii", "utf-8"))])
def test_an_answer_is_printed_in_any_encoding(tmp_path, encoding):
    """Report 33, Attack 71: a locale of ISO-8859-1, or ASCII."""
    untrained_run(tmp_path / "run")
    done = subprocess.run(
        [sys.executable, "-m", "seed", "generate", f"--run-dir={tmp_path / 'run'}", "--prompt=ab>",
         "--max-bytes=8", "--threads=1"], capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": encoding})
    assert done.returncode == 0 and b"Traceback" not in done.stderr, done.stderr
    done.stdout.decode(encoding)


def lines_on_a_terminal(tmp_path, columns: int, term: str, steps: int) -> str:
    """What a training prints there."""
    ours, theirs = pty.openpty()
    subprocess.run(["stty", "cols", str(columns)], stdin=theirs, check=True)
    process = subprocess.Popen(tiny_command(tmp_path, steps=steps), stdin=theirs, stdout=theirs,
                               stderr=theirs, env={**os.environ, "TERM": term})
    os.close(theirs)
    text, until = b"", time.monotonic() + 120
    while time.monotonic() < until:
        if select.select([ours], [], [], 0.1)[0]:
            try:
                data = os.read(ours, 65536)
            except OSError:   # the end of the other side
                break
            text += data
    assert process.wait() == 0
    os.close(ours)
    return text.decode()


@pytest.mark.attack
def test_the_status_line_fits_into_a_narrow_terminal_and_ends_before_the_result(tmp_path):
    """Reports 15, 16: 40 columns, and a result behind the status line."""
    text = lines_on_a_terminal(tmp_path, 40, "xterm", 200)
    live = [part.split("\r\n")[0] for part in text.split("\r\x1b[K")[1:]
            if part.startswith(" grade 6/6 ")]
    assert live and all(len(line) < 40 for line in live)
    assert "\r\n Done: 200 steps" in text


@pytest.mark.attack
def test_a_dumb_terminal_gets_no_escapes(tmp_path):
    """Report 15: TERM=dumb."""
    assert "\x1b" not in lines_on_a_terminal(tmp_path, 80, "dumb", 20)


@pytest.mark.attack
def test_a_terminal_that_has_gone_does_not_change_how_a_training_ends(tmp_path, calm):
    master, slave = pty.openpty()
    os.close(master)
    process = subprocess.Popen(tiny_command(tmp_path / "run"), stdin=slave, stdout=slave,
                               stderr=slave)
    os.close(slave)
    assert process.wait(timeout=300) == 0
    assert RunDir(tmp_path / "run").checkpoint.read_bytes() == calm
