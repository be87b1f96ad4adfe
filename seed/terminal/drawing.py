"""Bars, small curves and lines of fields, in characters, within a width."""
from collections.abc import Sequence

EIGHTHS = " ▏▎▍▌▋▊▉"   # of a character
HEIGHTS = "▁▂▃▄▅▆▇"
ASCII = str.maketrans({
    "█": "#", "░": ".", "▕": "[", "▏": "|", "▎": "|", "▍": "|", "▌": "|", "▋": "|", "▊": "|",
    "▉": "#", "▁": "_", "▂": "_", "▃": "-", "▄": "-", "▅": "=", "▆": "=", "▇": "#", "·": "-",
    "°": " ", "▲": "^", "✓": "v", "✗": "x", "→": ">", "…": "."})


def bar(fraction: float, width: int) -> str:
    """`width` characters, of which a fraction is filled."""
    full = round(max(0.0, min(1.0, fraction)) * width)
    return "█" * full + "░" * (width - full)


def fine_bar(fraction: float, width: int) -> str:
    """As `bar` in steps of an eighth of a character; what is not filled is blank."""
    eighths = round(max(0.0, min(1.0, fraction)) * width * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (EIGHTHS[rest] if rest else "")).ljust(width)


def curve(values: Sequence[float], width: int) -> str:
    """The values as heights, from the least to the greatest: the means of equal parts if there are
    more than `width`."""
    if not values or width < 1:
        return ""
    n = min(width, len(values))
    ends = [len(values) * i // n for i in range(n + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in zip(ends, ends[1:])]
    low, high = min(means), max(means)
    scale = (len(HEIGHTS) - 1) / (high - low) if high > low else 0.0
    return "".join(HEIGHTS[round((mean - low) * scale)] for mean in means)


def fit(fields: Sequence[str], width: int, gap: str = "   ") -> str:
    """The first fields, as many as fit; the very first is cut if even that is too long."""
    text = ""
    for i, field in enumerate(filter(None, fields)):
        longer = text + gap + field if i else field
        if len(longer) > width:
            return text or cut(field, width)
        text = longer
    return text


def cut(text: str, width: int) -> str:
    """With a mark where something is left out."""
    return text if len(text) <= width else text[:max(0, width - 1)] + "…"[:width]


def between(left: str, right: str, width: int) -> str:
    """One text at each end; the right one is left out where it does not fit."""
    if len(left) + 2 + len(right) > width:
        return cut(left, width)
    return left + right.rjust(width - len(left))
