"""Completions as plain clients of OpenAI ask for them, and what becomes of a client that leaves."""
import json
import select

import numpy as np
import pytest

from seed.curriculum.vocab import END
from seed.errors import ConfigError
from seed.serve import answering
from seed.serve.access import Refused
from seed.storage import RunDir
from tests.support.served_run import BYTE_NATS, WAIT_S, Brain, read_all, served
from tests.support.small_run import wait_until

PLAIN, CHAT = "/v1/completions", "/v1/chat/completions"
ASKED = {PLAIN: {"prompt": "12+30="}, CHAT: {"messages": [
    {"role": "system", "content": "be brief"}, {"role": "user", "content": "12+30="}]}}


def text_of(path: str, choice: dict) -> str:
    return choice["text"] if path == PLAIN else choice["message"]["content"]


@pytest.mark.parametrize("path", [PLAIN, CHAT])
def test_an_answer_has_the_form_that_clients_know(site, brain, path):
    fields = site.ask(path, {**ASKED[path], "model": "whatever", "user": "me"}).json()
    assert fields["object"] == ("text_completion" if path == PLAIN else "chat.completion")
    assert fields["id"] and fields["created"] > 1e9 and fields["model"] == "first"
    assert fields["usage"] == {"prompt_tokens": 6, "completion_tokens": 2, "total_tokens": 8}
    choice, = fields["choices"]
    assert text_of(path, choice) == "42" and choice["finish_reason"] == "stop"
    assert choice["index"] == 0 and choice["logprobs"] is None
    assert brain.calls == [(b"12+30=", 129, 0.0, 0)]


@pytest.mark.parametrize("path", [PLAIN, CHAT])
def test_only_a_message_is_closed_where_the_brain_was_taught_that(site, brain, path):
    brain.plain_questions = True
    body = {"prompt": "12+30", "messages": [{"role": "user", "content": "12+30"}]}
    usage = site.ask(path, body).json()["usage"]
    assert brain.calls[0][0] == (b"12+30?" if path == CHAT else b"12+30")
    assert usage["prompt_tokens"] == 5


@pytest.mark.parametrize("path", [PLAIN, CHAT])
@pytest.mark.parametrize("written, options, text, reason", [
    (b"abcdef", {"max_tokens": 3}, "abc", "length"), (b"abc", {"max_tokens": 3}, "abc", "stop"),
    (b"abcdef", {"stop": "cd"}, "ab", "stop"), (b"abcdef", {"stop": ["f", "de"]}, "abc", "stop"),
    (b"abcdef", {"stop": ["x", "y"]}, "abcdef", "stop"), (b"abe", {"stop": "ef"}, "abe", "stop"),
    ("zähl 1€!".encode(), {"stop": []}, "zähl 1€!", "stop"), (b"a\xe2\x82", {}, "a\ufffd", "stop"),
    (b"ab\xffcd", {}, "ab", "stop"), (bytes([97, END, 98]), {"stop": None}, "a", "stop"),
    ("€€".encode(), {"max_tokens": 4, "temperature": 1}, "€\ufffd", "length"),
    (b"abc", {"max_tokens": None, "max_completion_tokens": 2}, "ab", "length"),
    (b"", {"seed": 5}, "", "stop")])
@pytest.mark.parametrize("streams", [False, True])
def test_an_answer_ends_where_it_is_to_in_one_piece_or_many(site, brain, path, written, options,
                                                            text, reason, streams):
    brain.text = written
    body = {**ASKED[path], **options, "stream": streams}
    if not streams:
        choice = site.ask(path, body).json()["choices"][0]
        assert (text_of(path, choice), choice["finish_reason"]) == (text, reason)
        return
    answer = site.ask(path, {**body, "stream_options": {"include_usage": True}})
    assert answer.headers["Content-Type"] == "text/event-stream"
    events = answer.content.decode().split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    *parts, counts = [json.loads(event.removeprefix("data: ")) for event in events[:-2]]
    choices = [part["choices"][0] for part in parts]
    assert "".join(choice["text"] if path == PLAIN else choice["delta"]["content"]
                   for choice in choices) == text
    assert [choice["finish_reason"] for choice in choices] == [None] * (len(parts) - 1) + [reason]
    assert counts["choices"] == [] and counts["usage"]["prompt_tokens"] == 6


@pytest.mark.parametrize("written, options, n_drawn", [
    (b"abc", {}, 4), (b"abc", {"max_tokens": 3}, 4), (b"abcdef", {"max_tokens": 3}, 3),
    (b"abcdef", {"stop": "cd"}, 4), (b"ab\xffcd", {}, 3)])
@pytest.mark.parametrize("streams", [False, True])
def test_the_end_of_an_answer_tells_its_confidence(site, brain, written, options, n_drawn, streams):
    brain.text = written
    answer = site.ask(PLAIN, {"prompt": "a", "stream": streams, **options}).content.decode()
    events = answer.split("\n\n")[:-2] if streams else [answer]
    choices = [json.loads(event.removeprefix("data: "))["choices"][0] for event in events]
    assert choices[-1]["confidence"] == pytest.approx(np.exp(n_drawn * BYTE_NATS))
    assert not any("confidence" in choice for choice in choices[:-1])


@pytest.mark.parametrize("path", [PLAIN, CHAT])
@pytest.mark.parametrize("min_confidence, text, reason", [
    (0.7, "42", "stop"), (0.75, "", "content_filter")])   # it is exp(-0.3)
def test_of_an_answer_that_is_too_unsure_no_text_is_sent(
        run_dir, brain, monkeypatch, path, min_confidence, text, reason):
    with served(run_dir, brain, monkeypatch, min_confidence) as site:
        choice, = site.ask(path, ASKED[path]).json()["choices"]
        assert (text_of(path, choice), choice["finish_reason"]) == (text, reason)
        events = site.ask(PLAIN, {"prompt": "a", "stream": True}).content.decode().split("\n\n")
        choices = [json.loads(event.removeprefix("data: "))["choices"][0] for event in events[:-2]]
        assert [part["text"] for part in choices] == [""] * (len(choices) - 1) + [text]
        assert choices[-1]["finish_reason"] == reason


@pytest.mark.parametrize("fields, words", [
    ({}, "prompt is no text"), ({"prompt": 5}, "prompt is no text"), ({"prompt": ""}, "use 1 to"),
    ({"prompt": ["a", "b"]}, "send one string"), ({"prompt": "a" * 4097}, "4,097 bytes"),
    ({"prompt": "\ud800"}, "not JSON"), ({"max_tokens": 0}, "max_tokens is 0: use 1 to 4096"),
    ({"max_tokens": 1e9}, "max_tokens"), ({"max_tokens": True}, "max_tokens is True"),
    ({"max_tokens": 4097}, "use 1 to 4096"), ({"temperature": -1}, "temperature is -1"),
    ({"temperature": "hot"}, "temperature is hot"), ({"seed": -1}, "seed is -1"),
    ({"seed": 2 ** 63 - 1, "n": 2}, "n is not 1"), ({"stop": 5}, "stop is not a text"),
    ({"stop": [""]}, "stop is not a text"), ({"stop": ["a"] * 5}, "up to 4"),
    ({"best_of": 3}, "best_of is not 1"), ({"logprobs": 1}, "logprobs is not known here"),
    ({"tools": [{}]}, "tools is not known here"),
    ({"echo": True}, "leave it out"), ({"suffix": "a"}, "leave it out")])
def test_what_cannot_be_asked_is_refused_in_a_line(site, brain, fields, words):
    body = {"prompt": "a", **fields} if fields else {}
    answer = site.ask(PLAIN, body)
    error = answer.json()["error"]
    assert answer.status == 400 and words in error["message"] and "\n" not in error["message"]
    assert error["type"] == "invalid_request_error" and not brain.calls


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"5", b"\xff", b"[" * 60_000, b'{"prompt":NaN}',
                                  b'{"prompt":' + b"9" * 5000 + b"}"])
@pytest.mark.parametrize("path", [PLAIN, CHAT, "/ask"])
def test_a_body_that_is_no_object_is_refused(site, path, body):
    answer = site.ask(path, body)
    assert answer.status == 400 and answer.content.count(b"\n") == 1


@pytest.mark.parametrize("messages", [
    None, [], [5], [{"role": "user"}], [{"role": "assistant", "content": "a"}], {"role": "user"},
    [{"role": "user", "content": [{"type": "image_url", "image_url": "http://evil.com"}]}]])
def test_messages_have_to_end_with_a_question(site, messages):
    answer = site.ask(CHAT, {"messages": messages})
    assert answer.status == 400 and "role user" in answer.json()["error"]["message"]


def test_a_message_may_come_in_parts_of_text(site, brain):
    content = [{"type": "text", "text": "12+"}, {"type": "text", "text": "30="}]
    assert site.ask(CHAT, {"messages": [{"role": "user", "content": content}]}).status == 200
    assert brain.calls[0][0] == b"12+30="


def begin(site, body: dict):
    """A connection on which a question is asked."""
    data, connection = json.dumps(body).encode(), site.connect()
    connection.sendall(f"POST {PLAIN} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer "
                       f"{site.token}\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)
    return connection


@pytest.mark.parametrize("streams", [False, True])
def test_a_client_that_leaves_ends_its_answer(site, brain, streams):
    brain.text = b"x" * 4000
    brain.may_go.clear()
    connection = begin(site, {"prompt": "a", "max_tokens": 4000, "stream": streams})
    wait_until(lambda: brain.calls, timeout_s=WAIT_S)
    connection.close()
    wait_until(lambda: site.open_fn() == 0, timeout_s=WAIT_S)
    brain.text = b"42"
    brain.may_go.set()
    assert site.ask(PLAIN, {"prompt": "b"}).json()["choices"][0]["text"] == "42"
    assert brain.n_written <= 1 + 2   # it looks after each byte whether somebody waits


def test_too_many_questions_at_once_are_told_so_and_the_others_are_answered(site, brain):
    brain.may_go.clear()
    waiting = [begin(site, {"prompt": "a"})]
    wait_until(lambda: brain.calls, timeout_s=WAIT_S)
    waiting += [begin(site, {"prompt": "b"}) for _ in range(answering.MAX_WAITING + 1)]
    refused, = select.select(waiting, [], [], WAIT_S)[0]   # none but the one that finds no room
    waiting.remove(refused)
    with refused:
        answer = read_all(refused)
    assert answer.startswith(b"HTTP/1.1 503") and b"ask again in a few seconds" in answer
    assert site.ask("/health").status == 200   # reading waits for nobody
    brain.may_go.set()
    for connection in waiting:
        connection.settimeout(WAIT_S)
        assert connection.recv(12) == b"HTTP/1.1 200"
        connection.close()


def test_a_brain_that_cannot_be_loaded_is_told_and_tried_again(site, brain, monkeypatch):
    def fail(self):
        raise ConfigError("runs/first has no brain: train one")
    monkeypatch.setattr(answering.Answering, "_load", fail)
    for body in ({"prompt": "a"}, {"prompt": "a", "stream": True}):
        answer = site.ask(PLAIN, body)
        assert answer.status == 503 and "has no brain" in answer.json()["error"]["message"]
    monkeypatch.setattr(answering.Answering, "_load", lambda self: brain.loaded())
    assert site.ask(PLAIN, {"prompt": "a"}).status == 200


def test_a_run_that_was_removed_is_no_fault_of_the_question(tmp_path):
    def fail(loaded):
        raise ConfigError("a question has 60,000 bytes")
        yield
    asked = answering.Answering(RunDir(tmp_path), 1, lambda line: None)
    for mark, status, words in ((1, 1, 1), 503, "has no brain"), ((0, 0, 0), 400, "60,000"):
        asked._loaded = Brain().loaded()._replace(mark=mark)   # 0: of the file as it is
        with pytest.raises(Refused, match=words) as refusal:
            list(asked.ask(fail))
        assert refusal.value.status == status


def test_an_error_after_the_first_piece_is_an_event(site, monkeypatch):
    class Failing(Brain):
        def drawn(self, *args):
            yield 97, 0.0
            raise MemoryError("no room")
    monkeypatch.setattr(answering.Answering, "_load", lambda self: Failing().loaded())
    events = site.ask(PLAIN, {"prompt": "a", "stream": True}).content.decode().split("\n\n")
    assert json.loads(events[0].removeprefix("data: "))["choices"][0]["text"] == "a"
    assert "no room" in json.loads(events[1].removeprefix("data: "))["error"]["message"]
