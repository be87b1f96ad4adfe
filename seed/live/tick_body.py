"""The body in a tick: it is asked once a tick, and heard at the next deadline.

While a call runs the loop waits for nothing: it looks again at the next deadline. A call that takes
longer than `stall_s` (a reset: MAX_RESET_S) hangs, and the body's process has to begin anew.
"""
import time
from collections.abc import Callable

from seed.live.frames import Call, Flag, Frame, Link
from seed.live.safety import MAX_BODY_ERRORS, Fault

MAX_RESET_S = 30.0   # a robot goes home


class BodyFault(Exception):
    """What the body did; `is_lost`: its process has to begin anew."""

    def __init__(self, fault: Fault, text: str, is_lost: bool = False):
        super().__init__(text)
        self.fault, self.is_lost = fault, is_lost


class TickBody:
    """`sense_s`: that a reading of the sensors may take in a tick; None: `step` reads them."""

    def __init__(self, stall_s: float, sense_s: float | None, seed: int,
                 clock_fn: Callable[[], int] = time.monotonic_ns):
        self.link: Link | None = None
        self.needs_reset = True
        self.pending: Call | None = None   # the call that runs
        self.observation = b""
        self.is_seen = False             # the observation is one of this tick
        self.reward = 0.0                # of the last step
        self.heard: Call | None = None   # whose reply has come in this tick
        self.ended = 0                   # flags of a step that ended an episode
        self.late = 0                    # ticks in which it had not answered
        self.resets = 0
        self.sense_s = sense_s
        self._stall_s, self._seed, self._clock_fn = stall_s, seed, clock_fn
        self._asked_s = 0.0
        self._errors = dict.fromkeys((Call.RESET, Call.SENSE, Call.STEP), 0)   # in a row

    def connect(self, link: Link, is_new: bool) -> None:
        self.link, self.needs_reset = link, self.needs_reset or is_new

    def lose(self) -> None:
        if self.link:
            self.link.close()
        self.link, self.pending, self.is_seen, self.needs_reset = None, None, False, True
        self._errors = dict.fromkeys(self._errors, 0)

    def collect(self) -> bool:
        """Whether it has answered and waits for an action; asks it for a reset where one is due.
        Raises BodyFault, LinkLost."""
        self.heard, self.ended = None, 0
        if self.link is None:
            return False
        if self.pending is not None:
            frame = self.link.receive(0)
            if frame is None:
                self._wait()
                return False
            self._hear(frame)
        if self.needs_reset:
            self._ask(Call.RESET, b"", float(self._seed + self.resets))
            return False
        if self.sense_s is not None and self.is_seen:
            self._ask(Call.SENSE)
            frame = self.link.receive(self.sense_s)
            if frame is None:
                self.late += 1
                return False
            self._hear(frame)
        return True

    def step(self, action: bytes) -> None:
        """Raises LinkLost."""
        self.is_seen = False
        self._ask(Call.STEP, action)

    def is_answering(self) -> bool:
        """Whether no call hangs."""
        return self.link is not None and (
            self.pending is None or self.pending == Call.RESET or self._waited_s() < self._stall_s)

    def _ask(self, call: Call, payload: bytes = b"", scalar: float = 0.0) -> None:
        assert self.link
        self.pending, self._asked_s = call, self._clock_fn() / 1e9
        self.link.ask(call, payload, scalar)

    def _waited_s(self) -> float:
        return self._clock_fn() / 1e9 - self._asked_s

    def _wait(self) -> None:
        assert self.pending is not None
        self.late += self.pending != Call.RESET
        limit_s = MAX_RESET_S if self.pending == Call.RESET else self._stall_s
        if self._waited_s() > limit_s:
            raise BodyFault(Fault.BODY_STALLED, f"{self.pending.name.lower()} has not returned for "
                                                f"{self._waited_s():.2f} s", is_lost=True)

    def _hear(self, frame: Frame) -> None:
        call, self.pending = self.pending, None
        assert call is not None
        if frame.is_error:
            self._errors[call] += 1
            raise BodyFault(Fault.BODY_ERROR, frame.text, self._errors[call] >= MAX_BODY_ERRORS)
        self._errors[call] = 0
        self.observation, self.is_seen = bytes(frame.payload), True
        self.heard = self.heard if call == Call.SENSE else call
        if call == Call.RESET:
            self.needs_reset, self.reward = False, 0.0
            self.resets += 1
        elif call == Call.STEP:
            self.reward = frame.scalar
            self.ended = frame.flags & (Flag.TERMINATED | Flag.TRUNCATED)
            self.needs_reset = self.ended != 0
