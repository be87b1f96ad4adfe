"""Whether limits that were found hold: trains at them for minutes, and one size above.

    python -m tests.soak.limits --minutes 10 [--threads 2] [--only heat] [--run-dir RUN]

The limits are three ceilings of memory, a floor of speed, and a board that settles the hotter the
more memory its training holds, played on a sensor file in a name space of its own. At each, `seed
scale` searches anew; then its limit.toml is trained for so many minutes, and the next size until it
breaks the limit or its margin. Prints a line for each and exits by them: 0 all is well, 1 a run
at the limit broke it, one above did not, or a prediction was off by more than OFF.
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
from seed.config import GovernorConfig, Profile, load_profile, to_toml
from seed.governor import Cause
from seed.storage import RunDir
from seed.storage import metrics
from seed.resize.cost_model import tokens
from seed.resize.trial import LOOK_S, MARGIN_C, NEEDS, Size
from seed.resize.size_search import MARGIN

OFF = {"mb": 0.15, "tokens_s": 0.25}
SPEED_S = 120.0            # that a speed is measured for
SLOW_C = GovernorConfig().slow_c
COLD_C, C_OF_MB, TAU_S = 45.0, 0.11, 8.0
SPACE = ["unshare", "-rm", "sh", "-c", 'mount --bind "$0" /sys/class/thermal && exec "$@"']
CASES = {"300MB": "--memory=0.293", "600MB": "--memory=0.586", "1200MB": "--memory=1.172",
         "speed": "--tokens-per-s=8000", "heat": "--memory=6"}


def start(zone: Path | None, said: Path, *arguments: str) -> subprocess.Popen:
    """Of seed; on a cold board whose sensor is in `zone`. Errors are in a log beside what it says.
    """
    if zone:
        warm(zone, COLD_C)
    with open(said, "w") as answers, open(said.with_suffix(".log"), "w") as errors:
        return subprocess.Popen([*(SPACE + [str(zone)] if zone else []), sys.executable, "-m",
                                 "seed", *arguments, "--json"], stdout=answers, stderr=errors)


def looks(process: subprocess.Popen, zone: Path | None) -> Iterator[float]:
    """What the processes hold, until they have ended, in MB; two looks in a row agree on it, as one
    that is being forked is counted twice. Meanwhile the zone gets warm."""
    before_mb, now_c = 0.0, COLD_C
    while process.poll() is None:
        time.sleep(LOOK_S)
        held_mb = system_health.tree_mb(pid=process.pid)[0].value or 0.0
        yield min(before_mb, held_mb)
        before_mb = held_mb
        if zone:
            end_c = COLD_C + C_OF_MB * largest_mb(process.pid)
            now_c = end_c + (now_c - end_c) * exp(-LOOK_S / TAU_S)
            warm(zone, now_c)


def largest_mb(pid: int) -> float:
    """Of the process and its children, the one that trains."""
    found = subprocess.run(["ps", "-o", "rss=", "-p", str(pid), "--ppid", str(pid)],
                           capture_output=True, text=True).stdout.split()
    return max(map(int, found), default=0) / 1024


def warm(zone: Path, temp_c: float) -> None:
    (zone / "new").write_text(f"{1000 * temp_c:.0f}\n")
    (zone / "new").rename(zone / "thermal_zone0/temp")


def temp_c(zone: Path) -> float:
    return int((zone / "thermal_zone0/temp").read_text()) / 1000


def search(folder: Path, case: str, threads: int, zone: Path | None) -> dict[str, Any]:
    """What `seed scale` has found."""
    process = start(zone, folder / "scale.json", "scale", CASES[case], "--trial-seconds=30",
                    f"--threads={threads}", "--run-dir", str(folder / "scale"))
    for _ in looks(process, zone):
        pass
    if process.returncode:
        sys.exit(f"limits: {case}: {(folder / 'scale.log').read_text().strip()}")
    return json.loads((folder / "scale.json").read_text())


def errors(folder: Path, ladder: list[dict[str, Any]], unit: str) -> list[float]:
    """Of predictions from the other sizes, as shares of what was measured. One that was ended or
    slowed has told of a part alone."""
    rows = map(json.loads, RunDir(folder / "scale").trial_log.read_text().splitlines())
    whole = [str(Size(*row["size"])) for row in rows if not row["ended"] and not row["throttled"]]
    return [row[f"predicted_{unit}"] / row["peak_mb" if unit == "mb" else unit] - 1
            for row in ladder if row["size"] in whole]


class Seen(NamedTuple):
    """What a training did, as seen from outside."""
    broke: str               # which limit, and how; empty if none
    failed: str              # how it ended if that has nothing to do with a limit
    steps: int
    peak_mb: float
    tokens_s: float | None   # from its first examination on, for which more is compiled

    def __str__(self) -> str:
        return f"{self.steps:,} steps, {self.tokens_s or 0:,.0f} tokens/s, {self.peak_mb:.0f} MB"


def train(folder: Path, profile: Profile, case: str, options: list[str], zone: Path | None,
          above: bool) -> Seen:
    """A training at a limit, or `above` it: that one ends when it breaks the limit or its margin.
    """
    (folder / f"{profile.name}.toml").write_text(to_toml(profile))
    record = folder / profile.name / "metrics.jsonl"
    process = start(zone, folder / f"{profile.name}.json", "train", "--profile",
                    str(folder / f"{profile.name}.toml"), "--run-dir", str(record.parent), *options,
                    *([CASES[case]] if case != "speed" else []))
    peak_mb, hottest_c, steps, rate, began, broke = 0.0, 0.0, 0, None, None, ""
    for held_mb in looks(process, zone):
        text = record.read_text() if record.exists() else ""
        before, steps = steps, text.count('"kind": "step"')
        if '"kind": "curriculum"' in text and steps > before:
            began = began or (time.monotonic(), steps)
            seconds = time.monotonic() - began[0]
            rate = (steps - began[1]) * tokens(profile) / seconds if seconds > SPEED_S else None
        peak_mb = max(peak_mb, held_mb)
        hottest_c = max(hottest_c, temp_c(zone) if zone else 0.0)
        if not (above and broke):
            broke = breach(case, above, peak_mb, hottest_c, rate)
        if above and broke:
            process.terminate()
    last = (folder / f"{profile.name}.log").read_text().strip().rpartition("\n")[2]
    if process.returncode and NEEDS in last:
        broke = broke or last.removeprefix("seed: ").partition(" (")[0]
    governed = [row for row in metrics.read(record, "governor")
                if row["action"] != "run" and row["cause"] != Cause.UNKNOWN_TEMPERATURE]
    failed = ("" if broke else f"{governed[0]['action']}, {governed[0]['reason']}" if governed else
              last if process.returncode else
              "its speed is not known" if case == "speed" and rate is None else "")
    return Seen(broke, failed, steps, peak_mb, rate)


def breach(case: str, above: bool, peak_mb: float, hottest_c: float, rate: float | None) -> str:
    """How the limit of a case is broken, or its margin by what is `above`; empty if it is not."""
    limit, margin = float(CASES[case].partition("=")[2]), MARGIN if above else 0.0
    if case == "speed":
        return f"{rate:,.0f} tokens/s" if rate and rate < (1 + margin) * limit else ""
    if peak_mb > (1 - margin) * 1024 * limit:
        return f"{peak_mb:.0f} MB"
    return f"{hottest_c:.1f} C" if hottest_c >= SLOW_C - (MARGIN_C if above else 0.0) else ""


def holds(folder: Path, case: str, minutes: float, threads: int) -> tuple[bool, str]:
    zone = folder / "zone" if case == "heat" else None
    if zone:
        (zone / "thermal_zone0").mkdir(parents=True)
        (zone / "thermal_zone0/type").write_text("cpu-thermal\n")
    found = search(folder, case, threads, zone)
    limit = load_profile(str(folder / "scale/limit.toml"))
    sizes = [row["size"] for row in found["ladder"]]
    size = sizes[sizes.index(found["chosen"]) + 1]
    larger = Size(*(int(number) for part in size.split(", ") for number in part.split("x")))
    options = [f"--minutes={minutes}", f"--threads={threads}"]
    at = train(folder, limit, case, options, zone, False)
    above = train(folder, replace(larger.of(limit), name="above"), case, options, zone, True)
    off = {unit: errors(folder, found["ladder"], unit) for unit in OFF}
    good = (not (at.broke or at.failed or above.failed) and bool(above.broke)
            and all(abs(e) <= OFF[unit] for unit in OFF for e in off[unit]))
    told = ", ".join(f"{100 * min(off[unit]):+.0f} to {100 * max(off[unit]):+.0f} % in {unit}"
                     for unit in OFF)
    return good, (f"{found['chosen']}: {at}, broke {at.broke or at.failed or 'nothing'}; {size}: "
                  f"broke {above.broke or above.failed or 'nothing'}; predictions off by {told}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
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
