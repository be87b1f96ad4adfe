"""What stands in a real terminal, as an emulator shows it, and in what is no terminal."""
import io
import os
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from seed.commands.streams import Unblocked
from seed.terminal.screen import Screen
from tests.support.fake_clock import FakeClock
from tests.support.small_run import wait_until
from tests.support.terminals import terminal
from tests.support.training_progress import SOMETIME

SCREENS = Path(__file__).parent / "screens"


@pytest.fixture(autouse=True)
def modern(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")


def train(screen: Screen, clock: FakeClock, n_steps: int = 430) -> None:
    """A line that stays at every 100th step."""
    for step in range(1, n_steps + 1):
        clock.now += 0.3
        screen.show(replace(SOMETIME, step=step, fraction=step / n_steps))
        if step % 100 == 0:
            screen.log(f"step {step}  grade {step // 100 + 1} unlocked")
    screen.close()


@pytest.mark.parametrize("columns, rows", [(40, 12), (80, 24), (160, 50), (59, 24), (80, 23)])
def test_the_view_is_drawn_in_place_and_lines_that_stay_are_there_once(columns, rows):
    clock = FakeClock()
    with terminal(columns, rows) as seen:
        train(Screen(clock, seen.out), clock)
        print("what is printed next", file=seen.out, flush=True)
        lines = seen.lines()
    assert "\n".join(lines) + "\n" == (SCREENS / f"training-{columns}x{rows}.txt").read_text()
    assert [line for line in lines if "unlocked" in line and line.startswith("step")] == [
        f"step {100 * i}  grade {i + 1} unlocked" for i in (1, 2, 3, 4)]


def test_a_terminal_that_gets_narrower_or_lower_keeps_nothing_of_the_wider_view():
    clock = FakeClock()
    with terminal(160, 50) as seen:
        screen = Screen(clock, seen.out)
        screen.show(SOMETIME)
        for columns, rows in ((70, 50), (70, 10), (160, 50)):
            seen.read()
            seen.resize(columns, rows)
            clock.now += 10
            screen.show(SOMETIME)
        lines = seen.lines()
    assert sum("runs/first" in line for line in lines) == 1


@pytest.mark.parametrize("kind", ["pipe", "dumb", "unset"])
def test_what_is_no_terminal_gets_whole_lines_and_no_escapes(kind, monkeypatch):
    clock = FakeClock()
    if kind == "pipe":
        out = io.StringIO()
        train(Screen(clock, out), clock)
        text = out.getvalue()
    else:
        monkeypatch.setenv("TERM", "dumb") if kind == "dumb" else monkeypatch.delenv("TERM")
        with terminal(300, 60) as seen:
            train(Screen(clock, seen.out), clock)
            text = "\n".join(seen.lines()) + "\n"
    assert "\x1b" not in text and "\r" not in text and text.endswith("\n")
    lines = text.splitlines()
    assert len([line for line in lines if "tokens/s" in line]) == 13   # each 10 s of 129 s
    assert lines[0].startswith("step 1/2206  grade 2  loss 0.6100")


def test_a_line_is_drawn_anew_also_while_the_environment_is_hidden(monkeypatch):
    """As it is while tinygrad is imported (tinygrad_seam.py)."""
    clock = FakeClock()
    with terminal(80, 24) as seen:
        screen = Screen(clock, seen.out)
        monkeypatch.delenv("TERM")
        for text in ("starting, 0:01", "starting, 0:02"):
            screen.show_text(text)
            clock.now += 1
        assert seen.lines() == ["starting, 0:02"]


def test_a_plain_screen_has_a_line_where_there_is_room_for_a_panel():
    clock = FakeClock()
    with terminal(160, 50) as seen:
        screen = Screen(clock, seen.out, is_plain=True)
        screen.show(SOMETIME)
        assert len(seen.lines()) == 1 and not screen.has_panel
        screen.close()
        assert seen.column == 0


def test_an_encoding_without_blocks_gets_other_characters():
    out = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    out.isatty = lambda: True
    Screen(FakeClock(), out).show(SOMETIME)
    text = out.buffer.getvalue().decode("latin-1")
    assert " [####" in text and "> T v" in text and "\\u" not in text


def test_a_terminal_that_was_closed_ends_nothing():
    master, slave = os.openpty()
    clock = FakeClock()
    with open(slave, "w") as out:
        screen = Screen(clock, out)
        os.close(master)
        assert screen.show(SOMETIME)
        screen.log("a line")
        screen.close()
        os.dup2(os.open(os.devnull, os.O_WRONLY), slave)   # for what its buffer has


def test_text_from_elsewhere_cannot_steer_the_terminal():
    clock = FakeClock()
    with terminal(160, 50) as seen:
        screen = Screen(clock, seen.out)
        screen.log("\x1b[2Jgone?")
        screen.show(replace(SOMETIME, event="\x1b[31mred\nnext", run_dir="a\rb"))
        lines = seen.lines()
    assert lines[0] == "\\x1b[2Jgone?" and any("\\x1b[31mred next" in line for line in lines)


def test_a_full_disk_behind_the_output_is_no_error():
    clock, descriptor = FakeClock(), os.open("/dev/full", os.O_WRONLY)
    train(Screen(clock, Unblocked(descriptor, "utf-8")), clock)
    os.close(descriptor)
    assert clock.now > 100


def seconds_pass(monkeypatch) -> None:
    monkeypatch.setattr("seed.terminal.screen.WORK_EVERY_S", 0.01)
    monkeypatch.setattr("seed.terminal.screen.LINE_EVERY_S", 0.0)


def test_a_work_without_a_view_tells_how_long_it_takes_and_leaves_no_trace(monkeypatch):
    seconds_pass(monkeypatch)
    clock = FakeClock()
    with terminal(80, 24) as seen:
        screen = Screen(clock, seen.out)
        with screen.working(lambda: "evaluating"):
            clock.now += 75
            while seen.lines() != ["evaluating, 1:15"]:
                pass
            screen.log("a line that stays")
            while seen.lines() != ["a line that stays", "evaluating, 1:15"]:
                pass
        print("the result", file=seen.out, flush=True)
        assert seen.lines() == ["a line that stays", "the result"]


def test_a_work_tells_nothing_more_once_a_view_is_shown(monkeypatch):
    seconds_pass(monkeypatch)
    clock = FakeClock()
    with terminal(80, 24) as seen:
        screen = Screen(clock, seen.out)
        with screen.working(lambda: "starting"):
            while seen.lines() != ["starting, 0:00"]:
                pass
            clock.now += 1
            screen.show(SOMETIME)
            wait_until(lambda: "working" not in {t.name for t in threading.enumerate()})
            clock.now += 1
            screen.show(SOMETIME)
            assert not any("starting" in line for line in seen.lines())
            shown = seen.lines()
        assert seen.lines() == shown


def test_a_work_that_fails_leaves_a_line_of_its_own_for_the_reason(monkeypatch):
    seconds_pass(monkeypatch)
    with terminal(80, 24) as seen:
        with pytest.raises(ValueError), Screen(FakeClock(), seen.out).working(lambda: "exporting"):
            while not seen.lines():
                pass
            raise ValueError
        assert seen.lines() == [] and seen.column == 0


def test_a_work_is_not_told_where_nothing_can_be_drawn_anew(monkeypatch):
    seconds_pass(monkeypatch)
    clock, out = FakeClock(), io.StringIO()
    with Screen(clock, out).working(lambda: "loading"):
        clock.now += 1000
        time.sleep(0.1)
    assert out.getvalue() == "" and "working" not in {t.name for t in threading.enumerate()}
