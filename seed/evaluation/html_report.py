"""An evaluation as one self-contained HTML page: tables, and plots drawn as SVG."""
import html
from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import Any

from seed.curriculum.state import grade_of

STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:60em;margin:2em auto;padding:0 1em;
color:#222;background:#fff}h2{margin-top:2em}svg{max-width:100%;height:auto}
table{border-collapse:collapse}
td,th{padding:.15em .7em;text-align:right;border-bottom:1px solid #ddd}
td:first-child,th:first-child{text-align:left}.note{color:#666}"""
BAR, GAP, LEFT, WIDTH = 14, 6, 150, 520   # pixels of bar plots
SIDE, LEGEND = 260, 240                   # pixels of a square plot, and of a legend beside it
BLUE, RED = "#4a7fb5", "#b23a48"
COLOURS = ("#1b6ca8", "#2a9d8f", "#c77d0a", "#b23a48", "#6a4c93", "#444")
DIAGONAL = f'<line x1="0" y1="{SIDE}" x2="{SIDE}" y2="0" stroke="#bbb"/>'


def svg(width: int, height: int, content: str, box: str = "0 0") -> str:
    return f'<svg viewBox="{box} {width} {height}" width="{width}" font-size="12">{content}</svg>'


def bars(scores: Sequence[dict[str, Any]]) -> str:
    """One bar per task and level with its 95 % interval, and a mark at the chance level."""
    parts = []
    for i, s in enumerate(scores):
        y, (low, high) = i * (BAR + GAP), s["interval"]
        middle = y + BAR / 2
        parts.append(
            f'<text x="{LEFT - 8}" y="{y + 12}" text-anchor="end">{html.escape(s["task"])} '
            f'{s["level"]}</text><rect x="{LEFT}" y="{y}" width="{WIDTH * s["accuracy"]:.1f}" '
            f'height="{BAR}" fill="{BLUE}"/><line x1="{LEFT + WIDTH * low:.1f}" '
            f'x2="{LEFT + WIDTH * high:.1f}" y1="{middle}" y2="{middle}" stroke="#222"/>'
            f'<line x1="{LEFT + WIDTH * s["chance"]:.1f}" x2="{LEFT + WIDTH * s["chance"]:.1f}" '
            f'y1="{y - 2}" y2="{y + BAR + 2}" stroke="#c33" stroke-width="2"/>'
            f'<text x="{LEFT + WIDTH + 8}" y="{y + 12}">{100 * s["accuracy"]:.1f} %</text>')
    return svg(LEFT + WIDTH + 80, len(scores) * (BAR + GAP) + 20, "".join(parts))


def line(points: Iterable[tuple[float, float]], width: float, top: float,
         colour: str = BLUE) -> str:
    """A line through points with x from 0 to `width` and y from 0 to `top`."""
    places = " ".join(f"{SIDE * x / width:.1f},{SIDE * (1 - min(1, y / top)):.1f}"
                      for x, y in points)
    return f'<polyline points="{places}" fill="none" stroke="{colour}" stroke-width="2"/>'


def plot(lines: str, margin: int = 4) -> str:
    """Lines in a square, with a margin for a legend."""
    frame = f'<rect width="{SIDE}" height="{SIDE}" fill="none" stroke="#999"/>'
    return svg(SIDE + margin, SIDE + 4, frame + lines, "-2 -2")


def legend_entry(row: int, text: str, colour: str = "#000") -> str:
    text = html.escape(text)
    return f'<text x="{SIDE + 10}" y="{18 * (row + 1)}" fill="{colour}">{text}</text>'


def curves(named_points: Sequence[tuple[str, list[tuple[int, float]]]]) -> str:
    """Fractions against steps: a curve for each name that has points."""
    last_step = max(step for _, points in named_points for step, _ in points)
    lines, legend = "", ""
    for i, (name, points) in enumerate(named_points):
        if points:
            colour = COLOURS[i % len(COLOURS)]
            lines += line(points, last_step, 1, colour)
            legend += legend_entry(i, name, colour)
    return plot(lines + legend, LEGEND)


def curriculum_plot(rows: Sequence[dict[str, Any]]) -> str:
    """Mean accuracy of each grade at each evaluation of the curriculum, against steps."""
    grades: dict[int, list[tuple[int, float]]] = {i + 1: [] for i in range(len(COLOURS))}
    for row in rows:
        for grade, points in grades.items():
            means = [fmean(levels) for task, levels in row["accuracy"].items()
                     if grade_of(task) == grade]
            if means:
                points.append((row["step"], fmean(means)))
    return curves([(f"grade {grade}", points) for grade, points in grades.items()])


def selfplay_plot(rows: Sequence[dict[str, Any]]) -> str:
    """The accept rate of each task's rounds, against steps."""
    rounds: dict[tuple[str, bool], list[tuple[int, float]]] = {}
    names: dict[tuple[str, bool], str] = {}
    for row in rows:
        key = row["task"], row["level"] == 0
        level = f"level {row['level']}" if row["level"] else "self-asked"
        names[key] = f"{row['task'][-24:]}, {level}"   # with the level of the last round
        rounds.setdefault(key, []).append((row["step"], row["accept_rate"]))
    return curves([(names[key], points) for key, points in rounds.items()])


def teacher_table(rows: Sequence[dict[str, Any]]) -> str:
    """How many of the teacher's replies were accepted, and why others were not."""
    replies = rows[-1]["replies"]
    total = max(1, sum(replies.values()))
    return table(("reply", "count", "%"), [(reason, n, f"{100 * n / total:.1f}")
                                           for reason, n in sorted(replies.items())])


def loss_plot(losses: Sequence[tuple[int, float]], growth: Sequence[dict[str, Any]]) -> str:
    """Mean loss against steps; a mark and the new parameter count where the brain grew."""
    last_step = losses[-1][0]
    lines = line(losses, last_step, 1.05 * max(loss for _, loss in losses))
    for i, row in enumerate(growth):
        x = f"{SIDE * row['step'] / last_step:.1f}"
        lines += f'<line x1="{x}" x2="{x}" y1="0" y2="{SIDE}" stroke="#c33"/>'
        lines += legend_entry(i, f'step {row["step"]}: {row["parameters"][1]:,} parameters')
    return plot(lines, LEGEND)


def size_search_plot(rows: Sequence[dict[str, Any]]) -> str:
    """Memory of each size tried, blue if stable; the tick is what the others predicted."""
    scale = WIDTH / 2 / max(max(row["peak_mb"], row["predicted_mb"]) for row in rows)
    parts = []
    for i, row in enumerate(rows):
        y, tick_x = i * (BAR + GAP), LEFT + scale * row["predicted_mb"]
        rate = f'{row["tokens_s"]:,.0f} tokens/s' if row["tokens_s"] else "speed unknown"
        parts.append(
            f'<text x="{LEFT - 8}" y="{y + 12}" text-anchor="end">{html.escape(row["size"])}</text>'
            f'<rect x="{LEFT}" y="{y}" width="{scale * row["peak_mb"]:.1f}" height="{BAR}" '
            f'fill="{RED if row["fault"] else BLUE}"/><line x1="{tick_x:.1f}" x2="{tick_x:.1f}" '
            f'y1="{y - 2}" y2="{y + BAR + 2}" stroke="#222" stroke-width="2"/><text '
            f'x="{LEFT + WIDTH / 2 + 8}" y="{y + 12}">{row["peak_mb"]:.0f} MB, {rate}. '
            f'{html.escape(row["fault"] or "stable")}</text>')
    return svg(LEFT + 2 * WIDTH, len(rows) * (BAR + GAP) + 4, "".join(parts))


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    def cells(row: Sequence[object], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(str(c))}</{tag}>" for c in row) + "</tr>"
    return f"<table>{cells(head, 'th')}{''.join(cells(row, 'td') for row in rows)}</table>"


def section(title: str, note: str, content: str) -> str:
    return f"<h2>{title}</h2><p class=note>{note}</p>{content}"


def history_sections(results: dict[str, Any]) -> str:
    """Of the run so far, as far as there is any."""
    history, text = results["history"], ""
    if results["size_search"]:
        text += section("Size search", "Sizes tried on this board (width x layers, batch): memory "
                        "of a training; black tick: predicted from the others.",
                        size_search_plot(results["size_search"]))
    if history["loss"]:
        text += section("Loss", f"Mean over parts of the run, up to step {history['loss'][-1][0]}; "
                        f"red: the brain grew.", loss_plot(history["loss"], history["grow"]))
    for name, title, note, plot_fn in (
            ("curriculum", "Curriculum", "Accuracy in its evaluations", curriculum_plot),
            ("selfplay", "Self-play", "Fraction of the answers that were accepted", selfplay_plot),
            ("teacher", "Teacher", "Its replies in this part of the run", teacher_table)):
        if history[name]:
            note += f", up to step {history[name][-1]['step']}."
            text += section(title, note, plot_fn(history[name]))
    return text


def reliability_sections(results: dict[str, Any]) -> str:
    calibration, stability = results["calibration"], results["stability"]
    bins = zip(calibration["count"], calibration["confidence"], calibration["accuracy"])
    norms, finite = stability["norms"], stability["finite"]
    top = 1.1 * max([*norms, 1e-9]) if finite else 1.0
    return section(
        "Consistency", "The same question alone, after one other item and after three.",
        table(("task", "questions", "same answer", "right each time"),
              [(c["task"], c["questions"], c["same"], c["right"])
               for c in results["consistency"]])) + section(
        "Calibration", f"Fraction of right answer bytes against the probability given to them; "
        f"expected calibration error {100 * calibration['error']:.1f} %, loss "
        f"{calibration['loss']:.4f} nats per byte.",
        plot(DIAGONAL + line([(c, a) for n, c, a in bins if n], 1, 1))) + section(
        "Stability", f"Free run of {stability['steps']} bytes at temperature 1; "
        f"{'all states finite' if finite else 'NOT FINITE'}; "
        f"{100 * stability['repetition']:.1f} % of 8-byte pieces repeated. Root mean square of the "
        f"states, up to {top:.2f}:",
        plot(line(enumerate(norms), max(1, len(norms) - 1), top)) if finite else "")


def page(results: dict[str, Any]) -> str:
    """The page of what `evaluate_brain` returns."""
    scores = "".join(f"<h2>{name.capitalize()}</h2>{bars(results[name])}"
                     for name in ("holdout", "extrapolation", "selfplay") if results[name])
    title = f"{html.escape(results['profile'])} at step {results['step']}"
    return (f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
            f'<style>{STYLE}</style><h1>{title}</h1><p class="note">Bars: exact match on items '
            f'never trained on; black line: 95 % interval; red mark: the chance level.</p>'
            f'{history_sections(results)}{scores}{reliability_sections(results)}</html>\n')
