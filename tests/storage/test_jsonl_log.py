"""A file of rows keeps what can be read of it, and nothing is written that cannot be read."""
import json
import math
import os

import pytest

from seed.storage import lines
from seed.storage.jsonl_log import JsonlLog
from seed.storage.lines import MAX_LINE_BYTES

GOOD = [b'{"n": %d}\n' % n for n in range(4)]
DAMAGED = [b'{"n": 1\x00}\n', b"?\n", b"\n", b"[" * 100_000 + b"\n", b'{"n": "x"}\n', b'{"m": 1}\n',
           b'{"n": NaN}\n', b"x" * (MAX_LINE_BYTES + 1) + b"\n", b'{"n": "\\ud800"}\n', b"5\n"]


def parsed(row: dict) -> int:
    if type(row["n"]) is not int:
        raise ValueError
    return row["n"]


def log_of(path, **options) -> JsonlLog:
    return JsonlLog(path, parsed, **options)


@pytest.mark.parametrize("line", DAMAGED, ids=range(len(DAMAGED)))
def test_a_damaged_line_costs_no_other_where_rows_are_independent(tmp_path, line):
    path = tmp_path / "log"
    path.write_bytes(b"".join([*GOOD[:2], line, GOOD[2], line, line, GOOD[3], b'{"n": 4']))
    log = log_of(path, is_independent=True)
    assert log.rows == [0, 1, 2, 3] and "line 3 is no row of this version (3 in all)" in log.damage
    assert log.append([5], [{"n": 5}])
    assert path.read_bytes() == b"".join(
        [*GOOD[:2], line, GOOD[2], line, line, GOOD[3], b'{"n": 5}\n'])   # without the torn one
    assert log_of(path, is_independent=True).rows == log.rows == [0, 1, 2, 3, 5]


@pytest.mark.parametrize("line", DAMAGED, ids=range(len(DAMAGED)))
def test_where_rows_follow_from_those_before_what_is_behind_a_damaged_line_goes(tmp_path, line):
    """As of two that were added together, of which a power cut has left the second one alone."""
    path = tmp_path / "log"
    path.write_bytes(b"".join([*GOOD[:2], line, GOOD[2]]))
    log = log_of(path)
    assert log.rows == [0, 1] and "line 3 is damaged" in log.damage
    assert log.append([5], [{"n": 5}])
    assert path.read_bytes() == b"".join([*GOOD[:2], b'{"n": 5}\n'])


@pytest.mark.parametrize("end", [b"", b'{"n": 4', b'{"n": 4}', b"\0" * 5000,
                                 b"\0" * (MAX_LINE_BYTES + 1)])
@pytest.mark.parametrize("is_independent", [False, True])
def test_a_torn_last_line_is_removed_by_the_next_one(tmp_path, end, is_independent):
    path = tmp_path / "log"
    path.write_bytes(b"".join(GOOD) + end)
    log = log_of(path, is_independent=is_independent)
    assert log.rows == [0, 1, 2, 3] and (len(end) > MAX_LINE_BYTES or not log.damage)
    assert log.append([4], [{"n": 4}])
    assert path.read_bytes() == b"".join(GOOD) + b'{"n": 4}\n'


def test_a_file_of_any_size_is_read_in_bounded_time(tmp_path, monkeypatch):
    path, forward = tmp_path / "log", lines.forward

    def watched(file):
        for line in forward(file):
            yield line
            assert line, "it reads on, behind what no run has written"
    monkeypatch.setattr(lines, "forward", watched)
    path.write_bytes(GOOD[0])
    os.truncate(path, 2 ** 36)
    log = log_of(path, is_independent=True)
    assert log.rows == [0] and log.size == len(GOOD[0])


def test_a_number_that_is_not_finite_is_null_and_costs_no_row_behind_it(tmp_path):
    log = JsonlLog(tmp_path / "log", dict)
    rows = [{"bounds": {"least": math.nan}, "figures": ({"after": -math.inf}, [1.5, math.inf])},
            {"n": 1}]
    for row in rows:
        assert log.append([row], [row])
    assert JsonlLog(tmp_path / "log", dict).rows == [
        {"bounds": {"least": None}, "figures": [{"after": None}, [1.5, None]]}, {"n": 1}]
    assert [json.loads(line, parse_constant=pytest.fail) for line in
            (tmp_path / "log").read_text().splitlines()]


@pytest.mark.parametrize("left", [None, 0, len(GOOD[0]), len(GOOD[0]) + 3])
def test_independent_rows_are_added_to_what_others_have_left_of_the_file(tmp_path, left):
    path = tmp_path / "log"
    path.write_bytes(b"".join(GOOD))
    log = log_of(path, is_independent=True)
    path.unlink() if left is None else os.truncate(path, left)
    assert log.append([4], [{"n": 4}]) and log.append([5], [{"n": 5}])
    assert log_of(path, is_independent=True).rows == [0, 4, 5][not left:]
