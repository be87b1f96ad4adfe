"""A server that fails is not a teacher that is wrong: what is told, and when it is asked again."""
import time
from pathlib import Path

import pytest

from seed.curriculum.dataset import Dataset
from seed.practice.endpoint import Completion, EndpointError
from seed.practice.reply import Rejection, answer_format
from seed.practice.teacher import Teacher, open_teacher
from seed.practice.teacher_backend import Background, Reply
from seed.profile_file import load_profile
from seed.storage.run_dir import RunDir
from tests.support.chat_server import ChatServer, answer_sums
from tests.support.odd_servers import KEY, refuse
from tests.support.teacher_backends import (MAX_WAIT_S, Scripted, add_questions, background,
                                            replies_of, right)

REFUSED = EndpointError("connection refused", True, "start the server")


def teacher_of(folder: Path, reply_fn, lines: list[str]) -> Teacher:
    profile = load_profile("toy", ["curriculum.tasks={add=1.0}", "teacher.kind=mock",
                                   "teacher.tasks={add=1.0}"])
    return Teacher(profile.teacher, Dataset(profile.curriculum, profile.identity, 0),
                   RunDir(folder), 40, Scripted(reply_fn), lines.append)


def test_a_probe_waits_for_a_server_that_is_late(tmp_path):
    """Errors are counted, answer nothing, and each is made up for by another question."""
    questions, lines = [], []

    def reply(question):
        questions.append(question)
        return Reply(question, rejection=REFUSED) if len(questions) <= 50 else right(question)
    teacher = teacher_of(tmp_path, reply, lines)
    assert [len(teacher.collect(step)) for step in (0, 20, 40, 60)] == [0, 0, 0, 16]
    assert lines == ["teacher answered 20 of 20 probe questions"] and not teacher.rejected
    assert teacher.reply_counts == {"connection refused": 50, "accepted": 16}
    assert len(set(questions[:70])) > 60


def test_a_refusal_names_the_most_frequent_reasons_first(tmp_path):
    rejections = iter([Rejection.LINES] * 5 + [Rejection.CUT_OFF] * 12)
    lines = []

    def reply(question):
        rejection = next(rejections, None)
        return Reply(question, rejection=rejection) if rejection else right(question)
    teacher = teacher_of(tmp_path, reply, lines)
    assert teacher.collect(0) == [] and teacher.rejected
    assert lines == ["teacher answered 3 of 20 probe questions; rejected (needs 50 %): 12 cut off, "
                     "5 several lines; use a larger model or more teacher.shots"]
    assert teacher.probe_counts == {"right": 3, "cut off": 12, "several lines": 5}


class Failing:
    """An endpoint that fails as told, and gives its answers after that."""
    url = "http://there/v1/chat/completions"

    def __init__(self, *failures: EndpointError | None):
        self.failures = list(failures)

    def complete(self, shots, prompt, max_tokens):
        failure = self.failures.pop(0) if self.failures else None
        if failure:
            raise failure
        return Completion("7", None)


def pauses_of(*failures: EndpointError | None) -> list[float]:
    """Before each attempt that is not made at once, for as many questions as it takes."""
    endpoint, pauses = Failing(*failures), []
    backend = Background(endpoint, [], {"add": answer_format(["1"])}, pauses.append)
    while endpoint.failures:
        replies_of(backend, add_questions(1))
    return pauses


def limited(after_s: float | None) -> EndpointError:
    return EndpointError("status 429", True, retry_after_s=after_s)


NO_KEY = EndpointError("status 401", False)


@pytest.mark.parametrize("failures, pauses", [
    ([REFUSED] * 8, [1, 2, 4, 8, 16, 32, 60]),
    ([REFUSED, None] * 4, [1, 1, 1, 1]),   # each retry succeeds: as if nothing had been
    ([limited(2), None] * 3, [2, 2, 2]),
    ([limited(10**9), None, limited(0), None, limited(None)], [600, 1, 1]),
    ([NO_KEY] * 4, [1, 2, 4])])            # not retried, and not hammered either
def test_pauses_follow_the_server_and_any_success_ends_them(failures, pauses):
    counted = pauses_of(*failures, None)
    assert counted[:len(pauses)] == pauses and len(counted) <= len(pauses) + 1


def test_a_rate_limited_server_loses_no_question():
    n_requests = []

    def answer(handler, request):
        n_requests.append(1)
        if len(n_requests) % 2:
            return refuse(handler, 429, "slow down", Retry_After="2")
        answer_sums(handler, request)
    pauses = []
    with ChatServer(answer) as server:
        backend = background(server)
        backend.sleep_fn = pauses.append
        replies = replies_of(backend, add_questions(20))
    assert [reply.answer for reply in replies] == [
        reply.question.answer.decode() for reply in replies] and len(replies) == 20
    assert pauses == [2.0] * 20


def test_each_kind_of_fault_is_one_line_with_its_address():
    endpoint = Failing(*[REFUSED] * 3, NO_KEY, *[EndpointError(f"status {i}", False)
                                                 for i in range(500, 599)])
    backend = Background(endpoint, [], {"add": answer_format(["1"])}, lambda s: None)
    while endpoint.failures:
        replies_of(backend, add_questions(4))
    assert len(backend.faults) == 20
    assert backend.faults[0] == ("no reply from the teacher at http://there/v1/chat/completions: "
                                 "connection refused; start the server")


def test_a_teacher_s_address_is_told_before_it_is_asked_and_its_key_never(tmp_path, monkeypatch):
    monkeypatch.setenv("SEED_TEACHER_KEY", f" {KEY}\n")
    lines = []
    with ChatServer(lambda handler, _: refuse(handler, 401, f"wrong: {KEY}")) as server:
        teacher = open_teacher(load_profile("toy", [
            "teacher.kind=endpoint", f"teacher.url={server.url}?x={KEY}",
            "teacher.tasks={add=1.0}"]), RunDir(tmp_path), lines.append)
        address = f"{server.url}/chat/completions?x=..."
        assert lines == [f"teacher: asks {address} in the background"]
        teacher.backend.sleep_fn = lambda s: time.sleep(1e6)   # after the first failure
        until = time.monotonic() + MAX_WAIT_S
        while not teacher.reply_counts and time.monotonic() < until:
            teacher.collect(0)
            time.sleep(0.01)
    assert teacher.reply_counts == {"status 401": 1} and not teacher.probe_counts
    teacher.log_faults()
    assert lines[1] == (f"no reply from the teacher at {address}: status 401 (wrong: ...); check "
                        "SEED_TEACHER_KEY")
    assert server.requests[0][1]["Authorization"] == f"Bearer {KEY}"
    assert not teacher.rejected and KEY not in "".join(map(str, [*lines, teacher.reply_counts]))
