"""A byte, ten times a second, for the robot's own supervisor: into a FIFO, or a watchdog's device.

A FIFO that nobody reads is tried again. A device gets the letter V at a clean end, which disarms a
watchdog (Linux, Documentation/watchdog/watchdog-api.rst, "magic close").
"""
import errno
import os
import stat
from contextlib import suppress


class Heartbeat:
    """`note`: why there is none, in one line."""

    def __init__(self, path: str):
        self.path, self.note = path, ""
        self._fd = -1
        self._is_device = False
        if not path:
            return
        try:
            mode = os.stat(path).st_mode
            self._is_device = stat.S_ISCHR(mode)
            if self._is_device or stat.S_ISFIFO(mode):
                self.open()
            else:
                self._give_up("it is neither a FIFO nor a device: make one with mkfifo")
        except OSError as error:
            self._give_up(f"{error.strerror}: make a FIFO there with mkfifo, or let this user "
                          f"write to the device")

    def _give_up(self, reason: str) -> None:
        self.note, self.path = f"no heartbeat: {self.path}: {reason}", ""

    def open(self) -> None:
        """If it is not; a FIFO without a reader stays closed. Raises OSError."""
        if self.path and self._fd < 0:
            try:
                self._fd = os.open(self.path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise

    def beat(self, byte: bytes = b"\n") -> None:
        """Nothing happens if nobody takes it."""
        if self._fd >= 0:
            try:
                os.write(self._fd, byte)
            except BlockingIOError:
                pass
            except OSError:   # its reader has gone
                self._close()

    def end(self) -> None:
        """The loop has ended as it should."""
        if self._is_device:
            self.beat(b"V")
        self._close()

    def _close(self) -> None:
        with suppress(OSError):
            os.close(self._fd)
        self._fd = -1
