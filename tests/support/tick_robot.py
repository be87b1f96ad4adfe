"""A tick loop at 100 Hz with an injected clock, between a body and a brain that do as told."""
import socket
from contextlib import contextmanager

from seed.live import shared_block
from seed.live.deadlines import NS, Deadlines
from seed.live.frames import Call, Flag, Frame, LinkLost, pack
from seed.live.safety import State
from seed.live.shared_block import Block
from seed.live.tick_brain import Connected
from seed.live.tick_loop import TickLoop

FIELDS = {"bounds": {"form": "numbers", "low": [-1.0], "high": [1.0], "safe": [0.0],
                     "max_change": [], "is_safe_given": True},
          "stall_s": 0.1, "has_sense": False, "keep_state": True, "seed": 5, "is_restarted": False,
          "latched": 0}


def gone(*_):
    """An answer of a process that has ended."""
    raise LinkLost("its process has ended")


class Peer:
    """The other end of a link: answers a call by its function, which may return numbers, a tuple of
    numbers, scalar and flags, a text (an error), None (no answer yet), or raise LinkLost."""

    def __init__(self, **answers):
        self.answers, self.calls, self.awaited, self.is_closed = answers, [], None, False
        self._call = Call.FINISH
        self._frame = None

    def send(self, call, payload=b"", scalar=0.0, flags=0, *_):
        self.calls.append((Call(call).name, self._numbers(payload), scalar, int(flags)))

    def ask(self, call, payload=b"", scalar=0.0, flags=0):
        self.send(call, payload, scalar, flags)
        self.awaited, self._frame = len(self.calls), None
        self._call = Call(call)
        result = self.answers[Call(call).name.lower()](*self._numbers(payload))
        if result is not None:
            self.answer(result)

    def answer(self, result):
        self._frame = Frame()
        self._frame.call = self._call
        if isinstance(result, str):
            self._frame.flags, self._frame.payload = Flag.ERROR, memoryview(result.encode())
            return
        numbers, self._frame.scalar, self._frame.flags = (
            result if isinstance(result, tuple) else (result, 0.0, 0))
        self._frame.payload, self._frame.count = memoryview(pack(numbers)), len(numbers)

    def receive(self, timeout_s):
        frame, self._frame = self._frame, None
        if frame:
            self.awaited = None
        return frame

    def close(self):
        self.is_closed = True

    def names(self):
        return [call[0] for call in self.calls]

    @staticmethod
    def _numbers(payload):
        return Frame.numbers(type("F", (), {"count": len(payload) // 8, "payload": payload}))


class Robot:
    """A loop at 100 Hz and what surrounds it."""

    def __init__(self, folder, **fields):
        self.now = NS
        self.block = Block.create(folder)
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        theirs.setblocking(False)
        deadlines = Deadlines(100, lambda: self.now, self.sleep)
        self.loop = TickLoop({**FIELDS, **fields}, self.block, deadlines, theirs,
                             lambda: self.now)
        self.body = Peer(reset=lambda *_: [0.25], step=lambda *_: ([0.5], 1.0, 0),
                         sense=lambda: [9.0], finish=lambda: [])
        self.brain = Peer(act=self.act, save=lambda: [], load=lambda: ([], 0.0, Flag.KEEP),
                          finish=lambda: [])
        self.action = 0.5
        self.loop.body.connect(self.body, True)
        self.loop.brain.offer(Connected(self.brain, 1, "shape"))
        self.block["next_generation"] = 1

    def sleep(self, at_ns):
        self.now = max(self.now, at_ns)

    def act(self, *observation):
        return [self.action, 0.5, 3.0, 0.0, 0.0]

    def ticks(self, n):
        for _ in range(n):
            self.loop.tick(self.loop.deadlines.wait())
            self.loop.between_ticks()

    def actions(self):
        return [call[1][0] for call in self.body.calls if call[0] == "STEP"]

    def events(self):
        lines = []
        self.control.setblocking(False)
        try:
            while True:
                lines.append(self.control.recv(2 ** 16).decode())
        except BlockingIOError:
            return lines

    @property
    def state(self):
        return State(self.block["state"])


@contextmanager
def made(folder, **fields):
    made_robot = Robot(folder, **fields)
    yield made_robot
    for end in (made_robot.control, made_robot.loop.control):
        end.close()
    shared_block.remove(folder)
