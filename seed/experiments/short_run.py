"""A brain that is trained for an experiment, and what it gets in bodies that it has not seen."""
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from seed.body import open_body
from seed.body.closed_loop import act
from seed.body.player import Player
from seed.evaluation import TrainedBrain
from seed.config import Profile
from seed.profile_file import load_profile
from seed.storage import RunDir
from seed.training import train

EPISODES, EPISODE_SEED, ROWS = 100, 77, 16


def opener_with(name: str, attributes: Mapping[str, Any]) -> Callable[[], Any]:
    """What makes a built-in body with other attributes."""
    def make() -> Any:
        body = open_body.BODIES[name]()
        for key, value in attributes.items():
            setattr(body, key, value)
        return body
    return make


def profile_of(body: str, minutes: float, *overrides: str, profile: str = "control") -> Profile:
    return load_profile(profile, [f'body.rounds={{"{body}" = 1}}', f"train.minutes={minutes}",
                                  *overrides])


def trained(body: str, minutes: float, *overrides: str, profile: str = "control") -> TrainedBrain:
    """In one thread, in a run directory that is removed. Raises as `train`."""
    with tempfile.TemporaryDirectory() as folder:
        run_dir = RunDir(Path(folder) / "run")
        train(profile_of(body, minutes, *overrides, profile=profile), run_dir, 1, lambda line: None)
        return TrainedBrain.load(run_dir, 1, lambda line: None)


def mean_return(brain: TrainedBrain, open_fn: Callable[[], Any], name: str = "") -> float:
    """Greedy, over at least EPISODES first episodes, each from an empty state. `name`: of the
    brain's body, if it has several."""
    codec = brain.bodies[name or next(iter(brain.bodies))].codec
    episodes = act(Player(brain.model, codec, ROWS), open_fn, EPISODE_SEED, EPISODES) or []
    return sum(episode.total for episode in episodes) / len(episodes)


def mean_returns(brain: TrainedBrain, open_fn: Callable[[], Any], n_episodes: int) -> list[float]:
    """Greedy, of first, second, ... episodes of EPISODES bodies, from an empty state at first."""
    facts, = brain.bodies.values()
    player = Player(brain.model, facts.codec, EPISODES)
    episodes = act(player, open_fn, EPISODE_SEED, n_episodes * EPISODES, keeps_state=True) or []
    totals = [[episode.total for episode in episodes if episode.row == row]
              for row in range(EPISODES)]
    return np.mean(totals, axis=0).tolist()
