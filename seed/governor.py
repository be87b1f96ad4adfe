"""Decides from sensor readings whether training may go on: a pure function, history in and out.

It may slow the run down, let it wait, ask for a checkpoint or stop it. It never changes what is
computed. Every threshold is in the profile's [governor] table.
"""
from dataclasses import dataclass, replace
from typing import NamedTuple

from seed.config import GovernorConfig
from seed.system_health import Health

PLAUSIBLE_C = (-30.0, 130.0)
JUMP_C = 15.0         # a fall by more between two looks is believed only when it lasts
CONFIRM = 3           # looks that confirm a fall, or a sensor's silence
FIRMWARE_S = 60.0     # the firmware's throttling counts for so long after it was last reported
SAVE_AGAIN_S = 300.0  # between two checkpoints for one lasting under-voltage

UNKNOWN = "temperature unknown"
RUN, SLOW, PAUSE, STOP = "run", "slow", "pause", "stop"


class Decision(NamedTuple):
    action: str          # RUN, SLOW, PAUSE or STOP; STOP means save first, to be resumed
    duty: float          # share of the time that may be spent training; 0 when paused or stopped
    save: bool           # write a checkpoint now
    reason: str          # empty when all is well


@dataclass(frozen=True)
class History:
    """What earlier looks have left behind."""
    mode: str = RUN                 # RUN, SLOW or PAUSE
    temp_c: float | None = None     # the last that was believed
    changed_s: float = 0.0          # when the sensor last gave another number
    raw_c: float | None = None      # the last that was read
    doubted: int = 0                # looks in a row that were not believed
    firmware_s: float | None = None  # when the firmware last reported that it throttles
    firmware: str = ""              # and what it reported
    saved_s: float | None = None    # when under-voltage last asked for a checkpoint


def decide(config: GovernorConfig, history: History, health: Health,
           now_s: float) -> tuple[Decision, History]:
    """One decision from one look at the sensors; `now_s` comes from a clock that never jumps."""
    pressure = memory_pressure(config, health)
    if pressure:
        return Decision(STOP, 0.0, True, pressure), history
    save, history = _under_voltage(health, history, now_s)
    history, doubt = _believe(config, history, health, now_s)
    history = _throttling(history, health, now_s)
    mode, duty, reason = _by_heat(config, history, health, doubt)
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
    if not health.throttled.under_voltage:
        return False, replace(history, saved_s=None)
    if history.saved_s is not None and now_s - history.saved_s < SAVE_AGAIN_S:
        return False, history
    return True, replace(history, saved_s=now_s)


def _believe(config: GovernorConfig, history: History, health: Health,
             now_s: float) -> tuple[History, str]:
    """The history with a new believed temperature, and why there is none (then it is None).

    A rise is believed at once. A fall by more than JUMP_C, silence and nonsense are doubted for
    CONFIRM looks, in which the last believed temperature stands. A sensor that repeats itself for
    too long is not believed at all.
    """
    raw, reason = health.temp_c.value, health.temp_c.reason
    if raw is not None and not PLAUSIBLE_C[0] <= raw <= PLAUSIBLE_C[1]:
        raw, reason = None, f"the sensor says {raw:.0f} C"
    changed_s = history.changed_s if raw == history.raw_c and raw is not None else now_s
    history = replace(history, raw_c=raw, changed_s=changed_s)
    if raw is not None and now_s - changed_s > config.frozen_s:
        return replace(history, temp_c=None), (
            f"the sensor has said {raw:.1f} C for {now_s - changed_s:.0f} s")
    last = history.temp_c
    fell = last is not None and raw is not None and raw < last - JUMP_C
    if last is not None and (raw is None or fell) and history.doubted < CONFIRM - 1:
        return replace(history, doubted=history.doubted + 1), ""
    return replace(history, temp_c=raw, doubted=0), "" if raw is not None else reason


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
             doubt: str) -> tuple[str, float, str]:
    """Mode, duty and reason. Between two thresholds the mode stays: that is the hysteresis."""
    if not config.thermal:
        return RUN, 1.0, ""
    temp = history.temp_c
    if not health.zones_c and not health.board:
        return RUN, 1.0, ""  # a PC or a server that shows no sensor looks after itself
    if temp is None:
        return SLOW, config.unknown_duty, f"{UNKNOWN}: {doubt}"
    if temp >= config.pause_c or (history.mode == PAUSE and temp > config.resume_c):
        return PAUSE, 0.0, f"{temp:.1f} C; goes on at {config.resume_c:.0f} C"
    if history.firmware:
        return SLOW, config.slow_duty, f"the firmware reports: {history.firmware}"
    if temp >= config.slow_c or (history.mode != RUN and temp > config.resume_c):
        share = (config.pause_c - temp) / (config.pause_c - config.slow_c)
        duty = config.slow_duty + (1 - config.slow_duty) * min(1.0, max(0.0, share))
        return SLOW, duty, f"{temp:.1f} C"
    return RUN, 1.0, ""
