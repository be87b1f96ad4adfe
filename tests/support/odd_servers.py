"""Chat-completions servers that are right in unusual ways, as real ones are.

Each is an answer_fn of ChatServer that gives the sum of "a+b=" where a client does its part.
"""
import json
import time
from collections.abc import Callable
from typing import Any

from tests.support.chat_server import completion, send

KEY = "sesame-42"


def sum_of(request: dict) -> str:
    left, _, right = request["messages"][-1]["content"].rstrip("=").partition("+")
    return str(int(left) + int(right))


def refuse(handler, status: int, message: str, **headers: str) -> None:
    handler.send_response(status)
    content = json.dumps({"error": {"message": message, "code": status}}).encode()
    for name, value in {"Content-Length": str(len(content)), **headers}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(content)


def _chunked_and_kept_open(handler, request) -> None:
    content = completion(sum_of(request))
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.send_header("Connection", "keep-alive")
    handler.end_headers()
    for chunk in (content[:9], content[9:]):
        handler.wfile.write(f"{len(chunk):x};x=y\r\n".encode() + chunk + b"\r\n")
    handler.wfile.write(b"0\r\nX-Trailer: 1\r\n\r\n")
    time.sleep(8)


def _early_hints(handler, request) -> None:
    for status in (100, 103, 102):
        handler.wfile.write(f"HTTP/1.1 {status} Wait\r\nLink: </x>\r\n\r\n".encode())
    send(handler, completion(sum_of(request)))


def _until_closed(handler, request) -> None:
    """HTTP/1.0: no length; the end of the connection is that of the content."""
    handler.wfile.write(b"HTTP/1.0 200 OK\r\n\r\n" + completion(sum_of(request)))
    handler.close_connection = True


def refuses(*names: str, status: int = 400, message: str = "unsupported: {}") -> Callable:
    """A server that knows none of these parameters, and complains about one at a time."""
    def answer(handler, request) -> None:
        present = [name for name in names if name in request]
        if present:
            refuse(handler, status, message.format(present[0]))
        else:
            assert "max_tokens" in request or "max_completion_tokens" in request
            send(handler, completion(sum_of(request)))
    return answer


def thinks(handler, request, opening: str = "<think>", closing: str = "</think>") -> None:
    """In the content; honours the stop and the limit of tokens, 4 characters each."""
    text = f"{opening}\nLet me add.\n\n{'Hm. ' * 50}\n{closing}\n\n{sum_of(request)}"
    text = text.split("\n")[0] if "\n" in request.get("stop", []) else text
    limit = 4 * request["max_tokens"]
    send(handler, completion(text[:limit],
                             finish_reason="length" if len(text) > limit else "stop"))


def _thinks_apart(handler, request, content: Any = "") -> None:
    """The thought is not in the content, but counts."""
    if "stop" in request or request["max_tokens"] < 500:
        send(handler, json.dumps({"choices": [{"finish_reason": "length", "message": {
            "content": content, "reasoning_content": "Okay, so I"}}]}).encode())
    else:
        send(handler, json.dumps({"choices": [{"finish_reason": "stop", "message": {
            "content": sum_of(request), "reasoning_content": "Okay, so I"}}]}).encode())


def _in_parts(handler, request) -> None:
    send(handler, completion([{"type": "thinking", "thinking": []},
                              {"type": "text", "text": sum_of(request)}]))


def needs_key(handler, request) -> None:
    header = handler.headers.get("Authorization")
    if header != f"Bearer {KEY}":
        refuse(handler, 401, f"Incorrect API key provided: {header}")
    else:
        send(handler, completion(sum_of(request)))


ODD: dict[str, Callable] = {
    "chunked, kept open": _chunked_and_kept_open,
    "early hints": _early_hints,
    "until closed": _until_closed,
    "byte order mark": lambda handler, request: send(
        handler, b"\xef\xbb\xbf" + completion(sum_of(request))),
    "no logprobs": refuses("logprobs"),
    "no max_tokens": refuses("max_tokens"),
    "no logprobs, no max_tokens": refuses("logprobs", "max_tokens"),
    "neither temperature nor stop": refuses("temperature", "stop"),
    "nothing is known, 422": refuses("stop", "temperature", "max_tokens", "logprobs", status=422),
    "it does not say which": refuses("logprobs", "max_tokens", message="bad request"),
    "501 for logprobs": refuses("logprobs", status=501),
    "thinks": thinks,
    "thinks in other tags": lambda handler, request: thinks(
        handler, request, "[THINK]", "[/THINK]"),
    "harmony": lambda handler, request: thinks(
        handler, request, "<|channel|>analysis<|message|>", "<|channel|>final<|message|>"),
    "thinks apart": _thinks_apart,
    "thinks apart, null": lambda handler, request: _thinks_apart(handler, request, None),
    "in parts": _in_parts,
}
