"""The tick loop: at each deadline an observation, an action of the brain, limits, the body.

    python -m seed.live.tick_loop FD     # started by fast_loop.py, which holds the other end of FD

The brain and the body are processes of their own. So no thread, no garbage and no lock of theirs
can hold up a tick, and a crash or a hang on either side is a fault that this loop answers with the
safe action. It needs the standard library alone. At a deadline the body's last reply is there, or
it is late and nothing is done; the brain has 0.7 of a period to act on it; then the body gets the
action, and works on it while the loop sleeps. Only between ticks another brain takes over.
"""
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from seed.live.deadlines import NS, Deadlines
from seed.live.frames import Call, Flag, Link, LinkLost, pack
from seed.live.heartbeat import Heartbeat
from seed.live.safety import BRAIN_FRACTION, MAX_MISSED, Bounds, Fault, Faults, Limits, State
from seed.live.shared_block import FIRST_LATENESS, FIRST_TICK_TIME, Block, folder_of, remove_folder
from seed.live.tick_body import BodyFault, TickBody
from seed.live.tick_brain import BrainFault, Connected, TickBrain

SENSE_FRACTION = 0.25    # of a period, for one answer
SWAP_MARGIN = 0.15       # of a period, that a swap leaves before the next deadline
HEARTBEAT_S, SERVICE_S = 0.1, 0.2
SURPRISE_TICKS = 100     # over which its mean is taken
FINISH_S = 3.0
MAX_MESSAGE_BYTES = 2 ** 16


class TickLoop:
    """`fields`: bounds, stall_s, has_sense, keep_state, seed, is_restarted and latched, a fault or
    0, as fast_loop.py gives them; `control`: the parent's socket."""

    def __init__(self, fields: dict[str, Any], block: Block, deadlines: Deadlines,
                 control: socket.socket, clock_fn: Callable[[], int] = time.monotonic_ns):
        self.block, self.deadlines, self.control, self._clock_fn = (
            block, deadlines, control, clock_fn)
        bounds = Bounds(**fields["bounds"])
        rate_hz = NS / deadlines.period_ns
        self._period_s = 1 / rate_hz
        self.limits, self.faults = Limits(bounds, rate_hz), Faults()
        self.body = TickBody(fields["stall_s"], self._sense_s(fields["has_sense"]), fields["seed"],
                             clock_fn)
        self.brain = TickBrain(len(bounds.safe), Flag.KEEP * fields["keep_state"],
                               BRAIN_FRACTION * self._period_s)
        self._service_ticks = max(1, round(SERVICE_S * rate_hz))
        self._heartbeat_ticks = max(1, round(HEARTBEAT_S * rate_hz))
        self.heartbeat = Heartbeat("")
        self.must_end = self.is_orphan = False
        self._clears = int(block["clear"])
        if fields["latched"]:
            self.faults.latch(Fault(fields["latched"]))
        if fields["is_restarted"]:
            self.body.needs_reset = False   # it has one behind it
            self.limits.last = block.action
            self.faults.restore(block.fault_times)
            self._fault(Fault.RESTARTED, "the tick loop was ended from outside")

    def _sense_s(self, has_sense: bool) -> float | None:
        return SENSE_FRACTION * self._period_s if has_sense else None

    def run(self) -> None:
        """Until `stop`, a signal, or the parent's end."""
        self.block["started_ns"], self.block["pid"] = self._clock_fn(), os.getpid()
        self.block["period_ns"] = self.deadlines.period_ns
        while not self._should_end():
            lateness_ns = self.deadlines.wait(self._should_end)
            if self._should_end():
                break
            self.tick(lateness_ns)
            self.between_ticks()
        self.finish()

    def _should_end(self) -> bool:
        return self.must_end or self.block["stop"] != 0

    def tick(self, lateness_ns: int) -> None:
        block, deadlines, began_ns = self.block, self.deadlines, self._clock_fn()
        block["heartbeat_ns"] = began_ns
        block["ticks"] += 1
        block["missed"] += deadlines.missed_in_a_row
        block["late"] += lateness_ns > deadlines.late_ns
        block["worst_late_ns"] = max(block["worst_late_ns"], lateness_ns)
        block.count(FIRST_LATENESS, lateness_ns // 1000)
        now_s = began_ns / NS
        if deadlines.missed_in_a_row >= MAX_MISSED:
            self._fault(Fault.MISSED_DEADLINES, f"{deadlines.missed_in_a_row} deadlines in a row: "
                                                f"the machine or this process was held up")
        if block["clear"] != self._clears:
            self._clears = int(block["clear"])
            self.faults.clear()
            block.fault_times = ()
        try:
            if self._hear_body():
                self._act(now_s)
        except LinkLost as error:
            self._lose_body(Fault.BODY_ENDED, str(error))
        self._show()
        took_ns = self._clock_fn() - began_ns
        block["worst_tick_ns"] = max(block["worst_tick_ns"], took_ns)
        block.count(FIRST_TICK_TIME, took_ns // 1000)

    def _hear_body(self) -> bool:
        """Whether it waits for an action. Raises LinkLost."""
        body, block, late = self.body, self.block, self.body.late
        try:
            is_ready = body.collect()
        except BodyFault as fault:
            self._fail_body(fault)
            is_ready = body.link is not None and not body.needs_reset
        block["late_body"] += body.late - late
        if body.heard == Call.RESET:
            block["episode_return"], block["episode_ticks"] = 0.0, 0
            self.brain.begin_again()
        elif body.heard == Call.STEP:
            block["episode_return"] += body.reward
            block["episode_ticks"] += 1
            block["steps"] += 1
            block["total_reward"] += body.reward
            if body.ended:
                block["last_return"] = block["episode_return"]
                block["episodes"] += 1
                if self.brain.is_inside:
                    self._tell_brain(Call.END, body.observation, body.reward,
                                     body.ended & Flag.TERMINATED)
                self.brain.begin_again()
        return is_ready

    def _act(self, now_s: float) -> None:
        """Gives the body an action: the brain's; the last one again where the brain is late; the
        safe one while a fault stands, where there is no brain, and on hold. Raises LinkLost."""
        brain, safe = self.brain, self.limits.bounds.safe
        may_act = (self.faults.tick(now_s) and not self.block["hold"]
                   and brain.acting is not None)
        brain.is_asked = False
        action = self._brain_action(now_s) if may_act and self.body.is_seen else None
        if not may_act and brain.is_inside:
            brain.begin_again()
        is_late = action is None and may_act and self.faults.fault == Fault.NONE
        held = self.limits.last if is_late else None
        try:
            applied = self.limits.apply(action or held or safe)
        except ValueError as error:
            self._fail_brain(BrainFault(Fault.BRAIN_ERROR, str(error)))
            applied = self.limits.apply(safe)
        self.body.step(pack(applied))
        self.block.action = applied
        if brain.is_asked and applied != action and self.faults.fault == Fault.NONE:
            self._tell_brain(Call.TOOK, pack(applied))

    def _brain_action(self, now_s: float) -> list[float] | None:
        """None if it is late, has failed or has ended."""
        brain, block, late = self.brain, self.block, self.brain.late
        brain.explores = bool(block["explore"])
        try:
            action = brain.act(self.body.observation, self.body.reward, now_s)
        except BrainFault as fault:
            self._fail_brain(fault)
            return None
        finally:
            block["late_brain"] += brain.late - late
        if action is not None:
            surprise, block["value"], block["clipped"], block["absent"] = brain.stats
            if surprise == surprise:   # not NaN
                block["surprise"] += (surprise - block["surprise"]) / SURPRISE_TICKS
        return action

    def _tell_brain(self, call: Call, payload: bytes, scalar: float = 0.0, flags: int = 0) -> None:
        try:
            self.brain.tell(call, payload, scalar, flags)
        except BrainFault as fault:
            self._fail_brain(fault)

    def _show(self) -> None:
        block, faults = self.block, self.faults
        block["fault"], block["latched"] = faults.fault, faults.is_latched
        block["clamped"], block["slewed"] = self.limits.clamped, self.limits.slewed
        if faults.fault != Fault.NONE:
            state = State.LATCHED if faults.is_latched else State.SAFE
        elif self.body.link is None or self.brain.acting is None:
            state = State.STARTING
        elif block["hold"]:
            state = State.HELD
        else:
            state = State.RESETTING if self.body.needs_reset else State.ACTING
        block["state"] = state
        if block["ticks"] % self._heartbeat_ticks == 0 and self.body.is_answering():
            self.heartbeat.beat()

    def _fault(self, fault: Fault, text: str) -> None:
        if self.faults.report(fault, self._clock_fn() / NS):
            self.block["faults"] += 1
            self.block.fault_times = self.faults.times_s
            self.report(fault=int(fault), text=text, is_latched=self.faults.is_latched,
                        generation=self.brain.generation)
        self.brain.begin_again()

    def _fail_brain(self, failure: BrainFault) -> None:
        self._fault(failure.fault, str(failure))
        if failure.fault == Fault.BRAIN_ERROR:   # what it remembers may be what is wrong
            self.brain.begin_again(Flag.NONE)
        if failure.is_lost:
            self.report(lost="brain", generation=self.brain.generation, text=str(failure))
            self.brain.lose()

    def _fail_body(self, failure: BodyFault) -> None:
        self._fault(failure.fault, str(failure))
        if failure.is_lost:
            self._lose_body(failure.fault, str(failure))

    def _lose_body(self, fault: Fault, text: str) -> None:
        """Its process has to begin anew, which is the parent's to do."""
        self._fault(fault, text)
        self.body.lose()
        self.limits.last = self.block.action = None
        self.report(lost="body", text=text)

    def report(self, **fields: Any) -> None:
        """One line for the parent, if it listens."""
        with suppress(OSError):
            self.control.send(json.dumps(fields).encode()[:MAX_MESSAGE_BYTES])

    def between_ticks(self) -> None:
        """What may take the time that is left: the parent's messages, and a newer brain."""
        generation = int(self.block["next_generation"])
        if self.body.link is None:
            self.faults.postpone(self._clock_fn() / NS)
        if generation != self.brain.generation or self.body.link is None \
                or self.block["ticks"] % self._service_ticks == 0:
            self.serve_parent()
            with suppress(OSError):
                self.heartbeat.open()
        if generation != self.brain.generation and self.brain.switch(generation, self._left_s):
            self.block["generation"] = generation
            self.block["swaps"] = self.brain.swaps
            self.block["swaps_anew"] = self.brain.swaps_anew
            self.report(acts=generation)

    def _left_s(self) -> float:
        return self.deadlines.left_s() - SWAP_MARGIN * self._period_s

    def serve_parent(self) -> None:
        """Takes what it sends: processes of a brain or a body, and that the one before can go."""
        while True:
            try:
                data, fds, _, _ = socket.recv_fds(self.control, MAX_MESSAGE_BYTES, 1)
            except BlockingIOError:
                return
            except OSError:
                data, fds = b"", []
            if not data:   # the parent has ended
                self.must_end = self.is_orphan = True
                return
            message = json.loads(data)
            link = Link(socket.socket(fileno=fds[0])) if fds else None
            if link is None:
                self.brain.drop_previous()
            elif message["kind"] == "previous":   # that this loop has not seen act
                self.brain.previous = Connected(link, message["generation"], message["structure"])
            elif message["kind"] == "body":   # its class may be another than before
                self.limits.use(Bounds(**message["bounds"]))
                self.body.sense_s = self._sense_s(message["has_sense"])
                self.body.connect(link, message["is_new"])
            else:
                self.brain.offer(Connected(link, message["generation"], message["structure"]))

    def finish(self) -> None:
        """The safe action, then the brain saves its state and the body is closed."""
        body = self.body
        with suppress(LinkLost):
            if body.link and (body.pending is None or body.link.receive(FINISH_S)):
                if not body.needs_reset:
                    self._come_to_rest(body.link)
                body.link.ask(Call.FINISH)
                body.link.receive(FINISH_S)
        self.brain.finish()
        self.heartbeat.end()
        self.block["state"] = State.STOPPED

    def _come_to_rest(self, link: Link) -> None:
        """The safe action, as near as its change is limited to. Raises LinkLost."""
        safe = list(self.limits.bounds.safe)
        for _ in range(max(1, round(FINISH_S / self._period_s))):
            began_ns, applied = self._clock_fn(), self.limits.apply(safe)
            self.body.step(pack(applied))
            frame = link.receive(FINISH_S)
            if frame is None or frame.flags or applied == safe:   # it fails, or its episode ends
                return
            time.sleep(max(0.0, self._period_s - (self._clock_fn() - began_ns) / NS))


def main() -> None:
    from seed.live import real_time
    control = socket.socket(fileno=int(sys.argv[1]))
    fields = json.loads(control.recv(MAX_MESSAGE_BYTES))
    real_time.pin(set(fields["cores"]))
    notes = [real_time.prioritize(real_time.TICK_PRIORITY), real_time.lock_memory()]
    control.setblocking(False)
    folder = folder_of(Path(fields["live_dir"]))
    loop = TickLoop(fields, Block.open(fields["live_dir"]), Deadlines(fields["rate_hz"]), control)
    signal.signal(signal.SIGTERM, lambda *_: setattr(loop, "must_end", True))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})   # which a parent may block
    signal.signal(signal.SIGINT, signal.SIG_IGN)   # of a terminal: the parent's to decide
    loop.heartbeat = Heartbeat(fields["heartbeat"])
    notes.append(loop.heartbeat.note)
    loop.report(notes=[note for note in notes if note])
    real_time.freeze_garbage()
    loop.run()
    if loop.is_orphan:   # nobody else is left to remove it
        with suppress(OSError):
            remove_folder(folder)


if __name__ == "__main__":
    main()
