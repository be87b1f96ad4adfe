"""An evaluation as one self-contained HTML page: tables, and plots drawn as SVG."""
import html
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from statistics import fmean
from typing import Any

from seed.curriculum.state import grade_of
from seed.curriculum.task import PROPOSED_LEVEL

STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:60em;margin:2em auto;padding:0 1em;
color:#222;background:#fff}h2{margin-top:2em}svg{max-width:100%;height:auto}
table{border-collapse:collapse}
td,th{padding:.15em .7em;text-align:right;border-bottom:1px solid #ddd}
td:first-child,th:first-child{text-align:left}.note{color:#666}"""
BAR, GAP, LEFT, WIDTH = 14, 6, 150, 520   # pixels of bar plots
SIDE, LEGEND = 260, 240                   # pixels of a square plot, and of a legend beside it
BLACK, BLUE, RED = "#222", "#4a7fb5", "#b23a48"
COLOURS = ("#1b6ca8", "#2a9d8f", "#c77d0a", "#b23a48", "#6a4c93", "#444")
MAX_GROWTHS = 100
DIAGONAL = f'<line x1="0" y1="{SIDE}" x2="{SIDE}" y2="0" stroke="#bbb"/>'


def svg(width: int, height: int, content: str, box: str = "0 0") -> str:
    return f'<svg viewBox="{box} {width} {height}" width="{width}" font-size="12">{content}</svg>'


def bar(i: int, label: str, length: float, tick: float, width: int, text: str, colour: str = BLUE,
        tick_colour: str = RED) -> str:
    """The i-th bar of a plot: a label, `length` pixels of `width`, a tick across, a text beside."""
    y, x = i * (BAR + GAP), f"{LEFT + tick:.1f}"
    return (f'<text x="{LEFT - 8}" y="{y + 12}" text-anchor="end">{html.escape(label)}</text>'
            f'<rect x="{LEFT}" y="{y}" width="{length:.1f}" height="{BAR}" fill="{colour}"/>'
            f'<line x1="{x}" x2="{x}" y1="{y - 2}" y2="{y + BAR + 2}" stroke="{tick_colour}" '
            f'stroke-width="2"/>'
            f'<text x="{LEFT + width + 8}" y="{y + 12}">{html.escape(text)}</text>')


def score_bars(scores: Sequence[dict[str, Any]]) -> str:
    """One bar per task and level with its 95 % interval, and a tick at the chance level."""
    content = ""
    for i, s in enumerate(scores):
        y, (low, high) = i * (BAR + GAP) + BAR / 2, s["interval"]
        content += bar(i, f"{s['task']} {s['level']}", WIDTH * s["accuracy"], WIDTH * s["chance"],
                       WIDTH, f"{100 * s['accuracy']:.1f} %")
        content += (f'<line x1="{LEFT + WIDTH * low:.1f}" x2="{LEFT + WIDTH * high:.1f}" y1="{y}" '
                    f'y2="{y}" stroke="{BLACK}"/>')
    return svg(LEFT + WIDTH + 80, len(scores) * (BAR + GAP) + 20, content)


def line(points: Iterable[tuple[float, float]], width: float, top: float,
         colour: str = BLUE) -> str:
    """A line through points with x from 0 to `width` and y from 0 to `top`."""
    places = " ".join(f"{SIDE * x / width:.1f},{SIDE * (1 - min(1, y / top)):.1f}"
                      for x, y in points)
    return f'<polyline points="{places}" fill="none" stroke="{colour}" stroke-width="2"/>'


def plot(lines: str, legend: Sequence[tuple[str, str]] = ()) -> str:
    """Lines in a square; beside it a legend of (text, colour)."""
    content = f'<rect width="{SIDE}" height="{SIDE}" fill="none" stroke="#999"/>{lines}'
    for i, (text, colour) in enumerate(legend, 1):
        content += f'<text x="{SIDE + 10}" y="{18 * i}" fill="{colour}">{html.escape(text)}</text>'
    return svg(SIDE + (LEGEND if legend else 4), SIDE + 4, content, "-2 -2")


def curves(named_points: Sequence[tuple[str, list[tuple[int, float]]]]) -> str:
    """Fractions against steps: a curve for each name."""
    last_step = max(1, *(step for _, points in named_points for step, _ in points))
    lines, legend = "", [(f"up to step {last_step}", BLACK)]
    for i, (name, points) in enumerate(named_points):
        colour = COLOURS[i % len(COLOURS)]
        lines += line(points, last_step, 1, colour)
        legend.append((name, colour))
    return plot(lines, legend)


def curriculum_plot(rows: Sequence[dict[str, Any]]) -> str:
    """Mean accuracy of each grade at each evaluation of the curriculum, against steps."""
    points: dict[int, list[tuple[int, float]]] = {}
    for row in rows:
        means: dict[int, list[float]] = {}
        for task, levels in row["accuracy"].items():
            means.setdefault(grade_of(task), []).append(fmean(levels))
        for grade, tasks in means.items():
            points.setdefault(grade, []).append((row["step"], fmean(tasks)))
    return curves([(f"grade {grade}" if grade else "your tasks", points[grade])
                   for grade in sorted(points)])


def selfplay_plot(rows: Sequence[dict[str, Any]]) -> str:
    """The accept rate of each task's rounds, against steps."""
    rounds: dict[tuple[str, bool], list[tuple[int, float]]] = {}
    names: dict[tuple[str, bool], str] = {}
    for row in rows:
        key = row["task"], row["level"] == PROPOSED_LEVEL
        level = "proposed" if row["level"] == PROPOSED_LEVEL else f"level {row['level']}"
        names[key] = f"{row['task'][-24:]}, {level}"   # with the level of the last round
        rounds.setdefault(key, []).append((row["step"], row["accept_rate"]))
    return curves([(names[key], points) for key, points in rounds.items()])


def teacher_table(rows: Sequence[dict[str, Any]]) -> str:
    """How many of the teacher's replies were accepted, and why others were not."""
    step, replies = rows[-1]["step"], rows[-1]["replies"]
    total = max(1, sum(replies.values()))
    return table(("reply", f"count up to step {step}", "%"), [
        (reason, n, f"{100 * n / total:.1f}") for reason, n in sorted(replies.items())])


def loss_plot(losses: Sequence[tuple[int, float]], growth: Sequence[dict[str, Any]]) -> str:
    """Mean loss against steps; a mark and the new parameter count where the brain grew."""
    last_step = max(1, *(step for step, _ in losses))
    lines = line(losses, last_step, 1.05 * max(1e-9, *(loss for _, loss in losses)))
    legend = [(f"up to step {last_step}", BLACK)]
    for row in growth[-MAX_GROWTHS:]:
        x = f"{SIDE * row['step'] / last_step:.1f}"
        lines += f'<line x1="{x}" x2="{x}" y1="0" y2="{SIDE}" stroke="{RED}"/>'
        legend.append((f"step {row['step']}: {row['parameters'][1]:,} parameters", BLACK))
    return plot(lines, legend)


def size_search_plot(rows: Sequence[dict[str, Any]]) -> str:
    """Memory of each size tried, blue if stable; the tick is what the others predicted."""
    width, content = WIDTH // 2, ""
    scale = width / max(1e-9, *(max(row["peak_mb"], row["predicted_mb"]) for row in rows))
    for i, row in enumerate(rows):
        rate = f'{row["tokens_s"]:,.0f} tokens/s' if row["tokens_s"] else "speed unknown"
        content += bar(i, row["size"], scale * row["peak_mb"], scale * row["predicted_mb"], width,
                       f"{row['peak_mb']:.0f} MB, {rate}. {row['fault'] or 'stable'}",
                       RED if row["fault"] else BLUE, BLACK)
    return svg(LEFT + 2 * WIDTH, len(rows) * (BAR + GAP) + 4, content)


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    def cells(row: Sequence[object], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(str(c))}</{tag}>" for c in row) + "</tr>"
    return f"<table>{cells(head, 'th')}{''.join(cells(row, 'td') for row in rows)}</table>"


def section(title: str, note: str, content: str) -> str:
    return f"<h2>{title}</h2><p class=note>{note}</p>{content}"


def history_sections(results: dict[str, Any]) -> str:
    """What is known of the run so far; empty where nothing is."""
    history = results["history"]
    plots: tuple[tuple[str, str, Callable[..., str], Sequence[Any]], ...] = (
        ("Size search", "Sizes tried on this board (width x layers, batch): memory of a training; "
         "black tick: predicted from the others.", size_search_plot, results["size_search"]),
        ("Loss", "Mean over parts of the run; red: the brain grew.",
         partial(loss_plot, growth=history["grow"]), history["loss"]),
        ("Curriculum", "Accuracy in its evaluations.", curriculum_plot, history["curriculum"]),
        ("Self-play", "Fraction of answers that were accepted.", selfplay_plot,
         history["selfplay"]),
        ("Teacher", "Its replies in this part of the run.", teacher_table, history["teacher"]))
    return "".join([section(title, note, plot_fn(rows)) for title, note, plot_fn, rows in plots
                    if rows])


def reliability_sections(results: dict[str, Any]) -> str:
    calibration, stability = results["calibration"], results["stability"]
    rows = [(c["task"], c["questions"], c["same"], c["right"]) for c in results["consistency"]]
    bins = zip(calibration["count"], calibration["confidence"], calibration["accuracy"])
    state_rms, finite = stability["state_rms"], stability["finite"]
    top = 1.1 * max([*state_rms, 1e-9]) if finite else 1.0
    return section(
        "Consistency", "The same question alone, after one other item and after three.",
        table(("task", "questions", "same answer", "right each time"), rows)) + section(
        "Calibration", f"Fraction of right answer bytes against the probability given to them; "
        f"expected calibration error {100 * calibration['error']:.1f} %, loss "
        f"{calibration['loss']:.4f} nats per byte.",
        plot(DIAGONAL + line([(c, a) for n, c, a in bins if n], 1, 1))) + section(
        "Stability", f"Free run of {stability['steps']} bytes at temperature 1; "
        f"{'all states finite' if finite else 'NOT FINITE'}; "
        f"{100 * stability['repetition']:.1f} % of 8-byte pieces repeated. Root mean square of the "
        f"states, up to {top:.2f}:",
        plot(line(enumerate(state_rms), max(1, len(state_rms) - 1), top)) if finite else "")


def page(results: dict[str, Any]) -> str:
    """The page of what `evaluate_brain` returns."""
    scores = "".join(f"<h2>{name.capitalize()}</h2>{score_bars(results[name])}"
                     for name in ("holdout", "extrapolation", "selfplay") if results[name])
    title = f"{html.escape(results['profile'])} at step {results['step']}"
    return (f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
            f'<style>{STYLE}</style><h1>{title}</h1><p class="note">Bars: exact match on items '
            f'never trained on; black line: 95 % interval; red mark: the chance level.</p>'
            f'{history_sections(results)}{scores}{reliability_sections(results)}</html>\n')
