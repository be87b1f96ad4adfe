"""Accuracy by length of the prompt: `python -m seed.experiments.lengths --run-dir BRAIN`

The prompts are of the level after a task's last, up to 256 bytes long, and never trained on.
"""
import argparse
from collections.abc import Sequence
from pathlib import Path

from seed.curriculum.task import Item
from seed.errors import ConfigError
from seed.evaluation import TrainedBrain
from seed.evaluation.exact_match import table
from seed.storage import RunDir

BIN_BYTES = 40   # prompts are grouped by length in steps of this


def by_length(items: Sequence[Item]) -> list[Item]:
    """The same items, shortest first; their level is the longest length of their group."""
    return sorted((item._replace(level=-(-(len(item.prompt) - 1) // BIN_BYTES) * BIN_BYTES)
                   for item in items), key=lambda item: (item.task, item.level))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run-dir", type=lambda text: RunDir(Path(text)), required=True)
    parser.add_argument("--tasks", nargs="+", default=["parity", "modular", "cycle"])
    parser.add_argument("--items", type=int, default=1280, help="of a task")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    try:
        brain = TrainedBrain.load(args.run_dir, args.threads)
    except ConfigError as error:
        parser.error(str(error))
    tasks = brain.dataset.tasks
    for name in args.tasks:
        if name not in tasks or not tasks[name].extrapolation_levels:
            parser.error(f"--tasks {name}: no extrapolation level; use tasks of the brain that "
                         f"have one, such as parity")
    levels = {name: tasks[name].levels.stop for name in args.tasks}
    items = by_length(brain.dataset.beyond(levels, args.items))
    print(table(brain.scores(items)).replace("level", "bytes"))


if __name__ == "__main__":
    main()
