"""A brain that is asked something while it acts: text and ticks share one state.

    python -m seed export --run-dir runs/mine --out brain.tflite
    python -m seed.experiments.heard brain.tflite --run-dir runs/mine --body cartpole

The exported file acts in its body. Every so many ticks it hears a question of its curriculum's
holdout, byte after byte, answers it, and acts on. Printed are mean greedy returns without and with
questions, and exact match of what it answers with an empty state, and while it acts.
"""
import argparse
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import numpy as np

from seed.body.open_body import opener
from seed.curriculum.task import Item
from seed.evaluation import TrainedBrain
from seed.runtime import Brain
from seed.storage import RunDir

MAX_ANSWER_BYTES, MAX_TICKS = 64, 1000


def answers(brain: Brain, item: Item) -> bool:
    """Whether it is right, from the state that the brain has."""
    return bytes(brain.generate_bytes(item.prompt, MAX_ANSWER_BYTES)) == item.answer


def episode(brain: Brain, name: str, seed: int, questions: Iterator[Item], every: int
            ) -> tuple[float, list[bool]]:
    """Its return, and which answers were right; `every` 0: no questions."""
    body, total, right = opener(name)(), 0.0, list[bool]()
    observation, _ = body.reset(seed=seed)
    brain.begin(name)
    for tick in range(MAX_TICKS):
        if every and tick % every == every - 1:
            right.append(answers(brain, next(questions)))
        observation, reward, terminated, truncated, _ = body.step(brain.act(observation))
        total += reward
        if terminated or truncated:
            break
    return total, right


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file")
    parser.add_argument("--run-dir", type=Path, required=True)
    parser.add_argument("--body", required=True)
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--every", type=int, default=50, help="ticks between two questions")
    args = parser.parse_args()
    items = TrainedBrain.load(RunDir(args.run_dir), 1).holdout()
    np.random.default_rng(0).shuffle(items)   # type: ignore[arg-type]
    brain, questions = Brain(args.file), cycle(items)
    means = []
    for every in (0, args.every):
        played = [episode(brain, args.body, seed, questions, every)
                  for seed in range(args.episodes)]
        means.append(float(np.mean([total for total, _ in played])))
    while_acting = [right for _, row in played for right in row]
    alone = []
    for item in items[:len(while_acting)]:
        brain.reset()
        alone.append(answers(brain, item))
    print(f"return {means[0]:.1f}; with a question every {args.every} ticks {means[1]:.1f}\n"
          f"right of {len(while_acting)} answers: {100 * np.mean(alone):.1f} % with an empty "
          f"state, {100 * np.mean(while_acting):.1f} % while it acts")


if __name__ == "__main__":
    main()
