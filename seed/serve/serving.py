"""Serves a run until a signal ends it: which address answers what, and where."""
import os
import random
import signal
import socket
import sys
import threading
from collections.abc import Callable, Collection, Iterator
from typing import Any, NamedTuple

from seed.config import from_dict
from seed.curriculum.consent import without_unnamed_tasks
from seed.curriculum.dataset import Dataset
from seed.errors import ConfigError, SeedError
from seed.evaluation.conversation import short_questions
from seed.serve import pages
from seed.serve.access import Access, Refused, new_token
from seed.serve.answering import Answering, Loaded
from seed.serve.completions import Completions, read_object
from seed.serve.http_server import Request, Response, Route, Server, as_json
from seed.serve.panel import Watched
from seed.storage import checkpoint
from seed.storage.run_dir import RunDir
from seed.wavecore.compiler import kill_compilers

N_EXAMPLES = 4


class Address(NamedTuple):
    url: str      # without the token
    chat: str     # with it, behind a #, which no browser sends
    token: str


class Site:
    """The routes of a run."""

    def __init__(self, run_dir: RunDir, status_dir: RunDir, threads: int,
                 log: Callable[[str], None], tasks: Collection[str] = (),
                 min_confidence: float = 0.0):
        self._watched = Watched(run_dir, status_dir)
        self._answering = Answering(run_dir, threads, log, tasks, min_confidence)
        completions = Completions(self._answering, self._watched.profile)
        self.routes = {
            "/": Route("GET", _reading(lambda: pages.panel_page(
                run_dir.path.resolve().name, self._watched.panel()))),
            "/panel": Route("GET", _reading(lambda: pages.panel_part(self._watched.panel()))),
            "/status.json": Route("GET", lambda _: as_json(self._watched.status())),
            "/report": Route("GET", _reading(lambda: pages.report_page(
                self._watched.report(pages.ICON, pages.nav("/report"))))),
            "/chat": Route("GET", _reading(lambda: pages.chat_page(
                run_dir.path.resolve().name, examples(run_dir)))),
            "/health": Route("GET", lambda _: as_json({"status": "ok"})),
            "/ask": Route("POST", self._ask),
            "/v1/models": Route("GET", completions.models),
            "/v1/completions": Route("POST", completions.complete),
            "/v1/chat/completions": Route("POST", completions.chat)}

    def _ask(self, request: Request) -> Response:
        """Of the chat page."""
        question = read_object(request.body).get("question")
        if not isinstance(question, str) or not question or any(
                "\ud800" <= character <= "\udfff" for character in question):
            raise Refused(400, "question is no text: send at least one character")

        def work(loaded: Loaded) -> Iterator[Any]:
            yield loaded.conversation.ask(question)
        reply = next(self._answering.ask(work, request.is_gone_fn), None)
        if reply is None:
            raise Refused(499, "the client has left")
        return as_json({**reply._asdict(), "line": reply.describe(),
                        "mark": "" if not reply.right else "good" if reply.is_right else "bad"})


def _reading(make_fn: Callable[[], Response]) -> Callable[[Request], Response]:
    """Of what a run has written, which may be unreadable."""
    def answer(request: Request) -> Response:
        try:
            return make_fn()
        except OSError as error:
            raise Refused(503, f"the run cannot be read: {error.strerror}; mend that "
                               f"and ask again") from None
        except SeedError as error:
            raise Refused(503, str(error)) from None
    return answer


def examples(run_dir: RunDir) -> list[str]:
    """Short questions that its brain was taught; none if it has no brain yet."""
    try:
        profile = from_dict(checkpoint.read_meta(run_dir.checkpoint)["profile"])
        profile = without_unnamed_tasks(profile, (), lambda line: None)
        tasks = Dataset(profile.curriculum, profile.identity, profile.train.seed).tasks
    except SeedError:
        return []
    return [] if profile.body.is_alone else short_questions(tasks, random.Random(), N_EXAMPLES)


def open_server(site: Site, host: str, port: int, log: Callable[[str], None]
                ) -> tuple[Server, Address]:
    """Listens. Raises ConfigError if it cannot."""
    token = new_token()
    try:
        family, _, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        server = Server(family, (str(where[0]), int(where[1])), Access(host, token), site.routes,
                        log)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"cannot serve on {host} port {port}: {reason}; give another --host or "
                          f"--port (0: any that is free)") from None
    name = f"[{host}]" if ":" in host else host
    if host in ("0.0.0.0", "::"):   # of all networks: by which others reach this machine
        name = _own_address() or name
    url = f"http://{name}:{server.server_address[1]}"
    return server, Address(f"{url}/", f"{url}/chat#{token}", token)


def _own_address() -> str:
    """The address towards other networks; nothing is sent. Empty if there is none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))   # of no machine (RFC 5737)
            return str(probe.getsockname()[0])
        except OSError:
            return ""


def serve(run_dir: RunDir, status_dir: RunDir, host: str, port: int, threads: int,
          log: Callable[[str], None], show_fn: Callable[[Address], object],
          tasks: Collection[str] = (), min_confidence: float = 0.0) -> None:
    """Until SIGINT, SIGTERM or the end of the terminal: then the process ends with 0. Raises
    ConfigError if it cannot listen."""
    site = Site(run_dir, status_dir, threads, log, tasks, min_confidence)
    server, address = open_server(site, host, port, log)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda received, frame: stop.set())
    threading.Thread(target=server.serve_forever, daemon=True, name="server").start()
    show_fn(address)
    stop.wait()
    kill_compilers()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(0)   # a question that is being answered is not waited for
