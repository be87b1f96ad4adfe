"""Where a teacher's replies come from: a mock of known accuracy, or an endpoint in a thread."""
import queue
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from seed.curriculum.task import PROPOSED_LEVEL, Item, Task, pick
from seed.curriculum.vocab import decode
from seed.practice.endpoint import Endpoint, EndpointError
from seed.practice.reply import AnswerFormat, Rejection, parse, parse_question

MIN_RETRY_DELAY_S, MAX_RETRY_DELAY_S = 1.0, 60.0   # doubled after each failure
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

    A retryable failure is retried once after a delay, which doubles with each failure.
    """

    def __init__(self, endpoint: Endpoint, shots: Sequence[tuple[str, str]],
                 formats: Mapping[str, AnswerFormat],
                 sleep_fn: Callable[[float], object] = time.sleep):
        self.endpoint, self.shots, self.formats = endpoint, shots, formats
        self.sleep_fn, self.n_pending = sleep_fn, 0
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
        delay_s = MIN_RETRY_DELAY_S
        while True:
            request = self.requests.get()
            question = _question(request)
            try:
                reply = self._ask(request, question)
                if reply is None:
                    self.sleep_fn(delay_s)
                    delay_s = min(MAX_RETRY_DELAY_S, 2 * delay_s)
                    reply = self._ask(request, question)
                else:
                    delay_s = MIN_RETRY_DELAY_S
            except Exception as error:   # whatever it is, the next request may succeed
                reply = Reply(question, rejection=EndpointError(
                    f"broken: {type(error).__name__}", False))
            self.replies.put(reply or Reply(question, rejection=Rejection.NO_REPLY))

    def _ask(self, request: Request, question: Item) -> Reply | None:
        """None if asking again may help."""
        try:
            if isinstance(request, ProposalRequest):
                question = question._replace(prompt=self._propose(request))
                if not question.prompt:
                    return Reply(question, rejection=Rejection.NO_QUESTION)
            prompt, form = decode(question.prompt), self.formats[question.task]
            completion = self.endpoint.complete(self.shots, prompt,
                                                MAX_TOKENS_PER_CHARACTER * form.max_length)
        except EndpointError as error:
            return None if error.retryable else Reply(question, rejection=error)
        return Reply(question, *parse(completion.text, prompt, form), completion.logprob)

    def _propose(self, request: ProposalRequest) -> bytes:
        """A question or b"". At temperature 1: at 0 it would be the same each time."""
        completion = self.endpoint.complete(
            [(PROPOSE_PROMPT, text) for text in request.examples], PROPOSE_PROMPT,
            MAX_TOKENS_PER_CHARACTER * max(map(len, request.examples)), 1.0)
        return parse_question(completion.text, request.task)


Backend = Mock | Background


def _question(request: Request) -> Item:
    """The question of a request; for a proposal one without prompt and answer."""
    if isinstance(request, ProposalRequest):
        return Item(request.task.name, PROPOSED_LEVEL, b"", b"")
    return request
