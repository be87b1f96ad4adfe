"""Shrinking: structured pruning of a trained parent (prune.py), layer-wise reconstruction of its
residual stream (reconstruct.py), then training of the child on the parent's soft targets."""
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from seed import system_health
from seed.config import DistillConfig, Profile, SelfplayConfig, TeacherConfig, from_dict
from seed.curriculum.consent import without_unnamed_tasks
from seed.curriculum.dataset import Batch, Dataset
from seed.curriculum.state import CurriculumState
from seed.errors import ConfigError, NotEnoughMemory
from seed.evaluation import TrainedBrain
from seed.evaluation.exact_match import Score, agreement
from seed.resize.prune import prune
from seed.storage.run_dir import Log, RunDir
from seed.terminal.screen import Screen
from seed.training.memory_estimate import check_fits
from seed.training.pipeline import TrainResult, train
from seed.training.stop_signals import StopSignals
from seed.wavecore import submodel

CALIBRATION_BATCHES = 16   # for importance and reconstruction


class ShrinkResult(NamedTuple):
    """How a shrinking ended."""
    train: TrainResult
    parent_scores: Sequence[Score] = ()   # of the holdout, when the training has finished
    agreement: float = 0.0                # fraction of items with the same answer
    parent_uniform: Sequence[Score] = ()  # of uniform draws


def shrink_brain(parent_dir: RunDir, run_dir: RunDir, profile: Profile, threads: int = 1,
                 log: Log = print, signals: StopSignals | None = None,
                 screen: Screen | None = None) -> ShrinkResult:
    """Cuts a smaller brain out of a trained one, and trains it in `run_dir` on its predictions.

    Shape and recipe are the profile's, curriculum and identity the parent's. Raises as `train`;
    ConfigError if the child does not fit into its parent or run_dir has the child of another.
    """
    if run_dir.path.resolve() == parent_dir.path.resolve():
        raise ConfigError("--out is the parent's own directory: use another")
    parent = TrainedBrain.of(parent_dir.load_brain(log), threads)
    submodel.check_without_bodies(parent.bodies)
    usable = without_unnamed_tasks(parent.profile, [
        name for name in profile.curriculum.tasks if name in parent.profile.curriculum.tasks], log)
    parent = replace(parent, profile=usable, tasks=usable.curriculum.tasks)
    profile = replace(
        profile, curriculum=parent.profile.curriculum, identity=parent.profile.identity,
        distill=replace(profile.distill, parent=str(parent_dir.path.resolve())),
        selfplay=SelfplayConfig(), teacher=TeacherConfig())   # the parent alone guides it
    submodel.check(profile.model, parent.profile.model)
    _check_child(run_dir, profile, log)
    _check_parent_fits(parent_dir, parent.profile, profile, threads)
    result = train(profile, run_dir, threads, log=log, signals=signals, weights_fn=lambda: prune(
        parent.profile.model, parent.params, profile.model, calibration_batches(parent.profile),
        threads), screen=screen)
    if not result.finished:
        return ShrinkResult(result)
    child = TrainedBrain.load(run_dir, threads, log, usable.curriculum.tasks)
    items = child.holdout()
    drawn = child.dataset.stated(child.profile.curriculum.holdout_items)
    return ShrinkResult(result, parent.scores(items, child.dataset), agreement(
        items, parent.forward, child.forward), parent.scores(drawn, child.dataset))


def calibration_batches(profile: Profile, n: int = CALIBRATION_BATCHES) -> list[Batch]:
    """Batches of the profile's curriculum with all grades unlocked."""
    dataset = Dataset(replace(profile.curriculum, eval_every_steps=0), profile.identity,
                      profile.train.seed)
    all_unlocked = CurriculumState.initial(dataset.config, dataset.tasks)
    return [dataset.batch(all_unlocked, i, profile.train.batch_size, profile.train.seq_len)
            for i in range(n)]


def _check_child(run_dir: RunDir, profile: Profile, log: Log) -> None:
    """Raises ConfigError if the run directory has a brain of another parent, or of none."""
    newest = run_dir.load_newest(log)
    parent = from_dict(newest.meta["profile"]).distill.parent if newest else profile.distill.parent
    if parent != profile.distill.parent:
        raise ConfigError(f"{run_dir} has a brain that was shrunk from {parent or 'no other'}: "
                          f"use another --out")


def _check_parent_fits(parent_dir: RunDir, parent: Profile, child: Profile, threads: int) -> None:
    """Raises ConfigError or NotEnoughMemory if there is no memory for the parent's batches."""
    alone = replace(parent, governor=child.governor, distill=DistillConfig(),
                    selfplay=SelfplayConfig())
    try:
        check_fits(alone, threads, system_health.read(parent_dir.path))
    except (ConfigError, NotEnoughMemory) as error:
        raise type(error)(f"the parent reads batches as it was trained: {error}") from None
