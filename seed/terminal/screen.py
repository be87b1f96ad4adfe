"""A person's terminal, or a file: lines that stay, and below them a view that is drawn anew.

A terminal that is wide and high enough has a panel, a smaller one a line; a pipe, a file and a dumb
terminal get a line now and then. What is drawn is taken away before anything else is printed.
"""
import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import TextIO

from seed.terminal import views
from seed.terminal.drawing import ASCII
from seed.terminal.progress import Progress
from seed.terminal_text import DEFAULT_COLUMNS, duration, escaped, fitted

LINE_EVERY_S, PANEL_EVERY_S = 0.2, 0.5
WORK_EVERY_S = 1.0
LOG_EVERY_S = 10.0     # where nothing can be drawn anew
DEFAULT_ROWS = 24     # of a terminal that does not tell
CLEAR_LINE, CLEAR_BELOW, CLEAR_ALL = "\r\x1b[K", "\r\x1b[J", "\x1b[H\x1b[2J"


class Screen:
    """Its methods may be called from any thread."""

    def __init__(self, clock: Callable[[], float], out: TextIO | None = None,
                 is_plain: bool = False):
        """`out` is standard error if not given; `is_plain`: no panel."""
        self.clock, self._out, self.is_plain = clock, out, is_plain
        # As it is now: tinygrad is imported without the variables of other programs.
        self._can_draw = os.environ.get("TERM") not in (None, "", "dumb")
        self._drawn = 0        # rows of the view that stands
        self._columns = 0      # of the terminal, as it was drawn
        self._last_s = float("-inf")
        self._lock = threading.RLock()
        self._work = threading.Event()   # is set when nothing has to be told of it any more

    @property
    def out(self) -> TextIO:
        return self._out or sys.stderr

    @property
    def is_live(self) -> bool:
        """Whether what is drawn can be drawn anew."""
        return self.out.isatty() and self._can_draw

    def size(self) -> tuple[int, int]:
        """Columns and rows of the terminal as it is now."""
        try:
            size = os.get_terminal_size(self.out.fileno())
            return size.columns or DEFAULT_COLUMNS, size.lines or DEFAULT_ROWS
        except OSError:
            return DEFAULT_COLUMNS, DEFAULT_ROWS

    @property
    def has_panel(self) -> bool:
        """Whether there is room for one."""
        columns, rows = self.size()
        return (self.is_live and not self.is_plain and rows >= views.MIN_PANEL_ROWS
                and columns >= views.MIN_PANEL_COLUMNS)

    @property
    def is_due(self) -> bool:
        """Whether `show` would draw now, or end a work that is told."""
        every_s = PANEL_EVERY_S if self.has_panel else LINE_EVERY_S if self.is_live else LOG_EVERY_S
        return not self._work.is_set() or self.clock() - self._last_s >= every_s

    def show(self, now: Progress) -> bool:
        """Draws the view if it is time for one; returns whether it was."""
        self._work.set()
        if self.has_panel:
            return self._draw(lambda: views.panel(now, self.size()[0]), PANEL_EVERY_S)
        if self.is_live:
            return self._draw(lambda: [views.status_line(now, self.size()[0])], LINE_EVERY_S)
        return self.show_text(views.log_line(now))

    def show_text(self, text: str) -> bool:
        """As `show`, of one line."""
        if self.is_live:
            return self._draw(lambda: [text[:self.size()[0] - 1]], LINE_EVERY_S)
        with self._lock:
            if not self._is_time(LOG_EVERY_S):
                return False
            self._write(escaped(text) + "\n")
            return True

    @contextlib.contextmanager
    def working(self, words_fn: Callable[[], str]) -> Iterator[None]:
        """Tells a person each second that a work is being done, and for how long, until it ends or
        a view is shown."""
        began_s, ended = self.clock(), threading.Event()
        self._work = ended
        if not self.is_live:   # where nothing can be drawn anew there are results alone
            yield
            return

        def tell() -> None:
            while not ended.wait(WORK_EVERY_S):
                self.show_text(f"{words_fn()}, {duration(self.clock() - began_s)}")
        thread = threading.Thread(target=tell, daemon=True, name="working")
        thread.start()
        try:
            yield
        finally:
            if not ended.is_set():
                ended.set()
                thread.join()
                self.clear()

    def clear(self) -> None:
        """Takes the view away."""
        with self._lock:
            if self._drawn:
                self._write(self._erased())
            self._drawn = 0

    def _is_time(self, every_s: float) -> bool:
        now_s = self.clock()
        if now_s - self._last_s < every_s:
            return False
        self._last_s = now_s
        return True

    def _draw(self, make_fn: Callable[[], list[str]], every_s: float) -> bool:
        with self._lock:
            if not self._is_time(every_s):
                return False
            rows = [escaped(row).replace("\n", " ") for row in make_fn()]
            self._write(self._erased() + "\n".join(rows))
            self._drawn, self._columns = len(rows), self.size()[0]
            return True

    def _erased(self) -> str:
        """What takes the view away; the cursor is at the beginning of its first row then."""
        if not self._drawn:
            return ""
        if self.size()[0] < self._columns:   # its rows have wrapped
            return CLEAR_ALL
        up = f"\x1b[{self._drawn - 1}A" if self._drawn > 1 else ""
        return f"{up}{CLEAR_BELOW if self._drawn > 1 else CLEAR_LINE}"

    def hurry(self) -> None:
        """The next view is drawn at once."""
        self._last_s = float("-inf")

    def close(self) -> None:
        """The view stays, and what is printed next has a line of its own."""
        with self._lock:
            if self._drawn:
                self._write("\n")
            self._drawn = 0

    def log(self, text: str) -> None:
        """A line that stays."""
        with self._lock:
            self._write(f"{self._erased()}{fitted(escaped(text), self.out)}\n")
            if self._drawn:
                self._drawn, self._last_s = 0, float("-inf")   # the view comes back at once

    def _write(self, text: str) -> None:
        """Drops what cannot be written: the output may be a file on a full disk."""
        try:
            text.encode(self.out.encoding or "ascii")
        except UnicodeEncodeError:
            text = text.translate(ASCII)
        with contextlib.suppress(OSError):
            self.out.write(text)
            self.out.flush()
