"""A language model behind any server that speaks the chat-completions protocol.

One request is one connection with one deadline. A server that is slow, drips, sends too much or
nonsense is an EndpointError with a reason: never a hang, never more than MAX_RESPONSE_BYTES held.
"""
import http.client
import io
import json
import re
import socket
import ssl
import time
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from seed.errors import ConfigError

MAX_RESPONSE_BYTES = 256 * 1024
HEAD_END = b"\r\n\r\n"


class EndpointError(Exception):
    """No completion; `retryable` tells whether the same request may succeed later."""

    def __init__(self, reason: str, retryable: bool):
        super().__init__(reason)
        self.retryable = retryable


class Completion(NamedTuple):
    text: str
    logprob: float | None   # mean over its tokens; None if the server does not report it


class Endpoint:
    """`url` is the base, such as http://127.0.0.1:8080/v1; `key` is sent as a bearer token."""

    def __init__(self, url: str, model: str, timeout_s: float, key: str = ""):
        try:
            split = urlsplit(url)
            valid = split.scheme in ("http", "https") and split.hostname and split.port != 0
        except ValueError:   # of a port or an address
            valid = False
        if not valid:
            raise ConfigError(f"teacher.url is {url!r}: use http://host:port/v1")
        self.url, self.model, self.timeout_s, self.key = split, model, timeout_s, key

    def complete(self, shots: Sequence[tuple[str, str]], prompt: str, max_tokens: int,
                 temperature: float = 0.0) -> Completion:
        """The model's reply to `prompt` after some questions and answers. Raises EndpointError."""
        messages = [{"role": role, "content": text} for shot in [*shots, (prompt,)]
                    for role, text in zip(("user", "assistant"), shot)]
        body = json.dumps({
            "model": self.model, "messages": messages, "temperature": temperature,
            "max_tokens": max_tokens, "logprobs": True,
            "stop": ["\n"]}).encode()   # some models never end a turn
        deadline = time.monotonic() + self.timeout_s
        try:
            status, data = self._exchange(body, deadline)
        except TimeoutError:
            raise EndpointError("too slow", True) from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise EndpointError(f"broken: {type(error).__name__}", True) from None
        if status != 200:
            raise EndpointError(f"status {status}", status >= 500 or status in (408, 429))
        return _completion(data)

    def _exchange(self, body: bytes, deadline: float) -> tuple[int, bytes]:
        """Status and content of the response."""
        host = str(self.url.hostname)
        port = self.url.port or (443 if self.url.scheme == "https" else 80)
        head = [f"POST {self.url.path.rstrip('/')}/chat/completions HTTP/1.1",
                f"Host: {host}:{port}", "Content-Type: application/json", "Connection: close",
                f"Content-Length: {len(body)}"]
        if self.key:
            head.append(f"Authorization: Bearer {self.key}")
        with socket.create_connection((host, port), _seconds_left(deadline)) as link:
            link.settimeout(_seconds_left(deadline))
            if self.url.scheme == "https":
                link = ssl.create_default_context().wrap_socket(link, server_hostname=host)
            with link:
                link.sendall("\r\n".join(head).encode() + HEAD_END + body)
                received = io.BytesIO(_receive(link, deadline))
            response = http.client.HTTPResponse(SimpleNamespace(
                makefile=lambda mode: received))  # type: ignore[arg-type]
            response.begin()
            return response.status, response.read()


def _seconds_left(deadline: float) -> float:
    """Raises TimeoutError when there are none."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _receive(link: socket.socket, deadline: float) -> bytes:
    """All bytes until the server closes or its content is complete."""
    data, total = bytearray(), 0
    while True:
        link.settimeout(_seconds_left(deadline))
        chunk = link.recv(65536)
        data += chunk
        if len(data) > MAX_RESPONSE_BYTES:
            raise EndpointError("too long", False)
        if not total and HEAD_END in data[-len(chunk) - len(HEAD_END):]:
            head = bytes(data.partition(HEAD_END)[0])
            total = len(head) + len(HEAD_END) + _content_length(head)
        if not chunk or 0 < total <= len(data):
            return bytes(data)


def _content_length(head: bytes) -> int:
    """As the head states it; MAX_RESPONSE_BYTES, which is never reached, if it does not."""
    match = re.search(rb"^content-length\s*:\s*(\d{1,12})\s*$", head, re.IGNORECASE | re.MULTILINE)
    return int(match[1]) if match else MAX_RESPONSE_BYTES


def _completion(data: bytes) -> Completion:
    """Raises EndpointError for anything but a finished text."""
    try:
        choice: Any = json.loads(data)["choices"][0]
        text, finish = choice["message"]["content"], choice.get("finish_reason")
        tokens = (choice.get("logprobs") or {}).get("content") or []
        logprobs = [float(token["logprob"]) for token in tokens]
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError,
            RecursionError):
        raise EndpointError("not a chat completion", False) from None
    if not isinstance(text, str):
        raise EndpointError("not a chat completion", False)
    if finish == "length":
        raise EndpointError("cut off", False)
    mean = sum(logprobs) / len(logprobs) if logprobs else None
    return Completion(text, mean if mean is None or mean == mean else None)
