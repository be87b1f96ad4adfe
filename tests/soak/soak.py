"""Trains for an hour or more and watches what the process holds.

    python -m tests.soak.soak --minutes 60 --profile seed [--run-dir RUN] [options of seed train]

Every few seconds it reads the memory of the process and its children, its threads and open files.
Prints one line and exits by it: 0 if after the first minute memory grows by less than GROWTH_MB in
all, threads and files stay as they were, and no step was dropped; else 1. In the first minute all
is compiled.
"""
import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from seed import system_health

EVERY_S, FIRST_S, GROWTH_MB = 2.0, 60.0, 8.0


def tree_mb(pid: int) -> float:
    found = system_health.tree_mb(pid=pid)[0].value
    if found is None:
        raise OSError("it has just ended")
    return found


def held(pid: int) -> tuple[int, int]:
    """Threads and open files; a compiler or a team of threads may be at work for a moment."""
    return len(list(Path(f"/proc/{pid}/task").iterdir())), len(
        list(Path(f"/proc/{pid}/fd").iterdir()))


def soak(options: list[str], run_dir: Path) -> tuple[bool, str]:
    """`options`: of `seed train`, which begins in `run_dir` and keeps its brain there."""
    log = open(run_dir / "log", "w+", encoding="utf-8")
    process = subprocess.Popen([sys.executable, "-m", "seed", "train", *options, "--run-dir",
                                str(run_dir / "run")], stdout=log, stderr=log)
    began, samples = time.monotonic(), []
    while process.poll() is None:
        time.sleep(EVERY_S)
        try:
            samples.append((time.monotonic() - began, tree_mb(process.pid), *held(process.pid)))
        except (OSError, IndexError):
            break  # it has just ended
    code = process.wait()
    log.seek(0)
    text = log.read()
    log.close()
    if code or "Done: " not in text:
        return False, f"exit code {code}: {text.splitlines()[-1:]}"
    rows = [json.loads(row) for row in (run_dir / "run/metrics.jsonl").read_text().splitlines()]
    steps = [row["step"] for row in rows if row["kind"] == "step"]
    dropped = sum(row["kind"] == "skip" for row in rows)
    later = [s for s in samples if s[0] >= FIRST_S]
    if len(later) < 3:
        return False, f"only {len(samples)} samples: soak for longer than two minutes"
    slope = statistics.linear_regression([s[0] / 3600 for s in later], [s[1] for s in later]).slope
    part = max(1, len(later) // 5)
    threads, files = (statistics.median(s[i] for s in later[-part:])
                      - statistics.median(s[i] for s in later[:part]) for i in (2, 3))
    report = (f"{samples[-1][0] / 60:.0f} min, {len(steps)} steps, {dropped} dropped, memory "
              f"{max(s[1] for s in samples):.0f} MB at the most, {slope:+.2f} MB an hour after the "
              f"first minute, threads {threads:+.0f}, files {files:+.0f}")
    grows = slope * (later[-1][0] - later[0][0]) / 3600 > GROWTH_MB
    whole = steps == list(range(1, len(steps) + 1))
    return whole and not (grows or dropped or threads or files), report


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run-dir", type=Path, help="a new directory, which is kept")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", default="60")
    length.add_argument("--steps")
    parser.add_argument("--profile", default="seed")
    parser.add_argument("--memory", default="6", help="GB")
    args, others = parser.parse_known_args()
    options = ["--profile", args.profile, "--memory", args.memory, *others]
    options += ["--steps", args.steps] if args.steps else ["--minutes", args.minutes]
    with tempfile.TemporaryDirectory() as folder:
        if args.run_dir:
            args.run_dir.mkdir(parents=True)
        good, report = soak(options, args.run_dir or Path(folder))
    print(f"soak: {'' if good else 'FAILED: '}{report}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
