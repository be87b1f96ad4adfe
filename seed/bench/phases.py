"""Where the time of a training step goes: each phase of its kernels beside its ideal time, which is
that of its multiply-adds at the peak that this machine has from registers.

    python -m seed.bench.phases [--profile seed] [--threads 1] [--steps 20] [--svg FILE]

A phase ends at a barrier. Its time is the median of the steps, in each of which all launches of a
kernel are added up; the peak is taken before each. Phases that only copy or add numbers have no
ideal. Use one thread on a machine that other programs use too.
"""
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np

from seed.bench import command_line, phase_plot
from seed.bench.peak import Peak
from seed.bench.phase_work import Phase, phases_of
from seed.bench.proof import board_facts
from seed.bench.step_kernels import Step, compiled_anew
from seed.config import Profile
from seed.errors import BenchError, ConfigError
from seed.profile_file import load_profile
from seed.storage import atomic_file
from seed.storage.output_file import check_output
from seed.wavecore.tinygrad_seam import Launch

BARRIER, TEAM = "INLINE void barrier(member_t *me) {\n", "    run_team(&args);\n}\n"
SLOTS = 16   # of a launch: its begin, the ends of its phases but the last, and its end
NOTE_TIME = f"""\
int clock_gettime(int, long *);
static void note_time(int slot) {{{{
    long now[2];
    clock_gettime({time.CLOCK_MONOTONIC}, now);
    ((long *){{address}})[slot] = now[0] * 1000000000 + now[1];
}}}}
"""
OUTSIDE, OTHERS = "outside the kernels", "all others"
MIN_SHARE = 0.005   # of a step's time, for a phase that has a row


class Row(NamedTuple):
    phase: str
    ms: float
    ideal_ms: float   # 0: none


class Report(NamedTuple):
    step_ms: float
    peak_gflops: float
    rows: list[Row]   # in the order of a step


class Clock:
    """Where kernels note the time of each phase."""

    def __init__(self) -> None:
        self._slots = np.zeros(SLOTS, np.int64)

    def instrument(self, text: str) -> str:
        """A kernel's text that notes the time. Raises BenchError if it is not as it was."""
        if "run_team" not in text:
            return text   # one of tinygrad's own
        if text.count(BARRIER) != 1 or not text.endswith(TEAM):
            raise BenchError("phases cannot be timed: team.h or kernel_source.py has changed")
        head = NOTE_TIME.format(address=self._slots.ctypes.data)
        text = text.replace(BARRIER, f"{head}{BARRIER}    note_time(me->phase + 1);\n")
        return (f"{text.removesuffix(TEAM)}    note_time(0);\n    run_team(&args);\n"
                f"    note_time({SLOTS - 1});\n}}\n")

    def milliseconds(self, launch: Launch) -> list[float]:
        """Of each phase of a launch; of the whole launch if it notes nothing."""
        self._slots[:] = 0
        begin_s = time.perf_counter()
        launch.call_fn()
        whole_ms = 1e3 * (time.perf_counter() - begin_s)
        times_ns = [int(ns) for ns in self._slots if ns]
        return [(end - begin) / 1e6
                for begin, end in zip(times_ns, times_ns[1:])] or [whole_ms]


def measure(profile: Profile, threads: int, steps: int) -> Report:
    """Raises BenchError, CompilerError."""
    clock = Clock()
    with compiled_anew(clock.instrument):
        step = Step(profile, threads)
    peak_now = Peak(threads)
    kernels, launches = phases_of(profile), step.launches()
    whole_ms: list[float] = []
    peaks: list[float] = []
    times_ms: defaultdict[str, list[float]] = defaultdict(list)   # of each step
    work: dict[str, int] = {}
    for _ in range(steps):
        peaks.append(peak_now.flops())
        begin_s = time.perf_counter()
        step.run()
        whole_ms.append(1e3 * (time.perf_counter() - begin_s))
        work, sums_ms = {}, defaultdict[str, float](float)
        for launch in launches:
            phases = kernels.get(" ".join(launch.kernel.split("_")[:2]), (Phase(OTHERS),))
            for phase, ms in zip(phases, clock.milliseconds(launch), strict=True):
                sums_ms[phase.name] += ms
                work[phase.name] = work.get(phase.name, 0) + phase.multiply_adds
        for name, ms in sums_ms.items():
            times_ms[name].append(ms)
    peak = median(peaks)
    rows = [Row(name, median(times_ms[name]), 2e3 * work[name] / peak) for name in work]
    step_ms = median(whole_ms)
    rows.append(Row(OUTSIDE, max(0.0, step_ms - sum(row.ms for row in rows)), 0.0))
    return Report(step_ms, peak / 1e9, gathered(rows, MIN_SHARE * step_ms))


def gathered(rows: Sequence[Row], min_ms: float) -> list[Row]:
    """Those that take less time are one row, before the last."""
    small = [row for row in rows if row.phase == OTHERS or row.ms < min_ms]
    *large, outside = [row for row in rows if row not in small or row.phase == OUTSIDE]
    others = Row(OTHERS, sum(row.ms for row in small if row.phase != OUTSIDE),
                 sum(row.ideal_ms for row in small))
    return [*large, others, outside]


def table(report: Report) -> str:
    lines = ["| phase | ms | ideal ms | ideal / ms |", "|---|---|---|---|"]
    for row in report.rows:
        ideal = (f"{row.ideal_ms:.2f} | {row.ideal_ms / row.ms:.2f}"
                 if row.ideal_ms and row.ms else "- | -")
        lines.append(f"| {row.phase} | {row.ms:.2f} | {ideal} |")
    ideal_ms = sum(row.ideal_ms for row in report.rows)
    return "\n".join([*lines, f"| a step | {report.step_ms:.2f} | {ideal_ms:.2f} "
                      f"| {ideal_ms / report.step_ms:.2f} |", "",
                      f"peak from registers: {report.peak_gflops:.1f} GFLOP/s"])


def caption(profile_name: str, threads: int, report: Report) -> str:
    facts = board_facts()
    commit = (facts["commit"] or "unknown")[:7] + " with changes" * bool(facts["has_changes"])
    return (f"profile {profile_name}, threads: {threads}, peak {report.peak_gflops:.0f} GFLOP/s; "
            f"{facts['board'] or facts['cpu'] or facts['machine']}, commit {commit}")


def main() -> int:
    parser = command_line.make_parser(__doc__)
    command_line.add_profile(parser, "seed")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--svg", type=Path, help="a picture of the table")
    args = parser.parse_args()

    def measured() -> str:
        if args.threads < 1 or args.steps < 1:
            raise ConfigError(f"--threads is {args.threads} and --steps {args.steps}: use 1 or "
                              f"more")
        if args.svg:
            check_output("--svg", args.svg, "an SVG", lambda head: head.startswith(b"<svg"))
        report = measure(load_profile(args.profile, args.overrides), args.threads, args.steps)
        if args.svg:
            text = phase_plot.svg(report.rows, caption(args.profile, args.threads, report))
            atomic_file.write(args.svg, text.encode())
        return table(report)
    return command_line.run("phases", measured)


if __name__ == "__main__":
    sys.exit(main())
