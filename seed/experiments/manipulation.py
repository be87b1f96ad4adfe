"""Clones the scripted experts of ten manipulation tasks of metaworld (MT10) into one brain.

    python -m seed.experiments.manipulation --minutes 5

One body for all tasks sees what MT10 shows, the goal included: position and gripper of the hand,
position and rotation of the object, the goal, and which task it is; but not the frame before, since
a brain has a memory. In three of four episodes the arm is pushed for some time: it does something
else than the expert wants, whose action is recorded all the same (DART, Laskey et al. 1703.09327).
Episodes in which the expert fails are left out. Reported is how often the brain, choosing greedily,
succeeds at any of 500 ticks, with objects and goals drawn anew. Needs metaworld.
"""
import argparse
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from seed.body.closed_loop import act
from seed.body.codec import Channel, Codec
from seed.body.episodes import RANGE_MARGIN, RECORDED_BINS, EpisodeWriter, Recorder
from seed.body.player import Player
from seed.body.spaces import Box, action_values
from seed.evaluation import TrainedBrain
from seed.profile_file import load_profile
from seed.storage import RunDir
from seed.training import train
from seed.wavecore.layout import count_params

TASKS = ("reach", "push", "pick-place", "door-open", "drawer-open", "drawer-close",
         "button-press-topdown", "peg-insert-side", "window-open", "window-close")
SHOWN = (*range(11), -3, -2, -1)   # hand, gripper, object, goal of metaworld's 39 numbers
RATE_HZ, MAX_TICKS, EVALUATION_SEED, ROWS = 80.0, 250, 77, 10
PROFILE = ("body.world_weight=0", "train.eval_every_minutes=0")


class Arm:
    """One task as a body."""

    def __init__(self, task: str):
        from metaworld import env_dict
        self.env, self.number = env_dict.ALL_V3_ENVIRONMENTS[f"{task}-v3"](), TASKS.index(task)
        self.env._partially_observable = False
        self.env._freeze_rand_vec, self.env._set_task_called = False, True   # objects anew
        self.env.seeded_rand_vec = True
        vars(self.env).pop("sawyer_observation_space", None)   # of hidden goals

    def reset(self, seed: int) -> tuple[np.ndarray, dict[str, Any]]:
        self.env.seed(seed)
        self.seen = self.env.reset()[0]
        return self.shown(), {}

    def shown(self) -> np.ndarray:
        return np.append(self.seen[list(SHOWN)], self.number)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.seen, _, _, is_cut, info = self.env.step(action)
        is_done = bool(info["success"])
        return self.shown(), float(is_done), is_done, is_cut, {"is_success": is_done}


def pushes(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """For each tick the action that the arm does instead of the expert's, NaN where it does that;
    and what is added to it."""
    end, share = int(rng.integers(10, 120)), rng.choice([0.02, 0.05, 0.1])
    instead, noise = np.full((MAX_TICKS, 4), np.nan), np.zeros((MAX_TICKS, 4))
    for t in np.flatnonzero(rng.random(end) < share):
        hand, gripper = rng.uniform(-1, 1, 3), rng.choice([rng.uniform(-1, 1), np.nan])
        instead[t:min(end, t + int(rng.integers(4, 16)))] = *hand, gripper
    noise[:end, :3] = rng.normal(0, rng.choice([0.0, 0.2, 0.5]), (end, 3))
    return instead, noise


def demonstrated(task: str, n: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Of each episode in which the expert succeeds (t + 1, channels) seen and (t, 4) actions."""
    from metaworld.policies import ENV_POLICY_MAP
    experts: dict[str, Any] = ENV_POLICY_MAP
    arm, expert, episodes = Arm(task), experts[f"{task}-v3"](), []
    for seed in range(n):
        instead, noise = pushes(np.random.default_rng(seed))
        if seed % 4 == 0:
            instead[:], noise[:] = np.nan, 0
        seen, chosen, is_done = [arm.reset(seed)[0]], list[np.ndarray](), False
        while not is_done and len(chosen) < MAX_TICKS:
            t = len(chosen)
            chosen.append(np.clip(expert.get_action(arm.seen.copy()), -1, 1))
            done = np.where(np.isnan(instead[t]), chosen[t], instead[t]) + noise[t]
            observation, _, is_done, _, _ = arm.step(np.clip(done, -1, 1))
            seen.append(observation)
        if is_done:
            episodes.append((np.round(seen, 5), np.array(chosen)))
    return episodes


def record(tasks: list[str], n: int, folder: Path) -> Codec:
    """Writes episodes of all tasks in turn, with ranges of all that was seen."""
    recorded = [demonstrated(task, n) for task in tasks]
    seen = np.concatenate([seen for episodes in recorded for seen, _ in episodes])
    low, high = seen.min(0), seen.max(0)
    margin = RANGE_MARGIN * np.maximum(high - low, 1e-3)
    channels = [Channel(float(a), float(b)) for a, b in zip(low - margin, high + margin)]
    channels[-1] = Channel(0.0, len(TASKS) - 1.0, False, len(TASKS))   # a knot a task
    actions, form, _ = action_values("sawyer", Box.of(*[(-1, 1)] * 4), RECORDED_BINS, is_fine=True)
    codec = Codec("sawyer", tuple(channels), tuple(map(tuple, actions)), form, (4,))
    recorder = Recorder(EpisodeWriter(folder, codec, RATE_HZ, "experts of metaworld"), 1)
    for i in range(max(map(len, recorded))):
        for seen, chosen in [episodes[i] for episodes in recorded if i < len(episodes)]:
            choices = np.abs(chosen[..., None] - actions).argmin(-1)
            for t, choice in enumerate(choices):
                recorder.add(0, seen[t], choice, float(t == len(choices) - 1))
            recorder.end(0, seen[-1], True)
    recorder.writer.close()
    return codec


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--episodes", type=int, default=200, help="recorded of each task")
    parser.add_argument("--eval-episodes", type=int, default=50, help="of each task")
    parser.add_argument("--minutes", type=float, default=5.0, help="of training")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--set", action="append", default=[], help="of the profile")
    args = parser.parse_args()
    warnings.filterwarnings("ignore", "Constant")   # of experts that want more than 1
    with tempfile.TemporaryDirectory() as name:
        run_dir, folder, began_s = RunDir(Path(name) / "run"), Path(name) / "episodes", time.time()
        codec = record(args.tasks, args.episodes, folder)
        profile = load_profile("control", [f'body.data={{"{folder}" = 1}}', *PROFILE,
                                           f"train.minutes={args.minutes}", *args.set])
        print(f"{count_params(profile.model, [codec.body]):,} parameters, recorded in "
              f"{time.time() - began_s:.0f} s", flush=True)
        began_s = time.time()
        result = train(profile, run_dir, args.threads, lambda line: None)
        print(f"{result.step} steps in {time.time() - began_s:.0f} s, "
              f"{100 * result.choices[0].accuracy:.1f} % of choices as recorded", flush=True)
        brain, successes = TrainedBrain.load(run_dir, 1, lambda line: None), []
        for task in args.tasks:
            episodes = act(Player(brain.model, codec, ROWS), lambda: Arm(task), EVALUATION_SEED,
                           args.eval_episodes) or []
            successes.append(100 * float(np.mean([bool(e.is_success) for e in episodes])))
            print(f"{task:<24}{successes[-1]:>6.1f} % of {len(episodes)}", flush=True)
        print(f"{'mean':<24}{np.mean(successes):>6.1f} %", flush=True)


if __name__ == "__main__":
    main()
