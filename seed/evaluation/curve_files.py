"""Curves of several runs as a CSV file and as an SVG picture."""
import csv
import html
import io
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from seed.errors import printable
from seed.storage.curves import Curve
from seed.terminal.axes import labels, ticks
from seed.terminal.plot import Line

FORMULA = ("=", "+", "-", "@", "\t", "\r")   # a spreadsheet runs a text that begins so
MAX_TIME_S = 253402300799.0                    # the end of the year 9999
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 900, 420, 70, 20, 40, 375   # pixels
LEGEND_ROW = 22
MAX_X_TICKS, MAX_Y_TICKS = 8, 7
COLOURS = ("#1b6ca8", "#c77d0a", "#2a9d8f", "#b23a48", "#6a4c93", "#777")
DASHES = ("", "7 4", "2 3")   # of the first curves, of those that have the same colours again, ...
STYLE = ("text{font:13px system-ui,sans-serif;fill:#222}.grid{stroke:#ddd}.axis{stroke:#666}"
         "rect{fill:#fff}@media(prefers-color-scheme:dark){text{fill:#ddd}.grid{stroke:#444}"
         ".axis{stroke:#aaa}rect{fill:#181818}}")


def csv_file(runs: Mapping[str, Mapping[str, Curve]]) -> bytes:
    """A row for each step of a run at which a curve has a point: run, step, time and the curves.

    What has no point there is blank. The time is ISO 8601 in UTC.
    """
    names = list(dict.fromkeys(name for curves in runs.values() for name in curves))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["run", "step", "time", *map(_cell, names)])
    for run, curves in runs.items():
        rows: dict[int, dict[str, float]] = {}
        times: dict[int, float] = {}
        for name, curve in curves.items():
            for point in curve:
                rows.setdefault(point.step, {})[name] = point.value
                times[point.step] = point.time
        for step in sorted(rows):
            writer.writerow([_cell(run), step, _iso(times[step]), *(
                repr(rows[step][name]) if name in rows[step] else "" for name in names)])
    return text.getvalue().encode("utf-8", "backslashreplace")


def is_csv_file(head: bytes) -> bool:
    """Whether a file that begins so is one of ours."""
    return head.startswith(b"run,step,time")


def _cell(text: str) -> str:
    text = printable(text)
    return f"'{text}" if text.startswith(FORMULA) else text


def _iso(time: float) -> str:
    if not 0 <= time <= MAX_TIME_S:   # or NaN: it is not known
        return ""
    return datetime.fromtimestamp(time, UTC).isoformat(timespec="milliseconds").replace(
        "+00:00", "Z")


def svg_file(lines: Sequence[Line], title: str) -> bytes:
    """A picture that needs nothing else, with axes, ticks and a legend; in dark mode dark."""
    xs, ys = zip(*(point for line in lines for point in line.points))
    x_ticks, y_ticks = ticks(min(xs), max(xs), MAX_X_TICKS), ticks(min(ys), max(ys), MAX_Y_TICKS)
    height = HEIGHT + LEGEND_ROW * len(lines)
    content = [f'<rect width="{WIDTH}" height="{height}"/>', _text(LEFT, 24, title)]
    for value, label in zip(x_ticks, labels(x_ticks)):
        x = _x(value, x_ticks)
        content += [_line("grid", x, TOP, x, BOTTOM), _text(x, BOTTOM + 18, label, "middle")]
    for value, label in zip(y_ticks, labels(y_ticks)):
        y = _y(value, y_ticks)
        content += [_line("grid", LEFT, y, WIDTH - RIGHT, y), _text(LEFT - 8, y + 4, label, "end")]
    content += [_line("axis", LEFT, BOTTOM, WIDTH - RIGHT, BOTTOM),
                _line("axis", LEFT, TOP, LEFT, BOTTOM),
                _text(WIDTH - RIGHT, HEIGHT - 2, "step", "end")]
    for i, line in enumerate(lines):
        content += _curve(i, line, [(_x(x, x_ticks), _y(y, y_ticks)) for x, y in line.points])
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">'
            f"<title>{html.escape(printable(title))}</title><style>{STYLE}</style>"
            f'{"".join(content)}</svg>\n').encode("utf-8", "backslashreplace")


def _curve(i: int, line: Line, places: Sequence[tuple[float, float]]) -> list[str]:
    """The i-th: through `places` (pixels), with its row of the legend."""
    colour, dashes = COLOURS[i % len(COLOURS)], DASHES[i // len(COLOURS) % len(DASHES)]
    stroke = f'stroke="{colour}" stroke-width="1.6" stroke-dasharray="{dashes}"'
    points, y = " ".join(f"{x:.1f},{y:.1f}" for x, y in places), HEIGHT + LEGEND_ROW * i + 8
    return [f'<polyline fill="none" stroke-linejoin="round" {stroke} points="{points}"/>',
            *(f'<circle r="3" fill="{colour}" cx="{x:.1f}" cy="{y:.1f}"/>'
              for x, y in places[-1:]),   # one point alone is seen too
            f'<line {stroke} x1="{LEFT}" x2="{LEFT + 30}" y1="{y}" y2="{y}"/>',
            _text(LEFT + 40, y + 4, f"{line.name}: {line.note}")]


def is_svg_file(head: bytes) -> bool:
    return head.lstrip().startswith((b"<svg", b"<?xml"))


def _x(value: float, x_ticks: Sequence[float]) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * (value - x_ticks[0]) / (x_ticks[-1] - x_ticks[0])


def _y(value: float, y_ticks: Sequence[float]) -> float:
    fraction = (value - y_ticks[0]) / (y_ticks[-1] - y_ticks[0])
    return BOTTOM - (BOTTOM - TOP) * fraction


def _line(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return (f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">'
            f"{html.escape(printable(text))}</text>")
