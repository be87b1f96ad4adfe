"""A body's process in a fast loop: answers its calls, in frames of `frames.py`.

It is started as any user's class is (curriculum/user_class_process.py), contained: a call that
hangs, or that ends the process, never holds up a tick. After the requests `load` and `serve`, in
JSON, the socket has frames.
"""
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np

from seed.body import user_body_worker
from seed.body.user_body_worker import checked_parts
from seed.curriculum.user_class_worker import InvalidClass, describe
from seed.live.frames import Call, Flag, Frame, Link, LinkLost, reply_error

OWNERS = ("action_limits", "max_change", "safe_action")   # optional attributes of the class
METHODS = ("stop", "sense")                                # optional methods


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
        self.body = self.bodies[0]
        self.began_s: float | None = None   # the call that is running
        if hasattr(self.body, "stop"):
            threading.Thread(target=self._watch, args=(stall_s,), daemon=True).start()
        return True

    def _watch(self, stall_s: float) -> None:
        """Stops the motors while a call hangs, once for each call."""
        stopped_s: float | None = None
        while True:
            time.sleep(stall_s / 4)
            began_s = self.began_s
            if began_s not in (None, stopped_s) and time.monotonic() - began_s > stall_s:
                stopped_s = began_s
                with suppress(Exception):
                    self.body.stop()

    def serve(self, connection: socket.socket) -> None:
        """Until the loop and its parent have ended."""
        with suppress(LinkLost):
            self._serve(Link(connection))

    def _serve(self, link: Link) -> None:
        while frame := link.take(None):
            number, call = frame.number, frame.call
            # A reset may take its time: a robot goes home.
            self.began_s = time.monotonic() if call in (Call.STEP, Call.SENSE) else None
            try:
                scalar, flags, observation = self._answer(frame)
            except InvalidClass as error:
                reply_error(link, number, call, str(error))
            except BaseException as error:
                reply_error(link, number, call, describe(Call(call).name.lower(), error))
            else:
                link.send(call, observation.tobytes(), scalar, flags, number)
            self.began_s = None
            if call == Call.FINISH:
                return

    def _answer(self, frame: Frame) -> tuple[float, int, np.ndarray]:
        """Reward, flags and observation."""
        if frame.call == Call.STEP:
            result = self.body.step(self._action(frame.numbers()))
            observation, reward, terminated, truncated, _ = checked_parts(
                "step", result, "observation, reward, terminated, truncated, info")
            flags = Flag.TERMINATED * bool(terminated) | Flag.TRUNCATED * bool(truncated)
            return float(reward), flags, self.numbers(observation)
        if frame.call == Call.SENSE:
            return 0.0, 0, self.numbers(self.body.sense())
        if frame.call == Call.RESET:
            observation, _ = checked_parts("reset", self.body.reset(seed=int(frame.scalar)),
                                           "observation, info")
            return 0.0, 0, self.numbers(observation)
        for name in ("stop", "close"):   # FINISH
            if hasattr(self.body, name):
                getattr(self.body, name)()
        return 0.0, 0, np.zeros(0)

    def _action(self, numbers: tuple[float, ...]) -> Any:
        if self.form == "index":
            return int(numbers[0])
        return np.array(numbers, np.int64 if self.form == "indices" else np.float32
                        ).reshape(self.shape)
