"""A body's process in a fast loop: answers its calls, in frames of `frames.py`.

It is started as any user's class is (curriculum/user_class_process.py), contained: a call that
hangs, or that ends the process, never holds up a tick. After the requests `load` and `serve`, in
JSON, the socket has frames. Whatever ends the loop, `stop` is called.
"""
import math
import os
import select
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np

from seed.body import user_body_worker
from seed.body.user_body_worker import as_reward, checked_parts
from seed.curriculum.user_class_worker import InvalidClass, describe
from seed.live.frames import Call, Flag, Frame, Link, LinkLost, reply_error
from seed.live.tick_body import MAX_RESET_S
from seed.runtime.recording import MAX_REWARD

OWNERS = ("action_limits", "max_change", "safe_action")   # optional attributes of the class
METHODS = ("stop", "sense")                                # optional methods
LAST_S = 1.0   # for a call to return after the loop has ended


class Calls(user_body_worker.Calls):
    """One object of the class. Optional beside Gymnasium's interface: `sense()`, what the sensors
    say now; `stop()`, which switches the motors off, called from another thread while a call hangs,
    and at the end; `close()`."""

    def methods(self) -> dict[str, Callable[..., Any]]:
        return {"load": self.load, "serve": self.prepare}

    def load(self, rows: int) -> dict[str, Any]:
        fields = super().load(rows)
        body = self.bodies[0]
        return {**fields, **{f"has_{name}": hasattr(body, name) for name in METHODS},
                **{name: np.asarray(getattr(body, name)).tolist() for name in OWNERS
                   if getattr(body, name, None) is not None}}

    def prepare(self, form: str, shape: list[int], stall_s: float) -> bool:
        """Of the actions that will come; `stall_s`: after which a call hangs."""
        self.form, self.shape = form, tuple(shape)
        self.body, self._stall_s = self.bodies[0], stall_s
        self._hangs_at_s = math.inf   # the call that runs
        return True

    def serve(self, connection: socket.socket) -> None:
        """Until the loop and its parent have ended."""
        threading.Thread(target=self._watch, args=(connection.fileno(),), daemon=True).start()
        link = Link(connection)
        try:
            with suppress(LinkLost):
                self._serve(link)
        finally:   # also where a signal handler of the class raises between two calls
            self._end()
        with suppress(LinkLost):
            link.send(Call.FINISH, number=link.frame.number)

    def _watch(self, descriptor: int) -> None:
        """Stops the motors once for each call that hangs. A call that still runs when the loop has
        ended hangs too, and its process ends soon."""
        loop = select.poll()
        loop.register(descriptor, 0)   # its end alone
        stopped_s = math.inf
        while True:
            time.sleep(self._stall_s / 4)
            hangs_at_s, has_ended = self._hangs_at_s, bool(loop.poll(0))
            if hangs_at_s == math.inf or not has_ended and time.monotonic() < hangs_at_s:
                continue
            if stopped_s != hangs_at_s:
                stopped_s = hangs_at_s
                with suppress(Exception):
                    getattr(self.body, "stop", bool)()
            if has_ended:
                time.sleep(LAST_S)
                if self._hangs_at_s == hangs_at_s:
                    os._exit(1)

    def _serve(self, link: Link) -> None:
        """Until its end is asked for. Raises LinkLost."""
        while (frame := link.take(None)) and frame.call != Call.FINISH:
            number, call = frame.number, frame.call
            # A reset may take its time: a robot goes home.
            limit_s = MAX_RESET_S if call == Call.RESET else self._stall_s
            self._hangs_at_s = time.monotonic() + limit_s
            try:
                scalar, flags, observation = self._answer(frame)
            except InvalidClass as error:
                reply_error(link, number, call, str(error))
            except BaseException as error:
                reply_error(link, number, call, describe(Call(call).name.lower(), error))
            else:
                link.send(call, observation.tobytes(), scalar, flags, number)
            self._hangs_at_s = math.inf

    def _end(self) -> None:
        for name in ("stop", "close"):
            try:
                getattr(self.body, name, bool)()
            except BaseException as error:   # the other one is called all the same
                print(describe(name, error), file=sys.stderr)

    def _answer(self, frame: Frame) -> tuple[float, int, np.ndarray]:
        """Reward, flags and observation."""
        if frame.call == Call.STEP:
            result = self.body.step(self._action(frame.numbers()))
            observation, reward, terminated, truncated, _ = checked_parts(
                "step", result, "observation, reward, terminated, truncated, info")
            number = as_reward(reward)
            if not abs(number) <= MAX_REWARD:
                raise InvalidClass(f"step returns the reward {number:g}: keep it within "
                                   f"{MAX_REWARD:g}")
            flags = Flag.TERMINATED * bool(terminated) | Flag.TRUNCATED * bool(truncated)
            return number, flags, self.numbers(observation)
        if frame.call == Call.SENSE:
            return 0.0, 0, self.numbers(self.body.sense())
        observation, _ = checked_parts("reset", self.body.reset(seed=int(frame.scalar)),
                                       "observation, info")
        return 0.0, 0, self.numbers(observation)

    def _action(self, numbers: tuple[float, ...]) -> Any:
        if self.form == "index":
            return int(numbers[0])
        return np.array(numbers, np.int64 if self.form == "indices" else np.float32
                        ).reshape(self.shape)
