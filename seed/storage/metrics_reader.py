"""What can be read of a metrics file, in bounded memory, whatever it contains.

A line that is torn, too long, not JSON or not of its kind's form is skipped.
"""
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from seed.regular_file import open_regular, parse_json, reader
from seed.storage import atomic_file, lines

MAX_ROWS_BYTES = 32 * 2 ** 20   # of the lines of one kind that are in memory together
MAX_RUN_S = 1e9
MAX_REWRITTEN_BYTES = 4 * 2 ** 20


def is_number(value: Any) -> bool:
    return type(value) in (int, float)


def _has_fields(**kinds: type) -> Callable[[dict[str, Any]], bool]:
    return lambda row: all(type(row[key]) is kind for key, kind in kinds.items())


def _is_curriculum(row: dict[str, Any]) -> bool:
    return type(row.get("unlocked", 0)) is int and all(map(
        _has_fields(prompt=str, answer=str, right=str), row.get("answers", []))) and all(
        isinstance(levels, list) and levels and all(map(is_number, levels))
        for levels in row["accuracy"].values())


def _is_growth(row: dict[str, Any]) -> bool:
    return len(row["parameters"]) == 2 and all(
        type(n) is int for n in (*row["parameters"], *row.get("size", ())))


def _is_fraction(value: Any) -> bool:
    return is_number(value) and 0 <= value <= 1


def _is_time(value: Any) -> bool:
    """Of a run, in seconds; None is not known."""
    return value is None or is_number(value) and 0 <= value < MAX_RUN_S


def _is_score(score: dict[str, Any]) -> bool:
    return (_has_fields(task=str, level=int, correct=int, count=int)(score)
            and 0 <= score["correct"] <= score["count"] and score["count"] > 0
            and _is_fraction(score["chance"]))


def _is_return(row: dict[str, Any]) -> bool:
    return (_has_fields(body=str, episodes=int)(row)
            and all(is_number(row[key]) for key in ("mean", "half_interval", "least"))
            and (row["success"] is None or _is_fraction(row["success"])))


def _is_choice(row: dict[str, Any]) -> bool:
    return _has_fields(body=str, data=str, ticks=int)(row) and _is_fraction(row["accuracy"])


def _is_evaluation(row: dict[str, Any]) -> bool:
    return (all(map(_is_score, row["scores"])) and all(map(_is_score, row.get("uniform", [])))
            and all(map(_is_return, row.get("returns", [])))
            and all(map(_is_choice, row.get("choices", [])))
            and all(map(_has_fields(task=str, prompt=str, answer=str, right=str),
                        row.get("examples", [])))
            and isinstance(row.get("board", ""), str) and _is_time(row.get("elapsed_s")))


def _is_round(row: dict[str, Any]) -> bool:
    return _has_fields(body=str, round=int)(row) and (
        row["mean_return"] is None or is_number(row["mean_return"]))


# What the readers of a kind depend on.
IS_VALID: dict[str, Callable[[dict[str, Any]], bool]] = {
    "step": lambda row: is_number(row["loss"]),
    "curriculum": _is_curriculum, "grow": _is_growth, "body": _is_round, "eval": _is_evaluation,
    "selfplay": lambda row: _has_fields(task=str, level=int)(row) and is_number(
        row["accept_rate"]),
    "teacher": lambda row: all(type(n) is int and n >= 0 for n in row["replies"].values()),
    "governor": _has_fields(action=str, reason=str)}


def parse_row(line: bytes) -> dict[str, Any] | None:
    """A line's object; None unless it has a kind, a step and all that its kind needs."""
    try:
        row = parse_json(line)
        kind, step = row["kind"], row["step"]
        valid = type(kind) is str and type(step) is int and step >= 0 and (
            kind not in IS_VALID or IS_VALID[kind](row))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return row if valid else None


def rows(path: Path, kind: str = "") -> Iterator[dict[str, Any]]:
    """The valid lines of a kind, or of all, in their order; none if there is no such file. Raises
    OSError."""
    for _, row in _sized_rows(path, kind):
        yield row


def _sized_rows(path: Path, kind: str) -> Iterator[tuple[int, dict[str, Any]]]:
    mark = f'"{kind}"'.encode() if kind else b""   # most lines of other kinds need not be parsed
    try:
        file = reader(path)
    except FileNotFoundError:
        return
    with file:
        for line in lines.forward(file):
            row = parse_row(line) if mark in line else None
            if row and kind in ("", row["kind"]):
                yield len(line), row


def read(path: Path, kind: str) -> list[dict[str, Any]]:
    """The valid lines of a kind, the last ones if there are too many. Raises OSError."""
    newest: deque[tuple[int, dict[str, Any]]] = deque()
    n_bytes = 0
    for size, row in _sized_rows(path, kind):
        newest.append((size, row))
        n_bytes += size
        while n_bytes > MAX_ROWS_BYTES:
            n_bytes -= newest.popleft()[0]
    return [row for _, row in newest]


def cut(path: Path, step: int, rewritten_kinds: Sequence[str]) -> None:
    """Removes the last lines of a file that are past a step, of `rewritten_kinds` also those at it,
    and torn ones among them. Raises OSError, also if the path is a link."""
    try:
        descriptor = open_regular(path, os.O_RDWR | os.O_NOFOLLOW)
    except FileNotFoundError:
        return
    with os.fdopen(descriptor, "r+b") as file:
        size = os.fstat(descriptor).st_size
        end, first_dropped, n_bytes, last_lines = 0, None, 0, list[bytes]()
        for start, line in lines.backward(file):
            row = parse_row(line)
            if row and row["step"] < step:
                end = min(size, start + len(line) + 1)
                break
            if row and row["step"] == step and row["kind"] not in rewritten_kinds and (
                    n_bytes + len(line) < MAX_REWRITTEN_BYTES):
                last_lines.append(line)
                n_bytes += len(line) + 1
            else:
                first_dropped = start
        if first_dropped is None:
            return
        if first_dropped >= end + n_bytes:   # nothing that stays is after what goes
            os.ftruncate(descriptor, end + n_bytes)
            os.fsync(descriptor)
            return
    atomic_file.keep_beginning(path, end, b"".join(line + b"\n" for line in reversed(last_lines)))
