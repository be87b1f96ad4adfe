"""Teach a brain a new rule from recorded examples, or undo that."""
import argparse
import json

from seed.commands import options, outcome
from seed.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", metavar="FILE", help="items.jsonl, notes.txt or path.py:Class")
    options.add_budget(parser, 2.0, "the adaptation")
    parser.add_argument("--share", type=float, default=0.3, help="of new items in the mixture")
    parser.add_argument("--lr", type=float, default=1e-3, help="at d_model 64")
    parser.add_argument("--light", action="store_true",
                        help="in less memory: trains norms, gates and the embedding, no matrices")
    parser.add_argument("--undo", action="store_true",
                        help="restore the brain from before the last adaptation")
    options.add_brain(parser)


def run(args: argparse.Namespace) -> int:
    from seed.config import from_dict
    from seed.evaluation import TrainedBrain
    from seed.evaluation.exact_match import comparison
    from seed.storage import checkpoint
    from seed.training import adapt
    from seed.training.pipeline import train
    from seed.training.stop_signals import StopSignals
    signals = StopSignals().watch()
    with args.run_dir.locked():
        adapt.settle(args.run_dir)
        if args.undo:
            adapt.undo(args.run_dir)
            print("the brain is as it was before the last adaptation")
            return 0
        if not args.data:
            raise ConfigError("--data is missing: name a file of recorded examples")
        brain = args.run_dir.recover(options.log)
        if brain is None:
            raise ConfigError(f"{args.run_dir} has no brain: train one with --run-dir "
                              f"{args.run_dir}")
        profile = adapt.profile_for(from_dict(brain.meta["profile"]), args.data, args.share,
                                    args.minutes, args.steps or 0, args.lr, args.light)
        recipe = adapt.recipe(profile, args.data)
        if adapt.is_published(args.run_dir, brain, recipe):
            adapt.clear(args.run_dir)
            print(json.dumps({"ended": "already"}) if args.json else
                  "this adaptation has ended already: undo it, or change it, to have another")
            return 0
        trained = TrainedBrain.of(brain, args.threads, args.run_dir)
        weights, folder = trained.params, adapt.enter(args.run_dir, recipe)
        dataset = TrainedBrain(profile, 0, {}).dataset
        before = trained.scores(dataset.holdout(profile.curriculum.holdout_items), dataset)
        result = train(profile, folder, args.threads, options.log, signals, lambda: weights)
        if not result.finished:
            return outcome.report(args, result)
        adapted = checkpoint.read(folder.checkpoint).tensors
        adapt.publish(args.run_dir, brain, {key: adapted[key] for key in weights})
    after = result.scores or []
    print(json.dumps({"step": result.step, "before": outcome.dicts(before),
                      "after": outcome.dicts(after)}) if args.json else
          comparison(("before %", "after %"), (before, after)))
    return 0
