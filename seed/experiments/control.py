"""Learns control tasks of Gymnasium from nothing, beside PPO of stable-baselines3 if it is there.

    python -m seed.experiments.control --seeds 5 --peer

One recipe and one set of defaults for all tasks; each training has one thread and the minutes of
its task. Reported are greedy returns of 100 unseen episodes. Needs gymnasium; for some tasks its
extras mujoco and box2d.
"""
import argparse
import json
import subprocess
import tempfile
import time
from collections.abc import Sequence
from typing import NamedTuple

from seed.interpreter import seed_command

EPISODES, EPISODE_SEED = 100, 77


class Task(NamedTuple):
    minutes: float
    goal: float   # mean return that counts as solved


TASKS = {"CartPole-v1": Task(0.5, 475), "Pendulum-v1": Task(1.0, -165),
         "Acrobot-v1": Task(1.5, -95), "MountainCar-v0": Task(2.0, -120),
         "InvertedPendulum-v5": Task(1.0, 950), "LunarLander-v3": Task(10.0, 200),
         "HalfCheetah-v5": Task(60.0, 2000), "Hopper-v5": Task(60.0, 1500)}


def trained_return(task: str, seed: int, minutes: float, options: Sequence[str]) -> float:
    """Mean return of a brain that is trained in a new run directory."""
    with tempfile.TemporaryDirectory() as folder:
        run_dir = f"--run-dir={folder}/run"
        subprocess.run(seed_command(
            "train", "--body", f"gym:{task}", "--minutes", str(minutes), "--threads", "1",
            "--seed", str(seed), run_dir, *options), check=True, capture_output=True)
        done = subprocess.run(seed_command(
            "play", run_dir, "--episodes", str(EPISODES), "--seed", str(EPISODE_SEED), "--threads",
            "1", "--json"), check=True, capture_output=True, text=True)
        return float(json.loads(done.stdout)[0]["mean"])


def ppo_return(task: str, seed: int, minutes: float, is_recurrent: bool = False) -> float:
    """Of PPO with its own defaults, in one thread and as much CPU time."""
    import gymnasium
    import torch
    from stable_baselines3 import PPO
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.evaluation import evaluate_policy
    torch.set_num_threads(1)

    class Deadline(BaseCallback):
        def _on_step(self) -> bool:
            return time.process_time() - began_s < 60 * minutes
    ppo_class, policy = PPO, "MlpPolicy"
    if is_recurrent:
        from sb3_contrib import RecurrentPPO
        ppo_class, policy = RecurrentPPO, "MlpLstmPolicy"
    model = ppo_class(policy, make_vec_env(task, 8, seed), seed=seed, device="cpu")
    began_s = time.process_time()
    model.learn(10 ** 9, callback=Deadline())
    mean, _ = evaluate_policy(model, gymnasium.make(task), EPISODES)
    return float(mean)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--peer", action="store_true", help="train PPO as well")
    parser.add_argument("--option", action="append", default=[], help="of seed train")
    args = parser.parse_args()
    print(f"{'task':<22}{'minutes':>8}{'goal':>8}  returns, a seed each", flush=True)
    for name in args.tasks:
        task, seeds = TASKS[name], range(args.first_seed, args.first_seed + args.seeds)
        rows = {"seed": [trained_return(name, seed, task.minutes, args.option) for seed in seeds]}
        if args.peer:
            rows["ppo"] = [ppo_return(name, seed, task.minutes) for seed in seeds]
        for who, returns in rows.items():
            texts = "  ".join(f"{value:.1f}" for value in returns)
            print(f"{name:<22}{task.minutes:>8g}{task.goal:>8g}  {who:<5} {texts}", flush=True)


if __name__ == "__main__":
    main()
