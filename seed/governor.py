"""Decides from sensor readings whether training may continue: a pure function, history in and out.

It can slow a run down, pause it, ask for a checkpoint or stop it; it never changes what the run
computes. If a sensor stops responding, training runs at reduced duty; an active pause stays. The
same holds for the health report of the robot around it, if there is one.
"""
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import NamedTuple

from seed.config import GovernorConfig, LiveConfig
from seed.robot_report import Level, Report
from seed.system_health import Health, Reading

MIN_PLAUSIBLE_C, MAX_PLAUSIBLE_C = -30.0, 130.0
MAX_FALL_C = 15.0            # a larger fall between two polls has to last before it counts
CONFIRM_POLLS = 3            # polls that confirm such a fall, or that a sensor stopped responding
MAX_UNCHANGED_S = 900.0      # a sensor that repeats one number for longer is not trusted
MAX_UNCHANGED_PAUSED_S = 120.0   # that of a pause, in which others change: a paused board cools
SLOW_DUTY = 0.5              # the lowest of a board that is warm, or that its firmware throttles
UNKNOWN_DUTY = 0.7           # with no trusted temperature
COOLING_S = 300.0            # a pause whose sensor is lost ends then: any board has cooled by then
FIRMWARE_S = 60.0            # a throttling report of the firmware counts for so long
REPORT_S = 60.0              # what the robot's report asks for counts for so long
SAVE_INTERVAL_S = 300.0      # between two checkpoints while one under-voltage lasts
SAVE_INTERVAL_NEW_S = 60.0   # if it ended and began again: it may come and go within seconds

FIRMWARE_TEXTS = {"throttled": "throttled", "soft_limit": "soft temperature limit"}   # slow a run
RUN, SLOW, PAUSE, STOP = "run", "slow", "pause", "stop"
BY_SEVERITY = (RUN, SLOW, PAUSE, STOP)


class Cause(StrEnum):
    NONE = "none"
    MEMORY = "memory"
    HEAT = "heat"
    FIRMWARE = "firmware"
    UNKNOWN_TEMPERATURE = "unknown temperature"
    REPORT = "report"   # the robot's health, or that it is not known
    GATE = "gate"       # the robot is well, and is not to learn now
    DEADLINES = "deadlines"   # those of the fast loop beside the learning


class Decision(NamedTuple):
    action: str = RUN    # RUN, SLOW, PAUSE or STOP; STOP means save first, to be resumed
    duty: float = 1.0    # fraction of the time that may be spent training; 0 if paused or stopped
    save: bool = False   # write a checkpoint now
    reason: str = ""     # for a person; empty when nothing is wrong
    cause: Cause = Cause.NONE   # of an action other than RUN


def level(decision: Decision) -> str:
    """As a check says it: ok, warn or critical. A closed gate is no fault."""
    is_well = decision.action == RUN or decision.cause is Cause.GATE
    return "ok" if is_well else "warn" if decision.action == SLOW else "critical"


class DeadlineCounts(NamedTuple):
    """Of a fast loop, lately."""
    n: int = 0
    late: int = 0
    missed: int = 0


@dataclass(frozen=True)
class Zone:
    """What earlier polls showed of one thermal zone."""
    temp_c: float | None = None     # the last trusted temperature; None: unknown
    raw_c: float | None = None      # the last reading
    changed_s: float = 0.0          # when the reading last changed
    doubted_polls: int = 0          # in a row
    has_changed: bool = False       # it has given two different readings
    lost_s: float | None = None     # when it became unknown, if it was trusted before
    reason: str = ""                # why it is unknown


@dataclass(frozen=True)
class History:
    """What earlier polls showed of the board."""
    mode: str = RUN                 # RUN, SLOW or PAUSE, by the board's own sensors
    paused_s: float = math.inf      # when the pause began
    zones: Mapping[str, Zone] = field(default_factory=dict)
    firmware: str = ""              # what the firmware last reported about throttling
    firmware_s: float | None = None  # and when
    under_voltage: bool = False
    saved_s: float | None = None    # when under-voltage last asked for a checkpoint
    report: Decision = Decision()   # what the robot's report last asked for
    report_s: float = -math.inf     # and when


def decide(config: GovernorConfig, history: History, health: Health, now_s: float,
           report: Report | None = None) -> tuple[Decision, History]:
    """One decision from one poll of the sensors, and of the robot's report if it has one; `now_s`
    is of a monotonic clock."""
    pressure = memory_pressure(config, health)
    if pressure:
        return Decision(STOP, 0.0, True, pressure, Cause.MEMORY), history
    save, history = _under_voltage(health, history, now_s)
    history = _update_zones(config, history, health, now_s)
    history = _update_firmware(history, health, now_s)
    decision = _by_heat(config, history, health, now_s)
    paused_s = math.inf if decision.action != PAUSE else min(history.paused_s, now_s)
    history = replace(history, mode=decision.action, paused_s=paused_s)
    if report:
        by_report, history = _by_report(config, history, report, now_s)
        decision = stricter(decision, by_report)
    if save:
        reason = f"under-voltage: checkpoint now; {decision.reason}".removesuffix("; ")
        decision = decision._replace(save=True, reason=reason)
    return decision, history


def memory_pressure(config: GovernorConfig, health: Health) -> str:
    """Why the run must stop before the kernel kills it; empty if it need not."""
    used, left = health.rss_mb.value, health.mem_available_mb.value
    ceiling = ceiling_mb(config, health)
    if used is not None and used > ceiling:
        return f"memory {used:.0f} MB is over the ceiling of {ceiling:.0f} MB"
    if left is not None and left < config.min_available_mb:
        return (f"only {left:.0f} MB of the board's memory are available, "
                f"less than {config.min_available_mb:.0f} MB")
    return ""


def ceiling_mb(config: GovernorConfig, health: Health) -> float:
    """The ceiling on the process tree: the profile's, or 95 % of a smaller cgroup limit."""
    limit = health.cgroup_limit_mb.value
    return min(config.memory_mb, 0.95 * limit) if limit is not None else config.memory_mb


def _under_voltage(health: Health, history: History, now_s: float) -> tuple[bool, History]:
    """Whether to save because of it: when it begins, and again while it lasts."""
    before, now = history.under_voltage, bool(health.throttled.now()["under_voltage"])
    history = replace(history, under_voltage=now)
    interval_s = SAVE_INTERVAL_S if before else SAVE_INTERVAL_NEW_S
    if not now or (history.saved_s is not None and now_s - history.saved_s < interval_s):
        return False, history
    return True, replace(history, saved_s=now_s)


def _update_zones(config: GovernorConfig, history: History, health: Health,
                  now_s: float) -> History:
    """The history with each zone's reading; a zone that is no longer listed has none."""
    gone, new = Reading(None, "no longer listed"), Zone(changed_s=now_s)
    zones = {name: (history.zones.get(name, new), health.zones_c.get(name, gone))
             for name in {**history.zones, **health.zones_c}}
    return replace(history, zones={
        name: _update(zone, reading, now_s, _holds_pause(config, history, name, now_s))
        for name, (zone, reading) in zones.items()})


def _holds_pause(config: GovernorConfig, history: History, name: str, now_s: float) -> bool:
    """Whether a zone has been too hot to resume, and the same, all the while others changed."""
    zone = history.zones.get(name, Zone())
    since_s = max(zone.changed_s, history.paused_s)
    return (zone.raw_c is not None and zone.raw_c > config.resume_c
            and now_s - since_s > MAX_UNCHANGED_PAUSED_S
            and any(z.has_changed and z.temp_c is not None and z.changed_s > since_s
                    for z in history.zones.values() if z is not zone))


def _update(zone: Zone, reading: Reading, now_s: float, holds_pause: bool) -> Zone:
    """A zone with a new trusted temperature, or with the reason why there is none.

    A rise is trusted at once. A fall by more than MAX_FALL_C, a missing and an implausible reading
    are doubted for CONFIRM_POLLS polls, in which the last trusted temperature stands. A sensor that
    repeats one number for too long is not trusted until it gives another; it is lost if it ever
    gave another number before.
    """
    raw, reason = reading.value, reading.reason
    if raw is not None and not MIN_PLAUSIBLE_C <= raw <= MAX_PLAUSIBLE_C:
        raw, reason = None, f"the sensor reads {raw:.0f} C"
    same, last = raw is not None and raw == zone.raw_c, zone.temp_c
    changed_s = zone.changed_s if same else now_s
    has_changed = zone.has_changed or None not in (raw, zone.raw_c) and not same
    zone = replace(zone, raw_c=raw, changed_s=changed_s, has_changed=has_changed)
    if same and (last is None or holds_pause or now_s - changed_s > MAX_UNCHANGED_S):
        return _unknown(zone, has_changed, now_s,
                        f"the sensor has read {raw:.1f} C for {now_s - changed_s:.0f} s")
    fell = last is not None and raw is not None and raw < last - MAX_FALL_C
    if last is not None and (raw is None or fell) and zone.doubted_polls < CONFIRM_POLLS - 1:
        return replace(zone, doubted_polls=zone.doubted_polls + 1)
    if raw is None:
        return _unknown(zone, last is not None, now_s, reason)
    return replace(zone, temp_c=raw, doubted_polls=0, lost_s=None, reason="")


def _unknown(zone: Zone, was_trusted: bool, now_s: float, reason: str) -> Zone:
    """A zone without a trusted temperature; if it had one, with the time since when."""
    lost_s = now_s if was_trusted and zone.lost_s is None else zone.lost_s
    return replace(zone, temp_c=None, doubted_polls=0, lost_s=lost_s, reason=reason)


def _update_firmware(history: History, health: Health, now_s: float) -> History:
    """The history with what the firmware has reported within FIRMWARE_S: its bits flicker."""
    bits = health.throttled.now()
    reports = [text for name, text in FIRMWARE_TEXTS.items() if bits[name]]
    if reports:
        return replace(history, firmware=", ".join(reports), firmware_s=now_s)
    if history.firmware_s is not None and now_s - history.firmware_s < FIRMWARE_S:
        return history
    return replace(history, firmware="", firmware_s=None)


def _by_heat(config: GovernorConfig, history: History, health: Health, now_s: float) -> Decision:
    """Between two thresholds the mode stays: that is the hysteresis."""
    if not config.thermal or (not history.zones and not health.board):
        return Decision()  # a PC or server without a sensor protects itself
    zones = history.zones
    temps = [(z.temp_c, name) for name, z in zones.items() if z.temp_c is not None]
    temp_c, hottest = max(temps, default=(-math.inf, ""))
    lost_s = max((z.lost_s for z in zones.values() if z.lost_s is not None), default=None)
    reasons = sorted((z.lost_s is None, f"{name}: {z.reason}") for name, z in zones.items()
                     if z.temp_c is None)
    unknown = f"temperature unknown: {reasons[0][1] if reasons else 'no thermal zone'}"
    if history.mode == PAUSE and lost_s is not None and now_s - lost_s < COOLING_S:
        reason = f"{unknown}; resumes {COOLING_S:.0f} s after the sensor was lost"
        return Decision(PAUSE, 0.0, False, reason, Cause.UNKNOWN_TEMPERATURE)
    still_warm = temp_c > config.resume_c
    if temp_c >= config.pause_c or (history.mode == PAUSE and still_warm):
        reason = f"{hottest} {temp_c:.1f} C; resumes at {config.resume_c:.0f} C"
        return Decision(PAUSE, 0.0, False, reason, Cause.HEAT)
    if history.firmware:
        reason = f"the firmware reports: {history.firmware}"
        return Decision(SLOW, SLOW_DUTY, False, reason, Cause.FIRMWARE)
    if temp_c >= config.slow_c or (history.mode != RUN and still_warm):
        headroom = (config.pause_c - temp_c) / (config.pause_c - config.slow_c)
        duty = SLOW_DUTY + (1 - SLOW_DUTY) * min(1.0, max(0.0, headroom))
        duty = duty if lost_s is None else min(duty, UNKNOWN_DUTY)
        return Decision(SLOW, duty, False, f"{hottest} {temp_c:.1f} C", Cause.HEAT)
    if not temps or lost_s is not None:
        return Decision(SLOW, UNKNOWN_DUTY, False, unknown, Cause.UNKNOWN_TEMPERATURE)
    return Decision()


def decide_by_deadlines(config: LiveConfig, deadlines: DeadlineCounts) -> Decision:
    """How much time a fast loop leaves to the learning beside it: less than all from `slow_late` of
    its deadlines on, none from `pause_late` on or while one was missed."""
    late, n = deadlines.late + deadlines.missed, max(1, deadlines.n)
    fraction = late / n
    reason = f"{late} of {n} deadlines late or missed"
    if deadlines.missed or late and fraction >= config.pause_late:
        return Decision(PAUSE, 0.0, False, reason, Cause.DEADLINES)
    if late and fraction >= config.slow_late:
        headroom = (config.pause_late - fraction) / (config.pause_late - config.slow_late)
        return Decision(SLOW, SLOW_DUTY + (1 - SLOW_DUTY) * headroom, False, reason,
                        Cause.DEADLINES)
    return Decision()


def stricter(first: Decision, second: Decision) -> Decision:
    """The one that leaves less to the training, with both reasons."""
    chosen = min(first, second, key=lambda d: (-BY_SEVERITY.index(d.action), d.duty))
    return chosen._replace(reason="; ".join(filter(None, (first.reason, second.reason))))


def _by_report(config: GovernorConfig, history: History, report: Report,
               now_s: float) -> tuple[Decision, History]:
    """What a report asks for counts for REPORT_S: it may come and go within seconds. While none
    can be used, a pause that the last one asked for stays."""
    before = history.report
    if report.failure:
        is_paused = bool(config.min_battery_percent or config.only_idle or before.action == PAUSE)
        action, duty = (PAUSE, 0.0) if is_paused else (SLOW, UNKNOWN_DUTY)
        return Decision(action, duty, False, report.failure, Cause.REPORT), history
    decision = _asked_by(config, report)
    if decision.duty > before.duty and now_s - history.report_s < REPORT_S:
        return before, history
    return decision, replace(history, report=decision, report_s=now_s)


def decide_by_report(config: GovernorConfig, report: Report) -> Decision:
    """What one report asks for, without those before it."""
    return _by_report(config, History(), report, 0.0)[0]


def _asked_by(config: GovernorConfig, report: Report) -> Decision:
    text = f"the robot reports: {report.reason or report.level.name.lower()}"
    gate = _closed_gate(config, report)
    if report.level is Level.STOP:
        return Decision(STOP, 0.0, True, text, Cause.REPORT)
    if report.level is Level.CRITICAL:
        return Decision(PAUSE, 0.0, False, text, Cause.REPORT)
    if gate:
        return Decision(PAUSE, 0.0, False, gate, Cause.GATE)
    if report.level is Level.OK:
        return Decision()
    duty = SLOW_DUTY if report.level is Level.WARN else UNKNOWN_DUTY
    return Decision(SLOW, duty, False, text, Cause.REPORT)


def _closed_gate(config: GovernorConfig, report: Report) -> str:
    """Why the robot is not to learn now, whatever its health; empty if it may."""
    if report.teleoperated:
        return "the robot is teleoperated"
    if config.only_idle and not report.idle:
        return "the robot is not idle" if report.idle is False else "the report has no idle"
    battery, lowest = report.battery_percent, config.min_battery_percent
    if not lowest or report.charging or battery is not None and battery >= lowest:
        return ""
    if battery is None:
        return "the report has no battery_percent"
    return f"the battery has {battery:.0f} %; learns from {lowest:.0f} % on, or while it charges"
