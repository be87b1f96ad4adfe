"""Curves as a table for a spreadsheet and as a picture that needs nothing else."""
import csv
import io
import xml.etree.ElementTree as ElementTree

from seed.evaluation.curve_files import COLOURS, csv_file, is_csv_file, is_svg_file, svg_file
from seed.evaluation.svg_plot import BOTTOM, HEIGHT, LEFT, N_COLOURS, RIGHT, TOP, WIDTH
from seed.storage.curves import Curve
from seed.terminal.plot import Line

SVG = "{http://www.w3.org/2000/svg}"


def curve(*points) -> Curve:
    made = Curve()
    for step, time, value in points:
        made.add(step, time, value)
    return made


def rows_of(data: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode())))


def test_a_row_is_a_step_of_a_run_and_blank_where_nothing_was_measured():
    data = csv_file({
        "a": {"loss": curve((1, 0.5, 2.0), (2, float("nan"), 1 / 3)),
              "accuracy/holdout": curve((2, 1.7e9, 1.0))},
        "b": {"loss": curve((1, 1e300, 5.0)), "return/rover": curve((1, -1.0, -7.0))}})
    assert is_csv_file(data[:64])
    assert rows_of(data) == [
        {"run": "a", "step": "1", "time": "1970-01-01T00:00:00.500Z", "loss": "2.0",
         "accuracy/holdout": "", "return/rover": ""},
        {"run": "a", "step": "2", "time": "2023-11-14T22:13:20.000Z",
         "loss": "0.3333333333333333", "accuracy/holdout": "1.0", "return/rover": ""},
        {"run": "b", "step": "1", "time": "", "loss": "5.0", "accuracy/holdout": "",
         "return/rover": "-7.0"}]


def test_a_spreadsheet_runs_no_name():
    data = csv_file({"=1+1": {'@SUM(A1)\n"': curve((1, 0.0, 2.0))}, "-2": {}})
    rows = rows_of(data)
    assert rows[0]["run"] == "'=1+1" and rows[0]["'@SUM(A1)\\n\""] == "2.0"


LINES = [Line("first", [(1, 5.0), (500, 1.5), (980, 0.6)], "last 0.6"),
         Line("<b>&\x1b\uffff", [(1, 4.0)], "last 4")]


def test_a_picture_has_axes_ticks_a_legend_and_each_curve_within_them():
    data = svg_file(LINES, "loss (nats a byte)")
    tree = ElementTree.fromstring(data)
    texts = [element.text for element in tree.iter(f"{SVG}text")]
    assert {"loss (nats a byte)", "step"} <= {*texts}
    assert {"0", "200", "400", "1000", "1", "5"} <= {*texts}
    assert texts[-2:] == ["first: last 0.6", "<b>&\\x1b\\uffff: last 4"]
    left, right, top, bottom = LEFT, WIDTH - RIGHT, TOP, HEIGHT - BOTTOM
    curves = [[tuple(map(float, point.split(","))) for point in element.get("points").split()]
              for element in tree.iter(f"{SVG}polyline")]
    curves, keys = curves[:2], curves[2:]
    assert [len(points) for points in curves] == [3, 1] and len(keys) == 2
    assert all(left <= x <= right and top <= y <= bottom for points in curves for x, y in points)
    xs, ys = zip(*curves[0])
    assert list(xs) == sorted(xs) and list(ys) == sorted(ys)   # it falls: y is downwards
    assert [element.get("class") for element in tree.iter(f"{SVG}polyline")] == [
        "line c0", "line c1"] * 2
    assert len(COLOURS) == len({*COLOURS}) == N_COLOURS and is_svg_file(data[:64])


def test_a_picture_refers_to_nothing_outside():
    text = svg_file(LINES, "loss").decode()
    assert text.count("http") == 1   # the name space
    assert not [word for word in ("href", "url(", "<script", "<image", "@import") if word in text]
