"""The health report of the robot around the brain: a JSON file, or the output of a command.

A report is data: nothing in it is run or opened. One that cannot be used is a Report with the
reason in `failure`, never an exception. docs/board.md shows its fields.
"""
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import Any, Protocol

from seed.config import GovernorConfig
from seed.errors import printable
from seed.regular_file import parse_json, reader
from seed.health_report_command import MAX_REPORT_BYTES, Output, ReportCommand

MAX_REASON_CHARS = 200
COMMANDS_PER_MAX_AGE = 3   # a command starts so often, and may take as long as is between two
COMMAND_WAIT_S = 2.0       # for a command's report, at first and if nobody asked for a while


class Level(IntEnum):
    """The numbers are those of Nagios plugins and of ROS diagnostics."""
    OK = 0
    WARN = 1
    CRITICAL = 2
    UNKNOWN = 3
    STOP = 4


WORDS = {"ok": Level.OK, "warn": Level.WARN, "warning": Level.WARN, "critical": Level.CRITICAL,
         "error": Level.CRITICAL, "unknown": Level.UNKNOWN, "stale": Level.UNKNOWN,
         "stop": Level.STOP}
BY_SEVERITY = (Level.OK, Level.UNKNOWN, Level.WARN, Level.CRITICAL, Level.STOP)


@dataclass(frozen=True)
class Report:
    """What the robot says of itself, or why that is not known. None: it does not say."""
    level: Level = Level.UNKNOWN
    reason: str = ""
    failure: str = ""
    battery_percent: float | None = None
    charging: bool | None = None
    idle: bool | None = None
    teleoperated: bool | None = None
    written_s: float = 0.0   # Unix time


def parse(data: bytes, written_s: float) -> Report:
    """The report in a JSON text that was written at that time, unless it names its own."""
    try:
        fields = parse_json(data)
        if not isinstance(fields, dict):
            raise ValueError("it is no JSON object")
        reason = printable(str(fields.get("reason", fields.get("message", ""))))
        return Report(_level(fields.get("level", fields.get("status"))), reason[:MAX_REASON_CHARS],
                      "", _percent(fields), _flag(fields, "charging"), _flag(fields, "idle"),
                      _flag(fields, "teleoperated"), _time(fields, written_s))
    except (ValueError, OverflowError) as error:
        return Report(failure=printable(str(error))[:MAX_REASON_CHARS])


def _level(value: Any) -> Level:
    if isinstance(value, str) and value.lower() in WORDS:
        return WORDS[value.lower()]
    if type(value) is int and value in range(Level.STOP):
        return Level(value)
    raise ValueError(f"its level is {repr(value)[:40]}: use ok, warn, critical, unknown or stop")


def _percent(fields: dict[str, Any]) -> float | None:
    value = fields.get("battery_percent")
    if value is None or type(value) in (int, float) and 0 <= value <= 100:
        return value
    raise ValueError(f"its battery_percent is {repr(value)[:40]}: use 0 to 100")


def _flag(fields: dict[str, Any], name: str) -> bool | None:
    value = fields.get(name)
    if value is None or isinstance(value, bool):
        return value
    raise ValueError(f"its {name} is {repr(value)[:40]}: use true or false")


def _time(fields: dict[str, Any], written_s: float) -> float:
    """Unix time; its `time` in seconds, or as ISO 8601 with a time zone."""
    value = fields.get("time")
    if value is None:
        return written_s
    if type(value) in (int, float):
        return float(value)
    if isinstance(value, str):
        moment = datetime.fromisoformat(value)
        if moment.tzinfo:
            return moment.timestamp()
    raise ValueError(f"its time is {repr(value)[:40]}: use Unix seconds, or ISO 8601 with a zone")


def read_file(path: str) -> Report:
    """The report in a file, which was written when the file was last changed."""
    try:
        with reader(path) as file:
            data = file.read(MAX_REPORT_BYTES + 1)
            written_s = os.fstat(file.fileno()).st_mtime
    except OSError as error:
        return Report(failure=error.strerror or "it cannot be read")
    if len(data) > MAX_REPORT_BYTES:
        return Report(failure=f"it is larger than {MAX_REPORT_BYTES:,} bytes")
    return parse(data, written_s)


def of_output(output: Output) -> Report:
    """The report that a command has printed. An exit code that is a level counts as one; any other
    but 0 is a failure."""
    if output.failure:
        return Report(failure=output.failure)
    report, code = parse(output.data, output.started_s), output.exit_code
    if report.failure:
        return Report(failure=f"exit code {code}, {report.failure}" if code else report.failure)
    level = max(report.level, Level(code), key=BY_SEVERITY.index)
    return Report(**{**vars(report), "level": level})


class Source(Protocol):
    """Where reports come from."""

    def poll(self, wait_s: float = COMMAND_WAIT_S) -> Report | None:
        """The newest report; None if nothing is configured."""

    def close(self) -> None:
        """Ends a command that is running."""


class NoSource:
    def poll(self, wait_s: float = COMMAND_WAIT_S) -> None:
        return None

    def close(self) -> None:
        pass


class ReportSource:
    """Polls a file or a command. A report counts until it is too old, also if the next fails."""

    def __init__(self, config: GovernorConfig, clock: Callable[[], float] = time.monotonic,
                 wall_clock: Callable[[], float] = time.time):
        self._max_age_s, self._clock, self._wall_clock = config.report_max_age_s, clock, wall_clock
        self._every_s = config.report_max_age_s / COMMANDS_PER_MAX_AGE
        self._path, self._command = config.report_file, None
        if config.report_command:
            self._command = ReportCommand(config.report_command, self._every_s)
        self._name = config.report_command or config.report_file
        self._polled_s = float("-inf")
        self._usable, self._newest = Report(failure="none yet"), Report(failure="none yet")

    def poll(self, wait_s: float = COMMAND_WAIT_S) -> Report:
        """Waits for a command only at first, or if it was not called for a while."""
        now_s = self._clock()
        is_late, self._polled_s = now_s - self._polled_s > self._every_s, now_s
        report = self._read(wait_s if is_late else 0.0)
        if report:
            self._newest = report
            if not report.failure:
                self._usable = report
        failure = self._newest.failure
        if not self._usable.failure:
            age_s = self._wall_clock() - self._usable.written_s
            if abs(age_s) <= self._max_age_s:
                return self._usable
            failure = failure or (f"it is {age_s:.0f} s old" if age_s > 0 else
                                  f"its time is {-age_s:.0f} s in the future")
        return Report(failure=f"no report from {self._name}: {failure}")

    def _read(self, wait_s: float) -> Report | None:
        """A new report, if there is one."""
        if not self._command:
            return read_file(self._path)
        output = self._command.poll(wait_s)
        if output and self._wall_clock() - output.started_s > self._max_age_s:   # nobody asked
            output = self._command.poll(wait_s)
        return of_output(output) if output else None

    def close(self) -> None:
        if self._command:
            self._command.close()


def open_source(config: GovernorConfig) -> Source:
    """Of a profile; one that gives nothing if none is configured."""
    return ReportSource(config) if config.report_file or config.report_command else NoSource()
