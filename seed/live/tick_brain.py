"""The brain in a tick: it is asked for an action and has a stated time to answer; and between two
ticks another brain's process may take over.

A brain that takes over continues with the state of the one before if both files have the same
structure (carried_state.py): that one saves it and the newer one loads it within one pause, so that
no tick is lost or seen twice. If that has not worked in MAX_SWAP_TRIES pauses, or if the structure
is another, it begins anew. The brain before stays as it is: it can come back at once.
"""
from collections.abc import Callable, Sequence

from seed.live.frames import Call, Flag, Frame, Link, LinkLost
from seed.live.safety import MAX_LATE_BRAIN, Fault

MAX_SILENT_S = 2.0      # then its process has to begin anew
MAX_SWAP_TRIES = 10
FINISH_S = 3.0
N_STATS = 4             # numbers behind an action: surprise, value, clipped, absent


class BrainFault(Exception):
    """What the brain did; `is_lost`: its process has to begin anew."""

    def __init__(self, fault: Fault, text: str, is_lost: bool = False):
        super().__init__(text)
        self.fault, self.is_lost = fault, is_lost


class Connected:
    """A brain's process. `structure`: those with the same can continue with each other's state."""

    def __init__(self, link: Link, generation: int, structure: str):
        self.link, self.generation, self.structure = link, generation, structure


class TickBrain:
    """`keep`: flags of the begin of an episode; `answer_s`: that an answer may take."""

    def __init__(self, n_parts: int, keep: int, answer_s: float):
        self.acting: Connected | None = None
        self.candidate: Connected | None = None   # warmed up, and not acting yet
        self.previous: Connected | None = None    # it can come back at once
        self.stats: Sequence[float] = ()          # surprise, value, clipped and absent numbers
        self.is_inside = False                    # it acts in an episode of the body
        self.is_asked = False                     # for this tick's action
        self.late, self.swaps, self.swaps_anew = 0, 0, 0
        self.explores = False                     # in the episodes that begin from now on
        self._n_parts, self._keep, self._answer_s = n_parts, keep, answer_s
        self._begin: int | None = keep            # flags of a BEGIN before the next ACT
        self._late_in_a_row = self._swap_tries = 0
        self._asked_s = 0.0
        self._has_gap = False                     # it has not seen the tick before

    @property
    def generation(self) -> int:
        return self.acting.generation if self.acting else 0

    def begin_again(self, flags: int | None = None) -> None:
        """An episode begins before it acts next; what it remembers stays, unless flags say that it
        does not."""
        self.is_inside = False
        if flags is not None or self._begin is None:
            self._begin = self._keep if flags is None else flags

    def act(self, observation: bytes, reward: float, now_s: float) -> list[float] | None:
        """Its action; None if it is late. Raises BrainFault."""
        assert self.acting
        try:
            frame = self._answer(self.acting.link, observation, reward, now_s)
        except LinkLost as error:
            raise BrainFault(Fault.BRAIN_ENDED, str(error), is_lost=True) from None
        if frame is None:
            self._miss(now_s - self._asked_s)
            return None
        self._late_in_a_row = 0
        if frame.is_error:
            raise BrainFault(Fault.BRAIN_ERROR, frame.text)
        if frame.call != Call.ACT or frame.count != self._n_parts + N_STATS:
            raise BrainFault(Fault.BRAIN_ERROR, "its answer has another shape")
        self.is_inside = True
        numbers = frame.numbers()
        self.stats = numbers[self._n_parts:]
        return list(numbers[:self._n_parts])

    def _answer(self, link: Link, observation: bytes, reward: float, now_s: float) -> Frame | None:
        """To this observation alone: where it still works on an earlier request, that one's answer
        is waited for, and dropped. Raises LinkLost."""
        answer_s = self._answer_s
        if link.awaited is not None:
            answer_s /= 2
            if link.receive(answer_s) is None:
                self._has_gap = True
                return None
        if self._begin is not None:
            link.send(Call.BEGIN, flags=self._begin | Flag.EXPLORE * self.explores)
            self._begin = None
        link.ask(Call.ACT, observation, reward, Flag.GAP * self._has_gap)
        self._asked_s, self.is_asked, self._has_gap = now_s, True, False
        return link.receive(answer_s)

    def _miss(self, waited_s: float) -> None:
        self.late += 1
        self._late_in_a_row += 1
        if waited_s > MAX_SILENT_S:
            raise BrainFault(Fault.BRAIN_LATE, f"it has not answered for {waited_s:.1f} s",
                             is_lost=True)
        if self._late_in_a_row >= MAX_LATE_BRAIN:
            raise BrainFault(Fault.BRAIN_LATE, f"{self._late_in_a_row} ticks in a row without an "
                                               f"action")

    def tell(self, call: Call, payload: bytes = b"", scalar: float = 0.0, flags: int = 0) -> None:
        """What has no reply. Raises BrainFault."""
        if self.acting:
            try:
                self.acting.link.send(call, payload, scalar, flags)
            except LinkLost as error:
                raise BrainFault(Fault.BRAIN_ENDED, str(error), is_lost=True) from None

    def lose(self) -> None:
        if self.acting:
            self.acting.link.close()
        self.acting, self._late_in_a_row = None, 0

    def offer(self, newer: Connected) -> None:
        if self.candidate:
            self.candidate.link.close()
        self.candidate = newer

    def drop_previous(self) -> None:
        if self.previous:
            self.previous.link.close()
        self.previous = None

    def switch(self, generation: int, left_s_fn: Callable[[], float]) -> bool:
        """Lets the brain of that generation act from the next tick on, if it is there; whether it
        does. `left_s_fn`: the time until the next tick."""
        newer = next((brain for brain in (self.candidate, self.previous)
                      if brain and brain.generation == generation), None)
        if newer is None or not self._has_answered(newer.link):
            return False
        older, is_carried = self.acting, False
        if older and older.structure == newer.structure and self._swap_tries < MAX_SWAP_TRIES:
            self._swap_tries += 1
            is_carried = self._carry(older.link, newer.link, left_s_fn)
            if not is_carried:
                return False
        self._swap_tries = self._late_in_a_row = 0
        self.candidate = None if newer is self.candidate else self.candidate
        self.previous = None if newer is self.previous else self.previous
        if older:
            self._retire(older)
            self.swaps += 1
            self.swaps_anew += not is_carried
            if not is_carried:
                self.begin_again(Flag.NONE)
        self.acting = newer
        return True

    def _has_answered(self, link: Link) -> bool:
        try:
            return link.awaited is None or link.receive(0) is not None
        except LinkLost:
            return False

    def _retire(self, older: Connected) -> None:
        self.drop_previous()
        self.previous = older
        try:
            older.link.send(Call.RETIRE)
        except LinkLost:
            self.drop_previous()

    def _carry(self, older: Link, newer: Link, left_s_fn: Callable[[], float]) -> bool:
        """Whether the newer one has the older one's state, in the time that is left."""
        if self._late_in_a_row:
            return False
        try:
            for link, call in ((older, Call.SAVE), (newer, Call.LOAD)):
                left_s = left_s_fn()
                if left_s <= 0:
                    return False
                link.ask(call)
                frame = link.receive(left_s)
                if frame is None or frame.is_error:
                    return False
        except LinkLost:
            self._swap_tries = MAX_SWAP_TRIES   # there is no more to be had
            return False
        return True

    def finish(self) -> None:
        """It saves its state."""
        if self.acting:
            try:
                self.acting.link.ask(Call.FINISH)
                self.acting.link.receive(FINISH_S)
            except LinkLost:
                pass
