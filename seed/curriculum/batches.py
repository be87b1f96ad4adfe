"""Batches of the curriculum, each drawn while the kernels of the step before it run.

A batch is a pure function of what is asked for, so nothing of one that was drawn ahead is saved: a
run that ends in between draws it again.
"""
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import SimpleQueue
from typing import NamedTuple

from seed.curriculum.dataset import Batch, Dataset, Pool
from seed.curriculum.state import CurriculumState
from seed.curriculum.task import Item
from seed.curriculum.user_tasks import UserTask
from seed.errors import SeedError

# A launch of a kernel needs the interpreter, which a thread keeps for so long when another asks for
# it: Python's 5 ms are more than a batch takes.
SWITCH_INTERVAL_S = 1e-4


class Request(NamedTuple):
    """The arguments of `Dataset.batch`."""
    curriculum: CurriculumState
    step: int
    batch_size: int
    seq_len: int
    pools: Sequence[Pool]
    learn_prompt_fn: Callable[[Item], bool]


class Batches:
    """Of one dataset."""

    def __init__(self, dataset: Dataset):
        self._dataset = dataset
        # A call of a user's class is ended from the main thread.
        self._is_threaded = not any(isinstance(task, UserTask) for task in dataset.tasks.values())
        self._requests, self._batches = SimpleQueue[Request | None](), SimpleQueue[Batch | None]()
        self._thread: threading.Thread | None = None
        self._begun: Request | None = None
        self._caller_interval_s = sys.getswitchinterval()

    def begin(self, request: Request) -> None:
        """Draws a batch that probably comes next, in another thread."""
        if not self._is_threaded or self._begun:
            return
        if not self._thread:
            self._thread = threading.Thread(target=self._work, daemon=True, name="batches")
            self._thread.start()
            sys.setswitchinterval(SWITCH_INTERVAL_S)
        self._begun = request
        self._requests.put(request)

    def take(self, request: Request) -> Batch:
        """As `Dataset.batch`, which is called unless just this was begun."""
        begun, self._begun = self._begun, None
        batch = self._batches.get() if begun else None
        return batch if batch and begun == request else self._dataset.batch(*request)

    def close(self) -> None:
        """Ends the thread, if there is one."""
        if self._thread:
            self._requests.put(None)
            self._thread.join()
            sys.setswitchinterval(self._caller_interval_s)
            self._thread = None

    def _work(self) -> None:
        while request := self._requests.get():
            batch = None
            try:
                with suppress(SeedError, MemoryError):   # raised when it is drawn again
                    batch = self._dataset.batch(*request)
            finally:
                self._batches.put(batch)
