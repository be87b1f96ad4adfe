"""A server on loopback that sends whatever bytes a test wants to whoever connects."""
import gzip
import json
import re
import socket
import threading
import time
from collections.abc import Callable

from tests.support.chat_server import completion

OK = completion("42")


class RawServer:
    """Reads one request of each connection and calls `answer_fn(connection)`."""

    def __init__(self, answer_fn: Callable[[socket.socket], object], reads: bool = True):
        self.answer_fn, self.reads = answer_fn, reads
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port = self.listening.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> "RawServer":
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *error) -> None:
        self.listening.shutdown(socket.SHUT_RDWR)
        self.listening.close()

    def _accept(self) -> None:
        try:
            while True:
                connection, _ = self.listening.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()
        except OSError:
            pass   # closed by __exit__

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                if self.reads:
                    self._read(connection)
                self.answer_fn(connection)
            except OSError:
                pass   # the client has left

    def _read(self, connection: socket.socket) -> None:
        data = b""
        while not (length := re.search(rb"Content-Length: (\d+)\r\n.*?\r\n\r\n", data, re.DOTALL)) \
                or len(data) < length.end() + int(length[1]):
            piece = connection.recv(65536)
            if not piece:
                return
            data += piece


def response(content: bytes, head: str = "") -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Length: {len(content)}\r\n{head}\r\n".encode() + content


def sends(*pieces: bytes, then_s: float = 0.0) -> Callable:
    def answer(connection: socket.socket) -> None:
        for piece in pieces:
            connection.sendall(piece)
        time.sleep(then_s)
    return answer


def repeats(begin: bytes, piece: bytes, gap_s: float = 0.0) -> Callable:
    """For ever."""
    def answer(connection: socket.socket) -> None:
        connection.sendall(begin)
        while True:
            connection.sendall(piece)
            time.sleep(gap_s)
    return answer


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
ANNOUNCED = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"


def with_logprobs(number: str) -> bytes:
    return (b'{"choices":[{"message":{"content":"4"},"finish_reason":"stop","logprobs":{"content":'
            b'[{"logprob":' + number.encode() + b"}]}}]}")


def redirect(location: str, status: int = 302) -> Callable:
    return sends(f"HTTP/1.1 {status} Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"
                 .encode())


def huge_gzip() -> Callable:
    return sends(response(gzip.compress(bytes(50_000_000)), "Content-Encoding: gzip\r\n"))


# None: an answer, which is no digit or has no log-probability
HOSTILE_BYTES: dict[str, tuple[Callable, str | None]] = {
    "gzip bomb": (huge_gzip(), "not a chat completion"),
    "redirect to a file": (redirect("file:///etc/passwd"), "status 302"),
    "redirect loop": (redirect("/", 307), "status 307"),
    "endless slow content": (repeats(ANNOUNCED, b"x", 0.2), "too slow"),
    "endless fast content": (repeats(b"", 65536 * b"x"), "broken: LineTooLong"),
    "header flood": (repeats(b"HTTP/1.1 200 OK\r\n", b"X-A: " + 999 * b"a" + b"\r\n"),
                     "broken: HTTPException"),
    "100 for ever": (repeats(b"", 99 * b"HTTP/1.1 100 Continue\r\n\r\n"), "too long"),
    "bad UTF-8": (sends(response(b'{"choices":[{"message":{"content":"\xff\xfe"}}]}')),
                  "not a chat completion"),
    "deep JSON": (sends(response(b'{"choices":' + 90000 * b"[" + 90000 * b"]" + b"}")),
                  "not a chat completion"),
    "4000 digits": (sends(response(with_logprobs(4000 * "9"))), "not a chat completion"),
    "length 10^15": (sends(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000000\r\n\r\n" + OK,
                           then_s=9), "too slow"),
    "chunk bomb": (sends(CHUNKED + b"fffffffffffffff\r\n" + 999 * b"x"), "broken: IncompleteRead"),
    "negative chunk": (sends(CHUNKED + b"-5\r\nxx\r\n"), "broken: ValueError"),
    "status 99999": (sends(b"HTTP/1.1 99999 OK\r\n\r\n"), "broken: BadStatusLine"),
    "NUL and ESC": (sends(response(completion("4\x00\x1b[2J"))), None),
    "surrogate": (sends(response(json.dumps({"choices": [
        {"message": {"content": "\ud800"}}]}).encode())), None),
    "silence": (sends(then_s=9), "too slow"),
    "NaN": (sends(response(with_logprobs("NaN"))), None),
    # of our own
    "103 for ever": (repeats(b"", b"HTTP/1.1 103 Early Hints\r\nLink: " + 999 * b"x" + b"\r\n\r\n"),
                     "too long"),
    "trailers for ever": (repeats(CHUNKED + b"1\r\n{\r\n0\r\n", 99 * b"X-A: a\r\n"), "too long"),
    "a slow head": (repeats(b"HTTP/1.1 200 OK\r\n", b"X", 0.2), "too slow"),
    "a chunk size for ever": (repeats(CHUNKED, 999 * b"0"), "broken: LineTooLong"),
    "tiny chunks for ever": (repeats(CHUNKED, 999 * b"1\r\n[\r\n"), "too long"),
    "chunk of -1": (sends(CHUNKED + b"-1\r\n" + OK, then_s=9), "too slow"),
    "closed in the head": (sends(b"HTTP/1.1 200 OK\r\nContent-"), "not a chat completion"),
    "closed at once": (sends(), "broken: RemoteDisconnected"),
    "another protocol": (sends(b"SSH-2.0-OpenSSH_9.2p1\r\n"), "broken: BadStatusLine"),
    "length and chunks": (sends(CHUNKED[:-2] + b"Content-Length: 3\r\n\r\n"
                                + b"%x\r\n%s\r\n0\r\n\r\n" % (len(OK), OK)), None),
    "NUL in a head": (sends(response(OK, "X-\x00A: \x01\x1b\r\n")), None),
    "a thought of 200 KB": (sends(response(completion(20_000 * "<think>Hm."))),
                            "cut off in its thought"),
    "deep error": (sends(b"HTTP/1.1 400 Bad\r\nContent-Length: 100000\r\n\r\n" + 100000 * b"["),
                   "status 400"),
    "server sent events": (sends(response(b'data: {"choices":[]}\n\ndata: [DONE]\n\n')),
                           "not a chat completion"),
}
