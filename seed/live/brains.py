"""The brains of a robot's live directory, which of them acts, and the journal of why.

    brains/<name>/         checkpoint.safetensors and brain.tflite; <name>: of the file's checksum
    promoted.json          the brain that acts, replaced as a whole: no promotion is half done
    lineage.jsonl          a line for each decision: what was decided, of which brain, from which
                           parent and data, by which figures, and why
"""
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from seed.errors import ConfigError
from seed.regular_file import read_json
from seed.runtime.sealed_file import describe, read
from seed.storage import RunDir, atomic_file
from seed.storage.jsonl_log import JsonlLog

NAME_DIGITS = 16          # of a brain's name
KEPT = 3                  # newest brains, beside the one that acts and its parent
FIRST, PROMOTED, CONFIRMED, REFUSED, ROLLED_BACK, CUT = (
    "first", "promoted", "confirmed", "refused", "rolled back", "not done")
ACTS = FIRST, PROMOTED, ROLLED_BACK   # after which another brain acts


class Decision(NamedTuple):
    """A line of the lineage. `figures`: rows of gate.Figure, as dicts."""
    decision: str
    brain: str
    parent: str = ""
    generation: int = 0
    data: str = ""            # digest of the episodes
    reason: str = ""
    figures: tuple[dict[str, Any], ...] = ()
    time: str = ""            # UTC

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "Decision":
        decision = cls(**fields)
        if not isinstance(decision.decision, str) or type(decision.generation) is not int:
            raise ValueError
        return decision._replace(figures=tuple(decision.figures))


class Promoted(NamedTuple):
    """`parent`: the brain that acted before, to which a failing one is rolled back."""
    brain: str
    generation: int
    parent: str = ""


class Brains:
    """Of one live directory, for one writer."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time):
        """Raises OSError, ConfigError if its files cannot be used."""
        atomic_file.make_directory(path / "brains")
        self.path, self._clock = path, clock
        self.lineage = JsonlLog(path / "lineage.jsonl", Decision.from_dict)
        self.promoted = self._read_promoted()
        self._settle()

    def run_dir(self, name: str) -> RunDir:
        return RunDir(self.path / "brains" / name)

    def file(self, name: str) -> Path:
        return self.run_dir(name).exported_brain

    def _read_promoted(self) -> Promoted | None:
        path = self.path / "promoted.json"
        if not path.exists():
            return None
        try:
            promoted = Promoted(**read_json(path))
            if type(promoted.generation) is not int or not self.file(promoted.brain).is_file():
                raise ValueError("its brain is not there")
        except (OSError, TypeError, ValueError) as error:
            raise ConfigError(f"{path} is damaged: {error}; remove it to begin with the run "
                              f"directory's brain") from None
        return promoted

    def _settle(self) -> None:
        """A decision that was written and then not carried out, as power was cut, is told."""
        rows = [row for row in self.lineage.rows if row.decision in (*ACTS, CUT)]
        generation = self.promoted.generation if self.promoted else 0
        if rows and rows[-1].generation > generation:
            last = rows[-1]
            self.tell(Decision(CUT, last.brain, last.parent, generation,
                               reason=f"stopped before it was {last.decision}"))

    def tell(self, decision: Decision) -> None:
        """Adds a line. Raises OSError if it cannot be written: then nothing has been decided."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._clock()))
        row = decision._replace(time=stamp)
        if not self.lineage.append([row], [row._asdict()]):
            raise OSError(f"{self.lineage.path} cannot be written")

    def add(self, source: RunDir) -> str:
        """Copies the checkpoint and the exported file of a run directory; the name that they have
        here. Raises OSError, BrainError."""
        file = source.exported_brain
        name = str(describe(read(file), file.name)["blake2b"])[:NAME_DIGITS]
        target = self.run_dir(name)
        atomic_file.make_directory(target.path)
        atomic_file.copy(source.checkpoint, target.checkpoint)
        atomic_file.copy(file, target.exported_brain)
        return name

    def promote(self, name: str, decision: str = PROMOTED, **fields: Any) -> Promoted:
        """From now on this brain acts; a first one, one that was learnt, or again the one before.
        Raises OSError; then the one before acts on."""
        before = self.promoted
        now = Promoted(name, before.generation + 1 if before else 1, before.brain if before else "")
        self.tell(Decision(decision, name, now.parent, now.generation, **fields))
        atomic_file.write(self.path / "promoted.json", json.dumps(now._asdict()).encode())
        self.promoted = now
        self._remove_old()
        return now

    def roll_back(self, reason: str) -> Promoted:
        """The parent acts again. Raises ConfigError if there is none, OSError."""
        if not self.promoted or not self.promoted.parent:
            raise ConfigError("no brain has acted before this one: nothing to roll back to")
        return self.promote(self.promoted.parent, ROLLED_BACK, reason=reason)

    def _remove_old(self) -> None:
        """All but the newest few, the one that acts and its parent."""
        assert self.promoted
        folders = sorted((self.path / "brains").iterdir(), key=lambda path: path.stat().st_mtime_ns)
        for folder in folders[:-KEPT]:
            if folder.name not in (self.promoted.brain, self.promoted.parent):
                shutil.rmtree(folder, ignore_errors=True)
