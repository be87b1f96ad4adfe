"""Each line of a metrics file once, while it is written, cut, replaced and removed."""
import json

import pytest

from seed.storage import metrics_reader
from seed.storage.lines import MAX_LINE_BYTES
from seed.storage.metrics_follower import MetricsFollower


def line(step: int) -> str:
    return json.dumps({"kind": "step", "step": step, "loss": 1.0}) + "\n"


class Follower:
    def __init__(self, path):
        self.rows = []
        self._follower = MetricsFollower(path, self.rows.clear, self.rows.append)

    def read(self) -> list[int]:
        self._follower.read()
        return [row["step"] for row in self.rows]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "metrics.jsonl"


def test_what_was_added_is_read_once_and_a_torn_line_when_it_is_whole(path):
    follower = Follower(path)
    assert follower.read() == []
    path.write_text(line(1) + line(2)[:9])
    assert follower.read() == [1]
    path.write_text(line(1) + line(2) + "no JSON\n" + line(3))
    assert follower.read() == [1, 2, 3] == follower.read()


def test_a_line_that_is_too_long_is_none_and_hides_no_other(path):
    follower = Follower(path)
    path.write_text(line(1) + "x" * (MAX_LINE_BYTES + 9))
    assert follower.read() == [1]
    path.write_text(line(1) + "x" * (MAX_LINE_BYTES + 9) + "\n" + line(2))
    assert follower.read() == [1, 2]


def test_a_run_that_resumes_and_cuts_its_lines_is_read_anew_even_if_it_is_longer_by_then(path):
    path.write_text("".join(map(line, range(1, 40))))
    follower = Follower(path)
    follower.read()
    metrics_reader.cut(path, 20, ())
    path.write_text(path.read_text() + "".join(
        json.dumps({"kind": "step", "step": step, "loss": 2.25}) + "\n" for step in range(21, 90)))
    assert follower.read() == list(range(1, 90))
    assert [row["loss"] for row in follower.rows] == 20 * [1.0] + 69 * [2.25]


@pytest.mark.parametrize("change_fn", [lambda path: path.unlink(),
                                       lambda path: path.write_text("")])
def test_a_file_that_is_gone_or_empty_is_an_empty_one(path, change_fn):
    path.write_text(line(1))
    follower = Follower(path)
    assert follower.read() == [1]
    change_fn(path)
    assert follower.read() == []
    path.write_text(line(5))
    assert follower.read() == [5]
