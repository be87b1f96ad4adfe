"""New rules from few examples: `python -m seed.experiments.new_rules --run-dir BRAIN`

For each rule, which no task has, a copy of the brain is adapted to recorded examples with numbers
below 100 and evaluated on a thousand of the remaining pairs; the old tasks are evaluated on their
holdout before and after. The brain itself is not changed.
"""
import argparse
import json
import random
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from seed.curriculum.dataset import Dataset
from seed.curriculum.task import Item
from seed.evaluation import TrainedBrain
from seed.experiments.ablate import accuracy, run
from seed.storage import RunDir

UNSEEN_PAIRS = 1000   # of each evaluation
RULES: dict[str, Callable[[int, int], str]] = {   # by the sign between two numbers
    "&": lambda a, b: str(a + b),       # addition with another sign
    "@": lambda a, b: str(max(a, b)),   # a new operator, close to compare
    "%": lambda a, b: str(a + b + 1)}   # addition, plus one


def examples(sign: str, seed: int) -> list[tuple[str, str]]:
    """Prompts and answers of all pairs of numbers below 100, in random order."""
    pairs = [(a, b) for a in range(100) for b in range(100)]
    random.Random(seed).shuffle(pairs)
    return [(f"{a}{sign}{b}=", RULES[sign](a, b)) for a, b in pairs]


def evaluate(run_dir: RunDir, threads: int, data: Path, pairs: list[tuple[str, str]]) -> float:
    """Exact match over pairs of prompt and answer, in 0..1."""
    brain = TrainedBrain.load(run_dir, threads)
    dataset = Dataset(replace(brain.profile.curriculum, tasks={str(data): 1.0}), {}, 0)
    items = [Item(str(data), 1, prompt.encode(), answer.encode()) for prompt, answer in pairs]
    score, = brain.scores(items, dataset)
    return score.accuracy


def adapt(run_dir: RunDir, data: Path, options: Sequence[str]) -> list[float]:
    """Exact match of the old tasks before and after, mean of the tasks' means over their levels."""
    report = run("adapt", run_dir, f"--data={data}", "--min-gain=0", "--max-loss=100", *options)
    return [accuracy([score for score in report[when] if score["task"] != str(data)])
            for when in ("before", "after")]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run-dir", type=Path, required=True, help="of a trained brain")
    parser.add_argument("--out", type=Path, default=Path("runs/rules"), help="a new directory")
    parser.add_argument("--examples", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    args, options = parser.parse_known_args(argv)   # the rest goes to seed adapt
    if args.out.exists():
        parser.error(f"--out {args.out} exists: name another directory, or remove it")
    parent = RunDir(args.run_dir)
    if not parent.checkpoint.exists():
        parser.error(f"{args.run_dir} has no brain: train one with --run-dir {args.run_dir}")
    print(f"{'rule':<10}{'seed':>5}{'before %':>10}{'unseen %':>10}{'old tasks %':>20}")
    for sign in RULES:
        for seed in range(args.seeds):
            folder = RunDir(args.out / f"{ord(sign)}-{seed}")
            folder.path.mkdir(parents=True)
            shutil.copyfile(parent.checkpoint, folder.checkpoint)
            pairs, data = examples(sign, seed), folder.path / "rule.jsonl"
            unseen = pairs[args.examples:][:UNSEEN_PAIRS]
            data.write_text("".join(json.dumps({"prompt": p, "answer": a}) + "\n"
                                    for p, a in pairs[:args.examples]), encoding="utf-8")
            first = evaluate(folder, args.threads, data, unseen)
            old = adapt(folder, data, [f"--threads={args.threads}", *options])
            after = evaluate(folder, args.threads, data, unseen)
            print(f"{'12' + sign + '34':<10}{seed:>5}{100 * first:>10.1f}{100 * after:>10.1f}"
                  f"{100 * old[0]:>11.2f} -> {100 * old[1]:>5.2f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
