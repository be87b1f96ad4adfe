"""The processes of a brain and a body, as the parent of a fast loop has them.

Each has a socket whose one end is the tick loop's. The parent keeps a copy of it: if the tick loop
is killed, the next one takes over the brain and the body as they are.
"""
import inspect
import json
import math
import select
import socket
import subprocess
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from seed.body.open_body import BODIES
from seed.body.user_body import BODY
from seed.curriculum.user_class_process import ClassProcess
from seed.errors import ConfigError, NotEnoughMemory, SeedError
from seed.interpreter import keyless_environment, seed_command
from seed.live import real_time
from seed.live.frames import pair
from seed.live.safety import Bounds
from seed.settings import nearest
from seed.task_names import file_of, is_class_name, short

# The tick loop ends first, with the safe action.
LIVE_BODY = BODY._replace(module="seed.live.body_worker", grace_s=9.0)
MAX_LOAD_S, END_S = 30.0, 5.0
MAX_MESSAGE_BYTES = 2 ** 20
MAX_RETRY_S = 30.0      # between two starts of what ends again and again
HEALTHY_S = 60.0        # after which the next restart is at once again


def start(module: str, *arguments: str, connection: socket.socket,
          inherited: Sequence[int] = ()) -> subprocess.Popen:
    """A process of seed with one end of a socket, in a session of its own."""
    return subprocess.Popen(
        seed_command(str(connection.fileno()), *arguments, module=module),
        pass_fds=[connection.fileno(), *inherited], stdin=subprocess.DEVNULL,
        start_new_session=True, env=keyless_environment())


def end(process: subprocess.Popen, wait_s: float) -> None:
    """Waits for its end, and kills it where that takes too long."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(wait_s)
        return
    process.kill()
    process.wait()


class BrainProcess:
    """Of one exported file. `fields` as for brain_worker.py. Raises NotEnoughMemory."""

    def __init__(self, generation: int, fields: dict[str, Any]):
        self.generation, self.path = generation, str(fields["brain"])
        self._scratch = Path(fields["scratch"])
        self.facts: dict[str, Any] = {}
        self.began_s = time.monotonic()
        try:
            self.link, worker_link = pair()
            with worker_link, ExitStack() as stack:
                stack.callback(self.link.close)
                self.process = start("seed.live.brain_worker", json.dumps(fields),
                                     connection=worker_link)
                stack.pop_all()
        except OSError as error:
            raise NotEnoughMemory(f"{self.path}: its process cannot start: {error.strerror}: end "
                                  f"other programs") from None

    def is_ready(self, wait_s: float) -> bool:
        """Whether it is loaded and warmed up. Raises ConfigError if the file is refused."""
        if self.facts:
            return True
        if not select.select([self.link], [], [], wait_s)[0]:
            return False
        data = b""
        with suppress(OSError):
            data = self.link.recv(MAX_MESSAGE_BYTES)
        try:
            facts = json.loads(data)
        except ValueError:
            facts = {"error": f"{self.path}: its process ended while it was loaded; export it "
                              f"again"}
        if "error" in facts:
            self.close(END_S)
            raise ConfigError(facts["error"])
        self.facts = facts
        return True

    def has_ended(self) -> bool:
        """Then nothing of it is left in memory, as of one that was killed."""
        if self.process.poll() is None:
            return False
        for name in (self._scratch, f"{self._scratch}.partial"):
            Path(name).unlink(missing_ok=True)
        return True

    def close(self, wait_s: float) -> None:
        """The process ends where the tick loop does not have it any more."""
        self.link.close()
        end(self.process, wait_s)
        self.has_ended()


class BodyProcess:
    """A body's, contained as any user's class. Raises SeedError."""

    def __init__(self, name: str, cores: set[int]):
        if name in BODIES:
            made_by = BODIES[name]
            path, class_name = inspect.getfile(made_by), made_by.__name__
        elif is_class_name(name):
            path = file_of(name)
            class_name = name[len(path) + 1:]
        else:
            raise ConfigError(f"body {name} cannot live{nearest(name, BODIES)}: give a built-in "
                              f"one, or a class as robot.py:MyRobot")
        self.name = short(name) if is_class_name(name) else name
        self._process = ClassProcess(LIVE_BODY, self.name, path, class_name)
        self.facts, _ = self._process.ask("loading", MAX_LOAD_S, do="load", rows=1)
        self._cores = cores
        self.notes: list[str] = []

    @property
    def link(self) -> socket.socket:
        return self._process.link

    def serve(self, codec: dict[str, Any], stall_s: float) -> None:
        """From now on it answers the tick loop alone. Raises SeedError."""
        self._process.ask("serving", MAX_LOAD_S, do="serve", form=codec["form"],
                          shape=codec["shape"], stall_s=stall_s)
        pid = self.facts.get("pid")
        if isinstance(pid, int) and pid > 0:
            real_time.pin(self._cores, pid)
            real_time.spare(pid)   # a robot's body is no user's class that may go first
            note = real_time.prioritize(real_time.BODY_PRIORITY, pid)
            self.notes = [note] if note else []

    def bounds(self, brain: dict[str, Any], safety: dict[str, Any]) -> Bounds:
        """Of its actions: the brain's, narrowed by its class and by `safety`. Raises ConfigError
        if the brain is for another body."""
        if self.n_numbers() != brain["n_numbers"]:
            raise ConfigError(f"the brain is for a body of {brain['n_numbers']} numbers, "
                              f"{self.name} has {self.n_numbers()}: give the body that it was "
                              f"trained with")
        bounds = Bounds.of(brain["actions"], brain["form"])
        n_parts = math.prod(self.facts["action_space"].get("shape", ()))
        if n_parts != len(brain["actions"]):
            raise ConfigError(f"the brain has actions of {len(brain['actions'])} numbers, "
                              f"{self.name} of {n_parts}: give the body that it was trained with")
        if brain["form"] == "index" and self.facts["action_space"].get("n") not in (
                None, len(brain["actions"][0])):
            raise ConfigError(f"the brain has {len(brain['actions'][0])} actions, {self.name} "
                              f"{self.facts['action_space']['n']}: give the body that it was "
                              f"trained with")
        return bounds.narrowed(self.facts, self.name).narrowed(safety, "the options")

    def n_numbers(self) -> int:
        return math.prod(self.facts["observation_space"].get("shape", ()))

    def close(self) -> None:
        self._process.close()


class Opening:
    """Opens a body while its parent continues, when the one before has ended: a class may take its
    time for both."""

    def __init__(self, name: str, cores: set[int], before: BodyProcess):
        self.body: BodyProcess | None = None
        self.error = ""
        self._thread = threading.Thread(target=self._open, args=(name, cores, before), daemon=True)
        self._thread.start()

    def _open(self, name: str, cores: set[int], before: BodyProcess) -> None:
        before.close()
        try:
            self.body = BodyProcess(name, cores)
        except (SeedError, OSError) as error:   # OSError: it was closed meanwhile
            self.error = str(error)

    def is_done(self) -> bool:
        return not self._thread.is_alive()


class Restarts:
    """How long to wait before something that has ended starts again."""

    def __init__(self) -> None:
        self.delay_s, self.at_s = 0.0, 0.0

    def next(self, now_s: float) -> None:
        is_often = now_s - self.at_s < HEALTHY_S
        self.delay_s = min(MAX_RETRY_S, max(1.0, 2 * self.delay_s)) if is_often else 0.0
        self.at_s = now_s + self.delay_s
