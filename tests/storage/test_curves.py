"""Curves of a metrics file: what each kind of line adds, means in bounded memory, bad lines."""
import json
import math
import tracemalloc

import pytest

from seed.storage import curves

ROWS = [
    {"kind": "step", "step": 1, "time": 100.5, "loss": 2.0, "lr": 0.1, "tokens_per_s": 640,
     "temp_c": None, "memory_mb": 71, "grade": 1, "duty": 1.0},
    {"kind": "step", "step": 2, "loss": 1.0, "lr": 0.2, "tokens_per_s": 650},
    {"kind": "curriculum", "step": 2, "time": 101.5, "accuracy": {"copy": [1.0, 0.5], "add": [0]},
     "grade": 1, "unlocked": 1},
    {"kind": "body", "step": 3, "time": 102.5, "body": "rover", "round": 1, "loss": 1.0,
     "entropy": 0.7, "episodes": 0, "mean_return": None},
    {"kind": "body", "step": 4, "time": 103.5, "body": "rover", "round": 2, "loss": 1.0,
     "entropy": 0.6, "episodes": 2, "mean_return": -7.5},
    {"kind": "selfplay", "step": 4, "time": 104.0, "task": "copy", "level": 1, "accept_rate": 0.5},
    {"kind": "governor", "step": 4, "time": 104.0, "action": "slow", "reason": "heat", "duty": 0.7},
    {"kind": "eval", "step": 4, "time": 105.0, "returns": [
        {"body": "rover", "episodes": 9, "mean": -3.0, "half_interval": 1.0, "least": -5.0,
         "success": None}],
     "scores": [{"task": task, "level": 1, "correct": n, "count": 4, "chance": 0.1,
                 "accuracy": n / 4} for task, n in (("copy", 4), ("add", 2))],
     "choices": [{"body": "arm", "data": "/data", "accuracy": 0.9, "ticks": 90}]}]


def write(path, rows) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def read(path) -> dict[str, list[tuple]]:
    return {name: list(map(tuple, curve)) for name, curve in curves.read(path).items()}


def test_each_kind_of_line_adds_its_points(tmp_path):
    write(tmp_path / "m", ROWS)
    points = read(tmp_path / "m")
    assert points.pop("loss") == [(1, 100.5, 2.0), (2, pytest.approx(math.nan, nan_ok=True), 1.0)]
    assert [point[2] for point in points.pop("lr")] == [0.1, 0.2]
    assert [point[2] for point in points.pop("tokens_per_s")] == [640, 650]
    assert points == {
        "memory_mb": [(1, 100.5, 71)], "grade": [(1, 100.5, 1)], "duty": [(1, 100.5, 1)],
        "accuracy/unlocked": [(2, 101.5, 0.375)], "task/copy": [(2, 101.5, 0.75)],
        "task/add": [(2, 101.5, 0.0)], "return/rover": [(4, 103.5, -7.5)],
        "entropy/rover": [(3, 102.5, 0.7), (4, 103.5, 0.6)],
        "accept_rate/copy": [(4, 104.0, 0.5)], "accuracy/holdout": [(4, 105.0, 0.75)],
        "accuracy/arm": [(4, 105.0, 0.9)], "unseen_return/rover": [(4, 105.0, -3.0)]}


def test_a_long_curve_is_means_of_equally_many_lines(tmp_path, monkeypatch):
    monkeypatch.setattr(curves, "MAX_POINTS", 8)
    curve = curves.Curve()
    for step in range(1, 1000):
        curve.add(step, 10.0 * step, step)
    points = list(curve)
    assert 4 <= len(points) == len(curve) <= 8
    size = points[0].step
    assert size & (size - 1) == 0   # lines, a power of two
    assert points == [(last, 10.0 * last, (first + last) / 2) for first, last in (
        (i + 1, min(i + size, 999)) for i in range(0, 999, size))]
    assert curve.reduced(3)[-1][0] == 999 and len(curve.reduced(3)) <= 3


BAD = [{"kind": "step", "step": 1, "loss": "x"}, {"kind": "step", "step": 1, "loss": 1e300},
       {"kind": "eval", "step": 1, "scores": 5}, {"kind": "body", "step": 1, "body": 5},
       {"kind": "eval", "step": 1, "scores": [{"accuracy": 1e308}] * 9, "choices": [],
        "returns": []},
       {"kind": "curriculum", "step": 1, "accuracy": {"a": [1e308, 1e308]}}, ["step"],
       {"kind": "selfplay", "step": 1, "task": ["x"], "level": 1, "accept_rate": 1}]


def test_lines_of_another_form_add_nothing(tmp_path):
    write(tmp_path / "m", [*BAD, ROWS[1]])
    assert {*read(tmp_path / "m")} == {"loss", "lr", "tokens_per_s"}
    (tmp_path / "m").write_bytes(b"\xff\0[" * 1000)
    assert read(tmp_path / "m") == read(tmp_path / "no such file") == {}


def test_a_file_of_any_size_takes_little_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(curves, "MAX_POINTS", 2 ** 8)
    monkeypatch.setattr(curves, "MAX_CURVES", 20)
    with open(tmp_path / "m", "w") as file:
        for step in range(20_000):
            file.write(json.dumps({"kind": "step", "step": step, "loss": 1.0,
                                   f"key {step}": step}) + "\n")
    tracemalloc.start()
    read_curves = curves.read(tmp_path / "m")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(read_curves) == 20 and len(read_curves["loss"]) <= 2 ** 8
    assert peak < 2 ** 20 < (tmp_path / "m").stat().st_size


@pytest.mark.parametrize("what, expected", [
    ("loss", ["loss"]), ("accuracy", ["accuracy/holdout", "accuracy/arm"]),
    ("copy", ["task/copy"]), ("rover", ["return/rover"]), ("task/copy", ["task/copy"]),
    ("los", [])])
def test_a_name_means_a_curve_a_group_or_a_member_of_one(what, expected):
    names = ["loss", "accuracy/holdout", "accuracy/arm", "task/copy", "return/rover",
             "accept_rate/copy", "entropy/rover"]
    assert curves.matching(names, what) == expected


def test_a_title_has_the_unit():
    assert [curves.title(what) for what in ("temp_c", "task/copy", "grade")] == [
        "temp_c (C)", "task/copy (0 to 1)", "grade"]
