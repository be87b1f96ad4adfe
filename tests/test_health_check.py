"""`seed health` as a check: rows, their worst as exit code, and a file that is whole."""
import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest

from seed import health_check, system_health
from seed.__main__ import main
from seed.config import GovernorConfig
from seed.errors import CANNOT_CHECK
from seed.robot_report import Level, Report
from seed.system_health import Reading, Throttled
from tests.support.fake_board import health

CONFIG = GovernorConfig(report_file="/run/robot/health.json")


def rows(board, report=None, config=CONFIG) -> dict[str, health_check.Check]:
    return {row.component: row for row in health_check.checks(config, board, report)}


@pytest.mark.parametrize("board, component, status, text", [
    (health(60), "temperature", "ok", "cpu-thermal 60.0 C; slows at 75 C, pauses at 80 C"),
    (health(76), "temperature", "warn", "76.0 C"), (health(80), "temperature", "critical", "80"),
    (health(None), "temperature", "unknown", "input/output error"),
    (health(), "power", "ok", "now: as it should be"),
    (health(bits=4), "power", "warn", "now: throttled"),
    (health(bits=1 + (1 << 18)), "power", "critical", "now: under_voltage; since boot: throttled"),
    (replace(health(), throttled=Throttled(None, "no bits")), "power", "unknown", "no bits"),
    (health(), "memory", "ok", "4,000 MB available; a run stops below 200 MB"),
    (health(left=399.0), "memory", "warn", "399 MB"),
    (health(left=150.0), "memory", "critical", "only 150 MB"),
    (health(), "disk", "ok", "9,000 MB free, 9,000 inodes"),
    (replace(health(), disk_free_mb=Reading(499.0)), "disk", "warn", "499 MB"),
    (replace(health(), inodes_free=Reading(9.0)), "disk", "critical", "9 inodes"),
    (replace(health(), inodes_free=Reading(None, "x")), "disk", "ok", "9,000 MB free")])
def test_a_row_has_a_status_and_says_why(board, component, status, text):
    row = rows(board)[component]
    assert (row.status, row.details and text in row.message) == (status, True)


@pytest.mark.parametrize("report, status, message", [
    (Report(Level.OK, "all fine"), "ok", "run: all fine"),
    (Report(Level.WARN, "motor 71 C"), "warn", "slow: the robot reports: motor 71 C"),
    (Report(Level.CRITICAL), "critical", "pause: the robot reports: critical"),
    (Report(failure="it is 31 s old"), "warn", "slow: it is 31 s old"),
    (Report(Level.OK, teleoperated=True), "ok", "pause: the robot is teleoperated")])
def test_the_robots_report_is_a_row_too(report, status, message):
    row = rows(health(), report)["report"]
    assert (row.status, row.message) == (status, message)
    assert "report" not in rows(health())


def test_the_worst_row_is_the_exit_code_and_what_is_unknown_is_no_fault(tmp_path):
    without_sensors = system_health.read(tmp_path / "none", tmp_path)
    checked = health_check.checks(CONFIG, without_sensors, None)
    assert {row.status for row in checked} == {"unknown"}
    assert health_check.status_of(checked) == "ok"
    assert health_check.summary(checked) == \
        "all is well; unknown: temperature, power, memory, disk"
    hot = health_check.checks(CONFIG, health(81, bits=4), None)
    assert health_check.status_of(hot) == "critical"
    assert health_check.summary(hot).startswith("temperature: cpu-thermal 81.0 C; slows")
    assert health_check.EXIT_CODES == {"ok": 0, "unknown": 0, "warn": 1, "critical": 2}


@pytest.fixture
def board(monkeypatch):
    """Decides what the command reads."""
    def show(reading):
        monkeypatch.setattr(system_health, "read", lambda path: reading)
    return show


def test_the_command_prints_rows_and_json_and_ends_with_the_worst(board, capsys, tmp_path):
    out = tmp_path / "health.json"
    for reading, code in ((health(60), 0), (health(76), 1), (health(81), 2), (health(None), 0)):
        board(reading)
        assert main(["health", f"--out={out}"]) == code
        text = capsys.readouterr().out
        facts = json.loads(out.read_text())
        assert facts["status"] == ("ok", "warn", "critical")[code]
        for row in facts["checks"]:
            assert set(row) == {"component", "status", "message", "details"}
            assert f"{row['status']:<10}{row['component']:<13}{row['message']}\n" in text
        assert main(["health", "--json"]) == code
        assert json.loads(capsys.readouterr().out)["checks"] == facts["checks"]


def test_its_own_json_is_a_report_that_another_governor_reads(board, tmp_path, capsys):
    board(health(76))
    out = tmp_path / "health.json"
    main(["health", f"--out={out}"])
    assert main(["health", f"--set=governor.report_file={out}"]) == 1
    assert "the robot reports: temperature: cpu-thermal 76.0 C" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [
    ["--bogus"], ["--set"], ["--profile=nope"], ["--set=governor.slow_c=200"],
    ["--out=/nowhere/x.json"], ["--out=/dev/null"], ["--out=status.json"]], ids=str)
def test_a_check_that_cannot_be_done_is_neither_a_warning_nor_critical(arguments):
    with pytest.raises(SystemExit) as ended:
        raise SystemExit(main(["health", *arguments]))
    assert ended.value.code == CANNOT_CHECK


def test_a_fault_of_the_program_is_no_warning_either(monkeypatch, capsys):
    def fail(*arguments):
        raise ZeroDivisionError
    monkeypatch.setattr(system_health, "read", fail)
    assert main(["health"]) == CANNOT_CHECK and "ZeroDivisionError" in capsys.readouterr().err


def test_a_file_that_is_no_report_stays_and_one_that_cannot_be_written_too(tmp_path, capsys):
    out = tmp_path / "notes.json"
    out.write_text('{"mine": 1}')
    assert main(["health", f"--out={out}"]) == CANNOT_CHECK
    assert out.read_text() == '{"mine": 1}' and "is not a health report" in capsys.readouterr().err


def test_a_full_disk_leaves_the_report_before_whole(tmp_path):
    """A file size limit stands for the disk; what is printed is printed all the same."""
    out = tmp_path / "health.json"
    command = [sys.executable, "-m", "seed", "health", f"--out={out}"]
    assert subprocess.run(command, capture_output=True).returncode < CANNOT_CHECK
    before = out.read_bytes()
    done = subprocess.run(["bash", "-c", 'trap "" XFSZ; ulimit -f 0; exec "$@"', "_", *command],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert done.returncode == CANNOT_CHECK and "verdict" in done.stdout
    assert out.read_bytes() == before and os.listdir(tmp_path) == ["health.json"]
    assert len(done.stderr.splitlines()) == 1
