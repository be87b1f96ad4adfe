"""What a power cut may leave of the files that a command writes.

A preloaded library records every change below a folder (recorder.c). A disk that was cut off has
all that was synced: a file's data by its own fsync, a name by that of its directory. Of the rest
anything may be there, in any order: names without their data, data without names, zeros, single
blocks of 512 or 4,096 bytes, later changes without earlier ones. A rename alone is whole or absent.
"""
import os
import random
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

NAMES = ("lost", "there", "first ones", "some")      # fates of changes of names that are not synced
DATA = ("lost", "there", "zeros", 512, 4096)         # of data: block sizes are of torn writes
RARE = ("metrics.jsonl", "/trial/", "/lock")         # most of the changes; few states follow them
Tree = dict[str, bytes | None]                       # paths, with None for a directory


class Change(NamedTuple):
    """A record of the library."""
    operation: str
    inode: int
    offset: int
    path: str
    second: str
    data: bytes


class State(NamedTuple):
    """What is on the disk after a power cut."""
    cut: int
    names: str
    data: str | int
    tree: Tree
    told: str   # what was printed or written to the metrics by then

    def __str__(self) -> str:
        return f"cut after change {self.cut}, names {self.names}, data {self.data}"

    def write(self, folder: Path) -> None:
        """Makes the folder as it is after the cut."""
        folder.mkdir(parents=True)
        for path, data in sorted(self.tree.items()):
            if data is None:
                (folder / path).mkdir()
            else:
                (folder / path).write_bytes(data)


@dataclass(eq=False)
class Node:
    """A file or directory: what is on the disk for certain, what the programs see, and writes that
    are not synced, as (offset, data), or (size, None) of a truncation."""
    is_folder: bool
    safe: bytes = b""
    now: bytes = b""
    writes: list[tuple[int, bytes | None]] = field(default_factory=list)
    safe_names: dict[str, "Node"] = field(default_factory=dict)
    names: dict[str, "Node"] = field(default_factory=dict)


Edits = list[tuple[Node, str, Node | None]]   # of names in folders, at once


def _applied(data: bytes, offset: int, new: bytes | None) -> bytes:
    if new is None:
        return data[:offset].ljust(offset, b"\0")
    return data[:offset].ljust(offset, b"\0") + new + data[offset + len(new):]


class Disk:
    """A folder as it is before a command, to which the changes of the command are applied."""

    def __init__(self, root: Path):
        self.root, self.top, self.by_inode = str(root), Node(True), dict[int, Node]()
        self.unsynced: list[Edits] = []   # changes of names
        self.told = ""
        self._load(root, self.top)

    def _load(self, path: Path, node: Node) -> None:
        for child in path.iterdir():
            data = b"" if child.is_dir() else child.read_bytes()
            new = Node(child.is_dir(), data, data)
            node.names[child.name] = node.safe_names[child.name] = new
            self.by_inode[child.stat().st_ino] = new
            if child.is_dir():
                self._load(child, new)

    def find(self, path: str) -> Node | None:
        node: Node | None = self.top
        for name in path.removeprefix(self.root).strip("/").split("/"):
            node = node if not name or node is None else node.names.get(name)
        return node

    def _edit(self, *edits: tuple[str, Node | None]) -> None:
        """Changes names at once: each is a path and what it leads to from now on."""
        change = []
        for path, node in edits:
            folder, _, name = path.rpartition("/")
            parent = self.find(folder)
            assert parent and path.startswith(self.root + "/"), path
            change.append((parent, name, node))
        self.unsynced.append(change)
        _apply(change, lambda folder: folder.names)

    def apply(self, change: Change) -> None:
        operation, inode, offset, path, second, data = change
        if operation == "say":
            self.told += data.decode(errors="replace")
        elif operation in ("create", "mkdir"):
            node = self.by_inode[inode] = Node(operation == "mkdir")
            self._edit((path, node))
        elif operation == "remove":
            self._edit((path, None))
        elif operation in ("rename", "link"):
            node = self.by_inode[inode]
            self._edit(*[(path, None)] * (operation == "rename"), (second, node))
        elif operation == "fsync":
            self._sync(self.top if path == self.root else self.by_inode[inode])
        else:
            node = self.by_inode[inode]
            node.writes.append((offset, data if operation == "write" else None))
            node.now = _applied(node.now, *node.writes[-1])
            if path.endswith("/metrics.jsonl"):
                self.told += data.decode()

    def _sync(self, node: Node) -> None:
        node.safe, node.writes = node.now, []
        if node.is_folder:
            synced = [change for change in self.unsynced if any(p is node for p, _, _ in change)]
            for change in synced:
                _apply(change, lambda folder: folder.safe_names)
            self.unsynced = [change for change in self.unsynced if change not in synced]

    def state(self, cut: int, names: str, data: str | int, dice: random.Random) -> State:
        """One of the states that a power cut may leave now."""
        n = len(self.unsynced)
        count = {"lost": 0, "there": n}.get(names, dice.randint(0, n))
        there = [change for i, change in enumerate(self.unsynced)
                 if (dice.random() < 0.5 if names == "some" else i < count)]
        folders: dict[int, dict[str, Node]] = {}
        for change in there:   # to copies
            _apply(change, lambda folder: folders.setdefault(
                id(folder), dict(folder.safe_names)))
        tree: Tree = {}

        def walk(folder: Node, path: str) -> None:
            for name, node in sorted(folders.get(id(folder), folder.safe_names).items()):
                tree[path + name] = None if node.is_folder else _remains(node, data, dice)
                if node.is_folder:
                    walk(node, f"{path}{name}/")
        walk(self.top, "")
        return State(cut, names, data, tree, self.told)


def _apply(change: Edits, names_fn: Callable[[Node], dict[str, Node]]) -> None:
    for folder, name, node in change:
        if node is None:
            names_fn(folder).pop(name, None)
        else:
            names_fn(folder)[name] = node


def _remains(node: Node, fate: str | int, dice: random.Random) -> bytes:
    """What is left of a file's data."""
    if fate in ("lost", "there"):
        return node.safe if fate == "lost" else node.now
    data = node.safe
    for offset, new in node.writes:
        if fate == "zeros":
            data = _applied(data, offset, None if new is None else bytes(len(new)))
        elif (kind := dice.choice(("lost", "there", "torn"))) == "there" or (
                kind == "torn" and new is None and dice.random() < 0.5):
            data = _applied(data, offset, new)
        elif kind == "torn" and new is not None:
            for start, end in _blocks(offset, offset + len(new), int(fate)):
                if dice.random() < 0.5:
                    data = _applied(data, start, new[start - offset:end - offset])
    return data


def _blocks(start: int, end: int, size: int) -> Iterator[tuple[int, int]]:
    """The pieces of a range that are within one block each."""
    while start < end:
        stop = min(end, start - start % size + size)
        yield start, stop
        start = stop


def record(command: Sequence[str], root: Path, library: Path, log: Path, **popen: Any
           ) -> tuple[Disk, list[Change], int]:
    """Runs a command. Returns the disk as it was before, what changed, and the exit code."""
    root = root.resolve()
    disk = Disk(root)
    log.write_bytes(b"")
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={
        **os.environ, "LD_PRELOAD": str(library), "RECORD_DIR": str(root),
        "RECORD_LOG": str(log)}, **popen)
    return disk, list(read_log(log)), done.returncode


def read_log(path: Path) -> Iterator[Change]:
    with open(path, "rb") as file:
        while line := file.readline():
            name, inode, offset, size, first, second = line.decode()[:-1].split("\t")
            yield Change(name, int(inode), int(offset), first, second, file.read(int(size)))


def states(disk: Disk, changes: Sequence[Change], count: int, seed: int) -> list[State]:
    """So many different states, also those of a cut after the very end. The disk changes."""
    dice, drawn = random.Random(seed), dict[tuple, State]()
    weights = [0 if change.operation == "say" else
               1 if any(part in change.path for part in RARE) else 8 for change in changes]
    cuts = Counter(dice.choices(range(len(changes)), weights, k=8 * count))
    for cut, change in enumerate(changes):
        disk.apply(change)
        for _ in range(cuts[cut]):
            _add(drawn, disk.state(cut + 1, dice.choice(NAMES), dice.choice(DATA), dice))
    ends = [disk.state(len(changes), names, "lost", dice) for names in ("lost", "there")]
    others = [state for state in drawn.values() if state not in ends]
    chosen = [*ends, *dice.sample(others, min(len(others), count - len(ends)))]
    return sorted(chosen, key=lambda state: state.cut)


def _add(drawn: dict[tuple, State], state: State) -> None:
    drawn.setdefault((state.told, *sorted(state.tree.items(), key=lambda item: item[0])), state)
