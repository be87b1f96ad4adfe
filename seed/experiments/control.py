"""Learns control tasks of Gymnasium from nothing, beside PPO of stable-baselines3 if it is there.

    python -m seed.experiments.control --seeds 5 --peer

One recipe and one set of defaults for all tasks; each training has one thread and the minutes of
its task, or so many rounds. Reported are greedy returns of 100 unseen episodes, and the CPU seconds
of the training. In a task "positions" the speeds are hidden, and the peer is the recurrent PPO of
sb3-contrib. Needs gymnasium; for some tasks its extras mujoco and box2d.
"""
import argparse
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from seed.body import open_body
from seed.body.changes import Masked, changed
from seed.experiments.short_run import EPISODES, mean_return, trained


class Task(NamedTuple):
    environment: str
    minutes: float
    goal: float                    # mean return that counts as solved
    shown: tuple[int, ...] = ()    # numbers of an observation, if some are hidden


TASKS = {"cartpole": Task("CartPole-v1", 0.5, 475), "pendulum": Task("Pendulum-v1", 1.0, -165),
         "acrobot": Task("Acrobot-v1", 1.5, -95), "mountaincar": Task("MountainCar-v0", 2.0, -120),
         "invertedpendulum": Task("InvertedPendulum-v5", 1.0, 950),
         "lunarlander": Task("LunarLander-v3", 10.0, 200),
         "halfcheetah": Task("HalfCheetah-v5", 60.0, 2000), "hopper": Task("Hopper-v5", 60.0, 1500),
         "cartpole positions": Task("CartPole-v1", 0.5, 450, (0, 2)),
         "pendulum positions": Task("Pendulum-v1", 1.0, -180, (0, 1))}


def opener(task: Task) -> Callable[[], Any]:
    open_fn = open_body.opener(f"gym:{task.environment}")
    if not task.shown:
        return open_fn
    return changed(open_fn, lambda body: Masked(body, task.shown))


def seed_return(task: Task, seed: int, overrides: list[str]) -> tuple[float, float]:
    """And CPU seconds."""
    open_body.BODIES["task"] = opener(task)
    began_s = time.process_time()
    brain = trained("task", task.minutes, f"train.seed={seed}", *overrides)
    trained_s = time.process_time() - began_s
    return mean_return(brain, open_body.BODIES["task"]), trained_s


def ppo_return(task: Task, seed: int) -> tuple[float, float]:
    """Of PPO with its own defaults, in one thread and as many minutes of CPU time."""
    import gymnasium
    import torch
    from stable_baselines3 import PPO
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.evaluation import evaluate_policy
    torch.set_num_threads(1)

    class Deadline(BaseCallback):
        def _on_step(self) -> bool:
            return time.process_time() - began_s < 60 * task.minutes

    class Shown(gymnasium.ObservationWrapper):
        def __init__(self, environment: gymnasium.Env):
            super().__init__(environment)
            space = environment.observation_space
            self.observation_space = gymnasium.spaces.Box(space.low[[*task.shown]],
                                                          space.high[[*task.shown]])

        def observation(self, observation: Any) -> Any:
            return observation[[*task.shown]]
    ppo_class, policy = PPO, "MlpPolicy"
    if task.shown:
        from sb3_contrib import RecurrentPPO
        ppo_class, policy = RecurrentPPO, "MlpLstmPolicy"
    wrapper = Shown if task.shown else None
    model = ppo_class(policy, make_vec_env(task.environment, 8, seed, wrapper_class=wrapper),
                      seed=seed, device="cpu")
    began_s = time.process_time()
    model.learn(10 ** 9, callback=Deadline())
    trained_s = time.process_time() - began_s
    mean, _ = evaluate_policy(model, make_vec_env(task.environment, 1, 10 ** 6,
                                                  wrapper_class=wrapper), EPISODES)
    return float(mean), trained_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, help="of every task, instead of its own")
    parser.add_argument("--rounds", type=int, help="of every task, instead of minutes")
    parser.add_argument("--peer", action="store_true", help="train PPO as well")
    parser.add_argument("--set", action="append", default=[], help="of the profile")
    args = parser.parse_args()
    overrides = [*args.set, *(["train.minutes=0", f"train.steps={args.rounds}"]
                              if args.rounds else [])]
    print(f"{'task':<20}{'minutes':>8}{'goal':>8}  returns, a seed each", flush=True)
    for name in args.tasks:
        task, seeds = TASKS[name], range(args.first_seed, args.first_seed + args.seeds)
        task = task._replace(minutes=args.minutes or task.minutes)
        for who in ("seed", "ppo") if args.peer else ("seed",):
            print(f"{name:<20}{task.minutes:>8g}{task.goal:>8g}  {who:<4}", end="", flush=True)
            for seed in seeds:
                mean, cpu_s = (seed_return(task, seed, overrides) if who == "seed"
                               else ppo_return(task, seed))
                print(f"  {mean:.1f} ({cpu_s:.0f} s)", end="", flush=True)
            print(flush=True)


if __name__ == "__main__":
    main()
