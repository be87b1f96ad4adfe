"""What a person sees of a training never exceeds the terminal; what matters most comes first."""
import random
from pathlib import Path

import pytest

from seed.terminal import views
from seed.terminal.drawing import ASCII, bar, curve, cut, fine_bar, fit
from seed.terminal.progress import MAX_LOSSES, Answer, Losses, Progress
from tests.support.training_progress import SOMETIME

SCREENS = Path(__file__).parent / "screens"


@pytest.mark.parametrize("columns", [40, 60, 80, 160])
def test_the_views_are_those_of_the_golden_text(columns):
    text = "\n".join([views.status_line(SOMETIME, columns), *views.panel(SOMETIME, columns),
                      views.log_line(SOMETIME), ""])
    assert text == (SCREENS / f"views-{columns}.txt").read_text()


@pytest.mark.parametrize("seed", range(20))
def test_no_row_is_wider_than_the_terminal_whatever_is_known(seed):
    rng = random.Random(seed)

    def maybe(value):
        return value if rng.random() < 0.7 else None
    now = Progress(
        "p" * rng.randint(1, 60), "r" * rng.randint(1, 90), rng.randint(0, 10 ** 9),
        rng.choice([0, 10 ** 7]), rng.random(), maybe(rng.random() * 1e6), maybe(1e5),
        maybe(rng.random() * 9), [rng.random() for _ in range(rng.randint(0, 80))],
        maybe(rng.randint(1, 6)), 6, {grade: {f"task{i}" * 5: rng.random() for i in range(9)}
                                      for grade in range(rng.randint(0, 7))}, (), "e" * 70,
        [Answer("q" * 24, "a" * 9, "b" * 9)] * 5,
        {f"body{i}" * 9: [rng.random() * 1e4] * rng.randint(0, 99) for i in range(9)},
        maybe(61.5), rng.choice(["ok", "critical"]), maybe(5e3), 6144, 3e6, maybe(1e5),
        rng.random(), "hot" * 20, 1e4, rng.randint(0, 5), rng.choice(["", "evaluating, 5 of 9"]))
    for columns in (20, 40, 60, 79, 80, 81, 160, 500):
        rows = views.panel(now, columns)
        assert max(map(len, rows)) <= columns - 1 and len(rows) < views.MIN_PANEL_ROWS
        assert len(views.status_line(now, columns)) <= columns - 1


def test_what_does_not_fit_is_left_out_from_the_right():
    lines = [views.status_line(SOMETIME, columns) for columns in range(12, 120)]
    assert lines[0] == " grade 2/6" and "tokens/s" in lines[-1]
    assert all(longer.startswith(line.rstrip("…")) for line, longer in zip(lines, lines[1:]))


def test_bars_and_curves_keep_to_their_width():
    assert (bar(0.5, 4), bar(-1, 2), bar(7, 2)) == ("██░░", "░░", "██")
    assert fine_bar(0.5, 4) == "██  " and fine_bar(0.53, 4) == "██▏ " and fine_bar(1, 3) == "███"
    assert curve([1, 2, 3], 9) == "▁▄▇" and curve([2.0] * 50, 7) == "▁" * 7 and curve([], 5) == ""
    assert len(curve(range(1000), 18)) == 18
    assert fit(["long first", "b"], 5) == "long…" and fit(["a", "", "b", "c"], 7, "  ") == "a  b  c"
    assert cut("abc", 3) == "abc" and cut("abcd", 3) == "ab…" and cut("abcd", 0) == ""
    assert all(ord(character) < 128 for character in "█░▕▏▎▍▌▋▊▉▁▂▃▄▅▆▇·°▲✓✗→…".translate(ASCII))


def test_the_losses_of_a_long_run_are_means_of_equal_parts():
    losses = Losses()
    for i in range(100_000):
        losses.add(float(i))
    assert MAX_LOSSES / 2 <= len(losses.means) < MAX_LOSSES
    steps = [b - a for a, b in zip(losses.means, losses.means[1:])]
    assert min(steps) == max(steps)
