"""A fast loop as its parent has it: starts its three processes, watches them, swaps brains.

    loop = FastLoop(Options(live_dir, brain, body))
    loop.start()                    # raises SeedError
    while ...: events = loop.poll() # at least twice a second; starts again what has ended
    loop.promote(newer_file)        # raises SeedError if it is refused; the brain of before acts on
    loop.roll_back(older_file)      # the brain before acts from the next tick on
    loop.confirm()                  # the brain before is not needed any more
    loop.block                      # words of shared_block.py: what the loop does, what it is told
    loop.stop()                     # the safe action; the state is saved; all have ended

The parent, and whatever it starts after `start`, stays off the core of the fast loop.
"""
import json
import os
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from seed.errors import ConfigError, SeedError, StopRequested
from seed.live import claims, latch, real_time, shared_block
from seed.live.live_processes import BodyProcess, BrainProcess, Opening, Restarts, end, start
from seed.live.safety import BRAIN_FRACTION, MIN_STALL_S, STALL_TICKS, Fault
from seed.live.shared_block import Block
from seed.systemd import notify

STATE_FILE, EPISODES = "state", "episodes"
MAX_SWAP_S, MAX_STOP_S, MAX_LOAD_S = 5.0, 15.0, 120.0
MAX_MESSAGE_BYTES = 2 ** 16
MIN_RATE_HZ, MAX_RATE_HZ = 0.1, 100_000   # slower ones would hold up an end
MAX_SILENT_S = 2.0      # of the tick loop, before systemd hears nothing any more


@dataclass(frozen=True)
class Options:
    """Of a fast loop."""
    live_dir: Path
    brain: Path                   # an exported file
    body: str                     # built-in, or robot.py:MyRobot
    brain_body: str | None = None     # what the brain calls it, if it has several
    rate_hz: float | None = None  # None: the body's in the brain, or that of its loop
    keep_state: bool = True       # from episode to episode
    episodes: bool = True         # record what is lived
    record_gb_per_day: float = 2.0    # at most
    heartbeat: str = ""           # a FIFO or watchdog device that gets a byte 10 times a s
    seed: int = 0                 # of the body's first reset
    safety: dict[str, Any] = field(default_factory=dict)   # action_limits, max_change, safe_action


class FastLoop:
    """The fast loop of one live directory. `should_stop_fn`: whether the life has to end, which
    ends a wait."""

    def __init__(self, options: Options, should_stop_fn: Callable[[], bool] = bool):
        self.options, self.live_dir = options, options.live_dir
        self._should_stop_fn = should_stop_fn
        self.events: list[dict[str, Any]] = []   # since the last poll
        self.brain: BrainProcess | None = None
        self.previous: BrainProcess | None = None
        self.body: BodyProcess | None = None
        self.brain_path = options.brain           # of the brain that acts, or is to act again
        self._tick: subprocess.Popen | None = None
        self._newer: BrainProcess | None = None   # is loading, after the one before has ended
        self._lost_body: BodyProcess | None = None
        self._opening: Opening | None = None
        self._restarts = {name: Restarts() for name in ("brain", "body", "tick loop")}
        self._ending: list[BrainProcess] = []     # that are not needed any more
        self._generation = 0
        self._memory: Path | None = None   # of the block, and of what processes hand over
        self._claims: list[int] = []   # descriptors: the live directory, and then a core
        self._all_cores = os.sched_getaffinity(0)

    def start(self) -> None:
        """All processes run when it returns. Raises SeedError; then none is left."""
        self.lock()
        try:
            self.block = Block.create(self.live_dir)
            self._memory = shared_block.folder_of(self.live_dir)
            claim, core, note = claims.take_core()
            self._claims += [] if claim is None else [claim]
            self._say(note)
            self._core = {core}
            os.sched_setaffinity(0, real_time.other_cores(core))
            self.brain = self._start_brain(self.brain_path, should_restore=True)
            self.body = BodyProcess(self.options.body, self._core)
            if not self.brain.is_ready(MAX_LOAD_S):
                raise ConfigError(f"{self.brain_path} takes longer than {MAX_LOAD_S:.0f} s to "
                                  f"load")
            self._prepare()
            self._start_tick_loop(is_restarted=False)
        except BaseException:
            self._close()
            raise

    def lock(self) -> None:
        """This process alone has the live directory from here on. Raises InUse, ConfigError."""
        if not self._claims:
            self._claims = [claims.take_directory(self.live_dir)]

    def _start_brain(self, path: Path, should_restore: bool) -> BrainProcess:
        assert self._memory
        self._generation += 1
        return BrainProcess(self._generation, {
            "brain": str(path), "body": self.options.brain_body or self._body_name(),
            "state": str(self.live_dir / STATE_FILE), "handover": str(self._memory / "handover"),
            "scratch": str(self._memory / f"scratch-{self._generation}"),
            "episodes": str(self.live_dir / EPISODES) if self.options.episodes else "",
            "record_bytes_per_day": 1e9 * self.options.record_gb_per_day,
            "cores": list(self._core), "should_restore": should_restore})

    def _body_name(self) -> str:
        return os.path.basename(self.options.body)

    def _prepare(self) -> None:
        """What the tick loop has to know, and the body of its actions. Raises SeedError."""
        assert self.brain and self.body
        facts = self._facts = self.brain.facts
        rate_hz = self.options.rate_hz or facts["rate_hz"] or facts["loop"].get("rate_hz")
        if not rate_hz:
            raise ConfigError(f"{self.brain_path} says no rate: give rate_hz to the body's class, "
                              f"or rate_hz in the [loop] of the profile, and export it again")
        self.rate_hz = float(rate_hz)
        if not MIN_RATE_HZ <= self.rate_hz <= MAX_RATE_HZ:
            raise ConfigError(f"a fast loop cannot have {self.rate_hz:g} Hz: give a rate of "
                              f"{MIN_RATE_HZ:g} to {MAX_RATE_HZ:,} Hz")
        self.stall_s = max(MIN_STALL_S, STALL_TICKS / self.rate_hz)
        self._serve(self.body)
        for note in (*facts["notes"], *self.body.notes):
            self._say(note)
        if not self.bounds.is_safe_given:
            safe = ", ".join(f"{x:g}" for x in self.bounds.safe)
            self._say(f"{self.body.name} has no safe_action: on a fault it gets {safe}")

    def _serve(self, body: BodyProcess) -> None:
        """It is for the tick loop from now on, within its own bounds. Raises SeedError."""
        bounds = body.bounds(self._facts, self.options.safety)
        body.serve(self._facts, self.stall_s)
        self.bounds, self._has_sense = bounds, body.facts["has_sense"]
        self._bounds_fn = body.bounds   # also while its process begins anew

    def _start_tick_loop(self, is_restarted: bool) -> None:
        """With the brain and the body that there are."""
        latched = latch.read(self.live_dir)
        fault = int(latched.fault if latched else self.block["latched"] and self.block["fault"])
        if latched and not is_restarted:
            self._say(f"{latched.text}: {latch.how_to_clear(self.live_dir)}")
        self._control, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.setblocking(False)
        with control:
            # It has the directory too: nobody starts another loop beside one that still ends.
            self._tick = start("seed.live.tick_loop", connection=control, inherited=self._claims)
        fields = {"live_dir": str(self.live_dir), "rate_hz": self.rate_hz, "stall_s": self.stall_s,
                  "bounds": asdict(self.bounds), "has_sense": self._has_sense,
                  "keep_state": self.options.keep_state, "seed": self.options.seed,
                  "cores": list(self._core), "heartbeat": self.options.heartbeat,
                  "is_restarted": is_restarted, "latched": fault}
        self._control.send(json.dumps(fields).encode())
        self._send_body(is_new=not is_restarted)
        if self.brain:
            self._send_brain(self.brain)

    def _send_body(self, is_new: bool) -> None:
        if self.body:
            self._send({"kind": "body", "is_new": is_new, "bounds": asdict(self.bounds),
                        "has_sense": self._has_sense}, self.body.link)

    def _send_brain(self, brain: BrainProcess, kind: str = "brain") -> None:
        self._send({"kind": kind, "generation": brain.generation,
                    "structure": brain.facts["structure"]}, brain.link)
        if kind == "brain":
            self.block["next_generation"] = brain.generation

    def _send(self, message: dict[str, Any], link: socket.socket | None = None) -> None:
        with suppress(OSError):   # it has ended, which poll sees
            socket.send_fds(self._control, [json.dumps(message).encode()],
                            [link.fileno()] if link else [])

    def _say(self, text: str) -> None:
        self.events += [{"text": text}] if text else []

    def poll(self) -> list[dict[str, Any]]:
        """What has happened, each with a `text` of one line for a person; starts again what has
        ended, and tells systemd while ticks run."""
        silent_s = (time.monotonic_ns() - self.block["heartbeat_ns"]) / 1e9
        if silent_s < MAX_SILENT_S:   # else systemd ends it, and starts it anew
            notify("WATCHDOG=1")
        self._read_messages()
        now_s = time.monotonic()
        if self._tick and self._tick.poll() is not None:
            self._restart_tick_loop(now_s)
        if self.brain is None:
            self._replace_brain(now_s)
        if self.body is None:
            self._replace_body(now_s)
        self._ending = [brain for brain in self._ending if not brain.has_ended()]
        events, self.events = self.events, []
        return events

    def _read_messages(self) -> None:
        while True:
            try:
                data = self._control.recv(MAX_MESSAGE_BYTES)
            except OSError:
                return
            if not data:
                return
            message = json.loads(data)
            if "notes" in message:
                self.events += [{"text": note} for note in message["notes"]]
            elif message.get("lost") == "body" and self.body:
                self.body.link.close()   # which ends it
                self._lost_body, self.body = self.body, None
                self._restarts["body"].next(time.monotonic())
            elif message.get("lost") == "brain":
                self._lose_brain(message["generation"])
            elif "fault" in message:
                self._say_fault(message)
            elif "acts" in message:
                self.events.append({**message, "text": f"brain {message['acts']} acts"})

    def _say_fault(self, message: dict[str, Any]) -> None:
        name = Fault(message["fault"]).name.lower().replace("_", " ")
        text, then = f"{name}: {message['text']}", "the body gets the safe action"
        if message["is_latched"]:
            then = latch.how_to_clear(self.live_dir)
            try:
                latch.write(self.live_dir, message["fault"], text)
            except OSError as error:
                self._say(f"{self.live_dir / latch.NAME} is not written: {error.strerror}: free "
                          f"some space, or the next start of seed live will not know of this fault")
        self.events.append({**message, "text": f"{text}: {then}"})

    def clear(self) -> None:
        """What latched a fault is mended."""
        with suppress(OSError):
            latch.clear(self.live_dir)

    def _lose_brain(self, generation: int) -> None:
        if self.brain and self.brain.generation == generation:
            self.brain.link.close()
            self.brain.process.kill()   # it may hang, and end no sooner than a disk lets it
            self._ending.append(self.brain)
            self.brain = None
            self._restarts["brain"].next(time.monotonic())

    def _restart_tick_loop(self, now_s: float) -> None:
        restarts = self._restarts["tick loop"]
        assert self._tick
        if restarts.at_s <= now_s and not self._should_stop_fn():
            self._say(f"the tick loop ended ({self._tick.returncode}): it starts again")
            self._control.close()
            self._start_tick_loop(is_restarted=True)
            if self.previous:
                self._send_brain(self.previous, "previous")
            restarts.next(now_s)

    def _replace_brain(self, now_s: float) -> None:
        if self._newer is None and now_s < self._restarts["brain"].at_s:
            return
        try:
            self._newer = self._newer or self._start_brain(self.brain_path, should_restore=True)
            if self._newer.is_ready(0):
                self.brain, self._newer = self._newer, None
                self._send_brain(self.brain)
            elif now_s - self._newer.began_s > MAX_LOAD_S:
                self._newer.close(0)
                raise SeedError(f"{self.brain_path} takes longer than {MAX_LOAD_S:.0f} s to load: "
                                f"its process begins anew")
        except SeedError as error:
            self._say(str(error))
            self._newer = None
            self._restarts["brain"].next(now_s)

    def _replace_body(self, now_s: float) -> None:
        if self._opening is None:
            if now_s >= self._restarts["body"].at_s and self._lost_body:
                self._opening = Opening(self.options.body, self._core, self._lost_body)
        elif self._opening.is_done():
            opening, self._opening = self._opening, None
            try:
                if opening.body is None:
                    raise ConfigError(opening.error)
                self._serve(opening.body)
                self.body = opening.body
                self._send_body(is_new=True)
            except SeedError as error:
                self._say(str(error))
                self._restarts["body"].next(now_s)

    def promote(self, path: Path) -> int:
        """Another brain acts from the next tick on: its generation. Raises SeedError if it is
        refused or does not take over; then the brain of before acts on."""
        newer = self._start_brain(path, should_restore=False)
        try:
            self._wait(lambda: newer.is_ready(0), MAX_LOAD_S, f"{path} takes too long to load")
            self._check(newer, path)
        except SeedError:
            newer.close(1.0)
            raise
        self.confirm()
        self.previous, self.brain = self.brain, newer   # the older one may have ended just now
        self._send_brain(newer)
        try:
            self._wait(lambda: self.block["generation"] == newer.generation, MAX_SWAP_S,
                       f"{path} did not take over: it does not answer")
        except SeedError:
            self.roll_back(self.brain_path)
            if self.previous:
                self.previous.close(0)
                self.previous = None
            raise
        self.brain_path = path
        self._forget_newer()
        return newer.generation

    def _check(self, newer: BrainProcess, path: Path) -> None:
        """Raises ConfigError for another body, and for a brain that would be late at each tick."""
        bounds = self._bounds_fn(newer.facts, self.options.safety)
        if (bounds.form, len(bounds.safe)) != (self.bounds.form, len(self.bounds.safe)):
            raise ConfigError(f"{path} is for other actions than the brain that acts: train it "
                              f"with the same body")
        if newer.facts["tick_s"] > BRAIN_FRACTION / self.rate_hz:
            raise ConfigError(f"{path} takes {1000 * newer.facts['tick_s']:.2g} ms a tick, more "
                              f"than {100 * BRAIN_FRACTION:.0f} % of a period at "
                              f"{self.rate_hz:g} Hz: use a smaller one")

    def _wait(self, is_done_fn: Any, max_s: float, otherwise: str) -> None:
        """Raises SeedError, StopRequested. What happens meanwhile stays in `events`."""
        deadline_s = time.monotonic() + max_s
        while not is_done_fn():
            if self._should_stop_fn():
                raise StopRequested("stopped while another brain was to take over")
            if time.monotonic() > deadline_s:
                raise SeedError(otherwise)
            self.events = [*self.poll(), *self.events]
            time.sleep(0.01)

    def roll_back(self, path: Path) -> None:
        """The brain before, of that file, acts from the next tick on. Where its process has ended,
        it starts again; until it acts the body gets the safe action."""
        failed, self.brain_path = self.brain, path
        self._forget_newer()
        if self.previous and Path(self.previous.path) == path \
                and self.previous.process.poll() is None:
            self.brain, self.previous = self.previous, failed
            self.block["next_generation"] = self.brain.generation
        elif failed:
            self._lose_brain(failed.generation)

    def _forget_newer(self) -> None:
        """One that starts in place of one that has ended, as another brain acts now."""
        if self._newer:
            self._newer.close(0)
            self._newer = None

    def confirm(self) -> None:
        """The brain before is not needed any more; it ends when its recording is on the disk."""
        if self.previous:
            self._send({"kind": "drop"})
            self.previous.link.close()
            self._ending.append(self.previous)
            self.previous = None

    def stop(self) -> None:
        """Ends all processes: the body gets the safe action, the brain saves its state."""
        self.block["stop"] = 1
        if self._tick:
            if self._tick.pid == self.block["pid"]:   # else it has yet to begin
                self._tick.terminate()   # which ends its sleep
            end(self._tick, MAX_STOP_S)
        self._read_messages()
        self._close()

    def _close(self) -> None:
        for brain in (self.brain, self.previous, self._newer, *self._ending):
            if brain:
                brain.close(MAX_STOP_S)
        if self._tick and self._tick.poll() is None:
            end(self._tick, 0)
        for body in (self.body, self._lost_body):
            if body:
                body.close()
        with suppress(AttributeError):
            self._control.close()
        self.brain = self.previous = self._newer = self.body = self._tick = None
        if self._memory:   # else the link may be of another loop
            shared_block.remove(self.live_dir)
            with suppress(OSError):   # the live directory itself is gone
                shared_block.remove_folder(self._memory)
        for claim in self._claims:
            os.close(claim)
        self._claims = []
        with suppress(OSError):
            os.sched_setaffinity(0, self._all_cores)
