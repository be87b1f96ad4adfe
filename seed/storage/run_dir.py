"""A run directory: the one place that names its files, and the generations of its checkpoint.

A save writes a temporary file, syncs it, keeps the last checkpoint as the previous generation,
renames and syncs the directory: at any instant one whole generation is in place.
"""
from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from seed.errors import CheckpointError, CheckpointMissing, ConfigError, RunDirLost
from seed.storage import atomic_file
from seed.storage.lock import Lock, hold

if TYPE_CHECKING:   # signals must be blocked before numpy starts its threads
    import numpy as np
    from seed.storage.checkpoint import Checkpoint

Log = Callable[[str], None]   # takes one line
MAX_VANISHED = 100   # times that a reader meets a save between its two renames


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
    held: Lock | None = field(default=None, compare=False, repr=False)
    status_dir: Path | None = field(default=None, compare=False, repr=False)   # None: `path`

    lock = _File("lock")
    checkpoint = _File("checkpoint.safetensors")
    previous_checkpoint = _File("checkpoint.previous.safetensors")
    damaged_checkpoint = _File("checkpoint.damaged.safetensors")  # unreadable, out of the way
    metrics = _File("metrics.jsonl")
    status = _File("status.json")
    heartbeat = _File("heartbeat")
    selfplay_log = _File("selfplay.jsonl")
    teacher_log = _File("teacher.jsonl")
    soft_targets = _File("soft_targets.safetensors")   # a parent brain's, for distillation

    checkpoint_before_adaptation = _File("checkpoint.pre_adapt.safetensors")   # the last one
    second_undo_level = _File("checkpoint.pre_adapt.2.safetensors")
    third_undo_level = _File("checkpoint.pre_adapt.3.safetensors")
    staged_checkpoint = _File(".checkpoint.staged")   # to be the one before, once it is adapted
    recipe = _File("recipe.json")                     # within `adaptation`
    examples = _File("examples")                      # within it, as they were when it began
    episode_sizes = _File("episodes.json")            # within it: of the files, when it began
    episodes_digest = _File("episodes.blake2b")       # within it: of so many bytes

    checkpoint_before_growth = _File("checkpoint.pre_grow.safetensors")

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
    exported_c = _File("brain.c")

    card = _File("README.md")                    # this and the next: of a brain that was unpacked
    card_config = _File("config.json")
    weights = _File("model.safetensors")
    lineage = _File("lineage.jsonl")             # of where it lived before
    manifest = _File("manifest.json")

    def __str__(self) -> str:
        return str(self.path)

    @property
    def undo_levels(self) -> tuple[Path, ...]:
        """Brains of before adaptations, the newest first (undo_levels.py)."""
        return self.checkpoint_before_adaptation, self.second_undo_level, self.third_undo_level

    def replay(self, digest: str) -> Path:
        """The file of what the brain was taught (replay.py)."""
        return self.path / f"replay.{digest}.jsonl"

    @property
    def trial(self) -> RunDir:
        """The directory of the trial of a size."""
        return RunDir(self.path / "trial")

    @property
    def adaptation(self) -> RunDir:
        """The directory in which an adaptation is trained."""
        return RunDir(self.path / "adapting")

    @contextmanager
    def locked(self) -> Iterator[RunDir]:
        """Holds the directory for one writer, and makes it if it is not there: the same RunDir,
        whose saves check first that it is still held. The kernel drops the lock when its holder
        dies.

        Raises InUse if another process holds it, ConfigError if a directory in it is a link;
        OSError, also if the lock is a link.
        """
        with hold(self.lock) as held:
            for inner in (self.trial.path, self.adaptation.path):
                if inner.is_symlink():
                    raise ConfigError(f"{inner} is a link: remove it, or use another --run-dir")
            atomic_file.remove_abandoned(held.directory)
            yield replace(self, held=held)

    def load_newest(self, log: Log) -> Checkpoint | None:
        """The newest usable generation; None in a fresh directory.

        Logs why a newer one was refused. Raises CheckpointError if all are unusable.
        """
        for _ in range(MAX_VANISHED):
            try:
                return self._load_newest(log)
            except CheckpointMissing:   # a save renamed it between the look and the reading
                continue
        raise CheckpointError(f"{self} changes all the time: try again")

    def _load_newest(self, log: Log) -> Checkpoint | None:
        from seed.storage import checkpoint
        refusal = ""
        for path in (self.checkpoint, self.previous_checkpoint):
            if not path.exists():
                continue
            try:
                newest = checkpoint.read(path)
            except CheckpointMissing:
                raise
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
            atomic_file.move(self.checkpoint, self.damaged_checkpoint)
            log(f"{refusal}; the damaged file is now {self.damaged_checkpoint.name}")
        if newest and not self.checkpoint.exists():
            atomic_file.move(self.previous_checkpoint, self.checkpoint)
        return newest

    def load_brain(self, log: Log, recover: bool = False) -> Checkpoint:
        """Its newest brain. Raises ConfigError."""
        brain = self.recover(log) if recover else self.load_newest(log)
        if brain is None:
            raise ConfigError(f"{self} has no brain: train one with --run-dir {self}")
        return brain.brain()

    def save(self, tensors: dict[str, np.ndarray], meta: dict[str, Any],
             keep_newest: bool = True) -> int:
        """Replaces the newest generation, which becomes the previous one if `keep_newest`;
        returns the bytes written. Raises OSError; then nothing is lost. Raises RunDirLost if
        another process may have the directory, and if it was moved: then after the save.

        The float32 tensors are written from where they are: a save takes no memory of their size.
        """
        if self.held is None:
            directory = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
            try:
                return self._save(directory, tensors, meta, keep_newest)
            finally:
                os.close(directory)
        self.held.check()
        size = self._save(self.held.directory, tensors, meta, keep_newest)
        moved_to = self.held.moved_to()
        if moved_to is not None:
            raise RunDirLost(f"{self} was moved during the run: step {meta['step']} is saved in "
                             f"{moved_to}; resume with that --run-dir")
        return size

    def _save(self, directory: int, tensors: dict[str, np.ndarray], meta: dict[str, Any],
              keep_newest: bool) -> int:
        from seed.storage import checkpoint
        size = 0

        def fill(file: BinaryIO) -> None:
            nonlocal size
            size = checkpoint.write(file.fileno(), tensors, meta)
        atomic_file.replace_in(directory, self.checkpoint.name, fill,
                               self.previous_checkpoint.name if keep_newest else "")
        return size


RUN_FILE_NAMES = frozenset(value.name for value in vars(RunDir).values()
                           if isinstance(value, _File))
RESULT_NAMES = frozenset((   # that a command's result may have
    "report.html", "brain.tflite", "brain.c"))
