"""A run directory: the one place that names its files, and the generations of its checkpoint.

A save writes a temporary file, syncs it, keeps the last checkpoint as the previous generation,
renames and syncs the directory: at any instant one whole generation is in place.
"""
from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seed.errors import CheckpointError, ConfigError

if TYPE_CHECKING:   # signals must be blocked before numpy starts its threads
    import numpy as np
    from seed.storage.checkpoint import Checkpoint

Log = Callable[[str], None]   # takes one line


class _File:
    """A path of that name within the run directory."""

    def __init__(self, name: str):
        self.name = name

    def __get__(self, run_dir: RunDir, owner: type) -> Path:
        return run_dir.path / self.name


@dataclass(frozen=True)
class RunDir:
    """The directory of one brain: its checkpoints, metrics and all else that a run writes."""
    path: Path

    lock = _File("lock")
    checkpoint = _File("checkpoint.safetensors")
    previous_checkpoint = _File("checkpoint.previous.safetensors")
    partial_checkpoint = _File(".checkpoint.partial")             # while it is written
    damaged_checkpoint = _File("checkpoint.damaged.safetensors")  # unreadable, out of the way
    metrics = _File("metrics.jsonl")
    selfplay_log = _File("selfplay.jsonl")
    teacher_log = _File("teacher.jsonl")
    soft_targets = _File("soft_targets.safetensors")   # a parent brain's, for distillation

    checkpoint_before_adaptation = _File("checkpoint.pre_adapt.safetensors")
    staged_checkpoint = _File(".checkpoint.staged")   # to be the one before, once it is adapted
    recipe = _File("recipe.json")                     # within `adaptation`

    trial_log = _File("scale.jsonl")
    attempt_log = _File("attempts.jsonl")          # the size being tried, should the board crash
    ladder = _File("ladder.json")                # every size tried, for a report
    limit_profile = _File("limit.toml")          # the largest stable size
    trial_profile = _File("profile.toml")        # within `trial`
    trial_errors = _File("errors")               # standard error of its child, within `trial`
    search_seconds = _File("searched_s.json")    # spent by all processes of a growth
    grown_profile = _File("brain.toml")          # the brain's, when its growth has ended
    report = _File("report.html")
    exported_brain = _File("brain.tflite")

    def __str__(self) -> str:
        return str(self.path)

    @property
    def trial(self) -> RunDir:
        """The directory of the trial of a size."""
        return RunDir(self.path / "trial")

    @property
    def adaptation(self) -> RunDir:
        """The directory in which an adaptation is trained."""
        return RunDir(self.path / "adapting")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the directory for one writer, and makes it if it is not there. The kernel drops the
        lock when its holder dies.

        Raises ConfigError if another process holds it; OSError, also if the lock is a link.
        """
        self.path.mkdir(parents=True, exist_ok=True)

        def opener(name: str, flags: int) -> int:
            return os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)
        os.close(opener(str(self.lock), os.O_RDONLY | os.O_CREAT))
        # Not held open for writing: that would keep a file system from being remounted read-only.
        with open(self.lock, encoding="utf-8", opener=opener) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = file.read().strip() or "unknown"
                raise ConfigError(f"{self} is in use by process {holder}: stop it, or use another "
                                  f"--run-dir") from None
            with open(self.lock, "w", encoding="utf-8", opener=opener) as writable:
                writable.write(f"{os.getpid()}\n")
            yield

    def load_newest(self, log: Log) -> Checkpoint | None:
        """The newest usable generation; None in a fresh directory.

        Logs why a newer one was refused. Raises CheckpointError if all are unusable.
        """
        from seed.storage import checkpoint
        refusal = ""
        for path in (self.checkpoint, self.previous_checkpoint):
            if not path.exists():
                continue
            try:
                newest = checkpoint.read(path)
            except CheckpointError as error:
                refusal = refusal or str(error)
                continue
            if refusal:
                log(f"{refusal}; using {path.name}")
            return newest
        if refusal:
            raise CheckpointError(f"{refusal}; no other generation is left: use another --run-dir")
        return None

    def recover(self, log: Log) -> Checkpoint | None:
        """As load_newest, for a caller that is going to save: the generation that is read becomes
        the newest, and a newer one that was refused is moved out of the way. Otherwise the next
        save would replace the good one by it. Raises OSError too."""
        refusals: list[str] = []
        newest = self.load_newest(refusals.append)
        for refusal in refusals:   # one at most
            os.replace(self.checkpoint, self.damaged_checkpoint)
            log(f"{refusal}; the damaged file is now {self.damaged_checkpoint.name}")
        if newest and not self.checkpoint.exists():
            os.replace(self.previous_checkpoint, self.checkpoint)
        return newest

    def load_brain(self, log: Log, recover: bool = False) -> Checkpoint:
        """As load_newest, or `recover`; raises ConfigError if there is no brain."""
        brain = self.recover(log) if recover else self.load_newest(log)
        if brain is None:
            raise ConfigError(f"{self} has no brain: train one with --run-dir {self}")
        return brain

    def save(self, tensors: dict[str, np.ndarray], meta: dict[str, Any],
             keep_newest: bool = True) -> int:
        """Replaces the newest generation, which becomes the previous one if `keep_newest`;
        returns the bytes written. Raises OSError; then nothing is lost.

        The float32 tensors are written from where they are: a save takes no memory of their size.
        """
        from seed.storage import checkpoint
        partial = self.partial_checkpoint
        partial.unlink(missing_ok=True)   # what a killed save has left; a link, not its target
        try:
            with open(partial, "xb", buffering=0) as file:
                size = checkpoint.write(file.fileno(), tensors, meta)
                os.fsync(file.fileno())
            if keep_newest and self.checkpoint.exists():
                os.replace(self.checkpoint, self.previous_checkpoint)
            os.replace(partial, self.checkpoint)
        except OSError:
            partial.unlink(missing_ok=True)
            raise
        directory = os.open(self.path, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
        return size
