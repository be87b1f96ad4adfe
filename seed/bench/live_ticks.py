"""How well a fast loop keeps its deadlines while a training runs on the other cores, beside the
same loop alone; and what the loop costs the training.

    python -m seed.bench.live_ticks [--seconds 10] [--alone-seconds 10] [--rounds 2]
        [--rate-hz 100] [--swaps 0]

A tick counts when its action reaches the body, in another process, by a clock that the loop does
not use. In each round a loop is alone, then beside a training; training without a loop is timed
before and after each. An hour of each: --seconds 1800. Quote the load (`uptime`) with the figures:
a machine that does something else is late for that.
"""
import argparse
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np

from seed.bench import timed_body
from seed.bench.command_line import make_parser
from seed.bench.control_steps import codecs, untrained
from seed.export.operations import LITERT
from seed.interpreter import seed_command
from seed.live.fast_loop import FastLoop, Options
from seed.live.real_time import fast_cores, other_cores

PROFILE = "fast"
QUANTILES = (0.5, 0.99, 0.999, 1.0)
STEPS_AT_ONCE, STEPS_ALONE = 5, 40   # of the training
PAUSE_S = 0.5                        # before a phase counts
ALONE, BESIDE = "the loop alone", "with training"
LOOP_WORDS: dict[str, Callable[[Iterable[float]], float]] = {
    **dict.fromkeys(("missed", "late", "late_brain", "late_body", "faults", "swaps", "swaps_anew"),
                    sum), "worst_late_ns": max, "worst_tick_ns": max}
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

    @classmethod
    def total(cls, parts: Sequence["Lateness"]) -> "Lateness":
        return cls(sum(part.ticks for part in parts), sum(part.missed for part in parts),
                   np.concatenate([part.us for part in parts]))

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
    """What was measured of each phase, by its name, round by round."""

    def __init__(self, trainer: Trainer | None, files: list[Path]):
        self.trainer, self.files = trainer, files
        self.lateness: dict[str, list[Lateness]] = {}
        self.alone_s: list[float] = []   # training steps without a loop, and beside one
        self.beside_s: list[float] = []
        self.words: list[dict[str, float]] = []   # the loops' own
        self.period_ns = 0.0
        self._spans: list[tuple[str, int, int]] = []   # in ns of the body's clock, of this round
        self._swaps = 0

    def train_alone(self) -> None:
        if self.trainer:
            self.alone_s += self.trainer.step(STEPS_ALONE)

    @contextmanager
    def living(self, folder: Path, rate_hz: float) -> Iterator[FastLoop]:
        """The loop of a round."""
        os.environ[timed_body.PATH_VARIABLE] = str(folder / "times.npy")
        loop = FastLoop(Options(folder / "live", self.files[0],
                                f"{timed_body.__file__}:TimedBody", rate_hz=rate_hz))
        loop.start()
        try:
            yield loop
            self.words.append(loop.block.words())
        finally:
            loop.stop()
        self.period_ns = 1e9 / loop.rate_hz
        times_ns = np.load(folder / "times.npy")
        for name, begin_ns, end_ns in self._spans:
            within = times_ns[(times_ns >= begin_ns) & (times_ns < end_ns)]
            self.lateness.setdefault(name, []).append(Lateness.of(within, self.period_ns))
        self._spans = []

    def run(self, loop: FastLoop, name: str, seconds: float, is_training: bool,
            swaps: int = 0) -> None:
        ends_s = time.monotonic() + PAUSE_S + seconds
        begins_s, began_ns = ends_s - seconds, 0
        while (now_s := time.monotonic()) < ends_s or swaps:
            for event in loop.poll():
                print(event["text"], flush=True)
            if not began_ns and now_s >= begins_s:
                began_ns = time.clock_gettime_ns(timed_body.CLOCK)
            if swaps:
                swaps, self._swaps = swaps - 1, self._swaps + 1
                loop.promote(self.files[self._swaps % 2])
            elif is_training and self.trainer:
                self.beside_s += self.trainer.step(STEPS_AT_ONCE)
            else:
                time.sleep(0.1)
        self._spans.append((name, began_ns, time.clock_gettime_ns(timed_body.CLOCK)))


def measure(args: argparse.Namespace, folder: Path) -> None:
    codec = codecs()[0]
    files = [untrained(codec, folder, PROFILE, LITERT)]
    files.append(files[0].rename(folder / "second"))
    files[0] = untrained(codec, folder, PROFILE, LITERT)
    with beside(other_cores(fast_cores()[0])):
        phases = Phases(None if args.no_training else Trainer(), files)
    for number in range(args.rounds):
        phases.train_alone()
        (folder / str(number)).mkdir()
        with phases.living(folder / str(number), args.rate_hz) as loop:
            phases.run(loop, ALONE, args.alone_seconds or args.seconds, is_training=False)
            if phases.trainer:
                phases.run(loop, BESIDE, args.seconds, is_training=True)
            if args.swaps and number == args.rounds - 1:
                phases.run(loop, f"{args.swaps} swaps", 0, is_training=False, swaps=args.swaps)
    phases.train_alone()
    if phases.trainer:
        phases.trainer.close()
    report(phases)


def report(phases: Phases) -> None:
    print(f"{phases.period_ns / 1e6:g} ms a tick; lateness in us; load {os.getloadavg()[0]:.1f}\n"
          f"{'':<22}{'ticks':>9}{'missed':>8}{'p50':>9}{'p99':>9}{'p99.9':>9}{'worst':>9}")
    rows = {name: Lateness.total(parts) for name, parts in phases.lateness.items()}
    for name, lateness in rows.items():
        print(lateness.row(name))
    print(f"\n{'late by up to, us':<22}" + "".join(
        f"{end:>9,.0f}" for end in BIN_ENDS_US))
    for name, lateness in rows.items():
        print(lateness.histogram(name))
    if phases.beside_s:
        beyond_us = np.quantile(rows[BESIDE].us, 0.999) - np.quantile(rows[ALONE].us, 0.999)
        alone_s, beside_s = median(phases.alone_s), median(phases.beside_s)
        print(f"p99.9 with training is {beyond_us:.0f} us beyond that of the loop alone; training "
              f"keeps {100 * alone_s / beside_s:.0f} % of its speed ({1000 * alone_s:.1f} ms a "
              f"step alone, {1000 * beside_s:.1f} beside the loop)")
    print("the loop's own: " + ", ".join(
        f"{name} {total_fn(words[name] for words in phases.words):.0f}"
        for name, total_fn in LOOP_WORDS.items()))


def main() -> None:
    parser = make_parser(__doc__)
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
