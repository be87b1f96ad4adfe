"""How well a fast loop keeps its deadlines while a training runs on the other cores, beside the
same loop alone; and what the loop costs the training.

    python -m seed.bench.live_ticks [--seconds 10] [--alone-seconds 10] [--rounds 2]
        [--rate-hz 100] [--swaps 0]

A tick counts when its action reaches the body, in another process, by a clock that the loop does
not use. The phases take turns; training alone is timed before and after. An hour of each:
--seconds 1800. Quote the load (`uptime`) with the figures: a machine that does something else is
late for that.
"""
import argparse
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np

from seed.bench import timed_body
from seed.bench.control_steps import codecs, untrained
from seed.export.operations import LITERT
from seed.interpreter import seed_command
from seed.live.fast_loop import FastLoop, Options
from seed.live.real_time import fast_cores, other_cores

PROFILE = "fast"
QUANTILES = (0.5, 0.99, 0.999, 1.0)
STEPS_AT_ONCE, STEPS_ALONE = 5, 40   # of the training
PAUSE_S = 0.5                        # before a phase counts
EARLY_FRACTION = 0.25
STRETCH_TICKS = 1000                 # in which the clocks run evenly beside each other
BIN_ENDS_US = (100, 200, 500, 1000, 2000, 5000, 10_000, np.inf)   # of the histogram


class Lateness(NamedTuple):
    """Of ticks at the body, beyond the earliest of a straight line through a stretch of them: over
    hours the clock that the loop uses is slewed by as much as a tick, now so and now so."""
    ticks: int
    missed: int
    us: np.ndarray

    @classmethod
    def of(cls, times_ns: np.ndarray, period_ns: float) -> "Lateness":
        n_stretches = max(1, round(len(times_ns) / STRETCH_TICKS))
        late_ns = np.concatenate([_late_ns(stretch, period_ns)
                                  for stretch in np.array_split(times_ns, n_stretches)])
        between = np.diff(times_ns - times_ns[0] - late_ns)   # deadlines
        return cls(len(times_ns), int(np.maximum(0, np.rint(between / period_ns) - 1).sum()),
                   np.maximum(0, late_ns) / 1000)

    def row(self, name: str) -> str:
        p50, p99, p999, worst = np.quantile(self.us, QUANTILES)
        return (f"{name:<22}{self.ticks:>9,}{self.missed:>8}{p50:>9.0f}{p99:>9.0f}{p999:>9.0f}"
                f"{worst:>9.0f}")

    def histogram(self, name: str) -> str:
        counts = np.histogram(self.us, (0, *BIN_ENDS_US))[0]
        return f"{name:<22}" + "".join(f"{count:>9,}" for count in counts)


def _late_ns(times_ns: np.ndarray, period_ns: float) -> np.ndarray:
    """Of each tick of a stretch."""
    since = (times_ns - times_ns[0]).astype(np.float64)
    phase = np.median(since - np.rint(since / period_ns) * period_ns)
    # The deadline that an action is of: one comes a quarter of a period early at most.
    number = np.floor((since - phase) / period_ns + EARLY_FRACTION).astype(np.int64)
    is_typical = np.ones(len(number), bool)
    for _ in range(3):   # the clocks differ by some parts in a million
        line = np.polyfit(number[is_typical], since[is_typical], 1)
        off = since - np.polyval(line, number)
        is_typical = off <= np.quantile(off, 0.9)
    return off - np.quantile(off, 0.01)


class Trainer:
    """Training steps in a process of their own, on the cores beside the loop's."""

    def __init__(self) -> None:
        threads = len(os.sched_getaffinity(0))
        self.process = subprocess.Popen(
            seed_command("seed", PROFILE, str(threads), module="seed.bench.worker"), text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._read()

    def _read(self) -> list[float]:
        assert self.process.stdout
        line = json.loads(self.process.stdout.readline())
        return line if isinstance(line, list) else []

    def step(self, n: int) -> list[float]:
        """Seconds of each."""
        assert self.process.stdin
        self.process.stdin.write(f"{n}\n")
        self.process.stdin.flush()
        return self._read()

    def close(self) -> None:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        self.process.stdout.read()   # its last line
        self.process.stdout.close()
        self.process.wait()


@contextmanager
def beside(cores: set[int]) -> Iterator[None]:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Phases:
    """Times of the phases by name: (from, to) in ns of the body's clock."""

    def __init__(self, loop: FastLoop, trainer: Trainer | None, files: list[Path]):
        self.loop, self.trainer, self.files = loop, trainer, files
        self.spans: dict[str, list[tuple[int, int]]] = {}
        self.step_s: list[float] = []
        self.swaps = 0

    def run(self, name: str, seconds: float, is_training: bool, swaps: int = 0) -> None:
        ends_s = time.monotonic() + PAUSE_S + seconds
        begins_s, began_ns = ends_s - seconds, 0
        while (now_s := time.monotonic()) < ends_s or swaps:
            for event in self.loop.poll():
                print(event["text"], flush=True)
            if not began_ns and now_s >= begins_s:
                began_ns = time.clock_gettime_ns(timed_body.CLOCK)
            if swaps:
                swaps, self.swaps = swaps - 1, self.swaps + 1
                self.loop.promote(self.files[self.swaps % 2])
            elif is_training and self.trainer:
                self.step_s += self.trainer.step(STEPS_AT_ONCE)
            else:
                time.sleep(0.1)
        self.spans.setdefault(name, []).append(
            (began_ns, time.clock_gettime_ns(timed_body.CLOCK)))

    def lateness(self, name: str, times_ns: np.ndarray, period_ns: float) -> Lateness:
        all_rounds = [Lateness.of(times_ns[(times_ns >= a) & (times_ns < b)], period_ns)
                      for a, b in self.spans[name]]
        return Lateness(sum(x.ticks for x in all_rounds), sum(x.missed for x in all_rounds),
                        np.concatenate([x.us for x in all_rounds]))


def measure(args: argparse.Namespace, folder: Path) -> None:
    os.environ[timed_body.PATH_VARIABLE] = str(folder / "times.npy")
    codec = codecs()[0]
    files = [untrained(codec, folder, PROFILE, LITERT)]
    files.append(files[0].rename(folder / "second"))
    files[0] = untrained(codec, folder, PROFILE, LITERT)
    alone_s: list[float] = []
    with beside(other_cores(fast_cores()[0])):
        trainer = None if args.no_training else Trainer()
        if trainer:
            alone_s += trainer.step(STEPS_ALONE)
    loop = FastLoop(Options(folder / "live", files[0], f"{timed_body.__file__}:TimedBody",
                            rate_hz=args.rate_hz))
    loop.start()
    phases = Phases(loop, trainer, files)
    try:
        for _ in range(args.rounds):
            phases.run("the loop alone", args.alone_seconds or args.seconds, is_training=False)
            if trainer:
                phases.run("with training", args.seconds, is_training=True)
        if args.swaps:
            phases.run(f"{args.swaps} swaps", 0, is_training=False, swaps=args.swaps)
    finally:
        words = loop.block.words()
        loop.stop()
    if trainer:
        alone_s += trainer.step(STEPS_ALONE)
        trainer.close()
    report(phases, np.load(folder / "times.npy"), 1e9 / loop.rate_hz, alone_s, words)


def report(phases: Phases, times_ns: np.ndarray, period_ns: float, alone_s: list[float],
           words: dict[str, float]) -> None:
    print(f"{period_ns / 1e6:g} ms a tick; lateness in us; load {os.getloadavg()[0]:.1f}\n"
          f"{'':<22}{'ticks':>9}{'missed':>8}{'p50':>9}{'p99':>9}{'p99.9':>9}{'worst':>9}")
    rows = {name: phases.lateness(name, times_ns, period_ns) for name in phases.spans}
    for name, lateness in rows.items():
        print(lateness.row(name))
    print(f"\n{'late by up to, us':<22}" + "".join(
        f"{end:>9,.0f}" for end in BIN_ENDS_US))
    for name, lateness in rows.items():
        print(lateness.histogram(name))
    if phases.step_s:
        alone, busy = rows["the loop alone"], rows["with training"]
        beyond_us = np.quantile(busy.us, 0.999) - np.quantile(alone.us, 0.999)
        print(f"p99.9 with training is {beyond_us:.0f} us beyond that of the loop alone; training "
              f"keeps {100 * median(alone_s) / median(phases.step_s):.0f} % of its speed")
    print("the loop's own: " + ", ".join(f"{name} {words[name]:.0f}" for name in (
        "missed", "late", "late_brain", "late_body", "faults", "swaps", "swaps_anew",
        "worst_late_ns", "worst_tick_ns")))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10.0, help="of a phase")
    parser.add_argument("--alone-seconds", type=float,
                        help="of a phase of the loop alone (the same)")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--rate-hz", type=float, default=100.0)
    parser.add_argument("--swaps", type=int, default=0, help="of the brain, at the end")
    parser.add_argument("--no-training", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(args, Path(folder))


if __name__ == "__main__":
    main()
