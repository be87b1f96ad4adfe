"""What a brain was taught from recorded examples, which its later trainings replay.

The examples of all its rules are one file beside the checkpoint, whose metadata has its hash. It is
written before the checkpoint that names it, is never changed, and is removed when no checkpoint of
the directory names it: so an undo takes the examples away again, and no power cut parts the two.
"""
import hashlib
import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from seed.curriculum.corpus import Corpus
from seed.curriculum.dataset import Pool
from seed.curriculum.task import Item
from seed.curriculum.user_class_worker import InvalidClass
from seed.curriculum.user_items import from_json, to_json
from seed.errors import CheckpointError, UserTaskError, printable
from seed.regular_file import parse_json, read_bytes
from seed.storage import atomic_file, checkpoint
from seed.storage.run_dir import Log, RunDir

KEY = "replay"          # in a checkpoint's metadata
HASH, FILE_NAME = re.compile("[0-9a-f]{32}"), re.compile(r"replay\.([0-9a-f]{32})\.jsonl")
MAX_RULES = 16          # the newest
MAX_EXAMPLES = 1000     # of each
MAX_FILE_BYTES = 64 * 2 ** 20
DATA_FRACTION = 0.2     # of a batch, for all rules together
LABEL = " (taught before)"

Rules = Mapping[str, Sequence[Item]]   # examples by the name of the file that they came from


class Replay(NamedTuple):
    """The rules in the order in which they were taught; `digest`: of the file, if a checkpoint has
    to name it."""
    rules: Rules = {}
    digest: str = ""

    @classmethod
    def read(cls, run_dir: RunDir, meta: Mapping[str, Any], log: Log) -> "Replay":
        """What a checkpoint names. Logs why a file cannot be used; then nothing is replayed."""
        digest = meta.get(KEY, "")
        if not digest:
            return cls()
        if type(digest) is not str or not HASH.fullmatch(digest):
            log(f"examples of earlier adaptations are not replayed: "
                f"{printable(str(digest))[:40]} is no hash")
            return cls()
        path = run_dir.replay(digest)
        try:
            data = read_bytes(path, MAX_FILE_BYTES)
            if _digest(data) != digest:
                raise ValueError("it has other bytes than the brain was taught")
            return cls(_parsed(data), digest)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else printable(str(error))
            log(f"examples of earlier adaptations are not replayed: {path}: {reason}; restore it")
            return cls({}, digest)

    def to_meta(self) -> dict[str, str]:
        """For a checkpoint's metadata."""
        return {KEY: self.digest} if self.digest else {}

    def tasks(self) -> list[Corpus]:
        """Of the rules with examples enough for a holdout."""
        tasks = []
        for name, items in self.rules.items():
            label = name + LABEL
            try:
                tasks.append(Corpus(label, items=[item._replace(task=label) for item in items]))
            except UserTaskError:   # most of its prompts have been taught anew
                continue
        return tasks

    def pools(self) -> list[Pool]:
        """Training items, as many of each rule."""
        tasks = self.tasks()
        return [Pool(DATA_FRACTION / len(tasks), [item for item in task.items
                                                  if task.belongs(item, holdout=False)])
                for task in tasks]


def _parsed(data: bytes) -> dict[str, list[Item]]:
    """Raises ValueError."""
    rules: dict[str, list[Item]] = {}
    for line in data.splitlines():
        row = parse_json(line)
        try:
            item = Item(printable(row["rule"]), 1, *from_json(row),
                        is_fact=row.get("holdout") is False)
        except (TypeError, KeyError, InvalidClass):
            raise ValueError("a line is no example") from None
        rules.setdefault(item.task, []).append(item)
    return rules


def write(run_dir: RunDir, rules: Rules) -> str:
    """The hash, which is to be in the checkpoint's metadata. Raises OSError."""
    data = b"".join(json.dumps({
        "rule": name, **to_json(*item[2:6]), **({"holdout": False} if item.is_fact else {})
        }).encode() + b"\n" for name, items in rules.items() for item in items)
    digest = _digest(data)
    atomic_file.write(run_dir.replay(digest), data)
    return digest


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def without(rules: Rules, prompts: Collection[bytes]) -> Rules:
    """A prompt that is taught anew is no example of what was taught before."""
    rest = {name: [item for item in items if item.prompt not in prompts]
            for name, items in rules.items()}
    return {name: items for name, items in rest.items() if items}


def with_rule(rules: Rules, name: str, items: Iterable[Item]) -> Rules:
    """With the newest one. Of many examples some are chosen, evenly."""
    items = list(dict.fromkeys(item._replace(level=1) for item in items))
    rest = dict(without(rules, {item.prompt for item in items}))
    items = [*rest.pop(name, ()), *items]
    n = min(len(items), MAX_EXAMPLES)
    chosen = [items[i * len(items) // n] for i in range(n)]
    return dict([*rest.items(), *([(name, chosen)] if chosen else [])][-MAX_RULES:])


def copy(source: RunDir, path: Path, target: RunDir) -> None:
    """The file that a checkpoint of `source` names, if it is there; before the checkpoint is copied
    to `target`. One that cannot be read names none. Raises OSError."""
    try:
        digest = checkpoint.read_meta(path).get(KEY, "")
    except CheckpointError:
        return
    if type(digest) is str and HASH.fullmatch(digest) and source.replay(digest).exists():
        atomic_file.copy(source.replay(digest), target.replay(digest), MAX_FILE_BYTES)


def remove_unnamed(run_dir: RunDir) -> None:
    """Removes the files that no checkpoint names; none if one cannot be read. Raises OSError."""
    named = set()
    for path in (run_dir.checkpoint, run_dir.previous_checkpoint, run_dir.staged_checkpoint,
                 run_dir.checkpoint_before_growth, *run_dir.undo_levels):
        if path.exists():
            try:
                named.add(str(checkpoint.read_meta(path).get(KEY)))
            except CheckpointError:
                return
    for path in run_dir.path.iterdir():
        match = FILE_NAME.fullmatch(path.name)
        if match and match[1] not in named:
            atomic_file.remove(path)
