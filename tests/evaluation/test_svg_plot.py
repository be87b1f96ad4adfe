"""Every value has a place on the drawing, and ticks are within the axis."""
import re

import pytest

from seed.evaluation.svg_plot import HEIGHT, WIDTH, Axis, Mark, bar, plot


def labels(text: str) -> list[str]:
    return re.findall(r'class="tick"[^>]*>([^<]+)<', text)


@pytest.mark.parametrize("high, expected", [
    (1, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]), (2206, ["0", "500", "1000", "1500", "2000"]),
    (300_000, ["0", "100k", "200k", "300k"])])
def test_ticks_are_within_the_axis(high, expected):
    text = plot("t", Axis("step", 0, high), Axis("y"), [("a", [(0, 1), (high, 1)])])
    assert labels(text)[:len(expected)] == expected


@pytest.mark.parametrize("points", [
    [(0, 0)], [(5, 3), (5, 3)], [(1, -1e14), (2, 1e14)], [(0, 1e-12), (1, 2e-12)],
    [(3, 1), (1, 2), (2, 1e9)]])
def test_every_value_has_a_place_on_the_drawing(points):
    text = plot("t", Axis("x"), Axis("y"), [("a", points)], [Mark(points[0][0], "2")])
    places = [tuple(map(float, pair.split(","))) for line in re.findall(r'points="([^"]*)"', text)
              for pair in line.split()]
    assert len(places) == len(points) and len(labels(text)) >= 4
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in places)


def test_marks_that_are_close_share_a_text():
    text = plot("t", Axis("x", 0, 10_000), Axis("y"), [("a", [(0, 1)])],
                [Mark(9000, "6"), *(Mark(step, str(step // 100)) for step in (200, 300, 400))])
    assert re.findall(r'class="marked"[^>]*>([^<]+)<', text) == ["2–4", "6"]
    assert text.count('class="mark"') == 4


def test_without_a_point_there_is_no_figure():
    assert plot("t", Axis("x"), Axis("y"), [("a", [])]) == ""


def test_a_bar_is_as_long_as_its_fraction():
    text = bar(0.375, (0.25, 0.5), 0.0)
    assert 'class="value" x="0" width="375"' in text and 'class="whisker" x="250"' in text
    assert 'class="value"' not in bar(0.0, (0.0, 0.1), 0.1)
