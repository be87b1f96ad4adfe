"""Backends of a teacher: scripted by a test, or an endpoint on loopback."""
import time
from collections import deque
from collections.abc import Callable, Sequence

from seed.curriculum.dataset import Dataset
from seed.curriculum.task import Item
from seed.practice.endpoint import Endpoint
from seed.practice.reply import answer_format
from seed.practice.teacher_backend import Background, Reply, Request
from seed.profile_file import load_profile
from seed.rng import Stream, dice
from tests.support.chat_server import ChatServer

MAX_WAIT_S = 60


class Scripted:
    """A backend whose replies a test gives."""

    def __init__(self, reply_fn: Callable[[Request], Reply]):
        self.reply_fn, self.replies, self.faults = reply_fn, list[Reply](), deque[str]()

    def submit(self, requests: Sequence[Request]) -> None:
        self.replies += map(self.reply_fn, requests)

    def pending(self) -> int:
        return 0

    def drain(self) -> list[Reply]:
        replies, self.replies = self.replies, []
        return replies


def right(question: Request) -> Reply:
    return Reply(question, question.answer.decode(), None, -0.1)


def background(server: ChatServer, timeout_s: float = MAX_WAIT_S) -> Background:
    formats = {"add": answer_format(["0123456789"])}
    return Background(Endpoint(server.url, "", timeout_s), [("1+1=", "2")], formats, lambda s: None)


def replies_of(backend: Background, requests: Sequence[Request]) -> list[Reply]:
    backend.submit(requests)
    replies: list[Reply] = []
    until = time.monotonic() + MAX_WAIT_S
    while backend.pending() and time.monotonic() < until:
        replies += backend.drain()
        time.sleep(0.01)
    return replies


def add_questions(n: int) -> list[Item]:
    profile = load_profile("toy", ["curriculum.tasks={add=1.0}"])
    dataset = Dataset(profile.curriculum, profile.identity, 0)
    rng = dice(0, Stream.SAMPLE, 0)
    return [dataset.draw(rng, dataset.tasks["add"], 2, False) for _ in range(n)]
