"""Runs a user's class in its own process, so that it can neither stop nor disturb the run.

    python user_class_worker.py FD MODULE PATH CLASS

MODULE is that of the class's kind: its `Calls` answers the requests. Requests and replies are
frames on the socket FD: four bytes with the length, then JSON. A reply has the request's id and a
`value`, or an `error` of one line. Needs the standard library alone, if the kind does.
"""
import importlib
import importlib.util
import json
import os
import reprlib
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

MAX_ERROR = 400           # characters
LENGTH_BYTES = 4          # of a frame's length


class InvalidClass(Exception):
    """What is wrong with a class or with what it gives, in one line."""


def describe(call: str, error: BaseException) -> str:
    try:
        text = f"{type(error).__name__}: {str(error)[:300]}"
    except BaseException:   # even __str__ is the user's code
        text = type(error).__name__
    return f"{call} raises {' '.join(text.split())[:300]}"


def shown(value: object) -> str:
    """A value of whatever size as a short text."""
    try:
        return reprlib.repr(value)[:120]
    except BaseException:   # __repr__ is the user's code too
        return type(value).__name__


def outer_pid() -> int:
    """The id outside of this process's PID namespace; 0 if /proc is not there to tell it."""
    try:
        return int(os.readlink("/proc/self"))
    except (OSError, ValueError):
        return 0


def to_frame(message: dict[str, Any]) -> bytes:
    data = json.dumps(message).encode()
    return len(data).to_bytes(LENGTH_BYTES, "big") + data


def load(path: str, class_name: str, required: Sequence[str]) -> Callable[[], Any]:
    """The class, from a file that may import its neighbours."""
    spec = importlib.util.spec_from_file_location(f"user_class_{Path(path).stem}", path)
    if spec is None or spec.loader is None or not Path(path).is_file():
        raise InvalidClass(f"there is no file {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    sys.path.insert(0, str(Path(path).resolve().parent))
    spec.loader.exec_module(module)
    user_class = getattr(module, class_name, None)
    if not isinstance(user_class, type):
        raise InvalidClass(f"{path} has no class {class_name}")

    def make() -> Any:
        made = user_class()
        for name in required:
            if not hasattr(made, name):
                raise InvalidClass(f"the class has no {name}")
        return made
    return make


def reply(methods: dict[str, Callable[..., Any]], call: str, do: str,
          **arguments: Any) -> dict[str, Any]:
    try:
        return {"value": methods[do](**arguments)}
    except InvalidClass as error:
        return {"error": str(error)[:MAX_ERROR]}
    except BaseException as error:
        return {"error": describe(call, error)}


def main(fd: str, module: str, path: str, class_name: str) -> None:
    os.set_inheritable(int(fd), False)   # no process of the class is heard
    calls = importlib.import_module(module).Calls(path, class_name)
    methods = calls.methods()
    del sys.path[0]
    with suppress(OSError), socket.socket(fileno=int(fd)) as link:   # the run may end first
        frames = link.makefile("rb")
        while header := frames.read(LENGTH_BYTES):
            request = json.loads(frames.read(int.from_bytes(header, "big")))
            number = request.pop("id")
            link.sendall(to_frame({"id": number, **reply(methods, **request)}))
            if request["do"] == "serve":   # only of a kind that has a protocol of its own
                calls.serve(link)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))   # the run's own seed, whatever is installed
    importlib.import_module("seed.curriculum.user_class_worker").main(*sys.argv[1:])
