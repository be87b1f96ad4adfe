"""train, shrink and adapt."""
import argparse
import dataclasses
import json
import time
from collections.abc import Callable
from typing import Any

from seed.commands.start import newest, prepare_brain, profile_of, say
from seed.config import DistillConfig, Profile, SelfplayConfig, TeacherConfig, from_dict
from seed.errors import ConfigError
from seed.errors import RETRY_LATER
from seed.storage.run_dir import RunDir


def run_train(args: argparse.Namespace) -> int:
    return report(args, train_brain(args, profile_of(args), args.run_dir))


def run_carve(args: argparse.Namespace) -> int:
    prepare_brain(args)
    from seed.resize import shrink
    from seed.storage import checkpoint
    from seed.practice.distill import read_parent
    from seed.wavecore import submodel
    if args.out.path.resolve() == args.run_dir.path.resolve():
        raise ConfigError("--out is the parent's own directory: use another")
    parent = read_parent(args.run_dir, say)
    profile = profile_of(args)
    profile = dataclasses.replace(
        profile, curriculum=parent.profile.curriculum, identity=parent.profile.identity,
        distill=dataclasses.replace(profile.distill, parent=str(args.run_dir.path.resolve())),
        selfplay=SelfplayConfig(), teacher=TeacherConfig())  # the parent alone teaches
    submodel.check(profile.model, parent.config)
    _check_carving(args, profile, parent.profile)
    result = train_brain(args, profile, args.out, lambda: shrink.shrink(
        parent.config, parent.params, profile.model, shrink.lessons(parent.profile), args.threads))
    if not result.finished:
        return report(args, result)
    from seed.curriculum.dataset import Dataset
    from seed.evaluation.exact_match import agreement, comparison, evaluate
    from seed.evaluation.forward_pass import ForwardByLength
    from seed.wavecore.model import WaveCore, init_params
    found, t = checkpoint.read(args.out.checkpoint).tensors, profile.train.seq_len
    child = {key: found[key] for key in init_params(profile.model, 0)}
    dataset = Dataset(profile.curriculum, profile.identity, profile.train.seed)
    items = dataset.holdout(profile.curriculum.holdout_items)
    brains = [ForwardByLength(WaveCore(config, params, args.threads))
              for config, params in ((parent.config, parent.params), (profile.model, child))]
    before, after = evaluate(items, dataset, brains[0], t) or [], result.scores or []
    same = agreement(items, brains[0], brains[1], t)
    if args.json:
        print(json.dumps({"step": result.step, "agreement": same,
                          "parent": [s.to_dict() for s in before],
                          "scores": [s.to_dict() for s in after]}))
    else:
        print(comparison(("parent %", "child %"), (before, after)))
        print(f"finished at step {result.step}; parent and child say the same to "
              f"{100 * same:.1f} % of the questions")
    return 0


def _check_carving(args: argparse.Namespace, child: Profile, parent: Profile) -> None:
    """Raises ConfigError if --out is of another parent, or if there is no memory to read this one
    as it was trained; NotEnoughMemory if there is none now."""
    from seed import system_health
    from seed.training.memory_estimate import check_fits
    from seed.errors import NotEnoughMemory
    found = args.out.load_newest(say)
    if found:
        other = from_dict(found.meta["profile"]).distill.parent
        if other != child.distill.parent:
            raise ConfigError(f"{args.out} has a brain that was carved from {other or 'no other'}: "
                              f"use another --out")
    alone = dataclasses.replace(parent, governor=child.governor, distill=DistillConfig(),
                                selfplay=SelfplayConfig())
    try:
        check_fits(alone, args.threads, system_health.read(args.run_dir.path))
    except (ConfigError, NotEnoughMemory) as error:
        raise type(error)(f"the parent is read as it was trained: {error}") from None


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


def train_brain(args: argparse.Namespace, profile: Profile, run_dir: RunDir,
                weights: Callable[[], dict[str, Any]] | None = None,
                enough: Callable[[int, float, int], bool] | None = None, requests=None):
    """Trains, or goes on; a fresh brain starts from `weights` if there are any.

    `requests`: of signals, where somebody watches them already.
    """
    from seed.training.stop_signals import StopSignals
    requests = requests or StopSignals().watch()
    prepare_brain(args)
    from seed import system_health
    from seed.curriculum.dataset import Dataset
    from seed.practice.teacher import open_teacher
    from seed.practice import distill
    from seed.training.learner import Learner
    from seed.training.loop import Result, train
    from seed.training.memory_estimate import check_fits
    from seed.training.throttle import Throttle
    with run_dir.locked():
        Dataset(profile.curriculum, profile.identity, profile.train.seed)  # tasks are known
        say(check_fits(profile, args.threads, system_health.read(run_dir.path)))
        learner, soft = Learner(profile, args.threads), None
        if weights and not run_dir.checkpoint.exists():
            learner.model.load_state_dict(weights())
        if profile.distill.parent:
            pace = Throttle(profile.governor, lambda: system_health.read(run_dir.path),
                            time.monotonic, requests.stop.wait)
            soft = distill.prepare(profile, run_dir, args.threads, say,
                                   lambda: not pace.goes_on(requests.stop.is_set))
            if not soft:
                return Result(0, False, None, retry=not requests.stop.is_set())
        return train(profile, run_dir, learner, requests, soft=soft.batch if soft else None,
                     desk=open_teacher(profile, run_dir, say), enough=enough)


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
