"""HTTP with bounds: connections, the size of a request, the time that it takes to come and to be
sent. A path is a name in a table of routes and nothing else; a connection is for one request.
"""
import io
import json
import select
import socket
import sys
import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import closing, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from seed.serve.access import Access, Refused
from seed.terminal_text import one_line

MAX_CONNECTIONS = 32
MAX_BODY_BYTES = 64 * 1024
REQUEST_S = 10.0    # from its first to its last byte
SEND_S = 10.0       # for each piece of an answer
DRAIN_S = 0.5       # for a body that nobody reads, so that the answer to it is not lost
JSON = "application/json"
HEADERS = {"Cache-Control": "no-store", "Connection": "close", "Referrer-Policy": "no-referrer",
           "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY",
           "Cross-Origin-Resource-Policy": "same-origin"}
FIXES = {414: "use a shorter address", 431: "send fewer and shorter headers",
         501: "use GET or POST", 505: "use HTTP/1.1"}   # of what the standard library refuses
NO_CONTENT_POLICY = "default-src 'none'; frame-ancestors 'none'"


class Request(NamedTuple):
    body: bytes
    is_gone_fn: Callable[[], bool]   # whether the client has closed its end


class Response(NamedTuple):
    content: bytes | Generator[bytes, None, None]   # pieces are sent as they come
    kind: str = "text/plain; charset=utf-8"
    status: int = 200
    policy: str = NO_CONTENT_POLICY    # what a page may load and run


class Route(NamedTuple):
    """GET without a token, or POST with one."""
    method: str
    answer_fn: Callable[[Request], Response]


def as_json(value: Any, status: int = 200) -> Response:
    return Response(json.dumps(value).encode() + b"\n", JSON, status)


def as_error(status: int, message: str) -> Response:
    """One line for a person, in the form that clients of language models know."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    return as_json({"error": {"message": one_line(message), "type": kind, "param": None,
                              "code": status}}, status)


class Server(ThreadingHTTPServer):
    """Answers in a thread for each connection; of too many, those end first that have not said
    what they want."""
    daemon_threads = True
    request_queue_size = MAX_CONNECTIONS

    def __init__(self, family: socket.AddressFamily, address: tuple[str, int], access: Access,
                 routes: Mapping[str, Route], log: Callable[[str], object]):
        """Raises OSError."""
        self.address_family, self.access, self.routes, self.log = family, access, routes, log
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._reading: dict[socket.socket, None] = {}   # the oldest first
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        """Without a look-up of the machine's name, which may take long."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            is_full = len(self._open) >= MAX_CONNECTIONS
            if is_full and self._reading:
                oldest = next(iter(self._reading))
                del self._reading[oldest]
                with suppress(OSError):
                    oldest.shutdown(socket.SHUT_RDWR)
            may_enter = not is_full or len(self._open) < 2 * MAX_CONNECTIONS
            if may_enter:
                self._open.add(request)
                self._reading[request] = None
        if may_enter:
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def has_read(self, request: socket.socket) -> bool:
        """Whether the connection may be answered."""
        with self._lock:
            return request in self._reading and self._reading.pop(request, True) is None

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.discard(request)
            self._reading.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):   # of a client that has left
            self.log(f"a request failed: {type(error).__name__}: {error}")


class _Reader(io.RawIOBase):
    """Of a connection, up to a moment: a client that drips does not get more of it."""

    def __init__(self, connection: socket.socket, until_s: float):
        self._connection, self._until_s = connection, until_s

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._connection.settimeout(max(1e-3, self._until_s - time.monotonic()))
        return self._connection.recv_into(buffer)


class _Handler(BaseHTTPRequestHandler):
    """Of one connection."""
    server: Server
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "seed", ""

    def setup(self) -> None:
        super().setup()
        self._until_s, self._is_drained = time.monotonic() + REQUEST_S, True
        self.rfile = io.BufferedReader(_Reader(self.connection, self._until_s))

    def do_GET(self) -> None:
        self._answer("GET")

    do_HEAD = do_GET

    def do_POST(self) -> None:
        self._answer("POST")

    def _answer(self, method: str) -> None:
        try:
            response = self._respond(method)
        except Refused as refusal:
            response = as_error(refusal.status, str(refusal))
        self._send(response)

    def _respond(self, method: str) -> Response:
        """Raises Refused."""
        def all_of(name: str) -> list[str]:
            return [str(value) for value in self.headers.get_all(name, [])]
        lengths, access = all_of("Content-Length"), self.server.access
        self._is_drained = not lengths and "Transfer-Encoding" not in self.headers
        access.check_source(all_of("Host"), all_of("Origin"), self.connection.getsockname()[0])
        route = self.server.routes.get(self.path.partition("?")[0])
        if route is None:
            raise Refused(404, "there is no such page: see /")
        if route.method != method:
            raise Refused(405, f"use {route.method} for this address")
        if method == "POST":
            access.check_token(all_of("Authorization"))
        body = self._read_body(lengths)
        if not self.server.has_read(self.connection):
            raise TimeoutError   # others needed its place
        return route.answer_fn(Request(body, self._is_gone))

    def _read_body(self, lengths: list[str]) -> bytes:
        if "Transfer-Encoding" in self.headers:
            raise Refused(411, "the body has no length: send Content-Length")
        if len(lengths) > 1 or not all(text.isascii() and text.isdecimal() for text in lengths):
            raise Refused(400, "the Content-Length is no number: send that of the body")
        size = int(lengths[0][:20]) if lengths else 0
        if size > MAX_BODY_BYTES:
            raise Refused(413, f"the body has {size:,} bytes: send {MAX_BODY_BYTES:,} at most")
        body = self.rfile.read(size)
        self._is_drained = True
        if len(body) < size:
            raise Refused(400, "the body ends too early: send as many bytes as Content-Length says")
        return body

    def _is_gone(self) -> bool:
        with suppress(OSError, ValueError):
            if select.select([self.connection], [], [], 0)[0]:
                return not self.connection.recv(1, socket.MSG_PEEK)
            return False
        return True

    def _send(self, response: Response) -> None:
        self.connection.settimeout(SEND_S)
        content = response.content
        self.send_response(response.status)
        if response.status == 401:
            self.send_header("WWW-Authenticate", "Bearer")
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", response.kind)
        self.send_header("Content-Security-Policy", response.policy)
        if isinstance(content, bytes):
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD" and isinstance(content, bytes):
            self.wfile.write(content)
        elif not isinstance(content, bytes):
            with closing(content):   # it ends, if nobody listens
                for piece in content:
                    self.wfile.write(piece)
        self._drain()

    def _drain(self) -> None:
        """Reads what is left of a refused body: a close would cut the answer off."""
        if not self._is_drained:
            with suppress(OSError):
                self.connection.shutdown(socket.SHUT_WR)
                until_s, left = time.monotonic() + DRAIN_S, MAX_BODY_BYTES
                while left > 0 and time.monotonic() < until_s:
                    self.connection.settimeout(DRAIN_S)
                    data = self.connection.recv(left)
                    left -= len(data) or left

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the standard library finds wrong with a request."""
        self.close_connection = True
        self.command = getattr(self, "command", None) or "GET"
        if not hasattr(self, "request_version") or self.request_version == "HTTP/0.9":
            self.request_version = self.protocol_version   # else no headers are sent
        self._send(as_error(int(code), f"this is no request that is understood: {message or code}; "
                                       f"{FIXES.get(int(code), 'send a request of HTTP/1.1')}"))

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: a request is nobody's news."""
