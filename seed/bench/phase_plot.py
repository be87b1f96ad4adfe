"""A picture of phases: a bar of each one's time, and within it a bar of its ideal time."""
from collections.abc import Sequence
from typing import Protocol

from seed.evaluation.html_page import text
from seed.terminal import axes

WIDTH, LEFT, RIGHT, TOP, ROW = 760, 190, 60, 44, 22
BAR, INNER = 14, 6   # heights
MAX_TICKS = 8
STYLE = """
svg{--back:#f6f7f9;--text:#1b2027;--dim:#5a6470;--edge:#d9dee4;--bar:#1668a8;--ideal:#f5a35c}
@media(prefers-color-scheme:dark){svg{--back:#14181d;--text:#e6eaee;--dim:#9ba6b2;--edge:#38424d;
--bar:#6cb6f0;--ideal:#c2570c}}
text{font:13px system-ui,sans-serif;fill:var(--text)}.dim{fill:var(--dim)}
.back{fill:var(--back)}.rule{stroke:var(--edge)}.ms{fill:var(--bar)}.ideal{fill:var(--ideal)}
"""


class Row(Protocol):
    @property
    def phase(self) -> str: ...
    @property
    def ms(self) -> float: ...
    @property
    def ideal_ms(self) -> float: ...


def svg(rows: Sequence[Row], caption: str) -> str:
    """A file by itself, light or dark as the reader's."""
    bottom = TOP + ROW * len(rows)
    height = bottom + 46
    ticks = axes.ticks(0.0, max(max(row.ms, row.ideal_ms) for row in rows), MAX_TICKS)
    scale = (WIDTH - LEFT - RIGHT) / ticks[-1]
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
             f'width="{WIDTH}" height="{height}" role="img" '
             f'aria-label="phases of a training step beside their ideal time">',
             f"<style>{STYLE}</style>",
             f'<rect class="back" width="{WIDTH}" height="{height}" rx="8"/>',
             *_legend(), *_rules(ticks, scale, bottom)]
    for i, row in enumerate(rows):
        parts += _bars(row, TOP + ROW * i, scale)
    parts += [_text(WIDTH // 2, height - 8, caption, "middle", "dim"), "</svg>", ""]
    return "\n".join(parts)


def _legend() -> list[str]:
    return [_bar("ms", LEFT, 14, 24, BAR), _text(LEFT + 30, 26, "measured, ms a step"),
            _bar("ideal", LEFT + 180, 18, 24, INNER),
            _text(LEFT + 210, 26, "ideal: its multiply-adds at the peak from registers")]


def _rules(ticks: Sequence[float], scale: float, bottom: int) -> list[str]:
    parts = []
    for value, label in zip(ticks, axes.labels(ticks)):
        x = LEFT + scale * value
        parts += [f'<line class="rule" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 4}" y2="{bottom}"/>',
                  _text(x, bottom + 16, label, "middle", "dim")]
    return parts


def _bars(row: Row, y: int, scale: float) -> list[str]:
    parts = [_text(LEFT - 8, y + 12, row.phase, "end"), _bar("ms", LEFT, y, scale * row.ms, BAR)]
    if row.ideal_ms:
        parts.append(_bar("ideal", LEFT, y + (BAR - INNER) // 2, scale * row.ideal_ms, INNER))
    end = LEFT + scale * max(row.ms, row.ideal_ms)
    return [*parts, _text(end + 6, y + 12, f"{row.ms:.1f}", "start", "dim")]


def _bar(name: str, x: float, y: int, width: float, height: int) -> str:
    return (f'<rect class="{name}" x="{x:.1f}" y="{y}" width="{max(0.0, width):.1f}" '
            f'height="{height}"/>')


def _text(x: float, y: int, words: str, anchor: str = "start", name: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y}" text-anchor="{anchor}" class="{name}">{text(words)}</text>'
