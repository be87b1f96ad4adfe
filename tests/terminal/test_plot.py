"""Curves in characters: where they are drawn, within which size, in colours, in ASCII."""
import random
import re

import pyte
import pytest

from seed.terminal.plot import Line, Style, can_draw, plot

PLAIN, COLOURED, ASCII = Style(False, False), Style(True, False), Style(False, True)
RISING = Line("rising", [(x, x) for x in range(101)], "last 100")
FALLING = Line("falling", [(x, 100 - x) for x in range(101)], "last 0")


def text_of(lines, style=PLAIN, columns=40, rows=14) -> list[str]:
    return plot(lines, "loss by step", columns, rows, style)


def test_a_curve_has_its_axes_ticks_and_legend():
    assert text_of([RISING]) == [
        "loss by step",
        "100┤                               ⢀⡠⠔⠊",
        "   │                            ⣀⠤⠊⠁",
        "   │                        ⢀⡠⠔⠊",
        "   │                     ⣀⠤⠊⠁",
        " 50┤                 ⢀⡠⠔⠉",
        "   │              ⣀⠔⠊⠁",
        "   │          ⢀⡠⠒⠉",
        "   │       ⡠⠔⠊⠁",
        "   │   ⢀⡠⠒⠉",
        "  0┤⡠⠔⠊⠁",
        "   └┬────────────────┬────────────────┬",
        "    0               50              100",
        " ─ rising  last 100"]


@pytest.mark.parametrize("style", [PLAIN, COLOURED, ASCII])
def test_a_plot_keeps_to_the_size_of_the_terminal(style):
    dice = random.Random(0)
    for _ in range(60):
        columns, rows = dice.randrange(24, 200), dice.randrange(12, 60)
        scale = 10 ** dice.uniform(-8, 25)
        lines = [Line("r" * dice.randrange(1, 300), [
            (step, dice.gauss(0, 1) * scale) for step in range(dice.randrange(1, 300))], "last 1")
            for _ in range(dice.randrange(1, 4))]
        drawn = text_of(lines, style, columns, rows)
        assert len(drawn) <= rows
        bare = [re.sub("\x1b\\[[0-9]*m", "", row) for row in drawn]
        assert max(map(len, bare)) <= columns
        assert (bare != drawn) == (style is COLOURED)
        assert "".join(drawn).isascii() == (style is ASCII)


@pytest.mark.parametrize("style", [PLAIN, ASCII])
def test_curves_without_colours_have_marks_of_their_own(style):
    rows = text_of([RISING, FALLING], style)
    first, second = ("●", "×") if style is PLAIN else ("*", "x")
    assert rows[1].endswith(first) and rows[1].index(second) == 4
    assert rows[-2:] == [f" {first} rising  last 100", f" {second} falling  last 0"]


def test_colours_are_those_of_the_legend():
    screen = pyte.Screen(40, 14)
    pyte.Stream(screen).feed("\r\n".join(text_of([RISING, FALLING], COLOURED)))
    colours = {y: {screen.buffer[y][x].fg for x in range(4, 40)} - {"default"} for y in range(14)}
    assert screen.buffer[1][4].fg == screen.buffer[13][1].fg == "brown"   # falling
    assert screen.buffer[1][38].fg == screen.buffer[12][1].fg == "cyan"
    assert colours[1] == {"brown", "cyan"} and not colours[0]


def test_one_point_alone_and_many_curves_are_drawn():
    assert len(re.findall("[⠁-⣿]", "".join(text_of([Line("a", [(7, 7.0)], "")])))) == 1
    rows = text_of([RISING] * 20, rows=40)
    assert rows[-1] == "   and 8 more" and len(rows) <= 40


@pytest.mark.parametrize("encoding, expected", [
    ("utf-8", True), ("ascii", False), ("latin-1", False), (None, False), ("no such", False)])
def test_an_encoding_without_braille_gets_ascii(encoding, expected):
    assert can_draw(encoding) is expected
