"""Questions to a brain one by one: what it answers, how sure it is, and what it can be asked."""
import random
from collections.abc import Mapping
from typing import NamedTuple

from seed.curriculum.task import Task
from seed.curriculum.vocab import END, decode, encode
from seed.errors import ConfigError
from seed.evaluation.trained_brain import TrainedBrain
from seed.rng import Stream, stream
from seed.runtime.answer import shown

MAX_EXAMPLE_CHARS = 24
MAX_QUESTION_BYTES = 4096   # a longer one takes minutes


class Reply(NamedTuple):
    """`answer` to `has_ended` as of `seed.runtime.Answer`. `right`: what the question's task says;
    "" where no task has such a question. `example`: what can be asked instead then."""
    question: str
    answer: str | None
    confidence: float
    has_ended: bool
    right: str
    example: str

    def describe(self) -> str:
        """In a line."""
        notes = [f"confidence {shown(self.confidence)}"]
        if self.answer is None:
            notes.insert(0, "unsure")
        elif not self.has_ended:
            notes.append("it did not end")
        if self.right:
            notes.append("right" if self.is_right else f"it should be {self.right}")
        elif self.example:
            notes.append(f"it was taught no such question: try {self.example}")
        return f"{self.answer or ''}   ({', '.join(notes)})"

    @property
    def is_right(self) -> bool:
        return self.has_ended and self.answer == self.right


class Conversation:
    """Each question has a fresh state. `temperature` 0 takes the likeliest byte. An answer whose
    confidence is below `min_confidence` is withheld."""

    def __init__(self, brain: TrainedBrain, max_bytes: int, temperature: float = 0.0,
                 seed: int = 0, min_confidence: float = 0.0):
        """Raises ConfigError if the brain has only learnt to act."""
        if brain.profile.body.is_alone:
            raise ConfigError("the brain has learnt to act, and no questions: see it act with seed "
                              "play")
        from seed.wavecore.decode import Rollouts
        self._tasks, self._max_bytes, self._temperature = (
            brain.dataset.tasks, max_bytes, temperature)
        self._min_confidence = min_confidence
        self._patterned = [task for task in self._tasks.values()   # a user's tell no pattern
                           if hasattr(task, "prompt_pattern")]
        self._rng, self._examples_rng = stream(seed, Stream.GENERATE, 0), random.Random(seed)
        self._rollouts = Rollouts(brain.model, rows=1)

    def ask(self, question: str) -> Reply:
        """Of at least one character. Raises ConfigError if it has too many."""
        text = encode(question)
        if len(text) > MAX_QUESTION_BYTES:
            raise ConfigError(f"a question has {len(text):,} bytes: ask with "
                              f"{MAX_QUESTION_BYTES:,} at most")
        rollout = self._rollouts.answer([text], self._max_bytes, END, self._temperature,
                                        self._rng)[0]
        task = self.task_of(question)
        may_be_known = task or len(self._patterned) < len(self._tasks)
        examples = [] if may_be_known else self.examples(1)
        is_given = rollout.confidence >= self._min_confidence
        return Reply(question, decode(rollout.text) if is_given else None, rollout.confidence,
                     rollout.ended, task.solve(question) if task else "",
                     examples[0] if examples else "")

    def task_of(self, question: str) -> Task | None:
        """The task that has such questions, if it tells what they look like."""
        text = encode(question)
        return next((task for task in self._patterned if task.parse_prompt(text) == text), None)

    def examples(self, n: int) -> list[str]:
        """Short questions of so many tasks, or of fewer."""
        return short_questions(self._tasks, self._examples_rng, n)


def short_questions(tasks: Mapping[str, Task], rng: random.Random, n: int) -> list[str]:
    """Of so many of the tasks, or of fewer."""
    chosen = rng.sample(list(tasks.values()), len(tasks))
    prompts = [decode(task.generate(rng, 1).prompt) for task in chosen]
    return [prompt for prompt in prompts if len(prompt) <= MAX_EXAMPLE_CHARS][:n]
