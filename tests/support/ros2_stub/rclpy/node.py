import os
import pickle
import socket
import sys
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

from rclpy.qos import QoSProfile


def _folder(topic):
    folder = Path(os.environ["ROS2_STUB_DIR"]) / topic.strip("/").replace("/", "-")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _depth(qos_profile):
    if isinstance(qos_profile, QoSProfile):
        return qos_profile.depth
    assert type(qos_profile) is int, "a QoSProfile or a depth"
    return qos_profile


class _Publisher:
    def __init__(self, msg_type, topic):
        self._msg_type, self._folder = msg_type, _folder(topic)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)

    def publish(self, msg):
        if not isinstance(msg, self._msg_type):
            raise TypeError(f"Expected {self._msg_type}, got {type(msg)}")
        for path in self._folder.iterdir():
            with suppress(OSError):   # its reader has ended, or is slow
                self._socket.sendto(pickle.dumps(vars(msg)), str(path))


class _Subscription:
    def __init__(self, msg_type, topic, callback, depth):
        self._msg_type, self._callback, self._waiting = msg_type, callback, deque(maxlen=depth)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(_folder(topic) / f"{os.getpid()}-{id(self)}"))
        self.socket.setblocking(False)

    def take(self):
        """The oldest of the newest `depth` messages."""
        with suppress(BlockingIOError):
            while True:
                self._waiting.append(self.socket.recv(65536))
        self._callback(self._msg_type(**pickle.loads(self._waiting.popleft())))


class _Timer:
    def __init__(self, period_s, callback):
        self._period_s, self._callback = period_s, callback
        self._next_s = time.monotonic() + period_s

    def take(self):
        if time.monotonic() < self._next_s:
            return False
        self._next_s += self._period_s
        self._callback()
        return True


class Node:
    def __init__(self, node_name, *, context=None, cli_args=None, namespace=None):
        self._name, self._timers, self._subscriptions = node_name, [], []

    def create_publisher(self, msg_type, topic, qos_profile, *, callback_group=None):
        _depth(qos_profile)
        return _Publisher(msg_type, topic)

    def create_subscription(self, msg_type, topic, callback, qos_profile, *, callback_group=None):
        self._subscriptions.append(_Subscription(msg_type, topic, callback, _depth(qos_profile)))
        return self._subscriptions[-1]

    def create_timer(self, timer_period_sec, callback, callback_group=None, clock=None):
        self._timers.append(_Timer(timer_period_sec, callback))
        return self._timers[-1]

    def declare_parameter(self, name, value=None, descriptor=None, ignore_override=False):
        """With what the command line says: -p NAME:=VALUE, of strings and lists of them."""
        assert value is not None
        for word in sys.argv[sys.argv.index("--ros-args"):]:
            if word.startswith(f"{name}:="):
                text = word.removeprefix(f"{name}:=")
                value = text.strip("[]").replace(" ", "").split(",") if text[0] == "[" else text
        return SimpleNamespace(name=name, value=value)

    def get_logger(self):
        return SimpleNamespace(**{level: lambda message, level=level: print(
            f"[{level}] [{self._name}]: {message}", file=sys.stderr, flush=True)
            for level in ("debug", "info", "warning", "error", "fatal")})
