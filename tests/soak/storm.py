"""Kills a real training again and again, and compares its end with that of an undisturbed run.

    python -m tests.soak.storm --kills 1000
    python -m tests.soak.storm --kills 100 --growth    (of a brain that grows on its way)
    python -m tests.soak.storm --kills 50 --body gym:Acrobot-v1    (of one that acts, too)
    python -m tests.soak.storm --minutes 60            (faults of every kind: mixed_storm.py)

A quarter of the kills strike at one step of the save (before or after a write, fsync or rename),
the others at a random moment of the process's life, its start included. Beside a tenth as many
times a step of a save fails, as with a dying or full card, and the run has to go on by itself. When
a run has ended, its weights, moments, metadata and logged steps must be the undisturbed run's, bit
by bit, and a new one begins. Prints one line and exits by it: 0 all is well, 1 a difference, a
failure or a process that hangs.
"""
import argparse
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.support.preloaded import build_library
from tests.support.same_lines import reproducible_line
from tests.support.tiny_run import tiny_command
from tests.support.trials import known_search, train_growing_command

STEPS = 300
HANG_S = 600.0
OPERATIONS = ("write", "fsync", "previous", "newest", "directory")
MOMENTS = [(operation, what) for operation in OPERATIONS for what in ("before", "after")]
CHECKPOINT = "checkpoint.safetensors"


def build_faults(folder: Path) -> Path:
    """The preloaded library that strikes inside a save."""
    return build_library("faults.c", folder)


def growth(run_dir: Path) -> list[str]:
    """The limit is known beforehand; the brain grows at step 1,000 of 1,300."""
    if not run_dir.exists():
        known_search(run_dir)
    return train_growing_command(run_dir, "--steps=1300")


def command(run_dir: Path) -> list[str]:
    return tiny_command(run_dir, "--set=curriculum.eval_every_steps=7",
                        "--set=curriculum.eval_items=2", "--set=train.save_every_minutes=0.002",
                        "--set=train.write_gb_per_day=1e6", steps=STEPS)


def start(run_dir: Path, cache: Path, library: Path | None = None, fault: str = "",
          grows: bool = False, options: Sequence[str] = ()) -> subprocess.Popen:
    env = {**os.environ, "XDG_CACHE_HOME": str(cache)}
    if fault:
        env |= {"LD_PRELOAD": str(library), "FAULT": fault, "FAULT_DIR": run_dir.name}
    return subprocess.Popen(
        growth(run_dir) if grows else [*command(run_dir), *options], env=env,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def outcome(run_dir: Path) -> tuple[str, str]:
    """Hashes of the checkpoint and of all logged lines of training.

    When the final evaluation is repeated, because the run was killed after it, it is logged again.
    """
    rows = [*map(reproducible_line, (run_dir / "metrics.jsonl").read_text().splitlines())]
    kinds = [json.loads(row)["kind"] for row in rows]
    last = dict.fromkeys(row for row, kind in zip(rows, kinds) if kind == "eval")
    steps = "\n".join([*(row for row, kind in zip(rows, kinds) if kind in
                         ("step", "skip", "curriculum", "grow", "body")), *last])
    return (hashlib.sha256((run_dir / CHECKPOINT).read_bytes()).hexdigest(),
            hashlib.sha256(steps.encode()).hexdigest())


def wait_a_moment(process: subprocess.Popen, run_dir: Path, dice: random.Random) -> bool:
    """Half of the moments are in the process's start, the others after a first logged step. False
    if that does not come."""
    if dice.random() < 0.5:
        time.sleep(dice.uniform(0.0, 1.0))
        return True
    log, until = run_dir / "metrics.jsonl", time.monotonic() + HANG_S
    size = log.stat().st_size if log.exists() else 0
    while process.poll() is None and (not log.exists() or log.stat().st_size <= size):
        if time.monotonic() > until:
            return False
        time.sleep(0.005)
    time.sleep(dice.uniform(0.0, 0.5))
    return True


def errors_of(process: subprocess.Popen) -> str | None:
    """What it says until it ends; None, and it is killed, if it hangs."""
    try:
        return process.communicate(timeout=HANG_S)[1]
    except subprocess.TimeoutExpired:
        process.kill()
        return None


def acting(body: str) -> list[str]:
    """Options of a brain that learns a body beside the curriculum; the number of threads, which is
    drawn at each start, changes no bit."""
    return ["--body", body, "--set=body.curriculum_steps=1", "--set=body.rows=4",
            "--set=body.ticks=16", "--set=body.chunk=8"]


def storm(kills: int, seed: int, folder: Path, grows: bool, body: str = "") -> str:
    """What went wrong, or nothing."""
    options = acting(body) if body else []
    dice, library, cache = random.Random(seed), build_faults(folder), Path(
        os.environ.get("XDG_CACHE_HOME", folder.resolve() / "cache"))
    calm = folder / "calm"
    peace = start(calm, cache, grows=grows, options=options)
    errors = errors_of(peace)
    if errors is None or peace.returncode:
        return f"the undisturbed run failed: {(errors or 'it hung').splitlines()[-1:]}"
    expected = outcome(calm)
    struck: Counter = Counter()
    failed = 0
    ended, number, began = 0, 0, time.time()
    directed = [MOMENTS[i % len(MOMENTS)] for i in range(kills // 4)]
    faults = [(OPERATIONS[i % len(OPERATIONS)], ("eio", "enospc")[i // len(OPERATIONS) % 2])
              for i in range(kills // 10)]
    plan: list[tuple[str, str] | None] = [*directed, *faults, *[None] * (kills - len(directed))]
    dice.shuffle(plan)
    while plan or (folder / str(number)).exists():
        run_dir = folder / str(number)
        disturbed = bool(plan)   # at last a run is left to end in peace
        moment = plan[-1] if disturbed else None
        first = dice.randint(2, 4)   # a run that cannot save its first checkpoint is refused
        process = start(run_dir, cache, library,
                        f"{moment[0]}:{first}:{first}:{moment[1]}" if moment else "", grows,
                        [*options, f"--threads={dice.randint(1, 4)}"] if body else [])
        if disturbed and not moment and wait_a_moment(process, run_dir, dice):
            process.kill()
        errors = errors_of(process)
        if errors is None:
            return f"after {sum(struck.values())} kills a process hung; its run is in {run_dir}"
        if moment and moment[1] in ("eio", "enospc"):
            failed += errors.count("WARNING: not saved")
            plan.pop()
        if process.returncode == -9:
            struck[" ".join(moment) if moment else "any"] += 1
            plan.pop()
            if sum(struck.values()) % 100 == 0:
                print(f"{sum(struck.values())} kills, {ended} runs ended, "
                      f"{time.time() - began:.0f} s", file=sys.stderr, flush=True)
        elif process.returncode:
            return f"after {sum(struck.values())} kills: {errors.splitlines()[-1:]}"
        else:
            if outcome(run_dir) != expected:
                return f"run {number} ended with other bits; kept in {run_dir}"
            ended, number = ended + 1, number + 1
    least = min(struck[" ".join(moment)] for moment in MOMENTS)
    print(f"storm: {sum(struck.values())} kills, at least {least} at each of {len(MOMENTS)} "
          f"moments of the save, {failed} failed saves, {ended} runs ended, all bit-identical, "
          f"{time.time() - began:.0f} s")
    return ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--kills", type=int, default=1000)
    length.add_argument("--minutes", type=float, help="faults of every kind for so long")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--growth", action="store_true", help="of a brain that grows on its way")
    parser.add_argument("--body", default="", help="of a brain that learns this body, too")
    args = parser.parse_args()
    if args.minutes and (args.growth or args.body):
        parser.error("--growth and --body are storms of --kills")
    if args.growth and args.body:
        parser.error("a brain with a body does not grow")
    folder = Path(tempfile.mkdtemp())
    if args.minutes:
        from tests.soak.mixed_storm import MixedStorm   # which needs this module
        fault = MixedStorm(args.seed, folder).run(args.minutes)
    else:
        fault = storm(args.kills, args.seed, folder, args.growth, args.body)
    if fault:
        print(f"storm: FAILED: {fault}")
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
