"""The brains of a robot's live directory, which of them acts, and the journal of why.

    brains/<name>/         checkpoint.safetensors and brain.tflite; <name>: of the file's checksum
    promoted.json          the brain that acts, replaced as a whole: no promotion is half done
    roll_back.json         what takes its place when that brain fails: a rename, for which a full
                           disk has room
    base.safetensors       the checkpoint of the run directory that was judged or acted last
    lineage.jsonl          a line for each decision: what was decided, of which brain, from which
                           parent and data, by which figures, and why

A promotion's line comes before its pointer, a roll back's after it: whatever is cut off, the brain
that acts is one that may.
"""
import filecmp
import json
import re
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from seed.errors import ConfigError
from seed.evaluation.figure import Figure
from seed.regular_file import read_json
from seed.runtime.sealed_file import BrainError, describe, read
from seed.storage import RunDir, atomic_file, replay
from seed.storage.jsonl_log import JsonlLog

NAME_DIGITS = 16          # of a brain's name
KEPT = 3                  # newest brains, beside the one that acts and its parent
FIRST, PROMOTED, CONFIRMED, REFUSED, ROLLED_BACK, CUT = (
    "first", "promoted", "confirmed", "refused", "rolled back", "not done")
ACTS = FIRST, PROMOTED, ROLLED_BACK   # after which another brain acts
NAME = re.compile(f"[0-9a-f]{{{NAME_DIGITS}}}")
POINTER, BEFORE = "promoted.json", "roll_back.json"


class Decision(NamedTuple):
    """A line of the lineage. `figures`: rows of Figure, as dicts; `bounds`: those of a
    promoted brain (watch.Bounds), as a dict; `loop`: which has made the brain, mid or slow, or
    "base" if it was trained in the run directory; `plane`: what became of what the mid loop had
    learnt before (plane.py)."""
    decision: str
    brain: str
    parent: str = ""
    generation: int = 0
    data: str = ""            # digest of the episodes
    reason: str = ""
    figures: tuple[dict[str, Any], ...] = ()
    bounds: dict[str, Any] = {}
    time: str = ""            # UTC
    loop: str = ""
    plane: str = ""

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "Decision":
        """Of a line. Raises ValueError, TypeError, AttributeError."""
        decision = cls(**fields)
        if type(decision.generation) is not int or type(decision.bounds) is not dict or any(
                type(value) is not str for name, value in zip(cls._fields, decision)
                if name not in ("generation", "figures", "bounds")):
            raise ValueError
        return decision._replace(figures=tuple(
            Figure.checked(figure)._asdict() for figure in decision.figures))


class Promoted(NamedTuple):
    """`parent`: the brain that acted before, to which a failing one is rolled back."""
    brain: str
    generation: int
    parent: str = ""


def live_dir_of(run_dir: RunDir) -> Path:
    """Raises ConfigError if nothing has lived there."""
    live_dir = run_dir.path / "live"
    if not live_dir.is_dir():
        raise ConfigError(f"{run_dir} has no brain that lives: start one with seed live")
    return live_dir


def read_lineage(live_dir: Path) -> JsonlLog[Decision]:
    """Raises OSError, ConfigError."""
    return JsonlLog(live_dir / "lineage.jsonl", Decision.from_dict, is_independent=True)


class Brains:
    """Of one live directory. One process writes, which calls `settle` first; others may read."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time):
        """Raises OSError, ConfigError if its files cannot be used."""
        atomic_file.make_directory(path / "brains")
        self.path, self._clock = path, clock
        self.lineage = read_lineage(path)
        self.promoted = self._read_promoted()
        self._unwritten = list[Decision]()   # lines that are to be written, in order
        self._is_pointed = True              # the pointer on the disk says what `promoted` does

    def run_dir(self, name: str) -> RunDir:
        return RunDir(self.path / "brains" / name)

    def file(self, name: str) -> Path:
        return self.run_dir(name).exported_brain

    def _read_promoted(self) -> Promoted | None:
        path = self.path / POINTER
        if not path.exists():
            return None
        try:
            promoted = Promoted(**read_json(path))
            if not NAME.fullmatch(promoted.brain) or type(promoted.generation) is not int \
                    or promoted.parent and not NAME.fullmatch(promoted.parent):
                raise ValueError("it names no brain")
            if not self.file(promoted.brain).is_file():
                raise ValueError("its brain is not there")
        except (OSError, TypeError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ConfigError(f"{path} is damaged: {reason}; remove it to begin with the run "
                              f"directory's brain") from None
        return promoted

    def settle(self) -> None:
        """Tells a decision of an earlier process that was cut off: a promotion whose pointer was
        not written is not done, a roll back without its line is. A brain whose file is damaged is
        rolled back. Raises OSError; then `flush` is due; ConfigError if it cannot be."""
        rows = [row for row in self.lineage.rows if row.decision in (*ACTS, CUT)]
        now = self.promoted or Promoted("", 0)
        if rows and rows[-1].generation < now.generation:
            is_back = (rows[-1].parent, rows[-1].brain) == (now.brain, now.parent)
            self._queue(Decision(
                ROLLED_BACK if is_back else PROMOTED, now.brain, now.parent, now.generation,
                reason="the line that told why is lost"))
        elif rows and rows[-1].generation > now.generation:
            last = rows[-1]
            self._queue(Decision(CUT, last.brain, last.parent, now.generation,
                                 reason=f"stopped before it was {last.decision}"))
        self._leave_damaged()
        self.flush()

    def _leave_damaged(self) -> None:
        """Raises ConfigError if the parent is damaged too: else each start would exchange them."""
        now = self.promoted
        reason = self._damage(now.brain) if now and now.parent else ""
        if not now or not reason:
            return
        if damage := self._damage(now.parent):
            raise ConfigError(f"{reason}, and so is the brain before it: {damage}; remove "
                              f"{self.path / POINTER} to begin with the run directory's brain")
        self.roll_back(reason)

    def _damage(self, name: str) -> str:
        """Why its file cannot be used; empty if it can be."""
        try:
            describe(read(self.file(name)), name)
        except BrainError as error:
            return str(error)
        return ""

    @property
    def base(self) -> Path:
        return self.path / "base.safetensors"

    def is_renewed(self, run_dir: RunDir) -> bool:
        """Whether its checkpoint is another than the base. Raises OSError."""
        return (self.base.exists() and run_dir.checkpoint.exists()
                and not filecmp.cmp(self.base, run_dir.checkpoint, shallow=False))

    def rest_on(self, checkpoint: Path) -> None:
        """That is the base from now on. Raises OSError."""
        atomic_file.copy(checkpoint, self.base)

    @property
    def unconfirmed(self) -> Decision | None:
        """The promotion of the brain that acts, if it was still watched."""
        rows = [row for row in self.lineage.rows if row.decision in (*ACTS, CONFIRMED)]
        last = rows[-1] if rows else None
        is_watched = last and self.promoted and (
            last.decision, last.generation) == (PROMOTED, self.promoted.generation)
        return last if is_watched else None

    @property
    def is_written(self) -> bool:
        """Whether all that was decided is on the disk; else `flush` is due."""
        return self._is_pointed and not self._unwritten

    def tell(self, decision: Decision) -> None:
        """Adds a line. Raises OSError if it cannot be written yet; `flush` tries again."""
        self._queue(decision)
        self.flush()

    def flush(self) -> None:
        """Writes what a full disk had no room for. Raises OSError."""
        if not self._is_pointed:
            self._point_back()
        while self._unwritten:
            self._write(self._unwritten[0])
            del self._unwritten[0]

    def _stamped(self, decision: Decision) -> Decision:
        return decision._replace(time=time.strftime("%Y-%m-%dT%H:%M:%SZ",
                                                    time.gmtime(self._clock())))

    def _queue(self, decision: Decision) -> None:
        self._unwritten.append(self._stamped(decision))

    def _write(self, decision: Decision) -> None:
        """Raises OSError; then there is no such line."""
        if not self.lineage.append([decision], [decision._asdict()]):
            raise OSError(f"{self.lineage.path} cannot be written")

    def _point(self, name: str, promoted: Promoted) -> None:
        """Raises OSError."""
        atomic_file.write(self.path / name, json.dumps(promoted._asdict()).encode())

    def _point_back(self) -> None:
        """Raises OSError."""
        assert self.promoted
        try:
            if Promoted(**read_json(self.path / BEFORE)) != self.promoted:
                raise ValueError
            atomic_file.move(self.path / BEFORE, self.path / POINTER)
        except (OSError, TypeError, ValueError):
            self._point(POINTER, self.promoted)
        self._is_pointed = True

    def add(self, source: RunDir) -> str:
        """Copies the checkpoint and the exported file of a run directory; the name that they have
        here. Raises OSError, BrainError."""
        file = source.exported_brain
        name = str(describe(read(file), file.name)["blake2b"])[:NAME_DIGITS]
        target = self.run_dir(name)
        atomic_file.make_directory(target.path)
        replay.copy(source, source.checkpoint, target)
        atomic_file.copy(source.checkpoint, target.checkpoint)
        atomic_file.copy(file, target.exported_brain)
        return name

    def promote(self, name: str, decision: str = PROMOTED, **fields: Any) -> Promoted:
        """From now on this brain acts: a first one, or one that was learnt. Raises OSError; then
        the one before acts on."""
        self.flush()
        before, generation = self.promoted, self.promoted.generation if self.promoted else 0
        now = Promoted(name, generation + 1, before.brain if before else "")
        if before:
            self._point(BEFORE, Promoted(before.brain, generation + 2, name))
        self._write(self._stamped(Decision(decision, name, now.parent, now.generation, **fields)))
        try:
            self._point(POINTER, now)
        except OSError as error:
            self._is_pointed = not before   # a rename may be there, which is not known to last
            self._queue(Decision(CUT, name, now.parent, generation, reason=str(error.strerror)))
            raise
        self.promoted = now
        self.remove_old()
        return now

    def roll_back(self, reason: str) -> Promoted:
        """The parent acts again. Raises ConfigError if there is none. OSError if that is not on the
        disk yet: it is decided nevertheless, and `flush` tries again."""
        now = self.promoted
        if not now or not now.parent:
            raise ConfigError("no brain has acted before this one: nothing to roll back to")
        self.promoted = Promoted(now.parent, now.generation + 1, now.brain)
        self._is_pointed = False
        self.tell(Decision(ROLLED_BACK, now.parent, now.brain, now.generation + 1, reason=reason))
        return self.promoted

    def remove_old(self) -> None:
        """All but the newest few, the one that acts and its parent; others if they can be."""
        now = self.promoted or Promoted("", 0)
        with suppress(OSError):
            folders = sorted((self.path / "brains").iterdir(),
                             key=lambda path: path.stat().st_mtime_ns)
            for folder in folders[:-KEPT]:
                if folder.name not in (now.brain, now.parent):
                    shutil.rmtree(folder, ignore_errors=True)
