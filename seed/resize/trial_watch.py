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
from seed.storage import metrics

POLL_S = 0.1
MIN_TREND_STEPS = 20      # that losses and gradient norms need to show a trend
MAX_TIME_FACTOR = 5.0     # by which a trial is extended until it shows trend and temperature
SPEED_WINDOWS = 5         # of equal time, whose speeds are compared
MAX_HEAT_TIME_S = 300.0   # time constant of a board with a heat sink
MIN_RISE_C = 1.0          # a temperature that rises less over a trial has settled
EVALUATIONS = ("eval", "curriculum")   # kinds of metrics


class Outcome(StrEnum):
    """How a trial ended."""
    FINISHED = "finished"                             # it was asked to stop after its time
    OUT_OF_MEMORY = "out of memory"                   # it needs more than there can ever be
    NOT_ENOUGH_MEMORY_NOW = "not enough memory now"   # other programs hold what it needs
    STOPPED = "stopped"                               # its governor, or a signal, stopped it
    HUNG = "hung"
    DIVERGED = "diverged"
    KILLED = "killed"                                 # by a signal
    BOARD_WENT_DOWN = "board went down"

    @property
    def may_change(self) -> bool:
        """Whether the same trial may end otherwise when other programs leave more memory."""
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


class Watch:
    """Samples a child until it ends, is asked to stop or has to be killed."""

    def __init__(self, process: subprocess.Popen, metrics_path: Path, memory_limit_mb: float,
                 seconds: float, hang_timeout_s: float, max_temp_c: float):
        """`max_temp_c`: a child that may still get that warm is watched for longer."""
        self.process, self.metrics = process, MetricsTail(metrics_path)
        self.memory_limit_mb, self.seconds = memory_limit_mb, seconds
        self.hang_timeout_s, self.max_temp_c = hang_timeout_s, max_temp_c
        self.samples: list[Sample] = []
        self.asked_to_stop = False

    def run(self, stopped_fn: Callable[[], bool]) -> Ending | None:
        """Why the child has to be killed; None if it has ended by itself."""
        started, tail = time.monotonic(), self.metrics
        evaluations_s = first_step_s = last_step_s = last_row_s = 0.0
        while self.process.poll() is None:
            if stopped_fn():
                raise KeyboardInterrupt
            time.sleep(POLL_S)
            steps, evaluations, size = tail.steps, tail.evaluations, tail.size
            tail.poll()
            rss_mb = system_health.tree_mb(pid=self.process.pid)[0].value or 0.0
            now_s = time.monotonic() - started
            if tail.evaluations > evaluations:
                evaluations_s, last_step_s = evaluations_s + now_s - last_step_s, now_s
            if tail.steps > steps:
                last_step_s = now_s
            if tail.size != size:
                last_row_s = now_s
            at_s = now_s - evaluations_s
            first_step_s = first_step_s if tail.steps else at_s
            self._sample(at_s, rss_mb)
            if _confirmed_mb(self.samples[-2:]) > self.memory_limit_mb:
                return Ending(Outcome.OUT_OF_MEMORY,
                              f"it took more than {self.memory_limit_mb:.0f} MB")
            if now_s - last_row_s > self.hang_timeout_s:
                return Ending(Outcome.HUNG, f"no progress for {now_s - last_row_s:.0f} s")
            if not self.asked_to_stop and self._is_enough(at_s - first_step_s):
                self.process.terminate()
                self.asked_to_stop = True
        return None

    def _sample(self, at_s: float, rss_mb: float) -> None:
        bits = tuple(name for name, on in system_health.throttled().now().items() if on)
        swap_mb = system_health.swap_used_mb().value or 0.0   # its end gives swap back, too
        self.samples.append(
            Sample(at_s, self.metrics.steps, rss_mb, system_health.temp_c(), bits, swap_mb))

    def _is_enough(self, trained_s: float) -> bool:
        """Whether it has trained for its time, was evaluated, shows a trend and will not get too
        warm; or was extended as far as it may."""
        settled = self.metrics.steps >= MIN_TREND_STEPS and not may_reach(
            self.max_temp_c, _temperatures(self.samples), trained_s)
        return bool(self.metrics.evaluations) and trained_s >= self.seconds and (
            settled or trained_s >= MAX_TIME_FACTOR * self.seconds)


class MetricsTail:
    """Counts steps and evaluations in a growing metrics file; only what is new is read."""

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
    """What two samples agree on: a process that is just being forked is counted twice."""
    return min(sample.rss_mb for sample in samples) if len(samples) > 1 else 0.0


def _temperatures(samples: Sequence[Sample]) -> list[float]:
    """At work: compiling heats less."""
    at_work = [sample for sample in samples if sample.steps] or samples
    return [sample.temp_c for sample in at_work if sample.temp_c is not None]


def may_reach(max_c: float, temps: Sequence[float], seconds: float) -> bool:
    """Whether a temperature, observed for so long and below max_c until now, may still reach it:
    because it settles there, or because it would if it rose as now for MAX_HEAT_TIME_S."""
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
    if end - start < MIN_RISE_C:
        return max(end, middle)
    rise, last_rise = middle - start, end - middle
    if last_rise <= 0:
        return max(end, middle)
    ratio = last_rise / rise if rise > last_rise else 1.0
    return end + last_rise * (ratio / (1 - ratio) if ratio < 10 / 11 else 10.0)


def measurements(samples: Sequence[Sample], metrics_path: Path) -> dict[str, Any]:
    rows = metrics.read(metrics_path, "step")
    losses, norms = [row["loss"] for row in rows], [row["grad_norm"] for row in rows]
    quarter, half, temps = len(rows) // 4, len(rows) // 2, _temperatures(samples)
    reports = list(dict.fromkeys(name for sample in samples for name in sample.throttled))
    if any(row["action"] != RUN and row["cause"] != Cause.UNKNOWN_TEMPERATURE
           for row in metrics.read(metrics_path, "governor")):
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
        "skipped_steps": len(metrics.read(metrics_path, "skip"))}


def speed(samples: Sequence[Sample]) -> tuple[float | None, float | None]:
    """Seconds a step, from the first to the last that was seen to end, and their jitter."""
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
    """What the governor did last, and why."""
    rows = metrics.read(metrics_path, "governor")
    return f"{rows[-1]['action']}, {rows[-1]['reason']}" if rows else ""
