"""What growth is worth: `python -m seed.experiments.growth --minutes 12`

With each seed two brains train for the same time on the same items and are evaluated on the same
holdout: one of --profile from scratch, and one that begins in the shape of --small and grows into
--profile after a fraction of the time (--at). Trained brains stay under --out, so that the same
command resumes after an interruption.
"""
import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from seed.experiments.ablate import accuracy, run
from seed.config import load_profile
from seed.storage import RunDir, checkpoint, metrics
from seed.resize.growth_schedule import may_grow

SHAPE = ("d_model", "n_layers", "d_ff")


def scratch(run_dir: RunDir, args: argparse.Namespace, seed: int) -> None:
    run("train", run_dir, [*recipe(args, seed), f"--minutes={args.minutes}"])


def grown(run_dir: RunDir, args: argparse.Namespace, seed: int) -> None:
    """The learning rate falls at the same time as that of `scratch`."""
    small, large = ([getattr(load_profile(name).model, key) for key in SHAPE]
                    for name in (args.small, args.profile))
    started = run_dir.load_newest(lambda text: None)
    if not started or [started.meta["profile"]["model"][key] for key in SHAPE] != large:
        shape = [f"--set=model.{key}={value}" for key, value in zip(SHAPE, small)]
        left_s = 60 * args.at * args.minutes - (started.meta["elapsed_s"] if started else 0.0)
        train_for(left_s, run_dir, [*recipe(args, seed), *shape, f"--minutes={args.minutes}"])
        run("grow", run_dir, [f"--to={args.profile}"])
    run("train", run_dir, [f"--threads={args.threads}", f"--minutes={args.minutes}"])


def train_for(seconds: float, run_dir: RunDir, options: Sequence[str]) -> None:
    """Trains for some seconds, counted from the next step, then stops the run."""
    path = run_dir.metrics
    before = len(metrics.read(path, "step"))
    process = subprocess.Popen([sys.executable, "-m", "seed", "train", "--run-dir", str(run_dir),
                                *options], stdout=subprocess.DEVNULL)
    while process.poll() is None and len(metrics.read(path, "step")) == before:
        time.sleep(0.1)
    try:
        process.wait(max(0.0, seconds))   # returns at once if it fails
    except subprocess.TimeoutExpired:
        process.terminate()
    if process.wait():
        sys.exit(process.returncode)
    if not may_grow(checkpoint.read(run_dir.checkpoint).meta):
        sys.exit(f"cannot grow in {run_dir}: the learning rate falls already; use a smaller --at")


def recipe(args: argparse.Namespace, seed: int) -> list[str]:
    return ["--profile", args.profile, f"--seed={seed}", f"--threads={args.threads}",
            *(f"--set={text}" for text in args.overrides)]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="seed.experiments.growth",
                                     description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, required=True, help="of each brain")
    parser.add_argument("--profile", default="seed")
    parser.add_argument("--small", default="toy", help="profile of the shape before growth")
    parser.add_argument("--at", type=float, default=0.3, help="fraction of the time before growth")
    parser.add_argument("--set", action="append", default=[], dest="overrides",
                        metavar="a.b=value", help="for all brains")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("runs/growth"))
    args = parser.parse_args(argv)
    if not 0 < args.at < 1:
        parser.error(f"--at is {args.at}: use more than 0 and less than 1")
    print(f"{'seed':<6}{'brain':<9}{'steps':>7}{'holdout loss':>14}{'holdout %':>11}")
    for seed in args.seeds:
        for kind in (grown, scratch):
            run_dir = RunDir(args.out / f"{kind.__name__}-{seed}")
            scores = run_dir.path / "eval.json"
            if not scores.exists():
                kind(run_dir, args, seed)
                scores.write_text(json.dumps(
                    run("eval", run_dir, [f"--threads={args.threads}"])), encoding="utf-8")
            report = json.loads(scores.read_text(encoding="utf-8"))
            print(f"{seed:<6}{kind.__name__:<9}{report['step']:>7,}"
                  f"{report['calibration']['loss']:>14.4f}"
                  f"{100 * accuracy(report['holdout']):>11.1f}",
                  flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
