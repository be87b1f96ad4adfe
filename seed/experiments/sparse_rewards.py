"""Learns tasks of Gymnasium in which only the end is rewarded, with body.novelty and without.

    python -m seed.experiments.sparse_rewards --seeds 3

The reward is 1 where an episode terminates, at the goal, and 0 in every other tick. Printed is the
share of 100 unseen episodes, acted greedily, that reach the goal; one training has one thread.
Needs gymnasium.
"""
import argparse

from seed.body import open_body
from seed.body.changes import changed
from seed.body.wrapper import Step, Wrapper
from seed.experiments.short_run import mean_return, trained

ENVIRONMENTS = ("MountainCar-v0", "Acrobot-v1")


class OnlyTheEnd(Wrapper):
    """Rewards an end that is not a cut, and nothing else."""

    def after(self, action: object, step: Step) -> Step:
        observation, _, terminated, truncated, info = step
        return observation, float(terminated), terminated, truncated, info


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--environments", nargs="+", default=ENVIRONMENTS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=200, help="of 1,024 ticks")
    parser.add_argument("--weights", nargs="+", type=float, default=[0.0, 1.0],
                        help="body.novelty")
    parser.add_argument("--own-reward", action="store_true", help="leave the reward as it is")
    parser.add_argument("--set", action="append", default=[], help="of the profile")
    args = parser.parse_args()
    print(f"{'environment':<20}{'novelty':>8}  mean of episodes, a seed each", flush=True)
    for name in args.environments:
        open_fn = open_body.opener(f"gym:{name}")
        body = open_fn if args.own_reward else changed(open_fn, OnlyTheEnd)
        open_body.BODIES["task"] = body
        for weight in args.weights:
            print(f"{name:<20}{weight:>8g}", end="", flush=True)
            for seed in range(args.seeds):
                brain = trained("task", 0, f"train.steps={args.rounds}", f"train.seed={seed}",
                                f"body.novelty={weight}", *args.set)
                print(f"  {mean_return(brain, body):.2f}", end="", flush=True)
            print(flush=True)


if __name__ == "__main__":
    main()
