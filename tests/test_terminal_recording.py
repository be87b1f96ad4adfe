"""bin/recording.py on a short training, and what it has made for the pages."""
import importlib.util
import json
import re
import tempfile
from pathlib import Path
from xml.etree import ElementTree

import pyte
import pytest

from tests.support.tiny_run import TINY

DOCS = Path(__file__).parents[1] / "docs"
MAX_CAST_BYTES = 60_000


@pytest.fixture(scope="module")
def recording():
    """bin/recording.py as a module."""
    spec = importlib.util.spec_from_file_location("recording", DOCS.parent / "bin/recording.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def screens(cast: str) -> list[list[str]]:
    """What a terminal shows after each event of a cast of asciinema, format 2."""
    header, *events = map(json.loads, cast.splitlines())
    assert header["version"] == 2
    screen = pyte.Screen(header["width"], header["height"])
    stream, shown, last_s = pyte.Stream(screen), [], 0.0
    for seconds, kind, text in events:
        assert kind == "o" and seconds >= last_s
        last_s = seconds
        stream.feed(text)
        shown.append([row.rstrip() for row in screen.display])
    return shown


def texts(svg: str) -> list[str]:
    root = ElementTree.fromstring(svg)
    return [each.text for each in root.iter("{http://www.w3.org/2000/svg}text")]


def test_a_training_is_recorded_and_played_to_the_same_screens(recording):
    command = ["train", "--run-dir=runs/first", "--steps=20", *TINY]
    with tempfile.TemporaryDirectory(dir="/tmp") as name:   # short: a row has its path
        frames = list(recording.frames([command], Path(name)))
    cast = recording.cast(frames)
    assert screens(cast) == [frame.rows for frame in frames]
    assert name not in cast and f"file://{recording.HOME}/runs/first/" in cast
    rows = frames[-1].rows
    assert "$" in rows
    assert any(row.startswith(" Done: 20 steps") for row in rows)
    assert len({frame.seconds for frame in frames}) == len(frames)


def test_a_long_recording_is_thinned_and_keeps_its_end(recording):
    frames = [recording.Frame(i, [f"row {i}", *[""] * 23], (1, 1)) for i in range(1001)]
    thinned = recording.thinned(frames)
    assert 50 < len(thinned) <= recording.MAX_FRAMES and thinned[-1] == frames[-1]
    assert thinned == sorted(thinned) and len({b[0] - a[0] for a, b in zip(
        thinned, thinned[1:])}) == 1
    assert recording.thinned(frames[:7]) == frames[:7]


def test_a_command_that_fails_is_no_recording(recording, tmp_path):
    with pytest.raises(recording.subprocess.CalledProcessError):
        list(recording.frames([["train", "--steps=nonsense"]], tmp_path))


def test_a_picture_has_the_rows_of_the_screen(recording):
    rows = ["$ seed", "", " a < b & c ▇ 96 %", *[""] * 21]
    svg = recording.svg(rows)
    assert texts(svg) == [row for row in rows if row]
    height = int(ElementTree.fromstring(svg).get("height"))
    assert height == 3 * recording.CELL_HEIGHT + 2 * recording.MARGIN   # no empty rows below


def test_the_recording_of_the_pages_is_small_and_ends_with_an_answer():
    cast = (DOCS / "recording.cast").read_text()
    shown = screens(cast)
    assert len(cast.encode()) <= MAX_CAST_BYTES
    assert any("I am Seed, a small robot brain." in row for row in shown[-1])
    assert any(row.startswith(" Done: ") for row in shown[-1])
    assert not re.search(r"/(work|tmp|root)\b|/home/(?!you/)", cast)
    assert texts((DOCS / "panel.svg").read_text()) in [
        [row for row in rows if row] for rows in shown]


def test_the_picture_of_the_page_is_a_small_png():
    data = (DOCS / "report.png").read_bytes()
    assert data.startswith(b"\x89PNG\r\n") and len(data) <= 150_000
