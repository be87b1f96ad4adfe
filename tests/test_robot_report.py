"""The robot's own health report: real files, real commands, and whatever is wrong with them."""
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from seed.config import GovernorConfig
from seed.robot_report import Level, Report, ReportSource, open_source, parse, read_file

NOW = 1_800_000_000.0
PYTHON = sys.executable


def report(**fields) -> Report:
    return parse(json.dumps(fields).encode(), NOW)


def test_a_report_has_a_level_a_reason_and_what_gates_need():
    full = report(level="warn", reason="motor\x1b[2J 72 C", battery_percent=64, charging=False,
                  idle=True, teleoperated=False, time=NOW - 5, other=[1])
    assert full == Report(Level.WARN, "motor\\x1b[2J 72 C", "", 64, False, True, False, NOW - 5)
    assert report(status="WARNING", message="m") == Report(Level.WARN, "m", written_s=NOW)
    words = ("ok", "error", "stale", "Critical", "stop", 0, 1, 2, 3)
    assert [report(level=word).level.name for word in words] == [
        "OK", "CRITICAL", "UNKNOWN", "CRITICAL", "STOP", "OK", "WARN", "CRITICAL", "UNKNOWN"]
    assert report(level="ok", time="2027-01-15T08:00:00Z").written_s == NOW


@pytest.mark.parametrize("data, text", [
    (b"", "Expecting value"), (b'{"level": "ok"', "delimiter"), (b"[1]", "no JSON object"),
    (b'{"level": NaN}', "not a finite number"), (b"\xff\xfe", "decode"), (b"[" * 9999, "deep"),
    (b"{}", "its level is None"), (b'{"level": true}', "its level is True"),
    (b'{"level": 4}', "its level is 4"), (b'{"level": "fine"}', "its level is 'fine'"),
    (b'{"level": 0, "battery_percent": 101}', "its battery_percent is 101"),
    (b'{"level": 0, "battery_percent": "64"}', "its battery_percent is '64'"),
    (b'{"level": 0, "idle": 1}', "its idle is 1"), (b'{"level": 0, "teleoperated": "no"}', "'no'"),
    (b'{"level": 0, "time": "2027-01-15T08:00:00"}', "with a zone"),
    (b'{"level": 0, "time": "soon"}', "soon"), (b'{"level": 0, "time": [1]}', "its time")])
def test_a_malformed_report_says_why_in_one_line(data, text):
    failure = parse(data, NOW).failure
    assert text in failure and "\n" not in failure and len(failure) <= 200


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "health.json"


def source(path: Path, max_age_s=30.0) -> ReportSource:
    """Of a file, at NOW by its clock."""
    return ReportSource(GovernorConfig(report_file=str(path), report_max_age_s=max_age_s),
                        wall_clock=lambda: NOW)


def write(path: Path, age_s=0.0, **fields) -> None:
    path.write_text(json.dumps({"level": "ok", **fields}))
    os.utime(path, (NOW - age_s, NOW - age_s))


def test_a_file_counts_until_it_is_too_old_by_its_time_or_the_files(path):
    reports = source(path)
    for age_s, fields, failure in (
            (0, {}, ""), (29, {}, ""), (31, {}, "it is 31 s old"),
            (-31, {}, "its time is 31 s in the future"), (0, {"time": NOW - 99}, "it is 99 s old"),
            (99, {"time": NOW}, "")):
        write(path, age_s, **fields)
        assert reports.poll().failure == (failure and f"no report from {path}: {failure}")


def test_a_file_that_is_caught_half_written_does_not_replace_the_report_before(path):
    reports = source(path)
    write(path, 20, reason="whole")
    assert reports.poll().reason == "whole"
    path.write_text('{"level": "cri')
    assert reports.poll().reason == "whole"
    later = ReportSource(GovernorConfig(report_file=str(path)))
    assert "Unterminated string" in later.poll().failure


def test_a_file_that_is_missing_huge_or_no_file_is_told_at_once(path, tmp_path):
    assert read_file(str(path)).failure == "No such file or directory"
    os.mkfifo(path)
    assert read_file(str(path)).failure == "it is not a regular file"
    assert read_file(str(tmp_path)).failure == "Is a directory"
    large = tmp_path / "large"
    with open(large, "wb") as file:
        file.truncate(2 ** 40)
    assert read_file(str(large)).failure == "it is larger than 65,536 bytes"


def run(command: str, max_age_s=60.0) -> Report:
    """The report of a command, which may take a third of that time."""
    reports = ReportSource(GovernorConfig(report_command=command, report_max_age_s=max_age_s))
    report = reports.poll(wait_s=20.0)
    reports.close()
    return report


def has_ended(pid_file: Path) -> bool:
    """Whether the process of that number has ended, or does within 20 s; or never began."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        try:
            stat = Path(f"/proc/{pid_file.read_text().strip()}/stat").read_text()
        except OSError:
            return True
        if stat.rpartition(")")[2].split()[0] == "Z":
            return True   # nobody has reaped it yet
        time.sleep(0.02)
    return False


def script(tmp_path: Path, text: str) -> str:
    path = tmp_path / "check.sh"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize("text, level", [
    ("echo '{\"level\": 0}'", Level.OK), ("echo '{\"level\": 0}'; exit 1", Level.WARN),
    ("echo '{\"level\": \"critical\"}'; exit 1", Level.CRITICAL),
    ("echo '{\"level\": 0}'; exit 3", Level.UNKNOWN), ("echo '{\"level\": 1}'; exit 3", Level.WARN),
    ("echo oops >&2; echo '{\"level\": 0}'", Level.OK)])
def test_the_worse_of_a_commands_report_and_its_exit_code_counts(tmp_path, text, level):
    assert run(script(tmp_path, text)) == Report(level, written_s=pytest.approx(
        time.time(), abs=10))


@pytest.mark.parametrize("text", [
    "echo $$ > PID; sleep 60", "trap '' TERM HUP; echo $$ > PID; sleep 60",
    "exec >&-; sleep 60 & echo $! > PID; wait",
    "timeout 50 sh -c 'echo $$ > PID; exec sleep 60'"])   # it makes a group of its own
def test_a_command_that_hangs_is_ended_with_its_session(tmp_path, text):
    text = text.replace("PID", str(tmp_path / "pid"))
    assert "it has not ended within 1 s" in run(script(tmp_path, text), 3.0).failure
    assert has_ended(tmp_path / "pid")


def test_what_a_command_leaves_behind_is_ended(tmp_path):
    text = f"sleep 60 & echo $! > {tmp_path / 'pid'}; echo '{{\"level\": 0}}'"
    assert run(script(tmp_path, text)).level is Level.OK
    assert has_ended(tmp_path / "pid")


@pytest.mark.parametrize("text, failure", [
    ("yes", "it prints more than 65,536 bytes"), ("exit 2", "exit code 2, Expecting value"),
    ("exit 127", "it ended with exit code 127"),
    ("echo '{\"level\": 0}'; exit 4", "it ended with exit code 4"),
    ("kill -9 $$", "it was ended by signal 9")])
def test_a_command_that_floods_or_fails_is_told_in_one_line(tmp_path, text, failure):
    assert failure in run(script(tmp_path, text)).failure


def test_a_command_that_is_not_there_is_told():
    assert "no report from /nowhere: /nowhere: No such file" in run("/nowhere").failure


def test_a_command_inherits_neither_blocked_signals_nor_the_teachers_key(monkeypatch):
    monkeypatch.setenv("SEED_TEACHER_KEY", "secret")
    code = ("import json, os, signal; print(json.dumps({'level': 0, 'reason': "
            "f'{len(signal.pthread_sigmask(0, []))} {os.environ.get(\\\"SEED_TEACHER_KEY\\\")}'}))")
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    try:
        assert run(f'{PYTHON} -c "{code}"').reason == "0 None"
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def test_a_command_in_python_reads_modules_beside_its_script(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONSAFEPATH", "1")   # as bin/checkout.sh does for seed itself
    (tmp_path / "sensors.py").write_text("LEVEL = 'ok'\n")
    (tmp_path / "adapter.py").write_text("import json, sensors\n"
                                         "print(json.dumps({'level': sensors.LEVEL}))\n")
    assert run(f"{PYTHON} {tmp_path}/adapter.py").level == 0


def test_where_children_are_reaped_by_the_kernel_a_report_is_read(tmp_path):
    code = ("import signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
            "from seed.config import GovernorConfig as G\n"
            "from seed.robot_report import ReportSource\n"
            "reports = ReportSource(G(report_command=sys.argv[1]))\n"
            "print(reports.poll(20).reason)")
    command = script(tmp_path, "echo '{\"level\": 0, \"reason\": \"here\"}'")
    done = subprocess.run([PYTHON, "-c", code, command], capture_output=True, text=True)
    assert done.stdout == "here\n", done.stderr


def test_a_command_runs_beside_the_polls_one_at_a_time(tmp_path):
    log = tmp_path / "log"
    command = script(tmp_path, f"echo begin >> {log}; sleep 0.2; echo end >> {log}; "
                               "echo '{\"level\": 0}'")
    reports = ReportSource(GovernorConfig(report_command=command, report_max_age_s=3.0))
    assert reports.poll(0.0).failure.endswith("none yet")
    slowest_s, until = 0.0, time.monotonic() + 30
    while not log.exists() or log.read_text().count("end") < 2:
        assert time.monotonic() < until
        began_s = time.thread_time()
        reports.poll(0.0)
        slowest_s = max(slowest_s, time.thread_time() - began_s)
        time.sleep(0.02)
    reports.close()
    lines = log.read_text().split()
    assert lines[:4] == ["begin", "end"] * 2 and slowest_s < 0.1


def test_without_a_report_there_is_nothing_to_read():
    assert open_source(GovernorConfig()).poll() is None
