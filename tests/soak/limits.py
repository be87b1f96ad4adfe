"""Whether the limits that a search finds hold: trains at them for minutes, and one size above.

    python -m tests.soak.limits --minutes 10 [--threads 2] [--only heat] [--run-dir RUN]

The limits are three of memory, a minimum of speed, and a board that settles the hotter the more
memory its training holds, played on a sensor file in a name space of its own. For each, `seed
scale` searches anew; then its limit.toml is trained for so many minutes, and the next size until it
breaks the limit or its margin. Prints a line for each and exits by them: 0 all is well, 1 a run
at the limit broke it, one above did not, or a prediction was off by more than MAX_ERROR.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from math import exp
from pathlib import Path
from typing import Any, NamedTuple

from seed import system_health
from seed.config import GovernorConfig, Profile
from seed.errors import ConfigError
from seed.governor import RUN, Cause
from seed.profile_file import load_profile, to_toml
from seed.resize.cost_model import tokens_per_step
from seed.resize.size_search import MARGIN
from seed.resize.trial import HEAT_MARGIN_C, Size, Trial
from seed.resize.trial_watch import POLL_S, MetricsTail
from seed.storage import RunDir, metrics_reader
from seed.storage.jsonl_log import JsonlLog
from seed.training.memory_estimate import check_fits

MAX_ERROR = {"mb": 0.15, "tokens_s": 0.25}   # fraction of what was measured
MIN_SPEED_TIME_S = 120.0                     # over which a speed is measured
SLOW_C = GovernorConfig().slow_c
COLD_C, C_PER_MB, HEAT_TIME_S = 45.0, 0.11, 8.0
NAMESPACE = ["unshare", "-rm", "sh", "-c", 'mount --bind "$0" /sys/class/thermal && exec "$@"']
CASES = {"300MB": "--memory=0.293", "600MB": "--memory=0.586", "1200MB": "--memory=1.172",
         "speed": "--tokens-per-s=8000", "heat": "--memory=6"}


def start(zone: Path | None, output: Path, *arguments: str) -> subprocess.Popen:
    """A command of seed, on a cold board if its sensor is in `zone`. Its errors are in a log beside
    its output."""
    if zone:
        write_temp(zone, COLD_C)
    namespace = [*NAMESPACE, str(zone)] if zone else []
    with open(output, "w") as out, open(output.with_suffix(".log"), "w") as errors:
        return subprocess.Popen([*namespace, sys.executable, "-m", "seed", *arguments, "--json"],
                                stdout=out, stderr=errors)


def poll_mb(process: subprocess.Popen, zone: Path | None) -> Iterator[float]:
    """What the processes hold until they have ended, in MB; two samples in a row agree on it, as
    one that is being forked is counted twice. Meanwhile the zone gets warm."""
    before_mb, temp_c = 0.0, COLD_C
    while process.poll() is None:
        time.sleep(POLL_S)
        rss_mb = system_health.tree_mb(pid=process.pid)[0].value or 0.0
        yield min(before_mb, rss_mb)
        before_mb = rss_mb
        if zone:
            end_c = COLD_C + C_PER_MB * largest_mb(process.pid)
            temp_c = end_c + (temp_c - end_c) * exp(-POLL_S / HEAT_TIME_S)
            write_temp(zone, temp_c)


def largest_mb(pid: int) -> float:
    """Memory of the largest of the process and its children: the one that trains."""
    sizes = subprocess.run(["ps", "-o", "rss=", "-p", str(pid), "--ppid", str(pid)],
                           capture_output=True, text=True).stdout.split()
    return max(map(int, sizes), default=0) / 1024


def write_temp(zone: Path, temp_c: float) -> None:
    (zone / "new").write_text(f"{1000 * temp_c:.0f}\n")
    (zone / "new").rename(zone / "thermal_zone0/temp")


def read_temp(zone: Path) -> float:
    return int((zone / "thermal_zone0/temp").read_text()) / 1000


def search(folder: Path, case: str, threads: int, zone: Path | None) -> dict[str, Any]:
    """The report of `seed scale`."""
    process = start(zone, folder / "scale.json", "scale", CASES[case], "--trial-seconds=30",
                    f"--threads={threads}", "--run-dir", str(folder / "scale"))
    for _ in poll_mb(process, zone):
        pass
    if process.returncode:
        sys.exit(f"limits: {case}: {(folder / 'scale.log').read_text().strip()}")
    return json.loads((folder / "scale.json").read_text())


def errors_of(folder: Path, ladder: list[dict[str, Any]], unit: str) -> list[float]:
    """Errors of predictions from the other sizes, as fractions of what was measured. A trial that
    was killed or slowed has measured a part only."""
    trials = JsonlLog(RunDir(folder / "scale").trial_log, Trial.from_dict).rows
    whole = [str(trial.size) for trial in trials if trial.finished and not trial.throttled]
    return [row[f"predicted_{unit}"] / row["peak_mb" if unit == "mb" else unit] - 1
            for row in ladder if row["size"] in whole]


class Observation(NamedTuple):
    """What a training did, as seen from outside."""
    broke: str               # which limit, and how; empty if none
    failed: str              # how it ended if that has nothing to do with a limit
    steps: int = 0
    peak_mb: float = 0.0
    tokens_s: float | None = None   # from its first evaluation on, which compiles more kernels

    def __str__(self) -> str:
        return f"{self.steps:,} steps, {self.tokens_s or 0:,.0f} tokens/s, {self.peak_mb:.0f} MB"


def train(folder: Path, profile: Profile, case: str, minutes: float, threads: int,
          zone: Path | None, above: bool) -> Observation:
    """A training at a limit, or `above` it: that one ends when it breaks the limit or its margin.
    """
    run_dir, path = RunDir(folder / profile.name), folder / f"{profile.name}.toml"
    path.write_text(to_toml(profile))
    if case != "speed":
        limit_mb = 1024 * float(CASES[case].partition("=")[2])
        limited = replace(profile, governor=replace(profile.governor, memory_mb=limit_mb))
        try:
            check_fits(limited, threads, system_health.read(folder))
        except ConfigError as error:
            return Observation(str(error).partition(" (")[0], "")
    process = start(zone, path.with_suffix(".json"), "train", "--profile", str(path), "--run-dir",
                    str(run_dir), f"--minutes={minutes}", f"--threads={threads}",
                    *([CASES[case]] if case != "speed" else []))
    peak_mb, max_c, rate, began, broke = 0.0, 0.0, None, None, ""
    tail = MetricsTail(run_dir.metrics)
    for rss_mb in poll_mb(process, zone):
        before = tail.steps
        tail.poll()
        if tail.steps > before and tail.evaluations:
            began = began or (time.monotonic(), tail.steps)
            seconds = time.monotonic() - began[0]
            rate = ((tail.steps - began[1]) * tokens_per_step(profile) / seconds
                    if seconds > MIN_SPEED_TIME_S else None)
        peak_mb = max(peak_mb, rss_mb)
        max_c = max(max_c, read_temp(zone) if zone else 0.0)
        if not (above and broke):
            broke = breach(case, above, peak_mb, max_c, rate)
        if above and broke:
            process.terminate()
    last_line = path.with_suffix(".log").read_text().strip().rpartition("\n")[2]
    governed = [row for row in metrics_reader.read(run_dir.metrics, "governor")
                if row["action"] != RUN and row["cause"] != Cause.UNKNOWN_TEMPERATURE]
    failed = ("" if broke else f"{governed[0]['action']}, {governed[0]['reason']}" if governed else
              last_line if process.returncode else
              "its speed is unknown" if case == "speed" and rate is None else "")
    return Observation(broke, failed, tail.steps, peak_mb, rate)


def breach(case: str, above: bool, peak_mb: float, max_c: float, rate: float | None) -> str:
    """How the limit of a case is broken, or its margin by what is `above`; empty if it is not."""
    limit, margin = float(CASES[case].partition("=")[2]), MARGIN if above else 0.0
    if case == "speed":
        return f"{rate:,.0f} tokens/s" if rate and rate < (1 + margin) * limit else ""
    if peak_mb > (1 - margin) * 1024 * limit:
        return f"{peak_mb:.0f} MB"
    return f"{max_c:.1f} C" if max_c >= SLOW_C - (HEAT_MARGIN_C if above else 0.0) else ""


def holds(folder: Path, case: str, minutes: float, threads: int) -> tuple[bool, str]:
    zone = folder / "zone" if case == "heat" else None
    if zone:
        (zone / "thermal_zone0").mkdir(parents=True)
        (zone / "thermal_zone0/type").write_text("cpu-thermal\n")
    report = search(folder, case, threads, zone)
    limit = load_profile(str(folder / "scale/limit.toml"))
    sizes = [row["size"] for row in report["ladder"]]
    next_size = sizes[sizes.index(report["chosen"]) + 1]
    larger = Size(*(int(n) for pair in next_size.split(", ") for n in pair.split("x")))
    at = train(folder, limit, case, minutes, threads, zone, False)
    above = train(folder, replace(larger.apply_to(limit), name="above"), case, minutes, threads,
                  zone, True)
    errors = {unit: errors_of(folder, report["ladder"], unit) for unit in MAX_ERROR}
    good = (not (at.broke or at.failed or above.failed) and bool(above.broke)
            and all(abs(e) <= MAX_ERROR[unit] for unit in MAX_ERROR for e in errors[unit]))
    spans = ", ".join(f"{100 * min(errors[unit]):+.0f} to {100 * max(errors[unit]):+.0f} % in "
                      f"{unit}" for unit in MAX_ERROR)
    return good, (f"{report['chosen']}: {at}, broke {at.broke or at.failed or 'nothing'}; "
                  f"{next_size}: broke {above.broke or above.failed or 'nothing'}; predictions "
                  f"off by {spans}")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0, help="of each training")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", choices=CASES, action="append")
    parser.add_argument("--run-dir", type=Path, help="a new directory, which is kept")
    args = parser.parse_args()
    all_good = True
    with tempfile.TemporaryDirectory() as temporary:
        for case in args.only or CASES:
            folder = (args.run_dir or Path(temporary)).resolve() / case
            folder.mkdir(parents=True)
            good, report = holds(folder, case, args.minutes, args.threads)
            all_good &= good
            print(f"limits: {case}: {'' if good else 'FAILED: '}{report}", flush=True)
    return 0 if all_good else 1


if __name__ == "__main__":
    sys.exit(main())
