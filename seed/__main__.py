"""The command line: python -m seed train | shrink | adapt | scale | grow | eval | export | run |
generate | items | info | health | bench."""
import argparse
import importlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from seed import __version__
from seed.errors import BAD_INPUT, FAILED, INTERRUPTED

if TYPE_CHECKING:
    from seed.storage import RunDir

ROOMS = {"learn": ("train", "shrink", "adapt"), "size": ("scale",),
         "growth": ("grow",),
         "examine": ("eval", "generate", "export", "run"),
         "look": ("items", "info", "health", "bench")}


def run_dir(text: str) -> "RunDir":
    from seed.storage import RunDir
    return RunDir(Path(text))


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="seed", description="Trains a robot's first brain on the "
                                                           "robot itself.")
    top.add_argument("--version", action="version", version=__version__)
    commands = top.add_subparsers(dest="command", required=True)

    def add(name: str, text: str, shaped: bool = True) -> argparse.ArgumentParser:
        """`shaped`: by a profile; what runs a brain takes it as it is."""
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("--json", action="store_true", help="print JSON")
        if not shaped:
            return command
        command.add_argument("--profile", help="shipped profile or a .toml file (default: that of "
                                               "the run directory's brain, or toy)")
        command.add_argument("--set", action="append", default=[], metavar="a.b=value",
                             dest="overrides", help="override one key of the profile")
        command.add_argument("--task", action="append", default=[], metavar="NAME[=SHARE]",
                             dest="tasks", help="add a task: path.py:ClassName, lessons.jsonl or "
                                                "notes.txt")
        command.add_argument("--seed", type=int, help="train.seed")
        return command

    def add_prompt(command: argparse.ArgumentParser) -> None:
        command.add_argument("--prompt", required=True)
        command.add_argument("--max-bytes", type=int, default=128)
        command.add_argument("--temperature", type=float, default=0.0)
        command.add_argument("--seed", type=int, default=0, help="of the draws")

    def add_brain(command: argparse.ArgumentParser) -> None:
        command.add_argument("--run-dir", type=run_dir, default="runs/default",
                             help="where the brain, its metrics and the kernel cache are kept")
        command.add_argument("--threads", type=int, default=os.cpu_count() or 1)

    train = add("train", "Train a brain, or go on with one.")
    train.add_argument("--minutes", type=float, help="time budget of the whole run")
    train.add_argument("--steps", type=int, help="optimizer steps of the whole run")
    train.add_argument("--memory", type=float, metavar="GB",
                       help="ceiling on the memory of the run and its children (default 6)")
    train.add_argument("--no-thermal", action="store_true", help="do not look at temperatures")
    train.add_argument("--grow", action="store_true",
                       help="find the limit of the board, then grow up to it")
    train.add_argument("--tokens-per-param", type=float, default=60.0,
                       help="with --grow: that a size must have the time for (an hour's seed: 90)")

    def add_limits(command: argparse.ArgumentParser, trial_seconds: float) -> None:
        command.add_argument("--trial-seconds", type=float, default=trial_seconds,
                             help="training of each size that is tried")
        command.add_argument("--tokens-per-s", type=float, default=0.0, help="minimum speed")
        add_brain(command)
    add_limits(train, 20.0)
    shrink = add("shrink", "Cut a smaller brain out of a trained one, which then teaches it.")
    shrink.set_defaults(profile="fast")
    shrink.add_argument("--out", type=run_dir, required=True, help="the child's run directory")
    shrink.add_argument("--minutes", type=float, default=10.0, help="time to learn from the parent")
    shrink.add_argument("--steps", type=int, help="optimizer steps instead")
    add_brain(shrink)

    scale = add("scale", "Find the largest stable brain of this board by trying.")
    scale.add_argument("--dry-run", action="store_true", help="print what each size would cost")
    scale.add_argument("--tokens", type=float, default=1e7, help="of the time in a dry run")
    scale.add_argument("--memory", type=float, metavar="GB", help="ceiling (default 6)")
    add_limits(scale, 60.0)
    grow = add("grow", "Make a trained brain larger, in place: it says the same and learns more.",
               shaped=False)
    grow.add_argument("--to", required=True, metavar="PROFILE|auto",
                      help="whose shape it gets; auto: the next size up to the limit of seed scale")
    add_brain(grow)
    adapt = add("adapt", "Teach a brain a new rule from recorded examples, or undo that.",
                shaped=False)
    adapt.add_argument("--data", metavar="FILE", help="lessons.jsonl, notes.txt or path.py:Class")
    adapt.add_argument("--minutes", type=float, default=2.0)
    adapt.add_argument("--steps", type=int, help="optimizer steps instead")
    adapt.add_argument("--share", type=float, default=0.3, help="of the lessons, that is new")
    adapt.add_argument("--lr", type=float, default=1e-3, help="at d_model 64")
    adapt.add_argument("--light", action="store_true",
                       help="less memory: train norms, convolutions, gates and head, no matrices")
    adapt.add_argument("--undo", action="store_true", help="bring back the brain of before")
    add_brain(adapt)
    evaluate = add("eval", "Examine a brain on items it was never trained on.", shaped=False)
    evaluate.add_argument("--html", type=Path, metavar="FILE", help="write a report with plots")
    evaluate.add_argument("--items", type=int, metavar="N",
                          help="items a task and level (default: the profile's holdout_items)")
    add_brain(evaluate)
    generate = add("generate", "Let a brain answer a prompt.", shaped=False)
    add_prompt(generate)
    add_brain(generate)
    export = add("export", "Write a brain as a TFLite file, and prove it against the trainer.",
                 shaped=False)
    export.add_argument("--out", type=Path, help="default: brain.tflite in the run directory")
    kind = export.add_mutually_exclusive_group()
    for name in ("int8", "float16"):
        kind.add_argument(f"--{name}", action="store_const", const=name, dest="weights",
                          default="float32", help=f"{name} weights")
    export.add_argument("--target", choices=["portable", "litert"], default="portable",
                        help="portable: also for tflite-runtime 2.14")
    export.add_argument("--explicit-state", action="store_true",
                        help="states as inputs and outputs, instead of variables")
    export.add_argument("--prefill", type=int, default=0, metavar="T",
                        help="add a signature that reads T bytes at once")
    export.add_argument("--no-verify", action="store_true", help="do not run the file")
    add_brain(export)
    run = add("run", "Let an exported brain answer a prompt.", shaped=False)
    run.add_argument("file", type=Path)
    add_prompt(run)
    add_brain(add("info", "Describe a profile or a brain."))
    health = add("health", "Read the board's sensors, and say what the governor makes of them.")
    health.add_argument("--run-dir", type=run_dir, default=".", help="whose disk is looked at")
    items = add("items", "Print lessons as the brain sees them.")
    items.add_argument("--count", type=int, default=1, help="items of each task and level")
    bench = add("bench", "Time a training step, alone or beside a peer, in one run.")
    bench.set_defaults(profile="seed")
    bench.add_argument("--peer", choices=["torch"], help="needs pip install 'seed-brain[peer]'")
    bench.add_argument("--turns", type=int, default=10, help="times that each contender runs")
    bench.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    return top


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    module = next(room for room, names in ROOMS.items() if args.command in names)
    run = getattr(importlib.import_module(f"seed.commands.{module}"), f"run_{args.command}")
    try:
        code = run(args)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print("seed: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # who read has seen enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except OSError as error:
        where = error.filename or getattr(args, "run_dir", args.command)
        print(f"seed: {where}: {error.strerror}", file=sys.stderr)
        return BAD_INPUT
    except Exception as error:
        code = getattr(error, "exit_code", None)   # of a SeedError, or of runtime.BrainError
        if code is None:
            raise
        print(f"seed: {error}", file=sys.stderr)
        return code


if __name__ == "__main__":
    sys.exit(main())
