"""A brain's process in a fast loop: runs one exported file, in frames of `frames.py`.

    python -m seed.live.brain_worker FD JSON     # started by fast_loop.py

The file is verified, loaded and warmed up before the loop hears of it: the first message says what
it is, or why it is refused. What was lived is recorded, and the state saved, by threads that write
while the loop sleeps; no tick waits for a disk.
"""
import gc
import json
import math
import os
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from seed.live import carried_state, real_time
from seed.live.forgetting import Forgetting
from seed.live.frames import Call, Flag, Frame, Link, LinkLost, reply_error
from seed.runtime import Brain, BrainError

WARM_UP_TICKS = 30
MIN_FREE_BYTES = 2 ** 26   # to record again
FIRST_SAVE_S = 3.0   # after a brain begins to act
EPISODE_FILE_BYTES = 2 ** 21   # of which each is kept or removed as a whole (lived.py)


class Worker:
    """`fields`: brain, body, state (a file, or empty), scratch and handover (files in memory),
    episodes (a directory, or empty), record_bytes_per_day, cores, should_restore, as fast_loop.py
    gives them. Raises BrainError for a file that is refused."""

    def __init__(self, fields: dict[str, Any]):
        self.brain = Brain(fields["brain"])
        self.state_path = Path(fields["state"]) if fields["state"] else None
        self.scratch, self.handover = Path(fields["scratch"]), Path(fields["handover"])
        self.body = self._named(fields["body"])
        self.codec = self.brain.bodies[self.body]
        self.structure = carried_state.structure(self.brain.description)
        self.notes: list[str] = []
        self.state_bytes = 0
        self.has_surprise = self._warm_up()
        if fields["should_restore"] and self.state_path:
            self.note(carried_state.restore(self.brain, self.state_path, self.scratch))
        self.is_active = self._explores = False
        self._rng = np.random.default_rng()   # of what is tried
        self._counts = [0, 0]      # clipped and absent, of earlier episodes
        # Of the tick before, as there is time for them only when the action is on its way.
        self._nats = self._value = math.nan
        self._predicted: np.ndarray | None = None   # logits of the next observation
        self._forgetting = Forgetting()
        self._saving: threading.Thread | None = None
        self._next_save_s = math.inf
        self._episodes, self._bytes_per_day = fields["episodes"], fields["record_bytes_per_day"]
        self._other_cores = os.sched_getaffinity(0)   # until it takes that of the loop

    def _named(self, body: str | None) -> str:
        try:
            self.brain.begin(body)
        except BrainError:
            if body is None or len(self.brain.bodies) != 1:
                raise
            self.brain.begin()   # its only one, under another name
            body = None
        return body or next(iter(self.brain.bodies))

    def _warm_up(self) -> bool:
        """Each call that a tick may make; whether the brain can tell surprise."""
        brain, numbers = self.brain, np.zeros(len(self._channels()))
        has_surprise = bool(brain.description["bodies"][self.body]["hidden"])
        for _ in range(WARM_UP_TICKS):
            brain.act(numbers, surprise=has_surprise)
        if not np.isfinite(brain.control_logits).all():
            raise BrainError(f"{brain.name} gives logits that are not finite: export it again")
        for _ in range(2):
            if not self._saves():
                self.note(f"{self.scratch.parent} has no room for the state of {brain.name}: it is "
                          f"saved when there is some")
                break
            brain.load_state(self.scratch)
        brain.begin(self.body)
        self.tick_s = float(np.median(brain.step_times_s))
        brain.step_times_s.clear()
        return has_surprise

    def _saves(self) -> bool:
        """Whether its state is in memory now; not where that is full."""
        try:
            self.brain.save_state(self.scratch)
            self.state_bytes = self.scratch.stat().st_size
        except (BrainError, OSError):
            return False
        return True

    def _channels(self) -> list[Any]:
        return self.brain.description["bodies"][self.body]["codec"]["channels"]

    def note(self, text: str) -> None:
        if text:
            self.notes.append(text)

    def facts(self) -> dict[str, Any]:
        body = self.brain.description["bodies"][self.body]
        return {"body": self.body, "n_numbers": len(self._channels()),
                "actions": body["codec"]["actions"], "form": body["codec"]["form"],
                "shape": body["codec"]["shape"], "rate_hz": body.get("rate_hz"),
                "loop": self.brain.loop, "blake2b": self.brain.description["blake2b"],
                "structure": self.structure, "tick_s": self.tick_s, "notes": self.notes,
                "pid": os.getpid()}

    def serve(self, link: Link) -> None:
        """Until its end is asked for, or nobody is left to ask."""
        try:
            while frame := link.take(None):
                self._answer(link, frame)
                if frame.call == Call.FINISH:
                    return
        except LinkLost:
            pass
        self._finish()

    def _answer(self, link: Link, frame: Frame) -> None:
        number, call = frame.number, frame.call
        try:
            flags = self._do(frame, link)
        except Exception as error:   # the loop gives the safe action
            text = f"{type(error).__name__}: {' '.join(str(error).split())}"
            if number:
                reply_error(link, number, call, text)
            return
        if number and call != Call.ACT:
            link.send(call, b"", 0.0, flags, number)
        elif call == Call.ACT:
            self._after_act()

    def _do(self, frame: Frame, link: Link) -> int:
        call, brain = frame.call, self.brain
        if call == Call.ACT:
            self._act(frame, link)
        elif call == Call.TOOK:
            self._took(frame.numbers())
        elif call == Call.BEGIN:
            self._add_counts()
            is_misled = self._forgetting.end_episode()
            brain.begin(self.body, keep_state=bool(frame.flags & Flag.KEEP) and not is_misled)
            self._explores = bool(frame.flags & Flag.EXPLORE)
            self._predicted = None
            gc.collect()   # of what is new since the start: little
        elif call == Call.END:
            brain.end(np.frombuffer(frame.payload, "<f8"), frame.scalar,
                      bool(frame.flags & Flag.TERMINATED))
        elif call == Call.SAVE:
            brain.save_state(self.handover)
        elif call == Call.LOAD:
            carried_state.load(brain, self.handover)
            self._counts, self._predicted = [0, 0], brain.predicted(self.codec)
            return Flag.KEEP
        elif call == Call.RETIRE:
            self.is_active, self._next_save_s = False, math.inf
            for recorder in brain.recorders.values():
                recorder.next_file()   # if it acts again: after what the other brain records
        else:   # FINISH
            self._finish()
        return 0

    def _act(self, frame: Frame, link: Link) -> None:
        if not self.is_active:
            self._activate()
        if frame.flags & Flag.GAP:
            self._cut()
        action = self.brain.act(np.frombuffer(frame.payload, "<f8"), frame.scalar,
                                explore=self._rng if self._explores else None)
        if not np.isfinite(self.brain.control_logits).all():
            raise BrainError("its logits are not finite")
        clipped, absent = self.codec.clipped, self.codec.absent
        numbers = [*np.ravel(action).tolist(), self._nats, self._value,
                   self._counts[0] + clipped, self._counts[1] + absent]
        link.send(Call.ACT, np.array(numbers, "<f8").tobytes(), 0.0, 0, frame.number)

    def _activate(self) -> None:
        self.is_active = True
        self._next_save_s = time.monotonic() + FIRST_SAVE_S

    def _record(self) -> None:
        """In a file that begins with the first tick: brains that only wait have none."""
        self.brain.record(self._episodes, self.body)
        self.brain.recorders[self.body].limit(EPISODE_FILE_BYTES, self._bytes_per_day)

    def check_recording(self) -> None:
        """One line if nothing can be recorded there."""
        if self._episodes:
            try:
                self._record()
            except BrainError as error:
                self.note(str(error))
                self._episodes = ""

    def _cut(self) -> None:
        """What is recorded of the episode ends here."""
        for recorder in self.brain.recorders.values():
            recorder.begin()

    def _took(self, numbers: tuple[float, ...]) -> None:
        self.codec.take(numbers)
        if self.has_surprise:
            self._predicted = self.brain.predicted(self.codec)
        recorder = self.brain.recorders.get(self.body)
        if recorder:
            recorder.take(int(numbers[0]) if self.codec.form == "index" else list(numbers))

    def _add_counts(self) -> None:
        self._counts[0] += self.codec.clipped
        self._counts[1] += self.codec.absent

    def _after_act(self) -> None:
        """In the time until the next tick."""
        self._value = self.brain.value
        if self.has_surprise:
            self._nats = (math.nan if self._predicted is None
                          else self.codec.surprise(self._predicted))
            self._forgetting.count(self._nats)
            self._predicted = self.brain.predicted(self.codec)
        now_s = time.monotonic()
        if now_s >= self._next_save_s and self.state_path:
            self._next_save_s = now_s + carried_state.interval_s(self.state_bytes)
            if not (self._saving and self._saving.is_alive()) and self._saves():   # or a slow disk
                saving = threading.Thread(target=self._keep, daemon=True)
                with suppress(RuntimeError):   # there can be no more threads now
                    saving.start()
                    self._saving = saving

    def _keep(self) -> None:
        assert self.state_path
        if threading.current_thread() is not threading.main_thread():
            real_time.pin(self._other_cores)
        with suppress(OSError):   # a full disk: the state before it stays
            carried_state.keep(self.scratch.read_bytes(), self.structure, self.state_path)
            self._renew_recording()

    def _renew_recording(self) -> None:
        """In a new file, where the disk was full and has room again. Raises OSError."""
        recorder = self.brain.recorders.get(self.body)
        if not self.is_active or not recorder or not recorder.error:
            return
        disk = os.statvfs(self._episodes)
        if disk.f_bavail * disk.f_frsize > MIN_FREE_BYTES:
            with suppress(BrainError):   # said at the start
                self._record()

    def _finish(self) -> None:
        real_time.yield_core()
        if self._saving:
            self._saving.join()
        if self.is_active and self.state_path:
            if self._saves():
                self._keep()
        self.is_active = False
        for body in list(self.brain.recorders):
            self.brain.record(None, body)
        self.scratch.unlink(missing_ok=True)


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):   # it ends with its loop
        signal.signal(number, signal.SIG_IGN)
    connection, fields = socket.socket(fileno=int(sys.argv[1])), json.loads(sys.argv[2])
    try:
        worker = Worker(fields)
    except (BrainError, OSError) as error:
        with suppress(OSError):   # its parent was killed meanwhile
            connection.send(json.dumps({"error": " ".join(str(error).split())}).encode())
        Path(fields["scratch"]).unlink(missing_ok=True)
        return
    real_time.lock_memory()
    real_time.freeze_garbage()
    link = Link(connection)
    # Threads that write have it too, on the other cores: one that waits for a core, with the lock
    # of the interpreter, would hold up a tick.
    worker.note(real_time.prioritize(real_time.BRAIN_PRIORITY, is_inherited=True))
    worker.check_recording()
    real_time.pin(set(fields["cores"]))
    with suppress(OSError):
        connection.send(json.dumps(worker.facts()).encode())
    worker.serve(link)


if __name__ == "__main__":
    main()
