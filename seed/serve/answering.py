"""A run's brain in one thread: loaded at the first question, and one question at a time."""
import queue
import threading
import time
from collections.abc import Callable, Collection, Generator, Iterator
from typing import Any, NamedTuple

from seed.errors import ConfigError, SeedError
from seed.evaluation.conversation import Conversation
from seed.evaluation.trained_brain import TrainedBrain
from seed.serve.access import Refused
from seed.storage.run_dir import RunDir

MAX_WAITING = 4          # questions behind the one that is answered
MAX_ANSWER_BYTES = 128   # in the chat
ANSWER_S = 120.0         # from the question on, loading and waiting included
POLL_S = 0.5             # between two looks whether the client is still there


class Loaded(NamedTuple):
    brain: TrainedBrain
    conversation: Conversation
    mark: tuple[int, int, int]   # of its file


class _Job:
    def __init__(self, work_fn: Callable[[Loaded], Iterator[Any]]):
        self.work_fn, self.is_cancelled = work_fn, threading.Event()
        self.results: queue.Queue[Any] = queue.Queue()   # then an error, or the job itself


class Answering:
    """All of tinygrad stays in its thread. A checkpoint that is newer is read before a question;
    what was compiled stays as long as it is a brain of the same shape."""

    def __init__(self, run_dir: RunDir, threads: int, log: Callable[[str], None],
                 tasks: Collection[str] = (), min_confidence: float = 0.0):
        self._run_dir, self._threads, self._log, self._tasks = run_dir, threads, log, tasks
        self.min_confidence = min_confidence   # of an answer that is given
        self._jobs: queue.Queue[_Job] = queue.Queue(MAX_WAITING)
        self._loaded: Loaded | None = None
        self._lock, self._has_thread = threading.Lock(), False

    def ask(self, work_fn: Callable[[Loaded], Iterator[Any]],
            is_gone_fn: Callable[[], bool] = lambda: False) -> Generator[Any, None, None]:
        """What `work_fn` yields with the brain. Ends it when the caller does, or the client. Raises
        Refused."""
        job, until_s = _Job(work_fn), time.monotonic() + ANSWER_S
        self._start()
        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            raise Refused(503, f"{MAX_WAITING} questions wait already: ask again in a few seconds"
                          ) from None
        try:
            while not is_gone_fn():
                if time.monotonic() > until_s:
                    raise Refused(503, f"no answer within {ANSWER_S:.0f} s: ask again, or for less")
                try:
                    result = job.results.get(timeout=POLL_S)
                except queue.Empty:
                    continue
                if result is job:
                    return
                if isinstance(result, Exception):
                    raise result
                yield result
        finally:
            job.is_cancelled.set()

    def _start(self) -> None:
        with self._lock:
            if not self._has_thread:
                threading.Thread(target=self._work, daemon=True, name="brain").start()
                self._has_thread = True

    def _work(self) -> None:
        while True:
            job, is_loaded = self._jobs.get(), False
            try:
                if not job.is_cancelled.is_set():
                    loaded, is_loaded = self._load(), True
                    for result in job.work_fn(loaded):
                        job.results.put(result)
                        if job.is_cancelled.is_set():
                            break
                job.results.put(job)
            except Refused as refusal:
                job.results.put(refusal)
            except (SeedError, OSError, MemoryError) as error:
                is_asked = is_loaded and isinstance(error, ConfigError)
                job.results.put(Refused(400 if is_asked else 503, str(error) or "out of memory"))
            except Exception as error:   # of ours: this thread is also that of the others
                self._log(f"a question failed: {type(error).__name__}: {error}")
                job.results.put(Refused(500, "the question failed: see what seed serve printed"))

    def _load(self) -> Loaded:
        """Raises SeedError, OSError."""
        loaded, mark = self._loaded, self._mark()
        if loaded and loaded.mark == mark:
            return loaded
        brain = TrainedBrain.load(self._run_dir, self._threads, self._log, self._tasks)
        if loaded and _shape(loaded.brain) == _shape(brain):
            loaded.brain.model.load_state_dict(brain.params)
            self._loaded = loaded._replace(mark=mark)
        else:
            self._loaded = Loaded(brain, Conversation(
                brain, MAX_ANSWER_BYTES, min_confidence=self.min_confidence), mark)
        return self._loaded

    def _mark(self) -> tuple[int, int, int]:
        try:
            status = self._run_dir.checkpoint.stat()
        except OSError:
            return 0, 0, 0
        return status.st_ino, status.st_mtime_ns, status.st_size


def _shape(brain: TrainedBrain) -> Any:
    """What the compiled model and the known questions depend on."""
    profile = brain.profile
    return (profile.model, profile.curriculum, profile.identity,
            {name: array.shape for name, array in brain.params.items()})
