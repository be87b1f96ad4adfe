"""A body that changes: a point whose pushes are reversed, and a small brain that acts in it."""
import json

import numpy as np

from seed.body.closed_loop import act
from seed.body.episodes import EpisodeWriter, Recorder
from seed.body.player import Player
from seed.body.spaces import Box, Discrete
from seed.evaluation import TrainedBrain
from seed.export import Options
from seed.export.brain_file import BrainFile
from seed.profile_file import load_profile
from seed.storage import RunDir
from seed.training import adapt_to_body, train
from seed.training.stop_signals import StopSignals

SMALL = ["model.d_model=32", "model.d_ff=32", "model.n_layers=2", "model.pattern=\"SA\"",
         "model.sliding_window=4", "train.minutes=0", "body.rows=4", "body.ticks=16",
         "body.chunk=8", "body.passes=2", "train.batch_size=2", "train.seq_len=32",
         "curriculum.holdout_items=1", "curriculum.eval_every_steps=0",
         "curriculum.tasks={copy = 1.0}"]


class Point:
    """Is pushed left or right, and has to stay in the middle; an episode has 10 ticks."""
    observation_space, action_space, push = Box.of((-2, 2)), Discrete(2), 0.2

    def reset(self, seed=None):
        self._x, self._ticks = np.random.default_rng(seed).uniform(-1, 1), 0
        return np.array([self._x]), {}

    def step(self, action):
        self._x += self.push * (2 * action - 1)
        self._ticks += 1
        return np.array([self._x]), 1 - abs(self._x), False, self._ticks >= 10, {}


class Reversed(Point):
    push = -0.2


def brain(folder, steps: int, *overrides: str) -> RunDir:
    train(load_profile("control", [*SMALL, "body.rounds={point = 1}", f"train.steps={steps}",
                                   *overrides]), RunDir(folder), 1, lambda line: None)
    return RunDir(folder)


def recorded(run_dir: RunDir, folder, name: str = "worn", body=Reversed):
    """The brain draws its actions, by default in the reversed body."""
    trained = TrainedBrain.load(run_dir, 1, lambda line: None)
    codec = trained.bodies["point"].codec
    recorder = Recorder(EpisodeWriter(folder, codec.__class__.from_dict(
        {**codec.to_dict(), "name": name}), 50.0, "a test"), 4)
    act(Player(trained.model, codec, 4), body, 0, 60, greedy=False, recorder=recorder)
    recorder.writer.close()
    return folder


def shuffle_rewards(folder) -> None:
    """Of a directory of episodes, among its ticks."""
    for path in folder.glob("*.jsonl"):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        acted = [row for row in rows if "reward" in row]
        rewards = np.random.default_rng(0).permutation([row["reward"] for row in acted]).tolist()
        for row, reward in zip(acted, rewards, strict=True):
            row["reward"] = reward
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def export(run_dir: RunDir) -> RunDir:
    """Without verification."""
    trained = TrainedBrain.load(run_dir, 1, lambda line: None)
    run_dir.exported_brain.write_bytes(BrainFile(trained, Options()).tobytes())
    return run_dir


def adapt(run_dir: RunDir, data, steps: int = 4, **options):
    return adapt_to_body(run_dir, data=str(data), steps=steps,
                         **{"signals": StopSignals(), "log": lambda line: None, "lr": 4e-3,
                            **options})
