"""Plots as SVG: axes with ticks and units, lines with a legend, marks. Colours are the page's."""
from collections.abc import Sequence
from typing import NamedTuple

from seed.evaluation.html_page import text
from seed.terminal import axes

WIDTH, HEIGHT = 440, 264                   # of the drawing, scaled to the place that it gets
LEFT, RIGHT, TOP, BOTTOM = 58, 26, 42, 44  # margins of the axes
N_COLOURS, N_LINES = 6, 12                 # of lines; from N_COLOURS on they are dashed
MAX_TICKS = 6
MIN_MARK_GAP = 20
MAX_NAME_CHARS = 48

Points = Sequence[tuple[float, float]]


class Axis(NamedTuple):
    """From `low` to `high`; None: to the round number beyond the least or the greatest value.
    `scale`: of the numbers at the ticks."""
    name: str
    low: float | None = None
    high: float | None = None
    scale: float = 1.0


class Mark(NamedTuple):
    x: float
    text: str


def plot(title: str, x_axis: Axis, y_axis: Axis, lines: Sequence[tuple[str, Points]],
         marks: Sequence[Mark] = (), diagonal: bool = False) -> str:
    """A figure of named lines; a legend if there are several. Empty without a point."""
    lines = [(name, points) for name, points in lines if points][:N_LINES]
    if not lines:
        return ""
    content = drawing(x_axis, y_axis, [points for _, points in lines], marks, diagonal)
    legend = "".join(f'<li><svg class="key" viewBox="0 0 20 8" aria-hidden="true">{key(i, 0, 4)}'
                     f'</svg>{text(name[:MAX_NAME_CHARS])}</li>'
                     for i, (name, _) in enumerate(lines)) if len(lines) > 1 else ""
    return (f'<figure><figcaption>{text(title)}</figcaption>'
            f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
            f'aria-label="{text(title)}">{content}</svg>'
            f'{f"<ul class=legend>{legend}</ul>" if legend else ""}</figure>')


def drawing(x_axis: Axis, y_axis: Axis, lines: Sequence[Points], marks: Sequence[Mark] = (),
            diagonal: bool = False) -> str:
    """Axes with lines of one point at least, WIDTH x HEIGHT."""
    x = _Scale(x_axis, [p[0] for points in lines for p in points], LEFT, WIDTH - RIGHT)
    y = _Scale(y_axis, [p[1] for points in lines for p in points], HEIGHT - BOTTOM, TOP)
    content = "".join([_x_ticks(x), _y_ticks(y), _marks(x, marks)])
    if diagonal:
        content += _line([(x.at(x.low), y.at(y.low)), (x.at(x.high), y.at(y.high))], "diagonal")
    for i, points in enumerate(lines):
        places = [(x.at(px), y.at(py)) for px, py in points]
        content += _line(places, f"line {colour(i)}")
        if len(places) == 1:
            content += (f'<circle class="dot {colour(i)}" cx="{places[0][0]:.1f}" '
                        f'cy="{places[0][1]:.1f}" r="3"/>')
    return content


def key(i: int, x: float, y: float) -> str:
    """A piece of the i-th line, for a legend."""
    return _line([(x, y), (x + 20, y)], f"line {colour(i)}")


def colour(i: int) -> str:
    """The classes of the i-th line."""
    return f"c{i % N_COLOURS}{' dashed' if i >= N_COLOURS else ''}"


def bar(fraction: float, interval: tuple[float, float] | None = None,
        chance: float | None = None) -> str:
    """A bar up to `fraction` of its width; a whisker over `interval`, a tick at `chance`."""
    content = _rectangle("back", 0, 1, 2, 12)
    if fraction:
        content += _rectangle("value", 0, fraction, 2, 12)
    if interval:
        content += _rectangle("whisker", *interval, 7, 2)
    if chance is not None:
        content += _rectangle("chance", chance - 0.003, chance + 0.003, 0, 16)
    return (f'<svg class="bar" viewBox="0 0 1000 16" preserveAspectRatio="none" '
            f'aria-hidden="true">{content}</svg>')


def _rectangle(name: str, left: float, right: float, top: int, height: int) -> str:
    width = max(4.0, 1000 * (right - left))
    return (f'<rect class="{name}" x="{min(1000 * left, 1000 - width):.0f}" '
            f'width="{width:.0f}" y="{top}" height="{height}"/>')


class _Scale:
    """From values to places on the drawing."""

    def __init__(self, axis: Axis, values: Sequence[float], start: float, end: float):
        low = min(values) if axis.low is None else axis.low
        high = max(values) if axis.high is None else axis.high
        self._ticks = axes.ticks(axis.scale * low, axis.scale * high, MAX_TICKS)
        self.low = self._ticks[0] / axis.scale if axis.low is None else low
        self.high = self._ticks[-1] / axis.scale if axis.high is None else high
        self.high = max(self.high, self.low + 1e-9)   # of one value alone
        self.name, self._factor, self._start, self._end = axis.name, axis.scale, start, end

    def at(self, value: float) -> float:
        inside = min(self.high, max(self.low, value))
        return self._start + (self._end - self._start) * (inside - self.low) / (
            self.high - self.low)

    def labels(self) -> list[tuple[float, str]]:
        """(place, number) of each tick within the axis."""
        rest = 1e-6 * (self.high - self.low)
        return [(self.at(value / self._factor), label)
                for value, label in zip(self._ticks, axes.labels(self._ticks))
                if self.low - rest <= value / self._factor <= self.high + rest]


def _x_ticks(x: _Scale) -> str:
    bottom = HEIGHT - BOTTOM
    content = f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{bottom}" y2="{bottom}"/>'
    for place, label in x.labels():
        content += (f'<line class="axis" x1="{place:.1f}" x2="{place:.1f}" y1="{bottom}" '
                    f'y2="{bottom + 4}"/><text class="tick" x="{place:.1f}" y="{bottom + 18}" '
                    f'text-anchor="middle">{label}</text>')
    return content + (f'<text class="name" x="{WIDTH - RIGHT}" y="{HEIGHT - 6}" '
                      f'text-anchor="end">{text(x.name)}</text>')


def _y_ticks(y: _Scale) -> str:
    content = ""
    for place, label in y.labels():
        content += (f'<line class="rule" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{place:.1f}" '
                    f'y2="{place:.1f}"/><text class="tick" x="{LEFT - 6}" y="{place + 4:.1f}" '
                    f'text-anchor="end">{label}</text>')
    return content + f'<text class="name" x="4" y="13">{text(y.name)}</text>'


def _marks(x: _Scale, marks: Sequence[Mark]) -> str:
    """Lines across; those of which the texts would overlap have one from the first to the last."""
    content, groups = "", list[list[Mark]]()
    for mark in sorted(mark for mark in marks if x.low <= mark.x <= x.high):
        if groups and x.at(mark.x) - x.at(groups[-1][-1].x) < MIN_MARK_GAP:
            groups[-1].append(mark)
        else:
            groups.append([mark])
        place = f"{x.at(mark.x):.1f}"
        content += (f'<line class="mark" x1="{place}" x2="{place}" y1="{TOP}" '
                    f'y2="{HEIGHT - BOTTOM}"/>')
    for group in groups:
        middle = (x.at(group[0].x) + x.at(group[-1].x)) / 2
        joined = "–" if all(mark.text.isdigit() for mark in group) else ", "
        label = joined.join(dict.fromkeys((group[0].text, group[-1].text)))
        content += (f'<text class="marked" x="{middle:.1f}" y="{TOP - 5}" text-anchor="middle">'
                    f'{text(label)}</text>')
    return content


def _line(places: Points, name: str) -> str:
    return (f'<polyline class="{name}" points="'
            f'{" ".join(f"{x:.1f},{y:.1f}" for x, y in places)}"/>')
