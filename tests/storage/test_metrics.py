"""The metrics file: cut, continued and read in bounded memory, whatever it contains."""
import json
import os
import random
import tracemalloc

import pytest

from seed.storage import lines, metrics_reader
from seed.storage.metrics import Metrics


def row(step: int, kind: str = "step", **values) -> str:
    return json.dumps({"kind": kind, "step": step, "loss": 1.0, **values}) + "\n"


def cut(path, text: str, step: int, rewritten_kinds=()) -> str:
    path.write_text(text)
    Metrics(path, step, rewritten_kinds=rewritten_kinds)
    return path.read_text()


def test_lines_read_backward_are_those_read_forward_reversed(tmp_path, monkeypatch):
    dice = random.Random(0)
    monkeypatch.setattr(lines, "BLOCK_BYTES", 7)
    monkeypatch.setattr(lines, "MAX_LINE_BYTES", 40)
    for _ in range(300):
        data = b"\n".join(b"x" * dice.choice((0, 1, 6, 7, 8, 30, 38, 60, 90)) for _ in range(
            dice.randrange(6)))
        (tmp_path / "file").write_bytes(data)
        with open(tmp_path / "file", "rb") as file:
            backward = list(lines.backward(file))[::-1]
            file.seek(0)
            forward = [line.removesuffix(b"\n") for line in lines.forward(file)]
        whole = data.removesuffix(b"\n").split(b"\n") if data else []
        expected = [line if len(line) <= 40 else b"" for line in whole]
        assert [line for _, line in backward] == expected == forward
        assert [data[start:].split(b"\n")[0] for start, _ in backward] == whole


def test_lines_past_a_step_are_cut_and_all_before_stays(tmp_path):
    path = tmp_path / "metrics.jsonl"
    before = "".join(map(row, range(1, 6)))
    assert cut(path, before + row(6) + row(7) + '{"kind": "st', 5) == before
    assert cut(path, before, 5) == before
    assert cut(path, before[:-1], 5) == before[:-1]
    played = before + row(5, "selfplay", task="copy", level=1, accept_rate=0.5)
    saved = row(5, "save")
    assert cut(path, played + saved + row(6), 5) == played + saved
    assert cut(path, played + saved + row(6), 5, ["selfplay"]) == before + saved
    assert cut(path, "\0\0\0" + before + "[" * 5000, 3) == "\0\0\0" + before[:3 * len(row(1))]
    assert cut(path, row(8), 0) == ""
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("change_fn", [
    lambda path: os.truncate(path, 0), lambda path: os.truncate(path, 30),
    lambda path: path.unlink(), lambda path: path.rename(path.with_suffix(".1")),
    lambda path: (path.unlink(), path.write_text('{"kind": "note", "step": 0}'))],
    ids=["truncated", "cut in a line", "deleted", "renamed", "replaced"])
def test_a_file_that_was_rotated_is_continued_as_it_is(tmp_path, change_fn):
    path = tmp_path / "metrics.jsonl"
    log = Metrics(path, 0)
    for step in range(3):
        log.write("step", step, loss=1.0)
    change_fn(path)
    log.write("step", 3, loss=1.0)
    log.write("step", 4, loss=1.0)
    assert b"\0" not in path.read_bytes()
    assert [r["step"] for r in metrics_reader.read(path, "step")][-2:] == [3, 4]


def test_a_line_has_kind_step_and_the_time_in_milliseconds(tmp_path, monkeypatch):
    monkeypatch.setattr("time.time", lambda: 1700000000.1234567)
    Metrics(tmp_path / "metrics.jsonl", 0).write("save", 3, bytes=5)
    assert (tmp_path / "metrics.jsonl").read_text() == (
        '{"kind": "save", "step": 3, "time": 1700000000.123, "bytes": 5}\n')


BAD = ['{"kind": "step", "step": "5", "loss": 1}', '{"kind": "step", "step": null, "loss": 1}',
       '{"kind": "step", "step": 5}', '{"kind": "step", "step": NaN, "loss": 1}', "5", "[" * 10000,
       '{"kind": "step", "step": 5, "loss": 1e999}', "\0" * 100, '{"kind": [], "step": 5}',
       '{"kind": "step", "step": 1' + "0" * 400 + ', "loss": 1}', '{"kind": "step", "step": true}']


def test_bad_lines_are_skipped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(row(i) + line + "\n" for i, line in enumerate(BAD, 1)))
    assert [r["step"] for r in metrics_reader.read(path, "step")] == list(range(1, len(BAD) + 1))


def test_a_large_file_takes_little_memory(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with open(path, "w") as file:
        file.write(row(1))
        file.truncate(2 ** 28)   # one line of 256 MB
    with open(path, "a") as file:
        file.write("\n" + row(2))
    tracemalloc.start()
    assert [r["step"] for r in metrics_reader.read(path, "step")] == [1, 2]
    Metrics(path, 1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * 2 ** 20 and path.read_text() == row(1)
