"""Curves with axes in characters, within the width and height of a terminal.

Braille has 2 x 4 dots a character. Where several curves have to be told apart without colours, or
the encoding has no braille, each is drawn with a character of its own.
"""
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import NamedTuple

from seed.terminal.axes import labels, ticks
from seed.terminal.drawing import ASCII, cut

DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))   # of a braille character: row, x
BRAILLE = 0x2800
MARKS, ASCII_MARKS = "●×○+■▲◆□", "*xo+#^@%"
FRAME = str.maketrans({"│": "|", "┤": "+", "┬": "+", "└": "+", "─": "-"})
COLOURS = (36, 33, 35, 32, 34, 31)   # of a terminal: cyan, yellow, ...
MIN_COLUMNS, MIN_ROWS = 24, 8        # of a plot; in less it is cut off
ROWS_PER_TICK, COLUMNS_PER_TICK = 4, 14
MAX_LEGEND = 12


class Line(NamedTuple):
    """What is drawn: its name, its points by rising x, and what the legend says behind the name."""
    name: str
    points: Sequence[tuple[float, float]]
    note: str


class Style(NamedTuple):
    is_coloured: bool
    is_ascii: bool


def can_draw(encoding: str | None) -> bool:
    """Whether an encoding has all that is drawn, else it is drawn in ASCII."""
    try:
        f"{chr(BRAILLE)}{MARKS}┤┬└│─".encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def plot(lines: Sequence[Line], title: str, columns: int, rows: int, style: Style) -> list[str]:
    """Rows of text; `lines` have a point or more each."""
    columns, rows = max(columns, MIN_COLUMNS), max(rows, MIN_ROWS)
    legend = _legend(lines, columns, style)
    height = max(MIN_ROWS - 4, rows - len(legend) - 3)   # title, axis, its labels
    xs, ys = zip(*(point for line in lines for point in line.points))
    y_ticks = ticks(min(ys), max(ys), max(3, height // ROWS_PER_TICK + 1))
    y_labels = labels(y_ticks)
    left = max(map(len, y_labels))
    width = max(1, columns - left - 2)
    x_ticks = ticks(min(xs), max(xs), max(3, width // COLUMNS_PER_TICK + 1))
    area = _Area(width, height, (x_ticks[0], x_ticks[-1]), (y_ticks[0], y_ticks[-1]))
    canvas = _canvas(lines, area, style)
    beside = {area.row(value): text for value, text in zip(y_ticks, y_labels)}
    drawn = [f"{beside.get(y, ''):>{left}}{'┤' if y in beside else '│'}{canvas[y]}".rstrip()
             for y in range(height)]
    texts = [cut(title, columns), *drawn, *_x_axis(area, x_ticks, left)]
    return [*(text.translate(FRAME).translate(ASCII) if style.is_ascii else text
              for text in texts), *legend]


class _Area(NamedTuple):
    """Characters, and the values at their outer edges."""
    width: int
    height: int
    xs: tuple[float, float]
    ys: tuple[float, float]

    def place(self, x: float, y: float, per_column: int, per_row: int) -> tuple[int, int]:
        """Of a point, in a grid of so many dots a character; from the top left."""
        n_x, n_y = self.width * per_column - 1, self.height * per_row - 1
        across = (x - self.xs[0]) / (self.xs[1] - self.xs[0])
        up = (y - self.ys[0]) / (self.ys[1] - self.ys[0])
        return round(across * n_x), round((1 - up) * n_y)

    def row(self, y: float) -> int:
        return self.place(self.xs[0], y, 1, 1)[1]

    def column(self, x: float) -> int:
        return self.place(x, self.ys[0], 1, 1)[0]


def _canvas(lines: Sequence[Line], area: _Area, style: Style) -> list[str]:
    """The rows of the area."""
    is_braille = not style.is_ascii and (style.is_coloured or len(lines) == 1)
    per_column, per_row = (2, 4) if is_braille else (1, 1)
    dots: dict[tuple[int, int], int] = {}    # of the characters that are not blank: column, row
    owner: dict[tuple[int, int], int] = {}   # the last line that is drawn there
    for i, line in enumerate(lines):
        for x, y in _dots(line, area, per_column, per_row):
            place = x // per_column, y // per_row
            dots[place], owner[place] = dots.get(place, 0) | DOTS[y % 4][x % 2], i
    rows = []
    for y in range(area.height):
        cells = [(owner.get((x, y), -1), dots.get((x, y), 0)) for x in range(area.width)]
        rows.append("".join(
            " " * len(group) if i < 0 else
            _coloured("".join(chr(BRAILLE + bits) for _, bits in group), i, style) if is_braille
            else _mark(i, style) * len(group)
            for i, group in ((i, list(cells)) for i, cells in groupby(cells, lambda c: c[0]))))
    return rows


def _dots(line: Line, area: _Area, per_column: int, per_row: int) -> Iterable[tuple[int, int]]:
    """A mean for each column of dots that has points, joined by straight lines."""
    columns: dict[int, list[float]] = {}
    for x, y in line.points:
        columns.setdefault(area.place(x, area.ys[0], per_column, per_row)[0], []).append(y)
    before: tuple[int, int] | None = None
    for x, values in sorted(columns.items()):
        y = area.place(area.xs[0], sum(values) / len(values), per_column, per_row)[1]
        yield x, y
        if before:
            yield from _between(before, (x, y))
        before = x, y


def _between(a: tuple[int, int], b: tuple[int, int]) -> Iterable[tuple[int, int]]:
    """What lies between two dots on a straight line."""
    n = max(abs(b[0] - a[0]), abs(b[1] - a[1]))
    for i in range(1, n):
        yield round(a[0] + (b[0] - a[0]) * i / n), round(a[1] + (b[1] - a[1]) * i / n)


def _x_axis(area: _Area, x_ticks: Sequence[float], left: int) -> list[str]:
    places = [area.column(value) for value in x_ticks]
    axis = "".join("┬" if x in places else "─" for x in range(area.width))
    below = [" "] * (left + 1 + area.width)
    for x, text in zip(places, labels(x_ticks)):
        start = min(max(0, left + 1 + x - len(text) // 2), len(below) - len(text))
        below[start:start + len(text)] = text
    return [" " * left + "└" + axis, "".join(below).rstrip()]


def _legend(lines: Sequence[Line], columns: int, style: Style) -> list[str]:
    """A row for each curve, as long as there are few."""
    texts = []
    for i, line in enumerate(lines[:MAX_LEGEND]):
        key = "─" if style.is_coloured or len(lines) == 1 else _mark(i, style)
        key = "-" if key == "─" and style.is_ascii else key
        note = f"  {line.note}"
        text = cut(line.name, max(1, columns - len(note) - 3)) + note
        text = cut(text, columns - 3)
        texts.append(f" {_coloured(key, i, style)} "
                     f"{text.translate(ASCII) if style.is_ascii else text}")
    left_out = len(lines) - MAX_LEGEND
    return texts + ([f"   and {left_out} more"] if left_out > 0 else [])


def _mark(i: int, style: Style) -> str:
    marks = ASCII_MARKS if style.is_ascii else MARKS
    return marks[i % len(marks)]


def _coloured(text: str, i: int, style: Style) -> str:
    return f"\x1b[{COLOURS[i % len(COLOURS)]}m{text}\x1b[0m" if style.is_coloured else text
