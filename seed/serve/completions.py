"""Completions as clients of OpenAI, llama.cpp and Ollama ask for them. A token is a byte."""
import codecs
import json
import math
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, NamedTuple

from seed.curriculum.vocab import END, PAD, decode, encode
from seed.errors import printable
from seed.evaluation.conversation import MAX_QUESTION_BYTES
from seed.regular_file import parse_json
from seed.runtime.answer import plain_question
from seed.serve.access import Refused
from seed.serve.answering import Answering, Loaded
from seed.serve.http_server import Request, Response, as_error, as_json

DEFAULT_TOKENS, MAX_TOKENS = 128, 4096
MAX_TEMPERATURE = 100.0
MAX_STOPS, MAX_STOP_CHARS = 4, 64
MAX_SEED = 2 ** 63 - 1
# What would change the answer and is not known here; these values ask for nothing.
NOT_KNOWN = ("suffix", "echo", "logprobs", "tools", "functions", "response_format")
NOTHING: tuple[Any, ...] = (None, False, "", [], {}, {"type": "text"})   # 0 is False


class Question(NamedTuple):
    prompt: bytes
    max_tokens: int
    temperature: float
    seed: int
    stops: list[str]
    streams: bool
    counts: bool       # whether a stream ends with the numbers of tokens
    is_chat: bool


class Piece(NamedTuple):
    """Of an answer; the last one has a reason, the numbers of bytes and the confidence."""
    text: str
    reason: str | None = None
    usage: dict[str, int] | None = None
    confidence: float | None = None   # as of seed.runtime.Answer


def read_object(body: bytes) -> dict[str, Any]:
    """Raises Refused."""
    try:
        fields = parse_json(body)
    except ValueError as error:
        raise Refused(400, f"the body is not JSON: {error}; send an object of JSON") from None
    if not isinstance(fields, dict):
        raise Refused(400, "the body is no JSON object: send one, such as {\"prompt\": \"1+1=\"}")
    return fields


def parse(body: bytes, is_chat: bool) -> Question:
    """Raises Refused."""
    fields = read_object(body)
    for name in NOT_KNOWN:
        if fields.get(name) not in NOTHING:
            raise Refused(400, f"{name} is not known here: leave it out")
    for name in ("n", "best_of"):
        if fields.get(name) not in (None, 1):
            raise Refused(400, f"{name} is not 1: ask once for each answer")
    text = _last_message(fields) if is_chat else _prompt(fields)
    prompt = _encoded(text)
    if not 1 <= len(prompt) <= MAX_QUESTION_BYTES:
        raise Refused(400, f"the prompt has {len(prompt):,} bytes: use 1 to "
                      f"{MAX_QUESTION_BYTES:,}")
    max_tokens = fields.get("max_tokens")
    if max_tokens is None:
        max_tokens = fields.get("max_completion_tokens")
    options = fields.get("stream_options")
    return Question(
        prompt, int(_number("max_tokens", max_tokens, DEFAULT_TOKENS, 1, MAX_TOKENS, True)),
        _number("temperature", fields.get("temperature"), 0.0, 0, MAX_TEMPERATURE),
        int(_number("seed", fields.get("seed"), 0, 0, MAX_SEED, True)), _stops(fields.get("stop")),
        bool(fields.get("stream")),
        isinstance(options, dict) and bool(options.get("include_usage")), is_chat)


def _encoded(text: str) -> bytes:
    try:
        return encode(text)
    except UnicodeEncodeError:
        raise Refused(400, "the prompt has half a character: send text in UTF-8") from None


def _prompt(fields: dict[str, Any]) -> str:
    prompt = fields.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if not isinstance(prompt, str):
        raise Refused(400, "prompt is no text: send one string")
    return prompt


def _last_message(fields: dict[str, Any]) -> str:
    """The brain has a fresh state for each question: what was said before is not asked again."""
    messages = fields.get("messages")
    message = messages[-1] if isinstance(messages, list) and messages else None
    content = message.get("content") if isinstance(message, dict) else None
    if isinstance(content, list):   # in parts
        texts = [part.get("text") if isinstance(part, dict) else None for part in content]
        content = "".join(text for text in texts if isinstance(text, str)) if all(
            isinstance(text, str) for text in texts) else None
    if not isinstance(message, dict) or message.get("role") != "user" or not isinstance(
            content, str):
        raise Refused(400, "the last of messages is no question: end with one that has the role "
                      "user and a text as content")
    return content


def _number(name: str, value: Any, default: float, low: float, high: float,
            is_whole: bool = False) -> float:
    if value is None:
        return default
    if type(value) not in ((int,) if is_whole else (int, float)) or not low <= value <= high:
        raise Refused(400, f"{name} is {printable(str(value)[:40])}: use {low:g} to {high:g}")
    return value


def _stops(value: Any) -> list[str]:
    stops = [value] if isinstance(value, str) else [] if value is None else value
    if not isinstance(stops, list) or len(stops) > MAX_STOPS or not all(
            isinstance(text, str) and 1 <= len(text) <= MAX_STOP_CHARS for text in stops):
        raise Refused(400, f"stop is not a text or up to {MAX_STOPS}, each of 1 to "
                      f"{MAX_STOP_CHARS} characters")
    return stops


def pieces(question: Question, loaded: Loaded) -> Iterator[Piece]:
    """As they come; what may be the beginning of a stop is held back."""
    loaded.brain.decoder.reset()
    decoder, text, shown = codecs.getincrementaldecoder("utf-8")("replace"), "", 0
    longest, n_bytes, total = max(map(len, question.stops), default=1), 0, 0.0
    prompt = question.prompt
    if question.is_chat and loaded.brain.plain_questions:
        prompt = encode(plain_question(decode(prompt)))
    drawn = loaded.brain.decoder.drawn(prompt, question.max_tokens + 1, END,
                                       question.temperature, question.seed)
    for byte, nats in drawn:
        if n_bytes == question.max_tokens and byte not in (END, PAD):
            return (yield _last(question, text[shown:] + decoder.decode(b"", True), "length",
                                n_bytes, total))
        total += nats
        if byte in (END, PAD):
            break
        n_bytes += 1
        text += decoder.decode(bytes([byte]))
        end = _first_stop(text, question.stops)
        if end is not None:
            return (yield _last(question, text[shown:end], "stop", n_bytes, total))
        ready = len(text) - longest + 1
        if ready > shown:
            yield Piece(text[shown:ready])
            shown = ready
    yield _last(question, text[shown:] + decoder.decode(b"", True), "stop", n_bytes, total)


def given(parts: Iterator[Piece], min_confidence: float) -> Iterator[Piece]:
    """The same pieces; or, as the last one tells the confidence, empty ones and the whole text at
    the end, unless it is below that."""
    text = ""
    for part in parts:
        text += part.text
        if not min_confidence:
            yield part
        elif part.confidence is None:
            yield Piece("")
        elif not part.confidence >= min_confidence:   # or no number
            yield part._replace(text="", reason="content_filter")
        else:
            yield part._replace(text=text)


def _first_stop(text: str, stops: Sequence[str]) -> int | None:
    places = [place for place in map(text.find, stops) if place >= 0]
    return min(places, default=None)


def _last(question: Question, text: str, reason: str, n_bytes: int, total: float) -> Piece:
    """`total`: the log probability of all bytes, nats."""
    return Piece(text, reason, {
        "prompt_tokens": len(question.prompt), "completion_tokens": n_bytes,
        "total_tokens": len(question.prompt) + n_bytes}, math.exp(total))


class Completions:
    """Answers requests of both kinds. `name_fn`: of the model."""

    def __init__(self, answering: Answering, name_fn: Callable[[], str]):
        self._answering, self._name = answering, name_fn

    def complete(self, request: Request) -> Response:
        return self._answer(request, is_chat=False)

    def chat(self, request: Request) -> Response:
        return self._answer(request, is_chat=True)

    def models(self, request: Request) -> Response:
        return as_json({"object": "list", "data": [
            {"id": self._name(), "object": "model", "created": 0, "owned_by": "seed"}]})

    def _answer(self, request: Request, is_chat: bool) -> Response:
        question = parse(request.body, is_chat)
        parts = self._answering.ask(lambda loaded: given(
            pieces(question, loaded), self._answering.min_confidence), request.is_gone_fn)
        kind = "chat.completion" if is_chat else "text_completion"
        head = {"id": f"{'chatcmpl' if is_chat else 'cmpl'}-{time.monotonic_ns()}", "object": kind,
                "created": int(time.time()), "model": self._name()}
        if question.streams:
            first = next(parts, None)   # a question that is refused is no stream
            if is_chat:
                head["object"] = "chat.completion.chunk"
            return Response(_events(question, head, first, parts), "text/event-stream")
        answer = list(parts)
        if not answer or not answer[-1].usage:
            raise Refused(499, "the client has left")
        return as_json({**head, "usage": answer[-1].usage, "choices": [
            _choice(is_chat, "message", answer[-1]._replace(
                text="".join(part.text for part in answer)))]})


def _choice(is_chat: bool, name: str, part: Piece) -> dict[str, Any]:
    text = part.text
    content = {name: {"role": "assistant", "content": text}} if is_chat else {"text": text}
    sureness = {} if part.confidence is None else {"confidence": part.confidence}
    return {"index": 0, **content, "logprobs": None, "finish_reason": part.reason, **sureness}


def _events(question: Question, head: dict[str, Any], first: Piece | None,
            parts: Generator[Piece, None, None]) -> Generator[bytes, None, None]:
    """Server-sent events."""
    def event(value: Any) -> bytes:
        return f"data: {json.dumps(value)}\n\n".encode()
    part = first
    try:
        while part:
            yield event({**head, "choices": [
                _choice(question.is_chat, "delta", part)]})
            if part.usage and question.counts:
                yield event({**head, "choices": [], "usage": part.usage})
            part = next(parts, None)
        yield b"data: [DONE]\n\n"
    except Refused as refusal:
        content = as_error(refusal.status, str(refusal)).content
        yield b"data: " + (content if isinstance(content, bytes) else b"") + b"\n"
    finally:
        parts.close()   # which ends the answer, if nobody listens
