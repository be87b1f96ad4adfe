"""Closes the loop with an exported file: it acts in its bodies, beside the trainer."""
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from seed.body.open_body import opener_if_here
from seed.body.results import shown
from seed.body.world import World
from seed.curriculum.consent import named_bodies
from seed.evaluation import TrainedBrain
from seed.export.verify import Agreement
from seed.rng import Stream
from seed.runtime import Brain
from seed.storage.run_dir import Log

EPISODES = 10
MAX_RETURN_DROP = 0.1   # of the checkpoint's return: weights that cost more are not worth it


@dataclass
class ActingReport:
    """Of one body. `agreement` is None if it could not be opened here."""
    body: str
    agreement: Agreement | None = None
    same_actions: int = 0           # ticks in which all parts of the action were the trainer's
    mean_return: float = 0.0        # of the file
    checkpoint_return: float = 0.0  # of the trainer in the same episodes

    @property
    def has_lost(self) -> bool:
        drop = self.checkpoint_return - self.mean_return
        return drop > MAX_RETURN_DROP * abs(self.checkpoint_return)

    def describe(self) -> str:
        if self.agreement is None:
            return f"{'acting':<12}{self.body}: not opened here, not tried"
        return (f"{'acting':<12}{self.body}: same action in {self.same_actions} of "
                f"{self.agreement.steps} ticks, logits within {self.agreement.relative_delta:.1e} "
                f"of their range, return {shown(self.mean_return)}, the checkpoint "
                f"{shown(self.checkpoint_return)}")


def verify_acting(brain: Brain, trained: TrainedBrain, named: Collection[str] = (),
                  log: Log = print) -> list[ActingReport]:
    """Of every body; a class only if it is `named`. Raises BodyError if one fails."""
    reports, names = [], named_bodies(trained.bodies, named, log)
    for name in trained.bodies:
        open_fn = name in names and opener_if_here(names[name], trained.bodies[name].codec,
                                                   trained.profile.body)
        if not open_fn:
            reports.append(ActingReport(name))
            continue
        report = _beside(brain, trained, name, open_fn)
        report.checkpoint_return = trained.returns(names[name], EPISODES, 0, rows=1).mean
        reports.append(report)
    return reports


def _beside(brain: Brain, trained: TrainedBrain, name: str,
            open_fn: Callable[[], Any]) -> ActingReport:
    """The file decides; the trainer sees and compares."""
    from seed.body.player import Player   # needs tinygrad
    codec = trained.bodies[name].codec
    player, world = Player(trained.model, codec, 1), World(open_fn, codec, 1, 0,
                                                           Stream.BODY_EVALUATION)
    columns = np.concatenate([np.arange(head.start, head.start + head.width)
                              for head in codec.body.control.heads])
    report = ActingReport(name, Agreement())
    assert report.agreement
    brain.begin(name)
    while len(world.ended) < EPISODES:
        ended, levels = len(world.ended), codec.levels(world.observations)[0]
        logits = player.tick(*codec.encode(levels, world.previous))
        brain.act(world.observations[0])
        choices = brain.bodies[name].choices
        assert choices is not None, "it has just acted"
        report.agreement.add(brain.control_logits, logits[0, columns])
        report.same_actions += np.array_equal(choices, codec.sample(logits)[1][0])
        world.step(choices[None])
        if len(world.ended) > ended:
            brain.begin(name)
            player.begin()
    report.mean_return = float(np.mean([episode.total for episode in world.ended]))
    return report
