"""Questions to a brain one by one: what it answers, how sure it is, and what it can be asked."""
import random
from typing import NamedTuple

from seed.curriculum.task import Task
from seed.curriculum.vocab import END, decode, encode
from seed.evaluation.trained_brain import TrainedBrain
from seed.rng import Stream, stream

UNSURE_NATS = 0.5      # a byte, in the mean
MAX_EXAMPLE_BYTES = 24


class Reply(NamedTuple):
    text: str
    has_ended: bool    # by the brain, not by the limit
    is_sure: bool      # mean entropy of its bytes below UNSURE_NATS
    right: str         # what the task says; "" where no task has such a question


class Conversation:
    """Each question has a fresh state. `temperature` 0 takes the likeliest byte."""

    def __init__(self, brain: TrainedBrain, max_bytes: int, temperature: float = 0.0,
                 seed: int = 0):
        from seed.wavecore.decode import Rollouts
        self._tasks, self._max_bytes, self._temperature = (
            brain.dataset.tasks, max_bytes, temperature)
        self._rng = stream(seed, Stream.GENERATE, 0)
        self._rollouts = Rollouts(brain.model, rows=1)

    def ask(self, question: str) -> Reply:
        """Of at least one byte."""
        rollout = self._rollouts.answer([encode(question)], self._max_bytes, END,
                                        self._temperature, self._rng)[0]
        task = self.task_of(question)
        return Reply(decode(rollout.text), rollout.ended, rollout.entropy < UNSURE_NATS,
                     task.solve(question) if task else "")

    def task_of(self, question: str) -> Task | None:
        """Whose questions look like it."""
        text = encode(question)
        return next((task for task in self._tasks.values() if task.parse_prompt(text) == text),
                    None)

    def examples(self, n: int, rng: random.Random) -> list[str]:
        """Questions of so many tasks, short ones."""
        tasks = rng.sample(list(self._tasks.values()), min(n, len(self._tasks)))
        prompts = [decode(task.generate(rng, 1).prompt) for task in tasks]
        return [prompt for prompt in prompts if len(prompt) <= MAX_EXAMPLE_BYTES]
