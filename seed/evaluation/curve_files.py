"""Curves of several runs as a CSV file and as an SVG picture."""
import csv
import io
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from seed.errors import printable
from seed.evaluation.html_page import text
from seed.evaluation.svg_plot import HEIGHT, LEFT, WIDTH, Axis, drawing, key
from seed.storage.curves import Curve
from seed.terminal.plot import Line

FORMULA = ("=", "+", "-", "@", "\t", "\r")   # a spreadsheet runs a text that begins so
MAX_TIME_S = 253402300799.0                    # the end of the year 9999
LEGEND_ROW = 20   # pixels
COLOURS = ("#1668a8", "#c2570c", "#16794c", "#8a3ab9", "#b3261e", "#6b6b00")
# Without variables, which viewers of pictures do not know.
STYLE = ("text{font:12px system-ui,sans-serif;fill:#444}.axis{stroke:#666}.rule{stroke:#ddd}"
         "rect{fill:#fff}.line{fill:none;stroke-width:1.6;stroke-linejoin:round}"
         ".dashed{stroke-dasharray:6 3}" + "".join(
             f".c{i}{{stroke:{colour}}}.dot.c{i}{{fill:{colour}}}"
             for i, colour in enumerate(COLOURS)) +
         "@media(prefers-color-scheme:dark){text{fill:#ddd}.axis{stroke:#aaa}.rule{stroke:#444}"
         "rect{fill:#181818}}")


def csv_file(runs: Mapping[str, Mapping[str, Curve]]) -> bytes:
    """A row for each step of a run at which a curve has a point: run, step, time and the curves.

    What has no point there is blank. The time is ISO 8601 in UTC.
    """
    names = list(dict.fromkeys(name for curves in runs.values() for name in curves))
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
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
    return table.getvalue().encode("utf-8", "backslashreplace")


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
    title, height = printable(title), HEIGHT + LEGEND_ROW * len(lines)
    content = drawing(Axis("step"), Axis(title), [line.points for line in lines])
    for i, line in enumerate(lines):
        y = HEIGHT + LEGEND_ROW * i + 6
        content += (f'{key(i, LEFT, y)}<text x="{LEFT + 28}" y="{y + 4}">'
                    f'{text(printable(f"{line.name}: {line.note}"))}</text>')
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">'
            f'<title>{text(title)}</title><style>{STYLE}</style><rect width="{WIDTH}" '
            f'height="{height}"/>{content}</svg>\n').encode("utf-8", "backslashreplace")


def is_svg_file(head: bytes) -> bool:
    return head.lstrip().startswith((b"<svg", b"<?xml"))
