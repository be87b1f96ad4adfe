"""Records a training as a person sees it in a terminal of 80 by 24, for the pages:

    .venv/bin/python bin/recording.py [MINUTES [FOLDER]]

It trains the profile toy for so long (2) in a folder of its own, asks it a question, and writes
into FOLDER (docs/) recording.cast, which asciinema plays; panel.svg, what the terminal showed
before the end; and report.png, the top of the run's page, where there is a chromium. Needs pyte
(bin/test.sh installs it). A recording has the screen once a second, or less often in a long
training, and of each screen only the rows that have changed.
"""
import html
import json
import os
import pty
import select
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from fcntl import ioctl
from pathlib import Path
from typing import NamedTuple

import pyte

ROOT = Path(__file__).resolve().parents[1]
COLUMNS, ROWS, EVERY_S, MAX_FRAMES = 80, 24, 1.0, 100
AT_REST_S = 0.05              # without output, after which nothing is half drawn
HOME = "/home/you"            # in place of the folder that it ran in
MAX_IDLE_S = 0.5              # between two frames, when they are played
CELL_WIDTH, CELL_HEIGHT, FONT_SIZE, MARGIN = 8.4, 18, 14, 12   # of the picture
REPORT_SIZE, MAX_REPORT_BYTES = "1000,1300", 150_000
RUN_DIR = "runs/first"


class Frame(NamedTuple):
    """What a person sees at a time, and where the cursor is."""
    seconds: float
    rows: list[str]
    cursor: tuple[int, int]   # row and column, from 1 on


def output_of(command: Sequence[str], folder: Path) -> Iterator[tuple[bytes, bool]]:
    """What a command writes to a terminal of that size, as it comes, and whether it rests then.
    Raises CalledProcessError."""
    master, slave = pty.openpty()
    ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    path = f"{ROOT / 'bin'}:{os.environ['PATH']}"   # hints call it seed, as one that is installed
    process = subprocess.Popen(command, cwd=folder, stdin=slave, stdout=slave, stderr=slave, env={
        **os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color",
        "PYTHONIOENCODING": "utf-8"})
    os.close(slave)
    with suppress(OSError):   # the last writer has ended
        while data := os.read(master, 65536):
            yield data, not select.select([master], [], [], AT_REST_S)[0]
    os.close(master)
    if process.wait():
        raise subprocess.CalledProcessError(process.returncode, command)


def frames(commands: Iterable[Sequence[str]], folder: Path) -> Iterator[Frame]:
    """The screen once a second while the commands run one after the other, and as it ends."""
    screen = pyte.Screen(COLUMNS, ROWS)
    stream = pyte.ByteStream(screen)

    def frame() -> Frame:
        rows = [row.replace(str(folder), HOME).rstrip() for row in screen.display]
        return Frame(time.monotonic() - begin_s, rows, (screen.cursor.y + 1, screen.cursor.x + 1))
    begin_s = time.monotonic()
    for words in commands:
        stream.feed(f"$ {shown(words)}\r\n".encode())
        last = frame()
        yield last
        for data, is_at_rest in output_of([sys.executable, "-m", "seed", *words], folder):
            stream.feed(data)
            if is_at_rest and time.monotonic() - begin_s - last.seconds >= EVERY_S:
                yield (last := frame())
    stream.feed(b"$ ")
    yield frame()


def shown(words: Sequence[str]) -> str:
    """A command as a person types it."""
    return " ".join(["seed", *(f"'{word}'" if " " in word else word for word in words)])


def thinned(recorded: Sequence[Frame]) -> list[Frame]:
    """At most MAX_FRAMES of them, at equal distances; the last one always."""
    step = -(-len(recorded) // MAX_FRAMES)
    return [*recorded[::-step]][::-1]


def cast(recorded: Sequence[Frame]) -> str:
    """A file of asciinema, format 2."""
    lines = [json.dumps({"version": 2, "width": COLUMNS, "height": ROWS, "title": "Seed Brain",
                         "idle_time_limit": MAX_IDLE_S})]
    before = [""] * ROWS
    for seconds, rows, (y, x) in recorded:
        changed = "".join(f"\x1b[{i};1H\x1b[K{row}" for i, (row, old) in enumerate(
            zip(rows, before), 1) if row != old)
        lines.append(json.dumps([round(seconds, 2), "o", f"{changed}\x1b[{y};{x}H"],
                                ensure_ascii=False))
        before = rows
    return "\n".join(lines) + "\n"


def panel_of(recorded: Sequence[Frame]) -> list[str]:
    """The rows of the last panel of which the training had not ended."""
    return [frame.rows for frame in recorded if any(
        row.endswith(" left") and not row.endswith(" 0:00 left") for row in frame.rows)][-1]


def svg(rows: Sequence[str]) -> str:
    """The rows of a terminal as a picture; each has the width of its characters in every font."""
    rows = list(rows)
    while rows and not rows[-1]:
        rows.pop()
    width = round(COLUMNS * CELL_WIDTH + 2 * MARGIN)
    height = len(rows) * CELL_HEIGHT + 2 * MARGIN
    texts = [f'<text x="{MARGIN}" y="{MARGIN + i * CELL_HEIGHT - 4}" xml:space="preserve" '
             f'textLength="{len(row) * CELL_WIDTH:.1f}" lengthAdjust="spacingAndGlyphs">'
             f'{html.escape(row)}</text>' for i, row in enumerate(rows, 1) if row]
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" role="img" aria-label="a training in a terminal">',
        f'<rect width="{width}" height="{height}" rx="8" fill="#15191e"/>',
        f'<g font-family="ui-monospace, DejaVu Sans Mono, Menlo, Consolas, monospace" '
        f'font-size="{FONT_SIZE}" fill="#d7dee6">', *texts, "</g>", "</svg>", ""])


def photograph(page: Path, out: Path) -> bool:
    """The top of a page, by a headless Chromium; whether there is one."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if not browser:
        return False
    sandbox = ["--no-sandbox"] if os.getuid() == 0 else []
    subprocess.run([browser, "--headless=new", *sandbox, "--hide-scrollbars",
                    f"--window-size={REPORT_SIZE}", f"--screenshot={out}", page.as_uri()],
                   check=True, stderr=subprocess.DEVNULL)
    return True


def main(minutes: str = "2", out: str = str(ROOT / "docs")) -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recorded = thinned(list(frames([
            ["train", "--profile", "toy", "--minutes", minutes, "--run-dir", RUN_DIR],
            ["generate", RUN_DIR, "--prompt", "who are you?"]], folder)))
        if folder.name in (text := cast(recorded)):
            print(f"recording: a row is wider than {COLUMNS} columns, so it still names {folder}",
                  file=sys.stderr)
            return 1
        Path(out, "recording.cast").write_text(text, encoding="utf-8")
        Path(out, "panel.svg").write_text(svg(panel_of(recorded)), encoding="utf-8")
        picture = Path(out, "report.png")
        if not photograph(folder / RUN_DIR / "report.html", picture):
            print("recording: no chromium, so report.png stays as it was", file=sys.stderr)
        elif picture.stat().st_size > MAX_REPORT_BYTES:
            print(f"recording: {picture} is larger than {MAX_REPORT_BYTES:,} bytes: make "
                  f"REPORT_SIZE smaller", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
