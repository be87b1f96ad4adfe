"""A terminal of a given size, emulated by pyte: what is written to it, and what a person sees."""
import fcntl
import os
import pty
import re
import struct
import termios
import threading
import time
from contextlib import contextmanager, suppress

import pyte


class Terminal:
    """`out`: a text file that is the terminal."""

    def __init__(self, columns: int, rows: int):
        self._master, slave = pty.openpty()
        self.out = open(slave, "w", encoding="utf-8")
        self._screen = pyte.HistoryScreen(columns, rows, history=10_000, ratio=0.5)
        self._stream = pyte.ByteStream(self._screen)
        self.columns, self._marks, self._lock = columns, 0, threading.Lock()
        self._written = b""
        self.resize(columns, rows)
        threading.Thread(target=self._read, daemon=True).start()

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        with self._lock:
            self._screen.resize(rows, columns)

    def type(self, keys: str) -> None:
        """As a person, to whoever reads from the terminal."""
        os.write(self._master, keys.encode())

    def _read(self) -> None:
        """Until nothing writes to it. Closes what it reads from, whose number is another file's
        from then on."""
        with suppress(OSError):
            while data := os.read(self._master, 65536):
                with self._lock:
                    self._stream.feed(data)
                    self._written += data
        os.close(self._master)

    def read(self) -> None:
        """All that was written until now is on the screen when this returns."""
        self.out.flush()
        termios.tcdrain(self.out.fileno())
        mark = f"\x1b]0;{self._marks}\x07"   # a title, which is not drawn
        os.write(self.out.fileno(), mark.encode())
        while self._screen.title != str(self._marks):
            time.sleep(0.001)
        self._marks += 1

    def lines(self) -> list[str]:
        """All that a person can see or scroll back to."""
        self.read()
        above = ["".join(row[x].data for x in range(self.columns)) for row in
                 self._screen.history.top]
        rows = [row.rstrip() for row in [*above, *self._screen.display]]
        while rows and not rows[-1]:
            rows.pop()
        return rows

    def written(self) -> list[str]:
        """The lines that were written, as long as they are; of one that was drawn anew each."""
        self.read()
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07]*\x07", "", self._written.decode())
        return re.split(r"[\r\n]+", text)

    @property
    def column(self) -> int:
        """Of the cursor."""
        self.read()
        return self._screen.cursor.x


@contextmanager
def terminal(columns: int, rows: int):
    opened = Terminal(columns, rows)
    try:
        yield opened
    finally:
        opened.out.close()
