"""A run as one self-contained HTML page: what it is, its curves, what it can and what it cannot."""
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seed.body.results import shown
from seed.evaluation import confidence, score_cards
from seed.evaluation.html_page import document, encoded, facts, section, table, text
from seed.evaluation.run_facts import RunFacts, read_run
from seed.evaluation.run_history import RunHistory
from seed.evaluation.score_cards import percent
from seed.evaluation.score_summary import Measured
from seed.evaluation.svg_plot import Axis, Mark, Points, plot
from seed.storage import RunDir, atomic_file
from seed.storage.curves import Curve
from seed.storage.output_file import check_output
from seed.task_names import short
from seed.terminal_text import duration

MAX_BODIES, MAX_SIZES, MAX_POINTS = 32, 60, 256   # that are shown
UNKNOWN = "unknown"
NOTHING: Mapping[str, Any] = {}


def page(run: RunFacts, results: Mapping[str, Any] | None = None, head: str = "",
         top: str = "") -> str:
    """`results` of evaluate_brain; without them, those that the training has recorded. `head` and
    `top` are HTML of who shows the page."""
    evaluation = run.history.evaluation or {"step": 0, "scores": []}
    measured = Measured.from_dicts(results["holdout"] if results else evaluation["scores"],
                                   (results or evaluation).get("uniform", []))
    examples = (results or evaluation).get("examples", [])
    step = results["step"] if results else evaluation["step"]
    title = f"{run.name}: {run.profile or 'a brain'}"
    content = "".join([
        f"{top}<h1>{text(run.name)}</h1>", _summary(run, measured, evaluation),
        section("How it went", _marks_note(run.history), _plots(run.history)),
        section("What it knows", f"At step {step:,}, of questions that it was never trained on. "
                "Bar: answers that are right to the last byte, the mean of levels; line: 95 % "
                "interval; mark: guessing. Levels overlap: what is short is in each of them, so "
                "below are the hardest level and questions drawn uniformly from all that a task "
                "states.", score_cards.cards(measured, examples) if measured.levels else ""),
        _bodies(evaluation), _more_scores(results or NOTHING), _reliability(results or NOTHING),
        _teacher(run.history.teacher), _sizes(run.sizes)])
    return document(title, content, head)


def _summary(run: RunFacts, measured: Measured, evaluation: Mapping[str, Any]) -> str:
    history, results = run.history, list[tuple[str, str]]()
    if measured.summary:
        whole, hardest, uniform = measured.summary
        results += [("right, mean of levels", percent(whole.accuracy)),
                    ("guessing", percent(whole.chance)),
                    ("right, hardest levels", percent(hardest.accuracy)),
                    ("right, uniform draws", percent(uniform.accuracy) if uniform else UNKNOWN)]
    results += [(f"{short(row['body'])}, return", shown(row["mean"]))
                for row in evaluation.get("returns", [])[:MAX_BODIES]]
    total = f" of {run.total_steps:,}" if run.total_steps else ""
    step = history.step if run.step is None else run.step
    ended = history.ended_s and time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(history.ended_s))
    trained_s = history.evaluation.get("elapsed_s")
    trained_s = history.trained_s if trained_s is None else trained_s
    head = (facts(results, is_big=True) if results else
            '<p class="note">It was not evaluated yet.</p>')
    return head + facts([
        ("profile", run.profile or UNKNOWN),
        ("parameters", f"{run.parameters:,}" if run.parameters else UNKNOWN),
        ("steps", f"{step:,}{total}"),
        ("board", history.evaluation.get("board") or UNKNOWN),
        ("last line written", ended or UNKNOWN),
        ("trained for", UNKNOWN if trained_s is None else duration(trained_s)),
        ("hottest", _number(history.max_temp_c, "°C")),
        ("most memory", _number(history.max_memory_mb, "MB"))])


def _number(value: float | None, unit: str) -> str:
    return UNKNOWN if value is None else f"{value:,.0f}\u00a0{unit}"


def _marks_note(history: RunHistory) -> str:
    notes = [f"a harder grade was unlocked, the first one at step {history.unlocks[0].step:,}"
             if history.unlocks else "",
             f"the brain grew, to {history.growths[-1].parameters:,} parameters at last"
             if history.growths else ""]
    return f"Dashed lines: {'; '.join(filter(None, notes))}." if any(notes) else ""


def _points(curve: Curve) -> Points:
    return curve.reduced(MAX_POINTS)


def _steps(history: RunHistory) -> Axis:
    return Axis("step", low=0, high=max(1, history.step))


def _unlocks(history: RunHistory) -> list[Mark]:
    return [Mark(unlock.step, str(unlock.grade)) for unlock in history.unlocks]


def loss_plot(history: RunHistory) -> str:
    grown = [Mark(growth.step, "grew") for growth in history.growths]
    return plot("Loss", _steps(history), Axis("loss, nats", low=0),
                [("loss", _points(history.loss))], [*_unlocks(history), *grown])


def return_plots(history: RunHistory) -> list[str]:
    """One for each body."""
    return [plot(f"{short(name)}: return of its rounds", Axis("round"), Axis("mean return"),
                 [(name, _points(curve))]) for name, curve in history.bodies.items()]


def _plots(history: RunHistory) -> str:
    steps = _steps(history)
    fraction = Axis("right, %", 0, 1, scale=100)
    plots = [
        loss_plot(history),
        plot("Right answers in its evaluations", steps, fraction,
             [(f"grade {grade}" if grade else "your tasks", _points(curve))
              for grade, curve in sorted(history.grades.items())], _unlocks(history)),
        *return_plots(history),
        plot("Self-play: answers that were accepted", steps, fraction._replace(name="accepted, %"),
             [(series.name, _points(series.curve)) for series in history.selfplay.values()]),
        plot("Temperature", steps, Axis("hottest zone, °C"),
             [("temperature", _points(history.temp_c))]),
        plot("Speed", steps, Axis("tokens a second", low=0),
             [("speed", _points(history.tokens_per_s))])]
    return f'<div class="grid plots">{"".join(plots)}</div>' if any(plots) else ""


def _bodies(evaluation: Mapping[str, Any]) -> str:
    returns = [(short(row["body"]), shown(row["mean"]), _interval(row), shown(row["least"]),
                "" if row["success"] is None else percent(row["success"]), row["episodes"])
               for row in evaluation.get("returns", [])[:MAX_BODIES]]
    choices = [(short(row["body"]), percent(row["accuracy"]), f"{row['ticks']:,}", row["data"])
               for row in evaluation.get("choices", [])[:MAX_BODIES]]
    head = "body", "return", "95 % interval", "least", "success", "episodes"
    return section("How it acts", f"Return of unseen episodes at step {evaluation['step']:,}.",
                   table(head, returns) if returns else "") + section(
        "Choices as recorded", "How often its likeliest choice is the recorded one, in episodes "
        "that were held out.", table(("body", "as recorded", "ticks", "episodes"), choices)
        if choices else "")


def _interval(row: Mapping[str, Any]) -> str:
    low, high = row["mean"] - row["half_interval"], row["mean"] + row["half_interval"]
    return f"{shown(low)} to {shown(high)}"


def _more_scores(results: Mapping[str, Any]) -> str:
    return "".join(section(title, note, score_cards.cards(
        Measured.from_dicts(results[name])) if results[name] else "")
        for name, title, note in (
            ("extrapolation", "Longer than it was trained on", ""),
            ("selfplay", "Levels of self-play", "Longer questions, which it trained by asking "
             "itself.")) if name in results)


def _reliability(results: Mapping[str, Any]) -> str:
    if not results:
        return ""
    calibration, stability = results["confidence"]["calibration"], results["stability"]
    rows = [(short(c["task"]), c["questions"], c["same"], c["right"])
            for c in results["consistency"][:score_cards.MAX_TASKS]]
    bins = [(c, a) for n, c, a in zip(calibration["count"], calibration["confidence"],
                                      calibration["accuracy"]) if n]
    finite, sizes = stability["finite"], stability["state_rms"]
    states = [((i + 1) * stability["steps"] / len(sizes), size) for i, size in enumerate(sizes)]
    return section(
        "Consistency", "The same question alone, after one other item and after three.",
        table(("task", "questions", "same answer", "right each time"), rows)) + section(
        "Confidence", "The probability that it gives to its whole answers. AUROC: how often a "
        "right one has more than a wrong one. Expected calibration error "
        f"{percent(calibration['error'])}; thin line: as sure as it is right.",
        table(("answers to", *confidence.HEAD), _confidence_rows(results["confidence"]))
        + '<div class="grid plots">' + plot(
            "Right answers against the confidence in them", Axis("confidence, %", 0, 1, 100),
            Axis("right, %", 0, 1, 100), [("answers", bins)], diagonal=True) + "</div>") + section(
        "Stability", f"Free run of {stability['steps']:,} bytes at temperature 1; "
        f"{'all states finite' if finite else 'NOT FINITE'}; {percent(stability['repetition'])} of "
        "8-byte pieces repeated.", '<div class="grid plots">' + plot(
            "Size of its states", Axis("bytes written", low=0), Axis("root mean square", low=0),
            [("states", states if finite else [])]) + "</div>")


def _confidence_rows(measured: dict[str, Any]) -> list[tuple[str, ...]]:
    *tasks, holdout, longer, all_answers = confidence.rows(measured)
    return [*tasks[:score_cards.MAX_TASKS], holdout, longer, all_answers]


def _teacher(row: Mapping[str, Any]) -> str:
    replies = row.get("replies", {})
    total = max(1, sum(replies.values()))
    return section("Teacher", f"Its replies up to step {row.get('step', 0):,}, in this part of the "
                   "run.", table(("reply", "count", "of all"), [
                       (reason, n, percent(n / total))
                       for reason, n in sorted(replies.items())[:MAX_BODIES]]) if replies else "")


def _sizes(rows: Sequence[Mapping[str, Any]]) -> str:
    cells = [(row["size"], _number(row["peak_mb"], "MB"), _number(row["predicted_mb"], "MB"),
              f"{row['tokens_s']:,.0f}" if row["tokens_s"] else UNKNOWN, row["fault"] or "stable")
             for row in rows[:MAX_SIZES]]
    head = "size", "memory", "predicted", "tokens a second", "result"
    return section("Size search", "Sizes tried on this board (width x layers, batch): memory as "
                   "measured, and as predicted from the sizes before.",
                   table(head, cells) if cells else "")


def write_report(run_dir: RunDir, path: Path | None = None) -> None:
    """The page of a run, in its directory or elsewhere. Raises OSError, SeedError; then an older
    one is still there."""
    atomic_file.write(path or run_dir.report, encoded(page(read_run(run_dir))))


def check_html(path: Path, is_given: bool = True) -> None:
    """Raises ConfigError unless a page can be written there."""
    check_output("--html", path, "an HTML file",
                 lambda head: head.lower().startswith(b"<!doctype html"), is_given)
