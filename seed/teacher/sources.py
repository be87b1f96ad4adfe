"""Where replies come from: a mock of known quality, or a language model in the background."""
import queue
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from seed.curriculum.task import Item
from seed.curriculum.vocab import decode
from seed.teacher.endpoint import Endpoint, Fault
from seed.teacher.reply import Form, parse

LEAST_WAIT_S, MOST_WAIT_S = 1.0, 60.0   # after a fault; doubled each time
TOKENS_EACH = 2                         # asked for a byte of the longest answer


class Said(NamedTuple):
    """What came back of a question; `answer` is empty if `reason` tells why there is none."""
    question: Item            # with the answer that is known, or none
    answer: str
    reason: str
    logprob: float | None


class Source(Protocol):
    def begin(self, questions: Sequence[Item]) -> None:
        """Takes questions to be answered."""

    def waiting(self) -> int:
        """Questions that have no reply yet."""

    def ready(self) -> list[Said]:
        """What has come back since the last call."""


class Mock:
    """Knows every answer, and gives a wrong one of the same look to some questions.

    Which ones depends on (seed, question) alone.
    """

    def __init__(self, quality: float, seed: int):
        self.quality, self.seed, self.said = quality, seed, list[Said]()

    def begin(self, questions: Sequence[Item]) -> None:
        for question in questions:
            rng = random.Random(f"{self.seed} {question.prompt!r}")
            text = decode(question.answer)
            self.said.append(Said(question, text if rng.random() < self.quality else
                                  _wrong(text, rng), "", 0.0))

    def waiting(self) -> int:
        return 0

    def ready(self) -> list[Said]:
        said, self.said = self.said, []
        return said


def _wrong(text: str, rng: random.Random) -> str:
    """Another text of the same length and kind of characters."""
    at = int(rng.random() * len(text))
    kinds = ("0123456789", "abcdefghijklmnopqrstuvwxyz", "TF")
    kind = next((kind for kind in kinds if text[at] in kind), kinds[0])
    others = [c for c in kind if c != text[at]]
    return text[:at] + others[int(rng.random() * len(others))] + text[at + 1:]


class Background:
    """Asks an endpoint in a thread of its own, one question after another.

    After a fault that may pass it waits, twice as long each time; the question is given up after
    its second one.
    """

    def __init__(self, endpoint: Endpoint, shots: Sequence[tuple[str, str]],
                 forms: Mapping[str, Form], wait: Callable[[float], object] = time.sleep):
        self.endpoint, self.shots, self.forms, self.wait = endpoint, shots, forms, wait
        self.questions: queue.Queue[Item] = queue.Queue()
        self.said: queue.Queue[Said] = queue.Queue()
        self.asked = self.answered = 0
        threading.Thread(target=self._work, daemon=True, name="teacher").start()

    def begin(self, questions: Sequence[Item]) -> None:
        self.asked += len(questions)
        for question in questions:
            self.questions.put(question)

    def waiting(self) -> int:
        return self.asked - self.answered

    def ready(self) -> list[Said]:
        found = []
        while not self.said.empty():
            found.append(self.said.get())
        self.answered += len(found)
        return found

    def _work(self) -> None:
        pause = LEAST_WAIT_S
        while True:
            question = self.questions.get()
            try:
                said = self._ask(question)
                if said is None:
                    self.wait(pause)
                    pause = min(MOST_WAIT_S, 2 * pause)
                    said = self._ask(question) or Said(question, "", "no reply", None)
                else:
                    pause = LEAST_WAIT_S
            except Exception as error:   # whatever it is, the next question may go better
                said = Said(question, "", f"broken: {type(error).__name__}", None)
            self.said.put(said)

    def _ask(self, question: Item) -> Said | None:
        """None if asking again may help."""
        prompt, form = decode(question.prompt), self.forms[question.task]
        try:
            reply = self.endpoint.ask(self.shots, prompt, TOKENS_EACH * form.longest)
        except Fault as fault:
            return None if fault.again else Said(question, "", str(fault), None)
        return Said(question, *parse(reply.text, prompt, form), reply.logprob)
