"""One HTTP POST by the standard library, within one deadline and a number of bytes.

A server that is slow, drips, floods or sends nonsense is a TimeoutError, an OSError, an
http.client.HTTPException or TooLong: never a hang, never more than MAX_RESPONSE_BYTES held.
Redirects are not followed, and no proxy is used.
"""
import http.client
import io
import socket
import ssl
import time
from types import SimpleNamespace
from typing import Any, NamedTuple

MAX_RESPONSE_BYTES = 256 * 1024   # head and content
READ_BYTES = 65536


class TooLong(Exception):
    """The response has more than MAX_RESPONSE_BYTES."""


class Server(NamedTuple):
    """Where a request goes; `tls` is None for plain HTTP."""
    host: str
    port: int
    tls: ssl.SSLContext | None


class Response(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    content: bytes


def post(server: Server, target: str, headers: dict[str, str], content: bytes,
         timeout_s: float) -> Response:
    """The server's response. Connecting takes at most `timeout_s` for each address of the host, and
    all the rest at most what is then left of it."""
    deadline = time.monotonic() + timeout_s
    connection = (http.client.HTTPSConnection(server.host, server.port, timeout=timeout_s,
                                              context=server.tls) if server.tls else
                  http.client.HTTPConnection(server.host, server.port, timeout=timeout_s))
    connection.response_class = lambda sock, **options: _Response(   # type: ignore[assignment]
        _bounded(sock, deadline), **options)
    try:
        connection.connect()
        connection.sock.settimeout(_seconds_left(deadline))
        connection.request("POST", target, content, headers)
        with connection.getresponse() as response:
            return Response(response.status, response.headers, _read(response))
    finally:
        connection.close()


class _Response(http.client.HTTPResponse):
    """Skips every interim response, such as 103 Early Hints, not 100 alone."""

    def begin(self, *args: Any, **options: Any) -> None:
        super().begin(*args, **options)
        while 100 <= self.status < 200:
            self.headers = self.msg = None   # type: ignore[assignment]
            super().begin(*args, **options)


def _read(response: http.client.HTTPResponse) -> bytes:
    """The content, in pieces: a length that the head claims allocates nothing."""
    content = bytearray()
    while piece := response.read(READ_BYTES):
        content += piece
    if response.length:
        raise http.client.IncompleteRead(bytes(content), response.length)
    return bytes(content)


def _bounded(sock: socket.socket, deadline: float) -> Any:
    """What HTTPResponse takes for a socket: it asks for a file, and reads that."""
    return SimpleNamespace(
        makefile=lambda mode: io.BufferedReader(_BoundedReader(sock, deadline), READ_BYTES))


class _BoundedReader(io.RawIOBase):
    """The bytes of a socket until a deadline, MAX_RESPONSE_BYTES of them at most."""

    def __init__(self, sock: socket.socket, deadline: float):
        self.sock, self.deadline, self.n_bytes = sock, deadline, 0
        self.file = sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self.sock.settimeout(_seconds_left(self.deadline))
        count = self.file.readinto(buffer) or 0   # type: ignore[attr-defined]
        self.n_bytes += count
        if self.n_bytes > MAX_RESPONSE_BYTES:
            raise TooLong
        return count

    def close(self) -> None:
        self.file.close()
        super().close()


def _seconds_left(deadline: float) -> float:
    """Raises TimeoutError when there are none."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
