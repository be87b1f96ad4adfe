"""A language model behind any server that speaks the chat-completions protocol.

One request is one connection with one deadline: a server that is slow, drips, says too much or
nonsense is a EndpointError with a reason, never a hang, and never more than MOST bytes of memory.
"""
import http.client
import io
import json
import socket
import ssl
import time
from collections.abc import Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from seed.errors import ConfigError

MOST = 256 * 1024   # bytes of a response that are read


class EndpointError(Exception):
    """No reply; `again` tells whether asking again later may help."""

    def __init__(self, reason: str, again: bool):
        super().__init__(reason)
        self.again = again


class Completion(NamedTuple):
    text: str
    logprob: float | None   # mean over its tokens; None if the server does not say


class _BufferedSocket:
    """A response that has been read, as http.client takes it."""

    def __init__(self, data: bytes):
        self.data = data

    def makefile(self, mode: str) -> io.BytesIO:
        return io.BytesIO(self.data)


class Endpoint:
    """`url` is the base, such as http://127.0.0.1:8080/v1; `key` is sent as a bearer token."""

    def __init__(self, url: str, model: str, timeout_s: float, key: str = ""):
        try:
            parts = urlsplit(url)
            good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:   # of a port or an address
            good = False
        if not good:
            raise ConfigError(f"teacher.url is {url!r}: use http://host:port/v1")
        self.parts, self.model, self.timeout_s, self.key = parts, model, timeout_s, key

    def ask(self, shots: Sequence[tuple[str, str]], prompt: str, most_tokens: int,
            temperature: float = 0.0) -> Completion:
        """The model's reply to `prompt` after some questions and answers. Raises EndpointError."""
        messages = []
        for question, answer in shots:
            messages += [{"role": "user", "content": question},
                         {"role": "assistant", "content": answer}]
        body = json.dumps({
            "model": self.model, "messages": [*messages, {"role": "user", "content": prompt}],
            "temperature": temperature, "max_tokens": most_tokens,
            "stop": ["\n"],   # some never end a turn
            "logprobs": True}).encode()
        deadline = time.monotonic() + self.timeout_s
        try:
            status, data = self._exchange(body, deadline)
        except TimeoutError:
            raise EndpointError("too slow", True) from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise EndpointError(f"broken: {type(error).__name__}", True) from None
        if status != 200:
            raise EndpointError(f"status {status}", status >= 500 or status in (408, 429))
        return _reply(data)

    def _exchange(self, body: bytes, deadline: float) -> tuple[int, bytes]:
        host = str(self.parts.hostname)
        port = self.parts.port or (443 if self.parts.scheme == "https" else 80)
        head = [f"POST {self.parts.path.rstrip('/')}/chat/completions HTTP/1.1",
                f"Host: {host}:{port}", "Content-Type: application/json", "Connection: close",
                f"Content-Length: {len(body)}"]
        if self.key:
            head.append(f"Authorization: Bearer {self.key}")
        with socket.create_connection((host, port), _left(deadline)) as plain:
            plain.settimeout(_left(deadline))
            link = ssl.create_default_context().wrap_socket(plain, server_hostname=host) \
                if self.parts.scheme == "https" else plain
            with link:
                link.sendall("\r\n".join([*head, "", ""]).encode() + body)
                return _parsed(_received(link, deadline))


def _left(deadline: float) -> float:
    """Seconds until the deadline. Raises TimeoutError when there are none."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _received(link: socket.socket, deadline: float) -> bytes:
    """All that the server sends until it closes or its content is whole."""
    data, whole = bytearray(), 0
    while True:
        link.settimeout(_left(deadline))
        part = link.recv(65536)
        data += part
        if len(data) > MOST:
            raise EndpointError("too long", False)
        end = b"\r\n\r\n"
        if not whole and end in data[-len(part) - len(end):]:
            whole = _size(bytes(data.partition(end)[0])) + len(data.partition(end)[0]) + len(end)
        if not part or 0 < whole <= len(data):
            return bytes(data)


def _size(head: bytes) -> int:
    """Bytes of the content as the head says, more than are ever read if it does not."""
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length" and value.strip().isdigit():
            return int(value[:12])
    return MOST


def _parsed(data: bytes) -> tuple[int, bytes]:
    response = http.client.HTTPResponse(_BufferedSocket(data))  # type: ignore[arg-type]
    response.begin()
    return response.status, response.read()


def _reply(data: bytes) -> Completion:
    """Raises EndpointError for anything but a finished text."""
    try:
        choice: Any = json.loads(data)["choices"][0]
        text, finish = choice["message"]["content"], choice.get("finish_reason")
        tokens = (choice.get("logprobs") or {}).get("content") or []
        sure = [float(token["logprob"]) for token in tokens]
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError,
            RecursionError):
        raise EndpointError("not a chat completion", False) from None
    if not isinstance(text, str):
        raise EndpointError("not a chat completion", False)
    if finish == "length":
        raise EndpointError("cut off", False)
    mean = sum(sure) / len(sure) if sure else None
    return Completion(text, mean if mean is None or mean == mean else None)
