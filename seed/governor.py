"""Decides from sensor readings whether training may go on: a pure function, history in and out.

It may slow the run down, let it wait, ask for a checkpoint or stop it. It never changes what is
computed. Every threshold is in the profile's [governor] table.
"""
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from seed.config import GovernorConfig
from seed.system_health import Health, Reading

PLAUSIBLE_C = (-30.0, 130.0)
JUMP_C = 15.0         # a fall by more between two looks is believed only when it lasts
CONFIRM = 3           # looks that confirm a fall, or a sensor's silence
COOLING_S = 300.0     # that a pause lasts on when its sensor is lost: any board has cooled by then
FIRMWARE_S = 60.0     # the firmware's throttling counts for so long after it was last reported
SAVE_AGAIN_S = 300.0  # between two checkpoints for one lasting under-voltage
SAVE_NEXT_S = 60.0    # between those of two, because it may come and go within seconds

UNKNOWN = "temperature unknown"
RUN, SLOW, PAUSE, STOP = "run", "slow", "pause", "stop"


class Decision(NamedTuple):
    action: str          # RUN, SLOW, PAUSE or STOP; STOP means save first, to be resumed
    duty: float          # share of the time that may be spent training; 0 when paused or stopped
    save: bool           # write a checkpoint now
    reason: str          # empty when all is well


@dataclass(frozen=True)
class Zone:
    """What earlier looks have left behind of one thermal zone."""
    temp_c: float | None = None     # the last that was believed; None: unknown
    raw_c: float | None = None      # the last that was read
    changed_s: float = 0.0          # when it last gave another number
    doubted: int = 0                # looks in a row that were not believed
    alive: bool = False             # it has given two different numbers
    lost_s: float | None = None     # when it became unknown, if it was believed before
    reason: str = ""                # why it is unknown


@dataclass(frozen=True)
class History:
    """What earlier looks have left behind."""
    mode: str = RUN                 # RUN, SLOW or PAUSE
    zones: Mapping[str, Zone] = field(default_factory=dict)
    firmware_s: float | None = None  # when the firmware last reported that it throttles
    firmware: str = ""              # and what it reported
    under_voltage: bool = False
    saved_s: float | None = None    # when under-voltage last asked for a checkpoint


def decide(config: GovernorConfig, history: History, health: Health,
           now_s: float) -> tuple[Decision, History]:
    """One decision from one look at the sensors; `now_s` comes from a clock that never jumps."""
    pressure = memory_pressure(config, health)
    if pressure:
        return Decision(STOP, 0.0, True, pressure), history
    save, history = _under_voltage(health, history, now_s)
    history = _throttling(_look(config, history, health, now_s), health, now_s)
    mode, duty, reason = _by_heat(config, history, health, now_s)
    if save:
        reason = "; ".join(filter(None, ("under-voltage: checkpoint now", reason)))
    return Decision(mode, duty, save, reason), replace(history, mode=mode)


def memory_pressure(config: GovernorConfig, health: Health) -> str:
    """Why the run must stop before the kernel kills it, or nothing."""
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
    """Whether to save for it: when it begins, and again while it lasts."""
    before, now = history.under_voltage, bool(health.throttled.under_voltage)
    history = replace(history, under_voltage=now)
    pause = SAVE_AGAIN_S if before else SAVE_NEXT_S
    if not now or (history.saved_s is not None and now_s - history.saved_s < pause):
        return False, history
    return True, replace(history, saved_s=now_s)


def _look(config: GovernorConfig, history: History, health: Health, now_s: float) -> History:
    """The history with what each zone says now; one that is not listed any more is silent."""
    gone, new = Reading(None, "it is gone"), Zone(changed_s=now_s)
    return replace(history, zones={
        name: _believe(config, history.zones.get(name, new), health.zones_c.get(name, gone), now_s)
        for name in {**history.zones, **health.zones_c}})


def _believe(config: GovernorConfig, zone: Zone, reading: Reading, now_s: float) -> Zone:
    """A zone with another believed temperature, or with the reason why there is none.

    A rise is believed at once. A fall by more than JUMP_C, silence and nonsense are doubted for
    CONFIRM looks, in which the last believed temperature stands. A sensor that repeats itself for
    too long is not believed at all; it is lost if it ever gave another number.
    """
    raw, reason = reading.value, reading.reason
    if raw is not None and not PLAUSIBLE_C[0] <= raw <= PLAUSIBLE_C[1]:
        raw, reason = None, f"the sensor says {raw:.0f} C"
    same, last = raw is not None and raw == zone.raw_c, zone.temp_c
    changed_s = zone.changed_s if same else now_s
    alive = zone.alive or None not in (raw, zone.raw_c) and not same
    zone = replace(zone, raw_c=raw, changed_s=changed_s, alive=alive)
    if raw is not None and now_s - changed_s > config.frozen_s:
        return _unknown(zone, alive, now_s, (
            f"the sensor has said {raw:.1f} C for {now_s - changed_s:.0f} s"))
    fell = last is not None and raw is not None and raw < last - JUMP_C
    if last is not None and (raw is None or fell) and zone.doubted < CONFIRM - 1:
        return replace(zone, doubted=zone.doubted + 1)
    if raw is None:
        return _unknown(zone, last is not None, now_s, reason)
    return replace(zone, temp_c=raw, doubted=0, lost_s=None, reason="")


def _unknown(zone: Zone, lost: bool, now_s: float, reason: str) -> Zone:
    """A zone that is not believed any more, and since when if something is lost by it."""
    since = now_s if lost and zone.lost_s is None else zone.lost_s
    return replace(zone, temp_c=None, doubted=0, lost_s=since, reason=reason)


def _throttling(history: History, health: Health, now_s: float) -> History:
    """The history with what the firmware reports, or has reported a short while ago: its bits come
    and go within seconds."""
    bits = health.throttled
    now = [name for name, on in (("throttled", bits.throttled),
                                 ("soft temperature limit", bits.soft_limit)) if on]
    if now:
        return replace(history, firmware=", ".join(now), firmware_s=now_s)
    if history.firmware_s is not None and now_s - history.firmware_s < FIRMWARE_S:
        return history
    return replace(history, firmware="", firmware_s=None)


def _by_heat(config: GovernorConfig, history: History, health: Health,
             now_s: float) -> tuple[str, float, str]:
    """Mode, duty and reason. Between two thresholds the mode stays: that is the hysteresis."""
    if not config.thermal or (not history.zones and not health.board):
        return RUN, 1.0, ""  # a PC or a server that shows no sensor looks after itself
    zones = history.zones
    temp = max((z.temp_c for z in zones.values() if z.temp_c is not None), default=None)
    lost_s = max((z.lost_s for z in zones.values() if z.lost_s is not None), default=None)
    reasons = sorted((z.lost_s is None, f"{name}: {z.reason}") for name, z in zones.items()
                     if z.temp_c is None)
    unknown = f"{UNKNOWN}: {reasons[0][1] if reasons else 'no thermal zone'}"
    if history.mode == PAUSE and lost_s is not None and now_s - lost_s < COOLING_S:
        return PAUSE, 0.0, f"{unknown}; goes on {COOLING_S:.0f} s after that"
    if temp is not None and (temp >= config.pause_c or (
            history.mode == PAUSE and temp > config.resume_c)):
        return PAUSE, 0.0, f"{temp:.1f} C; goes on at {config.resume_c:.0f} C"
    if history.firmware:
        return SLOW, config.slow_duty, f"the firmware reports: {history.firmware}"
    if temp is not None and (temp >= config.slow_c or (
            history.mode != RUN and temp > config.resume_c)):
        share = (config.pause_c - temp) / (config.pause_c - config.slow_c)
        duty = config.slow_duty + (1 - config.slow_duty) * min(1.0, max(0.0, share))
        return SLOW, duty if lost_s is None else min(duty, config.unknown_duty), f"{temp:.1f} C"
    if temp is None or lost_s is not None:
        return SLOW, config.unknown_duty, unknown
    return RUN, 1.0, ""
