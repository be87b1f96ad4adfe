"""A served run on loopback, whose brain says what a test wants, and requests of every kind."""
import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, NamedTuple

from seed.curriculum.vocab import END
from seed.evaluation.conversation import Reply
from seed.serve import answering
from seed.serve.serving import Site, open_server
from seed.storage import RunDir

WAIT_S = 60.0   # on whatever machine
BYTE_NATS = -0.1


class Brain:
    """Answers each prompt with `text`, each byte and the end with BYTE_NATS; waits before each byte
    until `may_go`."""

    def __init__(self, text: bytes = b"42"):
        self.text, self.calls, self.n_written, self.plain_questions = text, [], 0, False
        self.may_go = threading.Event()
        self.may_go.set()

    def reset(self) -> None:
        pass

    def drawn(self, prompt, max_bytes, stop, temperature, seed) -> Iterator[tuple[int, float]]:
        self.calls.append((prompt, max_bytes, temperature, seed))
        for byte in (self.text + bytes([END]))[:max_bytes]:
            assert self.may_go.wait(WAIT_S)
            if byte == END:
                return (yield END, BYTE_NATS)
            self.n_written += 1
            yield byte, BYTE_NATS

    def ask(self, question: str) -> Reply:
        return Reply(question, "42", 0.93, True, "42" if question == "12+30=" else "", "")

    def loaded(self) -> Any:
        return answering.Loaded(SimpleNamespace(
            decoder=self, plain_questions=self.plain_questions), self, (0, 0, 0))


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    content: bytes

    def json(self) -> Any:
        return json.loads(self.content)


class Served(NamedTuple):
    port: int
    token: str
    log: list[str]
    open_fn: Callable[[], int]   # number of connections

    def ask(self, path: str, body: Any = None, method: str = "", **headers: str) -> Answer:
        """A request, with the token if there is a body; `Host_` and others as named."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT_S)
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if body is not None:
            sent.setdefault("Authorization", f"Bearer {self.token}")
        data = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
        connection.request(method or ("GET" if body is None else "POST"), path, data, sent)
        response = connection.getresponse()
        answer = Answer(response.status, dict(response.getheaders()), response.read())
        connection.close()
        return answer

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=WAIT_S)

    def send(self, data: bytes) -> bytes:
        """All that comes back for these bytes."""
        with self.connect() as connection:
            connection.sendall(data)
            return read_all(connection)


def read_all(connection: socket.socket) -> bytes:
    data = b""
    try:
        while piece := connection.recv(65536):
            data += piece
    except ConnectionError:
        pass
    return data


@contextmanager
def served(run_dir: RunDir, brain: Brain | None, monkeypatch,
           min_confidence: float = 0.0) -> Iterator[Served]:
    """`brain`: None: that of the run directory."""
    if brain:
        monkeypatch.setattr(answering.Answering, "_load", lambda self: brain.loaded())
    log: list[str] = []
    site = Site(run_dir, run_dir, 1, log.append, min_confidence=min_confidence)
    server, address = open_server(site, "127.0.0.1", 0, log.append)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield Served(server.server_address[1], address.token, log, lambda: len(server._open))
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
