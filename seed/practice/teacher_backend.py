"""Where replies come from: a mock of known quality, or a language model in the background."""
import queue
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from seed.curriculum.task import Item, Task
from seed.curriculum.vocab import decode
from seed.practice.endpoint import Endpoint, EndpointError
from seed.practice.reply import AnswerFormat, parse, parse_question

LEAST_WAIT_S, MOST_WAIT_S = 1.0, 60.0   # after a fault; doubled each time
TOKENS_EACH = 2                         # asked for a byte of the longest answer
ANOTHER = "Another question?"
PROPOSED = 0                             # the level of a question that a teacher has made up


class ProposalRequest(NamedTuple):
    """To make up a question like some of a task, and to answer it."""
    task: Task
    shown: tuple[str, ...]   # prompts


class Reply(NamedTuple):
    """What came back of a question; `answer` is empty if `reason` tells why there is none."""
    question: Item            # with the answer that is known; none is of one that was PROPOSED
    answer: str
    reason: str
    logprob: float | None


class Backend(Protocol):
    def begin(self, questions: Sequence[Item | ProposalRequest]) -> None:
        """Takes questions to be answered."""

    def waiting(self) -> int:
        """Questions that have no reply yet."""

    def ready(self) -> list[Reply]:
        """What has come back since the last call."""


class Mock:
    """Knows every answer, and gives a wrong one of the same look to some questions.

    Which ones depends on (seed, question) alone.
    """

    def __init__(self, quality: float, seed: int):
        self.quality, self.seed, self.said = quality, seed, list[Reply]()

    def begin(self, questions: Sequence[Item | ProposalRequest]) -> None:
        for question in questions:
            if isinstance(question, ProposalRequest):
                raise ValueError("the mock makes up nothing")
            rng = random.Random(f"{self.seed} {question.prompt!r}")
            text = decode(question.answer)
            self.said.append(Reply(question, text if rng.random() < self.quality else
                                   _wrong(text, rng), "", 0.0))

    def waiting(self) -> int:
        return 0

    def ready(self) -> list[Reply]:
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
                 forms: Mapping[str, AnswerFormat], wait: Callable[[float], object] = time.sleep):
        self.endpoint, self.shots, self.forms, self.wait = endpoint, shots, forms, wait
        self.questions: queue.Queue[Item | ProposalRequest] = queue.Queue()
        self.said: queue.Queue[Reply] = queue.Queue()
        self.asked = self.answered = 0
        threading.Thread(target=self._work, daemon=True, name="teacher").start()

    def begin(self, questions: Sequence[Item | ProposalRequest]) -> None:
        self.asked += len(questions)
        for question in questions:
            self.questions.put(question)

    def waiting(self) -> int:
        return self.asked - self.answered

    def ready(self) -> list[Reply]:
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
                    said = self._ask(question) or Reply(_blank(question), "", "no reply", None)
                else:
                    pause = LEAST_WAIT_S
            except Exception as error:   # whatever it is, the next question may go better
                said = Reply(_blank(question), "", f"broken: {type(error).__name__}", None)
            self.said.put(said)

    def _ask(self, question: Item | ProposalRequest) -> Reply | None:
        """None if asking again may help."""
        item = _blank(question)
        try:
            if isinstance(question, ProposalRequest):
                item = item._replace(prompt=self._make_up(question))
                if not item.prompt:
                    return Reply(item, "", "no question", None)
            prompt, form = decode(item.prompt), self.forms[item.task]
            reply = self.endpoint.ask(self.shots, prompt, TOKENS_EACH * form.longest)
        except EndpointError as fault:
            return None if fault.again else Reply(item, "", str(fault), None)
        return Reply(item, *parse(reply.text, prompt, form), reply.logprob)

    def _make_up(self, invited: ProposalRequest) -> bytes:
        """A question, or nothing. At temperature 1: else it would be the same one each time."""
        reply = self.endpoint.ask([(ANOTHER, text) for text in invited.shown], ANOTHER,
                                  TOKENS_EACH * max(map(len, invited.shown)), 1.0)
        return parse_question(reply.text, invited.task)


def _blank(question: Item | ProposalRequest) -> Item:
    """A question as it is; of an invitation, one that is not known yet."""
    return Item(question.task.name, PROPOSED, b"", b"") if isinstance(question, ProposalRequest) \
        else question
