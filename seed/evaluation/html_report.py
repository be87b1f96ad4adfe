"""An examination as one HTML page that needs nothing else: tables, and plots drawn as SVG."""
import html
from collections.abc import Sequence
from typing import Any

from seed.curriculum.state import grade_of

STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:60em;margin:2em auto;padding:0 1em;
color:#222;background:#fff}h2{margin-top:2em}svg{max-width:100%;height:auto}
table{border-collapse:collapse}
td,th{padding:.15em .7em;text-align:right;border-bottom:1px solid #ddd}
td:first-child,th:first-child{text-align:left}.note{color:#666}"""
BAR, GAP, LEFT, WIDTH = 14, 6, 150, 520
SIDE = 260
COLOURS = ("#1b6ca8", "#2a9d8f", "#c77d0a", "#b23a48", "#6a4c93", "#444")   # of the grades


def bars(scores: Sequence[dict[str, Any]]) -> str:
    """One bar a task and level with its 95 % interval, and a mark at the chance level."""
    height = len(scores) * (BAR + GAP) + 20
    parts = []
    for i, s in enumerate(scores):
        y, (low, high) = i * (BAR + GAP), s["interval"]
        middle = y + BAR / 2
        parts.append(
            f'<text x="{LEFT - 8}" y="{y + 12}" text-anchor="end">{html.escape(s["task"])} '
            f'{s["level"]}</text><rect x="{LEFT}" y="{y}" width="{WIDTH * s["accuracy"]:.1f}" '
            f'height="{BAR}" fill="#4a7fb5"/><line x1="{LEFT + WIDTH * low:.1f}" '
            f'x2="{LEFT + WIDTH * high:.1f}" y1="{middle}" y2="{middle}" stroke="#222"/>'
            f'<line x1="{LEFT + WIDTH * s["chance"]:.1f}" x2="{LEFT + WIDTH * s["chance"]:.1f}" '
            f'y1="{y - 2}" y2="{y + BAR + 2}" stroke="#c33" stroke-width="2"/>'
            f'<text x="{LEFT + WIDTH + 8}" y="{y + 12}">{100 * s["accuracy"]:.1f} %</text>')
    return (f'<svg viewBox="0 0 {LEFT + WIDTH + 80} {height}" width="{LEFT + WIDTH + 80}" '
            f'font-size="12">{"".join(parts)}</svg>')


def line(xs: Sequence[float], ys: Sequence[float], top: float, colour: str = "#4a7fb5") -> str:
    """Through points whose x runs from 0 to 1 and whose y from 0 to `top`."""
    points = " ".join(f"{SIDE * x:.1f},{SIDE * (1 - min(1, y / top)):.1f}" for x, y in zip(xs, ys))
    return f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>'


def curve(*lines: str, diagonal: bool = False, legend: str = "") -> str:
    """Lines in a square."""
    ideal = f'<line x1="0" y1="{SIDE}" x2="{SIDE}" y2="0" stroke="#bbb"/>' if diagonal else ""
    width = SIDE + (240 if legend else 4)
    return (f'<svg viewBox="-2 -2 {width} {SIDE + 4}" width="{width}" font-size="12"><rect '
            f'width="{SIDE}" height="{SIDE}" fill="none" stroke="#999"/>{ideal}{"".join(lines)}'
            f'{legend}</svg>')


def school(exams: Sequence[dict[str, Any]]) -> str:
    """Mean accuracy of each grade at each of its examinations, against steps."""
    last, lines, legend = max(exam["step"] for exam in exams), [], ""
    for number, colour in enumerate(COLOURS, 1):
        means = [(exam["step"] / last, [sum(own) / len(own) for task, own in
                                        exam["accuracy"].items() if grade_of(task) == number])
                 for exam in exams]
        found = [(x, sum(own) / len(own)) for x, own in means if own]
        if found:
            lines.append(line([x for x, _ in found], [y for _, y in found], 1, colour))
            legend += (f'<text x="{SIDE + 10}" y="{18 * number}" fill="{colour}">grade {number}'
                       f'</text>')
    return curve(*lines, legend=legend)


def rounds(found: Sequence[dict[str, Any]]) -> str:
    """Of each task that plays: the share of its rounds that passed, against steps."""
    last, lines, legend = max(row["step"] for row in found), [], ""
    for i, (name, of_itself) in enumerate(dict.fromkeys(
            (row["task"], row["level"] == 0) for row in found)):
        own = [row for row in found if (row["task"], row["level"] == 0) == (name, of_itself)]
        colour = COLOURS[i % len(COLOURS)]
        lines.append(line([row["step"] / last for row in own], [row["rate"] for row in own], 1,
                          colour))
        legend += (f'<text x="{SIDE + 10}" y="{18 * (i + 1)}" fill="{colour}">'
                   f'{html.escape(name[-24:])}, '
                   f'{"its own" if of_itself else html.escape("level " + str(own[-1]["level"]))}'
                   f'</text>')
    return curve(*lines, legend=legend)


def teacher(found: Sequence[dict[str, Any]]) -> str:
    """What became of a teacher's replies."""
    replies = found[-1]["replies"]
    total = max(1, sum(replies.values()))
    return table(("reply", "count", "%"), [(reason, n, f"{100 * n / total:.1f}")
                                           for reason, n in sorted(replies.items())])


def losses(found: Sequence[tuple[int, float]], growth: Sequence[dict[str, Any]]) -> str:
    """Mean loss against steps, with a mark and the new count of parameters where a brain grew."""
    last, top = found[-1][0], 1.05 * max(loss for _, loss in found)
    marks = "".join(
        f'<line x1="{SIDE * row["step"] / last:.1f}" x2="{SIDE * row["step"] / last:.1f}" y1="0" '
        f'y2="{SIDE}" stroke="#c33"/><text x="{SIDE + 10}" y="{18 * (i + 1)}">step {row["step"]}: '
        f'{row["parameters"][1]:,} parameters</text>' for i, row in enumerate(growth))
    return curve(line([step / last for step, _ in found], [loss for _, loss in found], top),
                 legend=marks or " ")


def ladder(rows: Sequence[dict[str, Any]]) -> str:
    """A bar of memory for every rung that was tried, blue if it is stable; the tick is what was
    predicted from the others."""
    most = max(max(row["peak_mb"], row["predicted_mb"]) for row in rows)
    parts = []
    for i, row in enumerate(rows):
        y, scale = i * (BAR + GAP), WIDTH / 2 / most
        rate = f'{row["tokens_s"]:,.0f} tokens/s' if row["tokens_s"] else "no speed"
        colour, place = ("#b23a48" if row["fault"] else "#4a7fb5"), scale * row["predicted_mb"]
        parts.append(
            f'<text x="{LEFT - 8}" y="{y + 12}" text-anchor="end">{html.escape(row["size"])}</text>'
            f'<rect x="{LEFT}" y="{y}" width="{scale * row["peak_mb"]:.1f}" height="{BAR}" '
            f'fill="{colour}"/><line x1="{LEFT + place:.1f}" x2="{LEFT + place:.1f}" y1="{y - 2}" '
            f'y2="{y + BAR + 2}" stroke="#222" stroke-width="2"/><text x="{LEFT + WIDTH / 2 + 8}" '
            f'y="{y + 12}">{row["peak_mb"]:.0f} MB, {rate}. '
            f'{html.escape(row["fault"] or "stable")}</text>')
    return (f'<svg viewBox="0 0 {LEFT + 2 * WIDTH} {len(rows) * (BAR + GAP) + 4}" '
            f'width="{LEFT + 2 * WIDTH}" font-size="12">{"".join(parts)}</svg>')


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    def cells(row: Sequence[object], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(str(c))}</{tag}>" for c in row) + "</tr>"
    return f"<table>{cells(head, 'th')}{''.join(cells(row, 'td') for row in rows)}</table>"


def page(found: dict[str, Any]) -> str:
    """The page of what `seed eval --json` prints."""
    parts = [f"<h1>{html.escape(found['profile'])} at step {found['step']}</h1>",
             '<p class="note">Bars: exact match on items never trained on; black line: 95 % '
             'interval; red mark: the chance level.</p>']
    if found["ladder"]:
        parts += ["<h2>Ladder</h2><p class=note>Sizes that were tried on this board (width x "
                  "layers, batch): memory of a training, black what was predicted from the others."
                  "</p>", ladder(found["ladder"])]
    if found["losses"]:
        parts += [f"<h2>Loss</h2><p class=note>Mean over parts of the run, up to step "
                  f"{found['losses'][-1][0]}; red: the brain grew.</p>",
                  losses(found["losses"], found["growth"])]
    if found["curriculum"]:
        parts += [f"<h2>Curriculum</h2><p class=note>Accuracy in the school's own examinations, up to "
                  f"step {found['curriculum'][-1]['step']}.</p>", school(found["curriculum"])]
    if found["rounds"]:
        parts += [f"<h2>Self-play</h2><p class=note>Share of the answers that passed, up to step "
                  f"{found['rounds'][-1]['step']}.</p>", rounds(found["rounds"])]
    if found["teacher"]:
        parts += ["<h2>Teacher</h2><p class=note>What became of its replies in this part of the "
                  "run.</p>", teacher(found["teacher"])]
    for name in ("holdout", "extrapolation", "selfplay"):
        if found.get(name):
            parts += [f"<h2>{name.capitalize()}</h2>", bars(found[name])]
    parts += ["<h2>Of one mind</h2><p class=note>The same question alone, after one lesson and "
              "after three.</p>",
              table(("task", "asked", "same answer", "right each time"),
                    [(c["task"], c["asked"], c["same"], c["right"]) for c in found["consistency"]])]
    sure = found["calibration"]
    used = [i for i, n in enumerate(sure["count"]) if n]
    parts += [f"<h2>As right as it is sure</h2><p class=note>Share of right answer bytes against "
              f"the probability given to them; expected calibration error "
              f"{100 * sure['error']:.1f} %, loss {sure['loss']:.4f} nats a byte.</p>",
              curve(line([sure["confidence"][i] for i in used],
                         [sure["accuracy"][i] for i in used], 1), diagonal=True)]
    free = found["stability"]
    top = 1.1 * max([*free["norms"], 1e-9]) if free["finite"] else 1.0
    places = [i / max(1, len(free["norms"]) - 1) for i in range(len(free["norms"]))]
    parts += [f"<h2>Talking to itself</h2><p class=note>{free['steps']} bytes at temperature 1; "
              f"{'all states finite' if free['finite'] else 'NOT FINITE'}; "
              f"{100 * free['repetition']:.1f} % of pieces of 8 bytes came before. Root mean "
              f"square of the states, up to {top:.2f}:</p>"]
    if free["finite"]:
        parts.append(curve(line(places, free["norms"], top)))
    return (f'<!doctype html><html lang="en"><meta charset="utf-8"><title>seed</title>'
            f"<style>{STYLE}</style>{''.join(parts)}</html>\n")
