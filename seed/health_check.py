"""The board's health as a check: a row for each component, and the exit code of the whole.

A sensor that is not there is unknown, which is no fault: a server has none.
"""
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from seed import governor
from seed.config import GovernorConfig
from seed.robot_report import Report
from seed.system_health import Health, Reading

OK, WARN, CRITICAL, UNKNOWN = "ok", "warn", "critical", "unknown"
EXIT_CODES = {OK: 0, UNKNOWN: 0, WARN: 1, CRITICAL: 2}
BY_SEVERITY = (UNKNOWN, OK, WARN, CRITICAL)
DISK_WARN_MB, DISK_CRITICAL_MB = 500.0, 50.0   # a checkpoint takes up to 50 MB
INODES_WARN, INODES_CRITICAL = 1000.0, 10.0
MEMORY_WARN_FACTOR = 2.0   # of the memory that has to be available


@dataclass(frozen=True)
class Check:
    component: str
    status: str      # OK, WARN, CRITICAL or UNKNOWN
    message: str
    details: dict[str, Any]


def checks(config: GovernorConfig, health: Health, report: Report | None) -> list[Check]:
    """A row for each component of the board; the last is the robot's report, if it has one."""
    rows = [_temperature(config, health), _power(health), _memory(config, health), _disk(health)]
    return rows if report is None else [*rows, _report(config, report)]


def status_of(rows: Iterable[Check]) -> str:
    """The worst; ok if the rest is unknown."""
    return max((OK, *(row.status for row in rows)), key=BY_SEVERITY.index)


def summary(rows: Sequence[Check]) -> str:
    """One line: what is wrong, or that nothing is."""
    wrong = [f"{row.component}: {row.message}" for row in rows if row.status in (WARN, CRITICAL)]
    unknown = [row.component for row in rows if row.status == UNKNOWN]
    well = "all is well" + (f"; unknown: {', '.join(unknown)}" if unknown else "")
    return "; ".join(wrong) or well


def table(rows: Sequence[Check]) -> str:
    return "\n".join(f"{row.status:<10}{row.component:<13}{row.message}" for row in rows)


def enforcement(config: GovernorConfig, health: Health) -> list[str]:
    """What keeps a run's memory within bounds."""
    lines = [f"the trainer stops itself above {governor.ceiling_mb(config, health):.0f} MB"]
    limit_mb = health.cgroup_limit_mb.value
    if limit_mb is not None and math.isfinite(limit_mb):
        lines.append(f"the kernel's memory cgroup allows {limit_mb:.0f} MB")
    return lines


def _values(**readings: Reading) -> dict[str, float | None]:
    return {name: reading.value for name, reading in readings.items()}


def _temperature(config: GovernorConfig, health: Health) -> Check:
    details = {"zones_c": _values(**health.zones_c), "slow_c": config.slow_c,
               "pause_c": config.pause_c, **_values(clock_fraction=health.clock_fraction,
                                                    fan_rpm=health.fan_rpm)}
    temps = [(zone.value, name) for name, zone in health.zones_c.items() if zone.value is not None]
    if not temps:
        return Check("temperature", UNKNOWN, health.temp_c.reason, details)
    temp_c, name = max(temps)
    status = CRITICAL if temp_c >= config.pause_c else WARN if temp_c >= config.slow_c else OK
    return Check("temperature", status, f"{name} {temp_c:.1f} C; slows at {config.slow_c:.0f} C, "
                 f"pauses at {config.pause_c:.0f} C", details)


def _power(health: Health) -> Check:
    bits = health.throttled
    now = [name for name, is_set in bits.now().items() if is_set]
    details = {"now": bits.now(), "since_boot": bits.since_boot}
    if bits.bits is None:
        return Check("power", UNKNOWN, bits.reason, details)
    status = CRITICAL if "under_voltage" in now else WARN if now else OK
    since = f"; since boot: {', '.join(bits.since_boot)}" if bits.since_boot else ""
    return Check("power", status, f"now: {', '.join(now) or 'as it should be'}{since}", details)


def _memory(config: GovernorConfig, health: Health) -> Check:
    left, lowest = health.mem_available_mb.value, config.min_available_mb
    details = {**_values(mem_available_mb=health.mem_available_mb,
                         swap_used_mb=health.swap_used_mb), "min_available_mb": lowest}
    pressure = governor.memory_pressure(config, health)
    if pressure or left is None:
        return Check("memory", CRITICAL if pressure else UNKNOWN,
                     pressure or health.mem_available_mb.reason, details)
    status = WARN if left < MEMORY_WARN_FACTOR * lowest else OK
    return Check("memory", status, f"{left:,.0f} MB available; a run stops below {lowest:,.0f} MB",
                 details)


def _disk(health: Health) -> Check:
    free, inodes = health.disk_free_mb, health.inodes_free
    details = _values(disk_free_mb=free, inodes_free=inodes)
    if free.value is None:
        return Check("disk", UNKNOWN, free.reason, details)
    levels = [_below(free.value, DISK_WARN_MB, DISK_CRITICAL_MB)]
    if inodes.value is not None:
        levels.append(_below(inodes.value, INODES_WARN, INODES_CRITICAL))
    files = "" if inodes.value is None else f", {inodes.value:,.0f} inodes"
    return Check("disk", max(levels, key=BY_SEVERITY.index), f"{free.value:,.0f} MB free{files}",
                 details)


def _below(value: float, warn: float, critical: float) -> str:
    return CRITICAL if value < critical else WARN if value < warn else OK


def _report(config: GovernorConfig, report: Report) -> Check:
    decision = governor.decide_by_report(config, report)
    message = f"{decision.action}: {decision.reason or report.reason}".removesuffix(": ")
    return Check("report", governor.level(decision), message,
                 {**asdict(report), "level": report.level.name.lower()})
