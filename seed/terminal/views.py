"""The progress of a training as a line of a log, as one line of a terminal, and as a panel."""
from collections.abc import Iterator, Mapping, Sequence

from seed.terminal.drawing import between, bar, curve, cut, fine_bar, fit
from seed.terminal.progress import Answer, Progress
from seed.terminal_text import duration

BAR, CURVE = 20, 18          # characters
MIN_PANEL_COLUMNS, MIN_PANEL_ROWS = 60, 24
MAX_BODIES, MAX_ANSWERS = 4, 3


def log_line(now: Progress) -> str:
    """All of it, for a file or a pipe."""
    total = f"/{now.total_steps}" if now.total_steps else ""
    if now.doing:
        return f"step {now.step}{total}  {now.doing}"
    return "  ".join(filter(None, [
        f"step {now.step}{total}", f"grade {now.grade}" if now.grade else "",
        f"loss {now.loss:.4f}" if now.loss is not None else "",
        *(f"{name} {returns[-1]:.1f}" for name, returns in now.returns.items() if returns),
        f"{now.tokens_per_s:,.0f} tokens/s", _left(now),
        f"{now.memory_mb:.0f} MB" if now.memory_mb is not None else "memory unknown",
        f"{now.temp_c:.0f} C" if now.temp_c is not None else "no thermal sensor",
        f"{now.skipped} steps skipped" if now.skipped else "",
        f"at {100 * now.duty:.0f} %: {now.reason}" if now.duty < 1 else "",
        f"waited {duration(now.waited_s)}" if now.waited_s >= 1 else ""]))


def status_line(now: Progress, columns: int) -> str:
    """The first fields that fit."""
    return " " + fit([
        now.doing or (f"grade {now.grade}/{now.n_grades}" if now.grade else ""),
        *(f"{name} {returns[-1]:.1f}" for name, returns in now.returns.items() if returns),
        f"{bar(now.fraction, 10)} {100 * now.fraction:.0f} %", _left(now),
        f"loss {now.loss:.2f}" if now.loss is not None else "", _heat(now),
        f"{now.skipped} skipped" if now.skipped else "", memory(now),
        f"{now.tokens_per_s:,.0f} tokens/s"], columns - 2)


def panel(now: Progress, columns: int) -> list[str]:
    """Lines of at most so many columns; fewer than MIN_PANEL_ROWS."""
    width = columns - 2
    rows = [between(f"Seed Brain · {now.profile} · {now.run_dir}",
                    f"step {now.step:,}   {_left(now)}".rstrip(), width),
            _progress_bar(now, width),
            fit([f"loss {now.loss:.2f}" if now.loss is not None else "loss -",
                 curve(now.losses, CURVE), f"▲ {now.event}" if now.event else ""], width)]
    rows += [_grade_row(grade, tasks, now.passed, width)
             for grade, tasks in sorted(now.accuracy.items())]
    rows += [fit([f"{cut(name, 24)} return {returns[-1]:.1f}", curve(returns, CURVE)], width)
             for name, returns in list(now.returns.items())[:MAX_BODIES] if returns]
    if now.answers:
        rows.append(cut("last answers:  " + "   ".join(map(_answer, now.answers[:MAX_ANSWERS])),
                        width))
    rows.append(fit([*_board(now), "Ctrl-C saves"], width))
    return [f" {row}".rstrip() for row in rows]


def memory(now: Progress) -> str:
    if now.memory_mb is None:
        return "memory unknown"
    of = f" of {now.max_memory_mb / 1024:g} GB" if now.max_memory_mb else ""
    return f"{now.memory_mb:.0f} MB{of}"


def _left(now: Progress) -> str:
    return f"{duration(max(0.0, now.left_s))} left" if now.left_s is not None else ""


def _heat(now: Progress) -> str:
    slowed = f", at {100 * now.duty:.0f} %" if now.duty < 1 else ""
    return (f"{now.temp_c:.0f} °C" if now.temp_c is not None else "no thermal sensor") + slowed


def _progress_bar(now: Progress, width: int) -> str:
    then = now.doing or (f"next evaluation in {duration(max(0.0, now.next_eval_s))}"
                         if now.next_eval_s is not None else "")
    text = f" {100 * now.fraction:.0f} %   {then}".rstrip()
    length = max(10, min(48, width - 2 - len(text)))
    return cut(f"▕{fine_bar(now.fraction, length)}▏{text}", width)


def _grade_row(grade: int, tasks: Mapping[str, float], passed: Sequence[str], width: int) -> str:
    mean = sum(tasks.values()) / max(1, len(tasks))
    name = f"grade {grade}" if grade else "yours  "
    done = " ✓" if all(task in passed for task in tasks) else ""
    return fit([f"{name} {bar(mean, BAR)} {100 * mean:3.0f} %{done}",
                *(f"{cut(task, 16)} {100 * accuracy:.0f}" for task, accuracy in tasks.items())],
               width, "  ")


def _answer(answer: Answer) -> str:
    if answer.answer == answer.right:
        return f"{answer.prompt} → {answer.answer} ✓"
    return f"{answer.prompt} → {answer.answer} ✗ ({answer.right})"


def _board(now: Progress) -> Iterator[str]:
    yield _heat(now) + (f" {now.board}" if now.temp_c is not None or now.board != "ok" else "")
    yield memory(now)
    yield f"{now.tokens_per_s:,.0f} tokens/s"
    if now.skipped:
        yield f"{now.skipped} steps skipped"
    if now.saved_s is not None:
        yield f"saved {duration(now.saved_s)} ago"
