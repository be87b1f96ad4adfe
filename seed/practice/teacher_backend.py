"""Where a teacher's replies come from: a mock of known accuracy, or an endpoint in a thread."""
import queue
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from seed.curriculum.task import PROPOSED_LEVEL, Item, Task, pick
from seed.curriculum.vocab import decode
from seed.practice.reply import AnswerFormat, EndpointError, Rejection, parse, parse_question

if TYPE_CHECKING:
    from seed.practice.endpoint import Endpoint

MIN_RETRY_DELAY_S, MAX_RETRY_DELAY_S = 1.0, 60.0   # doubled after each failure in a row
MAX_RETRY_AFTER_S = 600.0   # of what a server demands
MAX_ATTEMPTS = 2            # at one request
MAX_FAULTS = 20             # different ones, to be logged
MAX_TOKENS_PER_CHARACTER = 2   # of the longest answer
PROPOSE_PROMPT = "Another question?"


class ProposalRequest(NamedTuple):
    """To propose a question like some of a task, and to answer it."""
    task: Task
    examples: tuple[str, ...]   # prompts


Request = Item | ProposalRequest


class Reply(NamedTuple):
    """The reply to one request; `answer` is "" where a rejection tells why there is none."""
    question: Item   # with the known answer, which a question that was PROPOSED_LEVEL has not
    answer: str = ""
    rejection: Rejection | EndpointError | None = None
    logprob: float | None = None


class Mock:
    """Gives the right answer, or a wrong one that looks alike: by (seed, question) alone."""

    def __init__(self, accuracy: float, seed: int):
        self.accuracy, self.seed, self.replies = accuracy, seed, list[Reply]()
        self.faults = deque[str]()

    def submit(self, requests: Sequence[Request]) -> None:
        for question in requests:
            if isinstance(question, ProposalRequest):
                raise ValueError("the mock proposes no questions")
            rng = random.Random(f"{self.seed} {question.prompt!r}")
            text = decode(question.answer)
            answer = text if rng.random() < self.accuracy else _wrong(text, rng)
            self.replies.append(Reply(question, answer, None, 0.0))

    def pending(self) -> int:
        return 0

    def drain(self) -> list[Reply]:
        replies, self.replies = self.replies, []
        return replies


def _wrong(text: str, rng: random.Random) -> str:
    """A different text of the same length and kind of characters."""
    i = int(rng.random() * len(text))
    kinds = ("0123456789", "abcdefghijklmnopqrstuvwxyz", "TF")
    kind = next((kind for kind in kinds if text[i] in kind), kinds[0])
    return text[:i] + pick(rng, [c for c in kind if c != text[i]]) + text[i + 1:]


class Background:
    """Asks an endpoint in a thread, one request after another.

    A failure delays the next attempt by what the server demands, or by a delay that doubles with
    each failure in a row; a retryable one is retried once. `faults` are lines for a log, one of
    each kind: the thread itself writes none.
    """

    def __init__(self, endpoint: "Endpoint", shots: Sequence[tuple[str, str]],
                 formats: Mapping[str, AnswerFormat],
                 sleep_fn: Callable[[float], object] = time.sleep):
        self.endpoint, self.shots, self.formats = endpoint, shots, formats
        self.sleep_fn, self.n_pending = sleep_fn, 0
        self.pause_s, self.backoff_s = 0.0, MIN_RETRY_DELAY_S
        self.faults, self._known_faults = deque[str](), set[str]()
        self.requests: queue.Queue[Request] = queue.Queue()
        self.replies: queue.Queue[Reply] = queue.Queue()
        threading.Thread(target=self._work, daemon=True, name="teacher").start()

    def submit(self, requests: Sequence[Request]) -> None:
        """Queues requests."""
        self.n_pending += len(requests)
        for request in requests:
            self.requests.put(request)

    def pending(self) -> int:
        """The number of requests without a reply."""
        return self.n_pending

    def drain(self) -> list[Reply]:
        """The replies since the last call."""
        replies = [self.replies.get() for _ in range(self.replies.qsize())]
        self.n_pending -= len(replies)
        return replies

    def _work(self) -> None:
        while True:
            self.replies.put(self._reply(self.requests.get()))

    def _reply(self, request: Request) -> Reply:
        """The reply to a request, or the last failure."""
        for _ in range(MAX_ATTEMPTS):
            if self.pause_s:
                self.sleep_fn(self.pause_s)
            try:
                reply = self._ask(request)
                self.pause_s, self.backoff_s = 0.0, MIN_RETRY_DELAY_S
                return reply
            except EndpointError as error:
                failure = error
            except Exception as error:   # whatever it is, the next request may succeed
                failure = EndpointError(f"broken: {type(error).__name__}", False,
                                        "report it with the model's name")
            self._note(failure)
            if not failure.retryable:
                break
        return Reply(_question(request), rejection=failure)

    def _note(self, failure: EndpointError) -> None:
        """Sets the pause before the next attempt."""
        self.pause_s, self.backoff_s = self.backoff_s, min(MAX_RETRY_DELAY_S, 2 * self.backoff_s)
        if failure.retry_after_s is not None:
            self.pause_s = min(MAX_RETRY_AFTER_S, max(MIN_RETRY_DELAY_S, failure.retry_after_s))
        if failure.reason not in self._known_faults and len(self._known_faults) < MAX_FAULTS:
            self._known_faults.add(failure.reason)
            self.faults.append(
                f"no reply from the teacher at {self.endpoint.url}: {failure.describe()}")

    def _ask(self, request: Request) -> Reply:
        """Raises EndpointError."""
        question = _question(request)
        if isinstance(request, ProposalRequest):
            question = question._replace(prompt=self._propose(request))
            if not question.prompt:
                return Reply(question, rejection=Rejection.NO_QUESTION)
        prompt, form = decode(question.prompt), self.formats[question.task]
        completion = self.endpoint.complete(self.shots, prompt,
                                            MAX_TOKENS_PER_CHARACTER * form.max_length)
        if completion.cut_off:
            return Reply(question, rejection=Rejection.CUT_OFF)
        return Reply(question, *parse(completion.text, prompt, form), completion.logprob)

    def _propose(self, request: ProposalRequest) -> bytes:
        """A question or b"". At temperature 1: at 0 it would be the same each time."""
        completion = self.endpoint.complete(
            [(PROPOSE_PROMPT, text) for text in request.examples], PROPOSE_PROMPT,
            MAX_TOKENS_PER_CHARACTER * max(map(len, request.examples)), 1.0)
        return b"" if completion.cut_off else parse_question(completion.text, request.task)


Backend = Mock | Background


def _question(request: Request) -> Item:
    """The question of a request; for a proposal one without prompt and answer."""
    if isinstance(request, ProposalRequest):
        return Item(request.task.name, PROPOSED_LEVEL, b"", b"")
    return request
