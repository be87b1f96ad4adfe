"""Questions to a brain one by one: what it answers, how sure it is, and what it can be asked."""
import random
from collections.abc import Mapping
from typing import NamedTuple

from seed.curriculum.task import UNKNOWN, Task
from seed.curriculum.unknown import Unknown
from seed.curriculum.vocab import END, decode, encode
from seed.curriculum.wording import answer_of
from seed.errors import ConfigError
from seed.evaluation.trained_brain import TrainedBrain
from seed.rng import Stream, stream
from seed.runtime.answer import plain_question, shown

MAX_EXAMPLE_CHARS = 24
MAX_QUESTION_BYTES = 4096   # a longer one takes minutes


class Reply(NamedTuple):
    """`answer` to `has_ended` as of `seed.runtime.Answer`. `right`: of the task that has such a
    question, or is asked it in other words; UNKNOWN if there is none; "" where nobody can say that.
    `example`: what can be asked instead then."""
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
            if self.example:
                notes.append(f"try {self.example}")
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
        self._min_confidence, self._plain_questions = min_confidence, brain.plain_questions
        self._known = {name: task for name, task in self._tasks.items()   # a user's tell no pattern
                       if hasattr(task, "prompt_pattern")}
        self._has_others = len(self._known) < len(self._tasks)
        if self._has_others:   # nobody knows what they do not answer
            self._known.pop(Unknown.name, None)
        self._rng, self._examples_rng = stream(seed, Stream.GENERATE, 0), random.Random(seed)
        self._rollouts = Rollouts(brain.model, rows=1)

    def ask(self, question: str) -> Reply:
        """Of at least one character. Raises ConfigError if it has too many."""
        n_bytes = len(encode(question))
        if n_bytes > MAX_QUESTION_BYTES:
            raise ConfigError(f"a question has {n_bytes:,} bytes: ask with "
                              f"{MAX_QUESTION_BYTES:,} at most")
        prompt = plain_question(question) if self._plain_questions else question
        rollout = self._rollouts.answer([encode(prompt)], self._max_bytes, END, self._temperature,
                                        self._rng)[0]
        right = answer_of(prompt, self._known)
        is_known = self._has_others or right not in ("", UNKNOWN)
        examples = [] if is_known else self.examples(1)
        is_given = rollout.confidence >= self._min_confidence
        return Reply(question, decode(rollout.text) if is_given else None, rollout.confidence,
                     rollout.ended, right, examples[0] if examples else "")

    def examples(self, n: int) -> list[str]:
        """Short questions of so many tasks, or of fewer."""
        return short_questions(self._tasks, self._examples_rng, n)


def short_questions(tasks: Mapping[str, Task], rng: random.Random, n: int) -> list[str]:
    """Of so many of the tasks, or of fewer."""
    taught = [task for task in tasks.values() if task.name != Unknown.name]
    prompts = [decode(task.generate(rng, 1).prompt) for task in rng.sample(taught, len(taught))]
    return [prompt for prompt in prompts if len(prompt) <= MAX_EXAMPLE_CHARS][:n]
