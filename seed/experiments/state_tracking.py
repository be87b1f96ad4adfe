"""State that is carried further than was trained: prompts of up to 40 bytes, and then of 41 to 256,
in one thread, with the settings in OVERRIDES (Deletang et al. 2207.02098).

    python -m seed.experiments.state_tracking --tasks cycle modular --seeds 0 1 2 --minutes 15
"""
import argparse
import dataclasses
import tempfile
import time
from pathlib import Path

from seed.evaluation import TrainedBrain
from seed.evaluation.exact_match import table
from seed.experiments import state_tasks
from seed.experiments.lengths import by_length
from seed.profile_file import load_profile
from seed.storage import RunDir
from seed.task_names import short
from seed.training import train
from seed.wavecore.layout import count_params

CLASSES = {"even_pairs": "EvenPairs", "brackets": "Bracketed"}
TASKS = ("parity", "even_pairs", "cycle", "modular", "brackets")
# Attention sees a window, so that only states carry; states turn, and hardly forget.
OVERRIDES = ("model.sliding_window=4", "model.rotary_steps=20", "model.dt_bias_max=-12",
             "train.weight_decay=1.0", "train.eval_every_minutes=0")


def task_name(task: str) -> str:
    """Of the curriculum, or a class of a user's."""
    return f"{state_tasks.__file__}:{CLASSES[task]}" if task in CLASSES else task


def trained(tasks: list[str], seed: int, overrides: list[str], run_dir: RunDir) -> TrainedBrain:
    weights = ", ".join(f'"{task_name(task)}" = 1' for task in tasks)
    profile = load_profile("toy", [*OVERRIDES, f"curriculum.tasks={{{weights}}}",
                                   f"train.seed={seed}", *overrides])
    began_s = time.monotonic()
    result = train(profile, run_dir, 1, lambda line: None)
    print(f"seed {seed}: {count_params(profile.model):,} parameters, {result.step:,} steps in "
          f"{(time.monotonic() - began_s) / 60:.1f} minutes", flush=True)
    return TrainedBrain.load(run_dir, 1, lambda line: None, list(map(task_name, tasks)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=TASKS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--minutes", type=float, default=15.0, help="of training")
    parser.add_argument("--steps", type=int, help="of training, in place of minutes")
    parser.add_argument("--items", type=int, default=1280, help="of a task")
    parser.add_argument("--set", action="append", default=[], help="of the profile")
    args = parser.parse_args()
    length = [f"train.minutes={args.minutes}"] if args.steps is None else [
        f"train.steps={args.steps}", "train.minutes=0"]
    for seed in args.seeds:
        with tempfile.TemporaryDirectory() as folder:
            brain = trained(args.tasks, seed, [*length, *args.set], RunDir(Path(folder) / "run"))
        levels = {name: task.levels.stop for name, task in brain.dataset.tasks.items()}
        within = by_length(brain.dataset.holdout(args.items // 4))
        beyond = by_length(brain.dataset.beyond(levels, args.items))
        scores = [dataclasses.replace(score, task=short(score.task).partition(":")[2] or score.task)
                  for score in brain.scores([*within, *beyond])]
        print(table(scores).replace("level", "bytes"), flush=True)


if __name__ == "__main__":
    main()
