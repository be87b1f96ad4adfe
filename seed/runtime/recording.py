"""Records what a robot does, as `seed play --record` does, for `seed train --data` and `seed adapt
--data`: a directory with metadata.json and files of JSON lines (docs/episodes.md).

    recorder = Recorder("recorded", metadata)   # Brain.record makes one with its own metadata
    recorder.tick(observation, action)
    recorder.tick(observation, action, reward)  # what followed the action of the tick before
    recorder.end(observation, reward, is_terminal=True)

A thread of its own writes every PERIOD_S, so that no tick waits for the disk: a robot that loses
its power loses at most those seconds. What is not whole is left out by whoever reads it. If the
disk is full or fails, that is logged once, `error` says it, and nothing more is recorded.
"""
import contextlib
import errno
import json
import logging
import math
import os
import re
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np

from .sealed_file import BrainError, name_of, read_regular
from .state_file import make_directory, sync_directory, write_whole

FORMAT, METADATA, MAX_FILES = 1, "metadata.json", 10_000
MAX_METADATA_BYTES = 2 ** 20
MAX_REWARD = 1e6
RATE_TOLERANCE = 0.01           # as in seed/body/tick_rate.py
PERIOD_S = 2.0
EARLY_BYTES, MAX_WAITING_BYTES = 2 ** 18, 2 ** 22   # to write sooner; for a slow disk
CLOSE_S = 30.0                  # that the end of a recording waits for it
NAME = re.compile(r"episodes-(\d+)\.jsonl")
MAX_LENGTH = 2                  # of an episode that does not end, in files: then it is cut
DAY_S, BURSTS_PER_DAY = 86400.0, 24   # of a budget: so many bytes at once
# Errors of the disk, which may come at any time; others are of the directory's name.
DISK_ERRORS = errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS


def step_line(observation: list[float], is_first: bool, action: Any = None, reward: float = 0.0,
              is_terminal: bool = False) -> str:
    """One line of a file of episodes; without an action, of an episode's end."""
    row: dict[str, Any] = {"observation": observation}
    if action is not None:
        row |= {"action": action, "reward": reward}
    return json.dumps(row | {"is_first": is_first, "is_last": action is None,
                             "is_terminal": is_terminal}) + "\n"


def checked_reward(reward: Any) -> float:
    """Raises BrainError."""
    try:
        number = float(reward)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not abs(number) <= MAX_REWARD:
        raise BrainError(f"reward is {reward!r:.60}: give a number within {MAX_REWARD:g}")
    return number


class Recorder:
    """Records what one body sees and does. `metadata`: body, rate_hz, recorded_by, and either codec
    or observation and action, as docs/episodes.md has them. Each Recorder begins a file with the
    first line that it has. Raises BrainError for metadata and arguments that are wrong, for a
    directory that cannot be written or that has another body; but not for what happens to a
    disk."""

    def __init__(self, folder: str | os.PathLike, metadata: dict[str, Any]):
        self.name, metadata = name_of(folder), {"format": FORMAT, **metadata}
        try:
            self._last = _middles(metadata)   # numbers of each channel, for one that is absent
            text = json.dumps(metadata)
        except (KeyError, TypeError, ValueError) as error:
            raise BrainError(f"the metadata of {self.name} is wrong: {error!r:.100}; see "
                             f"docs/episodes.md") from None
        self._pending: tuple[list[float], Any, bool] | None = None   # a tick without its reward
        self._max_file_bytes, self._budget = math.inf, _Budget(math.inf)
        self._log = _Log(self.name, partial(_new_file, Path(self.name)))
        try:
            self._open(text)
        except (OSError, RuntimeError) as error:
            if isinstance(error, OSError) and error.errno not in DISK_ERRORS:
                raise BrainError(f"{self.name}: {error.strerror}; name a directory that can be "
                                 f"written") from None
            self._log.fail(str(getattr(error, "strerror", error)))
        self._close = weakref.finalize(self, self._log.close)   # at the program's end too

    def _open(self, text: str) -> None:
        """Raises OSError, RuntimeError without a thread, and BrainError."""
        path = Path(self.name)
        make_directory(path)
        _check_writable(path)
        if not os.path.lexists(path / METADATA):
            write_whole(path / METADATA, text.encode() + b"\n")
        _check_same(path, json.loads(text))
        self._log.start()

    def limit(self, max_file_bytes: float, bytes_per_day: float) -> None:
        """From now on a file that is full is followed by another one, and what exceeds the budget
        is not recorded: whole episodes, or the rest of one that does not end."""
        self._max_file_bytes, self._budget = max_file_bytes, _Budget(bytes_per_day)

    @property
    def error(self) -> str:
        """Why nothing more is recorded; empty while all is well."""
        return self._log.error

    @property
    def n_bytes(self) -> int:
        """That are in its file."""
        return self._log.file_bytes

    def next_file(self) -> None:
        """What follows is in another file; an episode that has no end yet is cut."""
        self.begin()
        self._log.next_file()

    def begin(self) -> None:
        """An episode begins; one that has no end yet was cut before."""
        if self._pending:
            numbers, _, is_first = self._pending
            if not is_first:   # else nothing was done in it
                self._log.add(step_line(numbers, False))
            self._pending = None

    def tick(self, observation: Any, action: Any, reward: Any = 0.0) -> None:
        """What was seen and then done; `reward`: what followed the action before, if there was one
        in this episode. A number that is not finite is absent: the last one of its channel, or the
        middle of its range, stands for it."""
        try:
            done = np.asarray(action)
            done = done.astype(int) if done.dtype == bool else done
            if not np.isfinite(done).all() or done.dtype.kind not in "iuf":
                raise ValueError
        except (TypeError, ValueError):
            raise BrainError(f"the action {action!r:.60} has something else than numbers") from None
        self.add(self._numbers(observation), done.tolist() if done.ndim == 0
                 else done.ravel().tolist(), checked_reward(reward))

    def add(self, numbers: list[float], action: Any, reward: float) -> None:
        """As `tick`, of what is known to be right: an action that is an integer or a list."""
        if self._has_room():
            self._write_pending(reward)
            self._pending = self._present(numbers), action, self._pending is None

    def _has_room(self) -> bool:
        """Whether this tick may be recorded. Begins another file between two episodes."""
        is_full = self._log.file_bytes > self._max_file_bytes
        is_inside, has_budget = self._pending is not None, self._budget.allows(
            self._pending is not None, self._log.n_bytes)
        if not has_budget or self._log.file_bytes > MAX_LENGTH * self._max_file_bytes:
            self.begin()
            is_inside = False
        if is_full and not is_inside:
            self._log.next_file()
        return has_budget

    def take(self, action: Any) -> None:
        """The body did this in place of the last action: an integer or a list, known to be right.
        """
        if self._pending:
            self._pending = self._pending[0], action, self._pending[2]

    def end(self, observation: Any, reward: Any = 0.0, is_terminal: bool = False) -> None:
        """What is seen at an episode's end, and the reward of its last action; `is_terminal`: the
        body ended it, not the clock."""
        numbers, reward = self._numbers(observation), checked_reward(reward)
        if self._pending:
            self._write_pending(reward)
            self._log.add(step_line(self._present(numbers), False, is_terminal=bool(is_terminal)))
            self._pending = None

    def close(self) -> None:
        """All that was recorded is on the disk when this returns."""
        self.begin()
        self._close()

    def _write_pending(self, reward: float) -> None:
        if self._pending:
            numbers, action, is_first = self._pending
            self._log.add(step_line(numbers, is_first, action, reward))

    def _numbers(self, observation: Any) -> list[float]:
        try:
            numbers: list[float] = np.asarray(observation, np.float64).ravel().tolist()
        except (TypeError, ValueError, OverflowError):
            numbers = []
        if len(numbers) != len(self._last):
            raise BrainError(f"the observation {observation!r:.60} is wrong: give "
                             f"{len(self._last)} numbers")
        return numbers

    def _present(self, numbers: list[float]) -> list[float]:
        if not math.isfinite(sum(numbers)):
            numbers = [number if math.isfinite(number) else last
                       for number, last in zip(numbers, self._last)]
        self._last = numbers
        return numbers


class _Budget:
    """Of bytes, as they come: as many as in a day / BURSTS_PER_DAY at once."""

    def __init__(self, bytes_per_day: float):
        self._per_s, self._most = bytes_per_day / DAY_S, bytes_per_day / BURSTS_PER_DAY
        self._left, self._at_s, self._n_bytes = self._most, time.monotonic(), 0

    def allows(self, is_inside: bool, n_bytes: int) -> bool:
        """Whether there is anything left, or enough to begin; `n_bytes`: in all until now."""
        if self._most == math.inf:
            return True
        now_s = time.monotonic()
        self._left = min(self._most, self._left + self._per_s * (now_s - self._at_s)) - (
            n_bytes - self._n_bytes)
        self._at_s, self._n_bytes = now_s, n_bytes
        return self._left > (0 if is_inside else self._most / 2)


class _Log:
    """Files to which a thread appends, one after the other. Each is made with its first line: so
    files of several writers are in the order of what they have recorded."""

    def __init__(self, name: str, new_file_fn: Callable[[], FileIO]):
        self.name, self.error, self._new_file_fn = name, "", new_file_fn
        self.n_bytes = self.file_bytes = 0     # of all lines until now, and of those of a file
        self._lines: list[str] = []            # "": the next one is in another file
        self._size = 0
        self._file: FileIO | None = None
        self._lock, self._wakes, self._ends = threading.Lock(), threading.Event(), False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Raises RuntimeError."""
        thread = threading.Thread(target=self._run, name="recording", daemon=True)
        thread.start()
        self._thread = thread

    def add(self, line: str) -> None:
        with self._lock:
            if self.error:
                return
            is_first = not self.file_bytes
            self._lines.append(line)
            self._size += len(line)
            self.n_bytes += len(line)
            self.file_bytes += len(line)
        if is_first or self._size > EARLY_BYTES:
            self._wakes.set()
        if self._size > MAX_WAITING_BYTES:
            self.fail("the disk is too slow")

    def next_file(self) -> None:
        """For what is added from now on."""
        with self._lock:
            if self.file_bytes:
                self._lines.append("")
            self.file_bytes = 0

    def fail(self, why: str) -> None:
        with self._lock:
            is_new, self._lines, self._size = not self.error, [], 0
            self.error = self.error or f"{self.name}: {why}; nothing more is recorded"
        if is_new:
            logging.getLogger(__name__).error("%s: call record again when the disk can be written",
                                              self.error)

    def _run(self) -> None:
        is_last = False
        while not is_last and not self.error:
            self._wakes.wait(PERIOD_S)
            self._wakes.clear()
            is_last = self._ends
            with self._lock:
                lines, self._lines, self._size = self._lines, [], 0
            try:
                while "" in lines:
                    at = lines.index("")
                    self._write(lines[:at])
                    self._end_file()
                    lines = lines[at + 1:]
                self._write(lines)
            except (OSError, BrainError) as error:
                self.fail(getattr(error, "strerror", None) or str(error))
        self._end_file()

    def _write(self, lines: Sequence[str]) -> None:
        """Raises OSError, BrainError."""
        if not lines:
            return
        self._file = self._file or self._new_file_fn()
        data = memoryview("".join(lines).encode())
        while data:
            data = data[self._file.write(data):]
        os.fsync(self._file.fileno())

    def _end_file(self) -> None:
        if self._file:
            self._file.close()
            self._file = None

    def close(self) -> None:
        self._ends = True
        self._wakes.set()
        if self._thread and self._thread is not threading.current_thread():
            self._thread.join(CLOSE_S)


def _check_writable(path: Path) -> None:
    """Raises OSError, BrainError if no file can be made there, whatever becomes of the disk."""
    _last_number(path)
    if not os.access(path, os.W_OK | os.X_OK) and not os.statvfs(path).f_flag & os.ST_RDONLY:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def _last_number(path: Path) -> int:
    """Of the files there; -1 without any. Raises OSError, BrainError."""
    numbers = [int(match[1]) for match in map(NAME.fullmatch, os.listdir(path)) if match]
    if len(numbers) >= MAX_FILES:
        raise BrainError(f"{path} has {MAX_FILES:,} files: use another directory")
    return max(numbers, default=-1)


def _new_file(path: Path) -> FileIO:
    """With the next number: files are in the order in which they began. Raises OSError, BrainError.
    """
    number = _last_number(path)
    while True:
        number += 1
        with contextlib.suppress(FileExistsError):
            file = FileIO(path / f"episodes-{number:05}.jsonl", "x")
            sync_directory(path)
            return file


def _middles(metadata: dict[str, Any]) -> list[float]:
    """Of the ranges of all channels, 0 without one. May raise KeyError, TypeError, ValueError."""
    if "codec" in metadata:
        ranges = [(channel["low"], channel["high"]) for channel in metadata["codec"]["channels"]]
    else:
        observation = metadata["observation"]
        ranges = list(zip(observation["low"], observation["high"], strict=True))
    return [0.0 if low is None or high is None else (low + high) / 2 for low, high in ranges]


def _check_same(path: Path, metadata: dict[str, Any]) -> None:
    """Raises BrainError if the directory has episodes of another body or rate."""
    data = read_regular(path / METADATA, "a directory of episodes", 1, lambda start: start == b"{",
                        MAX_METADATA_BYTES, "is no metadata of episodes: use another directory")
    try:
        fields = json.loads(data)
        keys = "format", "body", "codec", "observation", "action"
        rates = [fields.get("rate_hz"), metadata.get("rate_hz")]
        is_same = ([fields.get(key) for key in keys] == [metadata.get(key) for key in keys]
                   and (None in rates or math.isclose(*rates, rel_tol=RATE_TOLERANCE)))
    except (TypeError, ValueError, RecursionError):
        is_same = False
    if not is_same:
        raise BrainError(f"{path} has episodes of another body, with other ranges or at another "
                         f"rate: use another directory")
