"""Watches the child of a trial from outside, and turns what it has seen into measurements."""
import json
import subprocess
import time
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from statistics import mean, median, pstdev
from typing import Any, NamedTuple

from seed import system_health
from seed.governor import RUN, Cause
from seed.storage import metrics_reader

POLL_S = 0.1
MIN_TREND_STEPS = 20      # that losses and gradient norms need to show a trend
MAX_TIME_FACTOR = 5.0     # by which a trial is extended until it shows trend and temperature
SPEED_WINDOWS = 5         # of equal time, whose speeds are compared
MAX_HEAT_TIME_S = 300.0   # time constant of a board with a heat sink
MIN_RISE_C = 1.0          # a temperature that rises less over a trial has settled
EVALUATIONS = ("eval", "curriculum")   # kinds of metrics


class Outcome(StrEnum):
    """How a trial ended."""
    FINISHED = "finished"                             # stopped by the search after its time
    OUT_OF_MEMORY = "out of memory"                   # more than there can ever be
    NOT_ENOUGH_MEMORY_NOW = "not enough memory now"   # other programs hold it
    STOPPED = "stopped"                               # by its governor or a signal
    HUNG = "hung"
    DIVERGED = "diverged"
    KILLED = "killed"                                 # by a signal
    BOARD_CRASHED = "board crashed"

    @property
    def is_retryable(self) -> bool:
        """Whether the same trial may end otherwise once other programs leave more memory."""
        return self in (Outcome.NOT_ENOUGH_MEMORY_NOW, Outcome.STOPPED)


class Ending(NamedTuple):
    outcome: Outcome
    message: str = ""


class Sample(NamedTuple):
    """The child at one moment."""
    at_s: float                  # without the time of evaluations, of which the first compiles
    steps: int
    rss_mb: float
    temp_c: float | None
    throttled: tuple[str, ...]   # by the firmware
    swap_mb: float = 0.0         # of the whole board


class Observation(NamedTuple):
    ending: Ending | None   # why the child has to be killed; None if it has ended by itself
    asked_to_stop: bool
    samples: list[Sample]


def watch(process: subprocess.Popen, metrics_path: Path, memory_limit_mb: float, seconds: float,
          hang_timeout_s: float, max_temp_c: float,
          should_stop_fn: Callable[[], bool]) -> Observation:
    """Samples a child until it ends or has to be killed. After `seconds` of training, or later if
    it may still reach `max_temp_c`, it is asked to stop.

    Raises KeyboardInterrupt once `should_stop_fn` returns true.
    """
    tail, samples, asked_to_stop = MetricsTail(metrics_path), list[Sample](), False
    start_s = time.monotonic()
    evaluations_s = first_step_s = last_step_s = last_row_s = 0.0
    while process.poll() is None:
        if should_stop_fn():
            raise KeyboardInterrupt
        time.sleep(POLL_S)
        steps, evaluations, size = tail.steps, tail.evaluations, tail.size
        tail.poll()
        rss_mb = system_health.tree_mb(pid=process.pid)[0].value or 0.0
        now_s = time.monotonic() - start_s
        if tail.evaluations > evaluations:
            evaluations_s, last_step_s = evaluations_s + now_s - last_step_s, now_s
        if tail.steps > steps:
            last_step_s = now_s
        if tail.size != size:
            last_row_s = now_s
        at_s = now_s - evaluations_s
        first_step_s = first_step_s if tail.steps else at_s
        samples.append(Sample(
            at_s, tail.steps, rss_mb, system_health.temp_c(),
            tuple(name for name, on in system_health.throttled().now().items() if on),
            system_health.swap_used_mb().value or 0.0))
        if _confirmed_mb(samples[-2:]) > memory_limit_mb:
            error = f"it took more than {memory_limit_mb:.0f} MB"
            return Observation(Ending(Outcome.OUT_OF_MEMORY, error), asked_to_stop, samples)
        if now_s - last_row_s > hang_timeout_s:
            error = f"no progress for {now_s - last_row_s:.0f} s"
            return Observation(Ending(Outcome.HUNG, error), asked_to_stop, samples)
        if not asked_to_stop and tail.evaluations and _is_enough(
                samples, at_s - first_step_s, seconds, max_temp_c):
            process.terminate()
            asked_to_stop = True
    return Observation(None, asked_to_stop, samples)


def _is_enough(samples: Sequence[Sample], trained_s: float, seconds: float,
               max_temp_c: float) -> bool:
    """Whether a child has trained for its time, shows a trend and will not get too warm. A missing
    trend or a rising temperature extends the time by MAX_TIME_FACTOR at most."""
    return trained_s >= seconds and (
        trained_s >= MAX_TIME_FACTOR * seconds or samples[-1].steps >= MIN_TREND_STEPS
        and not may_reach(max_temp_c, _temperatures(samples), trained_s))


class MetricsTail:
    """Counts steps and evaluations in a growing metrics file, and reads only what is new."""

    def __init__(self, path: Path):
        self.path, self.steps, self.evaluations, self.size = path, 0, 0, 0

    def poll(self) -> None:
        if not self.path.exists():
            return
        with open(self.path, "rb") as file:
            file.seek(self.size)
            data = file.read()
        data = data[:data.rfind(b"\n") + 1]
        self.size += len(data)
        kinds = [json.loads(line)["kind"] for line in data.splitlines()]
        self.steps += kinds.count("step")
        self.evaluations += sum(map(kinds.count, EVALUATIONS))


def _confirmed_mb(samples: Sequence[Sample]) -> float:
    """The smaller of two samples: a process that is just being forked is counted twice."""
    return min(sample.rss_mb for sample in samples) if len(samples) > 1 else 0.0


def _temperatures(samples: Sequence[Sample]) -> list[float]:
    """Those from the first step on, if there is one: compiling heats less."""
    training = [sample for sample in samples if sample.steps] or samples
    return [sample.temp_c for sample in training if sample.temp_c is not None]


def may_reach(max_c: float, temps: Sequence[float], seconds: float) -> bool:
    """Whether a temperature that stayed below max_c for so long may still reach it: it settles
    there, or would get there if it rose at its present rate for MAX_HEAT_TIME_S."""
    if max(temps, default=max_c) >= max_c:
        return False
    n = max(1, len(temps) // 5)
    middle, end = mean(temps[2 * n:3 * n] or temps[:1]), mean(temps[-n:])
    rise_per_s = max(0.0, end - middle) / (0.4 * seconds)   # from the third fifth to the last
    return max(end + rise_per_s * MAX_HEAT_TIME_S, settling_temp_c(temps) or 0.0) >= max_c


def settling_temp_c(temps: Sequence[float]) -> float | None:
    """Where a temperature settles that approaches its end exponentially.

    From the means of the first, middle and last fifth (Aitken 1926). One that does not slow down
    is extrapolated by ten times its last rise.
    """
    if len(temps) < 5:
        return max(temps, default=None)
    n = len(temps) // 5
    start, middle, end = (mean(temps[i:i + n]) for i in (0, 2 * n, len(temps) - n))
    rise, last_rise = middle - start, end - middle
    if end - start < MIN_RISE_C or last_rise <= 0:
        return max(end, middle)
    ratio = last_rise / rise if rise > last_rise else 1.0
    return end + last_rise * (ratio / (1 - ratio) if ratio < 10 / 11 else 10.0)


def measurements(samples: Sequence[Sample], metrics_path: Path) -> dict[str, Any]:
    """The fields of a Trial that samples and metrics determine."""
    rows = metrics_reader.read(metrics_path, "step")
    losses, norms = [row["loss"] for row in rows], [row["grad_norm"] for row in rows]
    quarter, half, temps = len(rows) // 4, len(rows) // 2, _temperatures(samples)
    reports = list(dict.fromkeys(name for sample in samples for name in sample.throttled))
    if any(row["action"] != RUN and row["cause"] != Cause.UNKNOWN_TEMPERATURE
           for row in metrics_reader.read(metrics_path, "governor")):
        reports.append(last_action(metrics_path))
    step_s, jitter = speed(samples)
    trends = {} if len(rows) < MIN_TREND_STEPS else {
        "first_loss": mean(losses[:quarter]), "last_loss": mean(losses[-quarter:]),
        "grad_norm_growth": median(norms[half:]) / max(median(norms[:half]), 1e-30)}
    return {
        "peak_mb": max((_confirmed_mb(samples[i:i + 2]) for i in range(len(samples))), default=0.0),
        "steps": len(rows), "step_s": step_s, "jitter": jitter,
        "max_temp_c": max(temps, default=None), "settled_temp_c": settling_temp_c(temps),
        "throttled": "; ".join(reports), **trends,
        "skipped_steps": len(metrics_reader.read(metrics_path, "skip"))}


def speed(samples: Sequence[Sample]) -> tuple[float | None, float | None]:
    """Seconds per step, from the first to the last that was seen to end, and their jitter."""
    ends = [sample for before, sample in zip(samples, samples[1:]) if sample.steps > before.steps]
    if len(ends) < 2:
        return None, None
    first, last = ends[0], ends[-1]
    span_s, steps = last.at_s - first.at_s, last.steps - first.steps
    if steps < 2 * SPEED_WINDOWS:
        return span_s / steps, None
    bounds = [first.at_s + i * span_s / SPEED_WINDOWS for i in range(SPEED_WINDOWS + 1)]
    counts = [max(sample.steps for sample in ends if sample.at_s <= bound + 1e-9)
              for bound in bounds]
    windows = [after - before for before, after in zip(counts, counts[1:])]
    return span_s / steps, pstdev(windows) / mean(windows)


def last_action(metrics_path: Path) -> str:
    """The governor's last action, with its reason."""
    rows = metrics_reader.read(metrics_path, "governor")
    return f"{rows[-1]['action']}, {rows[-1]['reason']}" if rows else ""
