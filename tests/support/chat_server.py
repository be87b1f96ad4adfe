"""A chat-completions server on loopback that answers as a test wants, honest or hostile."""
import json
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from seed.practice.http_post import MAX_RESPONSE_BYTES


def completion(text: Any, **choice: Any) -> bytes:
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": text},
                                    "finish_reason": "stop", **choice}]}).encode()


class ChatServer:
    """Answers each request by `answer_fn(handler, request)`; keeps (path, headers, request)."""

    def __init__(self, answer_fn: Callable[[BaseHTTPRequestHandler, dict], None],
                 host: str = "127.0.0.1", port: int = 0):
        requests = self.requests = []

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                length = int(self.headers["Content-Length"])
                request = json.loads(self.rfile.read(length))
                requests.append((self.path, dict(self.headers), request))
                try:
                    answer_fn(self, request)
                except OSError:
                    pass  # the client has closed the connection

            def log_message(self, *args):
                pass

        class Server(ThreadingHTTPServer):
            address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
            daemon_threads = True
        self.server = Server((host, port), Handler)
        name = f"[{host}]" if ":" in host else host
        self.url = f"http://{name}:{self.server.server_address[1]}/v1"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True,
                                       kwargs={"poll_interval": 0.02})

    def __enter__(self) -> "ChatServer":
        self.thread.start()
        return self

    def __exit__(self, *error) -> None:
        self.server.shutdown()
        self.server.server_close()


def send(handler, body: bytes, status: int = 200, length: int | None = None) -> None:
    handler.send_response(status)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(body) if length is None else length))
    handler.end_headers()
    handler.wfile.write(body)


def answer_sums(handler, request) -> None:
    """The right answer to a question of `add`, "none" to anything else."""
    left, plus, right = request["messages"][-1]["content"].rstrip("=").partition("+")
    send(handler, completion(str(int(left) + int(right)) if plus else "none"))


class Hostile(NamedTuple):
    answer_fn: Callable
    reason: str
    retryable: bool


def body(data: bytes, status: int = 200) -> Callable:
    return lambda handler, _: send(handler, data, status)


def _endless(handler, _) -> None:
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(b"x" * 65536)


def _shorter_than_announced(handler, _) -> None:
    send(handler, completion("4"), length=10_000)
    handler.close_connection = True


def _garbage(handler, _) -> None:
    handler.wfile.write(b"\x00\xff hello\r\n\r\n")
    handler.close_connection = True


_HUGE_LOGPROB = b', "logprobs": {"content": [{"logprob": 1' + 400 * b"0" + b"}]}}]"
NOT_A_COMPLETION = "not a chat completion"
HOSTILE = {
    "500": Hostile(body(b"oops", 500), "status 500", True),
    "400": Hostile(body(b"context", 400), "status 400", False),
    "429": Hostile(body(b"busy", 429), "status 429", True),
    "truncated": Hostile(body(completion("4")[:30]), NOT_A_COMPLETION, False),
    "no choices": Hostile(body(b'{"choices": []}'), NOT_A_COMPLETION, False),
    "a list": Hostile(body(b"[1, 2]"), NOT_A_COMPLETION, False),
    "null": Hostile(body(completion(None)), NOT_A_COMPLETION, False),
    "a number": Hostile(body(completion(4)), NOT_A_COMPLETION, False),
    "wrong logprobs": Hostile(body(completion("4", logprobs={"content": [{"a": 1}]})),
                              NOT_A_COMPLETION, False),
    "a logprob beyond all numbers": Hostile(
        body(completion("4").replace(b"}]", _HUGE_LOGPROB, 1)), NOT_A_COMPLETION, False),
    "deep": Hostile(body(b"[" * 100_000), NOT_A_COMPLETION, False),
    "a thought without an end": Hostile(body(completion("<think>\nOkay")), "cut off in its thought",
                                        False),
    "redirect": Hostile(body(b"", 307), "status 307", False),
    "megabytes": Hostile(body(completion("4" * 8 * MAX_RESPONSE_BYTES)), "too long", False),
    "endless": Hostile(_endless, "too long", False),
    "shorter than announced": Hostile(_shorter_than_announced, "broken: IncompleteRead", True),
    "garbage": Hostile(_garbage, "broken: BadStatusLine", True),
}
