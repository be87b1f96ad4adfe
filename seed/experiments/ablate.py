"""Ablations: `python -m seed.experiments.ablate --profile toy --steps 4000 VARIANT...`

Trains every variant of a profile with several seeds, one after another, and compares accuracy:

    python -m seed.experiments.ablate --steps 4000 --seeds 3 "" "model.beta_max=1.0" "train.lr=1e-3"

A variant is overrides `a.b=value` with spaces between; an empty one is the profile itself. --set
applies to all. Trained brains stay under --out, so that the same command resumes after an
interruption.
"""
import argparse
import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

import seed
from seed.curriculum.state import grade_of
from seed.interpreter import seed_command
from seed.storage import RunDir, metrics_reader

LOSS_STEPS = 200   # last steps whose mean loss is reported; their items are new


class Trained(NamedTuple):
    """One run: exact match in 0..1 of every level, and its last loss."""
    holdout: list[dict[str, Any]]
    extrapolation: list[dict[str, Any]]
    loss: float


def accuracy(scores: Sequence[dict[str, Any]], grade: int | None = None) -> float:
    """Mean over the tasks (of a grade) of the mean over their levels; nan without any."""
    tasks = {s["task"] for s in scores if grade in (None, grade_of(s["task"]))}
    means = [mean(s["accuracy"] for s in scores if s["task"] == task) for task in sorted(tasks)]
    return mean(means) if means else float("nan")


def run(command: str, run_dir: RunDir, *options: str) -> dict[str, Any]:
    """What a command of `seed` reports; ends this process if it fails."""
    done = subprocess.run(seed_command(command, "--run-dir", str(run_dir), "--json", *options),
                          stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(done.returncode)
    return json.loads(done.stdout)


def train(run_dir: RunDir, options: Sequence[str], threads: int) -> Trained:
    run("train", run_dir, *options)
    report = run("eval", run_dir, f"--threads={threads}")
    losses = [line["loss"] for line in metrics_reader.read(run_dir.metrics, "step")]
    return Trained(report["holdout"], report["extrapolation"], mean(losses[-LOSS_STEPS:]))


def version() -> str:
    """Hash of the code: brains of another version are not compared."""
    digest = hashlib.blake2b(digest_size=4)
    for path in sorted(Path(seed.__file__).parent.rglob("*.[pch]*")):
        if "__pycache__" not in path.parts:
            digest.update(path.read_bytes())
    return digest.hexdigest()


def table(results: dict[str, list[Trained]]) -> str:
    """One line a variant: means over its seeds; of the holdout also the least and the most."""
    grades = sorted({grade_of(score["task"]) for runs in results.values()
                     for score in runs[0].holdout} - {0})
    width = max(len(name) for name in [*results, "as in the profile"])
    lines = [f"{'variant':<{width}}  seeds    loss  holdout %   least -  most"
             + "".join(f"   grade {g}" for g in grades) + "   longer"]
    for name, runs in results.items():
        percent = [100 * accuracy(run.holdout) for run in runs]
        lines.append(
            f"{name or 'as in the profile':<{width}}{len(runs):>7}"
            f"{mean(run.loss for run in runs):>8.4f}"
            f"{mean(percent):>11.1f}{min(percent):>8.1f} -{max(percent):>6.1f}" + "".join(
                f"{100 * mean(accuracy(run.holdout, g) for run in runs):>10.1f}" for g in grades)
            + f"{100 * mean(accuracy(run.extrapolation) for run in runs):>9.1f}")
    return "\n".join(lines)


def make_parser(name: str, description: str, profile: str) -> argparse.ArgumentParser:
    """The flags of an experiment that trains brains for equal steps or equal time."""
    parser = argparse.ArgumentParser(prog=f"seed.experiments.{name}", description=description)
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument("--steps", type=int, help="of each brain")
    length.add_argument("--minutes", type=float, help="of each brain, instead of --steps")
    parser.add_argument("--profile", default=profile)
    parser.add_argument("--set", action="append", default=[], dest="overrides",
                        metavar="a.b=value", help="for all brains")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("runs") / name)
    return parser


def budget(args: argparse.Namespace) -> list[str]:
    length = f"--steps={args.steps}" if args.steps else f"--minutes={args.minutes}"
    return [length, f"--threads={args.threads}"]


def main(argv: Sequence[str] | None = None) -> int:
    parser = make_parser("ablate", __doc__.splitlines()[0], profile="toy")
    parser.add_argument("variants", nargs="+", metavar="VARIANT")
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args(argv)
    results: dict[str, list[Trained]] = {}
    for number in range(args.seeds):
        for variant in args.variants:
            sets = [*args.overrides, *variant.split()]
            place = re.sub(r"[^\w.=-]+", "_", " ".join(
                [args.profile, budget(args)[0][2:], *sets, str(number), version()]))
            options = ["--profile", args.profile, f"--seed={number}", *budget(args),
                       *(f"--set={text}" for text in sets)]
            trained = train(RunDir(args.out / place), options, args.threads)
            results.setdefault(variant, []).append(trained)
            print(f"{table(results)}\n", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
