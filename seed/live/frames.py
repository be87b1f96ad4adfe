"""What the tick loop and the processes of a brain and a body say to each other: binary frames.

A frame is a header and its payload: float64 numbers, or text if it is an error. A request has a
number, which its reply repeats: a reply to a request that was given up is dropped. Needs the
standard library alone; a link allocates nothing that lasts.
"""
import select
import socket
import struct
import time
from collections.abc import Sequence
from enum import IntEnum, IntFlag

HEADER = struct.Struct("<IBBHd")   # number, call, flags, count, scalar
MAX_COUNT = 4096                   # numbers of a payload, or bytes of a text
MAX_TEXT = 400
SEND_BUFFER = 2 ** 18


class Call(IntEnum):
    """What is asked. Of both: FINISH. Of a body: RESET to STEP. Of a brain: ACT to LOAD."""
    FINISH = 0    # scalar: seconds that it may take; the answer is the last one
    RESET = 1     # -> the observation
    SENSE = 2     # -> what the sensors say now
    STEP = 3      # an action -> observation, scalar: the reward
    ACT = 10      # an observation, scalar: the reward -> action, then surprise, value and counts
    TOOK = 11     # the action that the body did instead; without a reply, as the next three
    BEGIN = 12    # an episode begins
    END = 13      # an observation, scalar: the reward
    RETIRE = 14   # another brain acts from now on
    SAVE = 15     # the state, for another brain -> done
    LOAD = 16     # that state -> done; KEEP in its flags if it was carried over


class Flag(IntFlag):
    NONE = 0
    ERROR = 1        # of a reply: its payload is text
    TERMINATED = 2   # of a step; of END: the body ended the episode
    TRUNCATED = 4
    KEEP = 8         # of BEGIN and LOAD: what is remembered stays
    EXPLORE = 16     # of BEGIN: its actions are drawn by their probabilities
    GAP = 32         # of ACT: ticks before it were not asked for; what is recorded is cut


class LinkLost(Exception):
    """The process at the other end has ended, or does not read."""


class Frame:
    """The last one that was received; its payload is valid until the next."""
    __slots__ = ("number", "call", "flags", "count", "scalar", "payload")

    def __init__(self) -> None:
        self.number = self.call = self.flags = self.count = 0
        self.scalar = 0.0
        self.payload = memoryview(b"")

    @property
    def is_error(self) -> bool:
        return bool(self.flags & Flag.ERROR)

    @property
    def text(self) -> str:
        return bytes(self.payload).decode("utf-8", "replace")

    def numbers(self) -> tuple[float, ...]:
        return struct.unpack(f"<{self.count}d", self.payload)


class Link:
    """One end of a socket pair, of messages or of a stream."""

    def __init__(self, connection: socket.socket):
        self.connection = connection
        connection.setblocking(False)
        self._out, self._in = bytearray(2 ** 16), bytearray(2 ** 16)
        self._view, self._size = memoryview(self._in), 0
        self._waits = [connection]
        self.frame = Frame()
        self.number = time.monotonic_ns() & 0xffffffff   # of the last request; at first none's
        self.awaited: int | None = None   # the number of the reply that is still to come

    def fileno(self) -> int:
        return self.connection.fileno()

    def send(self, call: int, payload: bytes | memoryview = b"", scalar: float = 0.0,
             flags: int = 0, number: int = 0, is_text: bool = False) -> None:
        """Raises LinkLost."""
        n_bytes = len(payload)
        HEADER.pack_into(self._out, 0, number, call, flags, n_bytes if is_text else n_bytes // 8,
                         scalar)
        self._out[HEADER.size:HEADER.size + n_bytes] = payload
        size = HEADER.size + n_bytes
        try:
            if self.connection.send(memoryview(self._out)[:size]) != size:
                raise LinkLost("it does not read")
        except OSError as error:
            raise LinkLost(error.strerror or "it fails") from None

    def ask(self, call: int, payload: bytes | memoryview = b"", scalar: float = 0.0,
            flags: int = 0) -> None:
        """Sends a request, whose reply `receive` returns. Raises LinkLost."""
        self.number = self.number % (2 ** 32 - 1) + 1
        self.awaited = self.number
        self.send(call, payload, scalar, flags, self.number)

    def receive(self, timeout_s: float) -> Frame | None:
        """The reply to the last request; None if it does not come in time. Raises LinkLost."""
        while True:
            frame = self.take(timeout_s)
            if frame is None:
                return None
            if frame.number == self.awaited:
                self.awaited = None
                return frame

    def take(self, timeout_s: float | None) -> Frame | None:
        """Any frame; None if none comes in time. Raises LinkLost."""
        while not self._parse():
            if not select.select(self._waits, (), (), timeout_s)[0]:
                return None
            try:
                n_bytes = self.connection.recv_into(self._view[self._size:])
            except BlockingIOError:
                continue
            except OSError as error:
                raise LinkLost(error.strerror or "it fails") from None
            if not n_bytes:
                raise LinkLost("its process has ended")
            self._size += n_bytes
        return self.frame

    def _parse(self) -> bool:
        """Whether a whole frame is there; moves it out of the buffer."""
        if self._size < HEADER.size:
            return False
        frame = self.frame
        frame.number, frame.call, frame.flags, frame.count, frame.scalar = HEADER.unpack_from(
            self._in)
        n_bytes = frame.count * (1 if frame.flags & Flag.ERROR else 8)
        size = HEADER.size + n_bytes
        if frame.count > MAX_COUNT:
            raise LinkLost("it sends something else than frames")
        if self._size < size:
            return False
        frame.payload = memoryview(bytes(self._view[HEADER.size:size]))
        self._in[:self._size - size] = self._in[size:self._size]
        self._size -= size
        return True

    def close(self) -> None:
        self.connection.close()


def pack(numbers: Sequence[float]) -> bytes:
    return struct.pack(f"<{len(numbers)}d", *numbers)


def reply_error(link: Link, number: int, call: int, text: str) -> None:
    """Raises LinkLost."""
    link.send(call, text.encode("utf-8", "replace")[:MAX_TEXT], 0.0, Flag.ERROR, number, True)


def pair() -> tuple[socket.socket, socket.socket]:
    """Two connected sockets that keep messages whole."""
    pair_of = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for connection in pair_of:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
    return pair_of
