"""train, shrink and adapt."""
import argparse
import json

from seed.commands.start import newest, prepare_brain, profile_of, say
from seed.config import Profile, from_dict
from seed.errors import ConfigError
from seed.errors import RETRY_LATER
from seed.storage.run_dir import RunDir


def run_train(args: argparse.Namespace) -> int:
    if args.grow:
        from seed.commands.growth import run_train_growing
        return run_train_growing(args)
    from seed.training.stop_signals import StopSignals
    signals = StopSignals().watch()   # before the profile is read: numpy starts threads
    return report(args, train_brain(args, profile_of(args), args.run_dir, signals=signals))


def run_shrink(args: argparse.Namespace) -> int:
    from seed.training.stop_signals import StopSignals
    signals = StopSignals().watch()
    prepare_brain(args)
    from seed.evaluation.exact_match import comparison
    from seed.resize import shrink_brain
    result, before, same = shrink_brain(args.run_dir, args.out, profile_of(args), args.threads, say,
                                        signals)
    if not result.finished:
        return report(args, result)
    after = result.scores or []
    if args.json:
        print(json.dumps({"step": result.step, "agreement": same,
                          "parent": [s.to_dict() for s in before],
                          "scores": [s.to_dict() for s in after]}))
    else:
        print(comparison(("parent %", "child %"), (before, after)))
        print(f"finished at step {result.step}; parent and child answer {100 * same:.1f} % of the "
              f"items alike")
    return 0


def run_adapt(args: argparse.Namespace) -> int:
    from seed.training import adapt
    from seed.storage import checkpoint
    with args.run_dir.locked():
        adapt.settle(args.run_dir)
        if args.undo:
            adapt.undo(args.run_dir)
            print("the brain is as it was before the last adaptation")
            return 0
        if not args.data:
            raise ConfigError("--data is missing: name a file of recorded examples")
        brain = newest(args.run_dir, repair=True)
        parent = from_dict(brain.meta["profile"])
        profile = adapt.profile_for(parent, args.data, args.share, args.minutes, args.steps or 0,
                                    args.lr, args.light)
        wanted = adapt.recipe(profile, args.data)
        if adapt.is_published(args.run_dir, brain, wanted):
            adapt.clear(args.run_dir)
            print(json.dumps({"ended": "already"}) if args.json else
                  "this adaptation has ended already: undo it, or change it, to have another")
            return 0
        prepare_brain(args)
        from seed.curriculum.dataset import Dataset
        from seed.evaluation.exact_match import comparison, evaluate
        from seed.evaluation.forward_pass import ForwardByLength
        from seed.wavecore.model import WaveCore, init_params
        weights = {key: brain.tensors[key] for key in init_params(parent.model, 0)}
        dataset = Dataset(profile.curriculum, profile.identity, profile.train.seed)
        folder = adapt.enter(args.run_dir, wanted)
        before = evaluate(dataset.holdout(profile.curriculum.holdout_items), dataset,
                          ForwardByLength(WaveCore(parent.model, weights, args.threads)),
                          profile.train.seq_len) or []
        result = train_brain(args, profile, folder, lambda: weights)
        if not result.finished:
            return report(args, result)
        adapted = checkpoint.read(folder.checkpoint).tensors
        adapt.publish(args.run_dir, brain, {key: adapted[key] for key in weights})
    after = result.scores or []
    if args.json:
        print(json.dumps({"step": result.step, "before": [s.to_dict() for s in before],
                          "after": [s.to_dict() for s in after]}))
    else:
        print(comparison(("before %", "after %"), (before, after)))
    return 0


def train_brain(args: argparse.Namespace, profile: Profile, run_dir: RunDir, weights=None,
                signals=None):
    from seed.training.stop_signals import StopSignals
    signals = signals or StopSignals().watch()
    prepare_brain(args)
    from seed.training.pipeline import train
    return train(profile, run_dir, args.threads, say, signals, weights)


def report(args: argparse.Namespace, result) -> int:
    """Says where a run has ended."""
    from seed.evaluation.exact_match import table
    if not result.finished:
        say(f"stopped at step {result.step}; run the same command to go on")
        return RETRY_LATER if result.retry else 0
    scores = result.scores or []
    if args.json:
        print(json.dumps({"step": result.step, "scores": [s.to_dict() for s in scores]}))
    else:
        print(f"finished at step {result.step}\n{table(scores, levels=False)}")
    return 0
