"""Runs an exported brain. A robot needs only this file, numpy, and ai-edge-litert or tflite-runtime
(Python 3.11 and numpy below 2).

    brain = Brain("brain.tflite")
    brain.reset()
    logits = brain.step(65)              # (256,) float32 after one byte
    print(brain.generate("12+30="))
"""
import functools
import hashlib
import importlib.metadata
import json
import math
import operator
import os
import re
import stat
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np

MAGIC = b"TFL3"                     # bytes 4 to 8 of every TFLite file
CHECKSUM_KEY = b'{"blake2b":"'      # what the description begins with
CHECKSUM_DIGITS = 32                # hexadecimal
FORMAT = 1                          # version of the description
MAX_FILE_BYTES = 2 ** 31            # of a flatbuffer
MAX_TIMED_STEPS = 10_000            # that latency_us looks back on
MAX_THREADS = 64
MAX_COUNT = 2 ** 63 - 1             # of a seed and of bytes
MIN_TEMPERATURE = 1e-30             # less is 0: logits divided by it would not be finite
GENERATE = 5                        # Stream.GENERATE of seed/rng.py: the trainer draws the same


Method = TypeVar("Method", bound=Callable[..., Any])


class BrainError(ValueError):
    """The file cannot be run here, or the call is wrong. The message is one line that names the
    file or the argument, and the fix."""
    exit_code = 2   # of a command that ends with it


def _integer(name: str, value: Any, low: int, high: int) -> int:
    """Raises BrainError unless `value` is an integer from low to high."""
    try:
        number = operator.index(value)
    except TypeError:
        raise BrainError(f"{name} is {value!r:.60}: use an integer") from None
    if not low <= number <= high:
        raise BrainError(f"{name} is {value!r:.60}: use {low} to {high}")
    return number


def _temperature(value: Any) -> float:
    if not isinstance(value, (int, float, np.integer, np.floating)) or not 0 <= value < math.inf:
        raise BrainError(f"temperature is {value!r:.60}: use a number from 0 on")
    return float(value)


def _in_one_thread(method: Method) -> Method:
    """A method that raises BrainError while another thread uses this Brain."""
    @functools.wraps(method)
    def call(self: "Brain", *args: Any) -> Any:
        if not self._lock.acquire(blocking=False):
            raise BrainError("another thread is using this Brain: make one Brain for each thread")
        try:
            return method(self, *args)
        finally:
            self._lock.release()
    return call   # type: ignore[return-value]


def seal(data: bytes) -> bytes:
    """The file with its checksum: BLAKE2b of the file with zeros in the checksum's place."""
    at = data.index(CHECKSUM_KEY) + len(CHECKSUM_KEY)
    return data[:at] + _digest(data, at) + data[at + CHECKSUM_DIGITS:]


def _digest(data: bytes, at: int) -> bytes:
    digest = hashlib.blake2b(data[:at], digest_size=CHECKSUM_DIGITS // 2)
    digest.update(b"0" * CHECKSUM_DIGITS)
    digest.update(data[at + CHECKSUM_DIGITS:])
    return digest.hexdigest().encode()


def describe(data: bytes, name: str) -> dict[str, Any]:
    """The metadata of a file. Raises BrainError unless its checksum and version are right."""
    start = data.find(CHECKSUM_KEY)
    if start < 0:
        raise BrainError(f"{name} is not a brain of seed: export one with python -m seed export")
    at = start + len(CHECKSUM_KEY)
    if data[at:at + CHECKSUM_DIGITS] != _digest(data, at):
        raise BrainError(f"{name} is damaged: its checksum is wrong; copy it again")
    text = data[start:].decode("utf-8", errors="replace")
    try:
        description = json.JSONDecoder().raw_decode(text)[0]
    except (ValueError, RecursionError):
        raise BrainError(f"{name} has a description that is no JSON: export it again") from None
    if description.get("format") != FORMAT:   # begins with "{": an object
        raise BrainError(f"{name} is of another version of seed: export it again with this one")
    wrong = [key for key, is_valid_fn in DESCRIBED.items()
             if not _holds(is_valid_fn, description.get(key))]
    if wrong:
        raise BrainError(f"{name} has a wrong description of its {wrong[0]}: export it again")
    return description


def _holds(is_valid_fn: Callable[[Any], object], value: Any) -> bool:
    try:
        return bool(is_valid_fn(value))
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
        return False


def _is_integer(value: Any, low: int, high: int) -> bool:
    return type(value) is int and low <= value <= high


# What Brain reads of a description, each key with what its value must be.
DESCRIBED: dict[str, Callable[[Any], object]] = {
    "runtimes": lambda v: v and all(isinstance(version, str) for version in v.values()),
    "prefill": lambda v: _is_integer(v, 0, MAX_FILE_BYTES),
    "explicit_state": lambda v: isinstance(v, bool),
    "vocabulary": lambda v: all(_is_integer(v[key], 0, 255) for key in ("end", "pad")),
    "states": lambda v: all(math.isfinite(state["start"]) and isinstance(state["shape"], list)
                            for state in v.values()),
}


def _read(path: str | os.PathLike) -> bytes:
    """The bytes of a regular file that begins as a TFLite file does. Raises BrainError."""
    name = _name(path)
    try:
        with open(path, "rb", opener=lambda p, flags: os.open(p, flags | os.O_NONBLOCK)) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise BrainError(f"{name} is not a file: name an exported brain")
            start = file.read(8)
            if start[4:] != MAGIC or status.st_size > MAX_FILE_BYTES:
                raise BrainError(f"{name} is not a TFLite file: export a brain with python -m seed "
                                 f"export")
            return start + file.read()
    except OSError as error:
        raise BrainError(f"{name}: {error.strerror}; name an exported brain") from None


def _name(path: Any) -> str:
    """Of the file, for a person. Raises BrainError if `path` can be no path."""
    try:
        name = os.fsdecode(path)
    except TypeError:
        raise BrainError(f"the path is {path!r:.60}: use text or a Path") from None
    if "\0" in name:
        raise BrainError(f"the path is {path!r:.60}: a path has no null character")
    return name


def choose(logits: np.ndarray, temperature: float, rng: np.random.Generator) -> int:
    """The likeliest byte at temperature 0, else one drawn from the softmax of (v,) logits."""
    if temperature < MIN_TEMPERATURE:
        return int(logits.argmax())
    p = np.exp((logits - logits.max()) / temperature, dtype=np.float64)
    return int(rng.choice(p.size, p=p / p.sum()))


def find_interpreter() -> tuple[Any, str]:
    """The interpreter class of the installed TFLite runtime, and the runtime's name."""
    try:
        from ai_edge_litert.interpreter import Interpreter
        return Interpreter, "ai-edge-litert"
    except ImportError:
        pass
    try:
        from tflite_runtime import interpreter
    except ImportError:
        raise BrainError("no TFLite runtime: pip install ai-edge-litert") from None
    if int(np.__version__.split(".")[0]) > 1:
        raise BrainError(f"tflite-runtime does not run with numpy {np.__version__}: pip install "
                         f"'numpy<2', or ai-edge-litert")
    return interpreter.Interpreter, "tflite-runtime"


def _check_version(package: str, min_version: str, name: str) -> None:
    """Raises BrainError for an older runtime, which may run a file slowly or wrongly."""
    try:
        installed = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return  # copied into an image without its metadata
    current, required = ([int(n) for n in re.findall(r"\d+", version)[:3]]
                         for version in (installed, min_version))
    if current < required:
        raise BrainError(f"{name} needs {package} {min_version} or newer, this is {installed}: pip "
                         f"install --upgrade {package}")


class Brain:
    """A brain with its state, for one thread; `threads`: of one step, more than 1 is not faster.

    Threads that call `generate` wait for each other, as it begins anew each time. `reset`, `step`
    and `prefill` share one state: they raise BrainError while another thread uses this Brain. Make
    one Brain for each thread.

    Raises BrainError for a file that cannot be read, is damaged, is no brain, or is for another or
    a newer runtime; and for every argument that is wrong in type or range.
    """

    def __init__(self, path: str | os.PathLike, threads: int = 1):
        threads = _integer("threads", threads, 1, MAX_THREADS)
        name, data = _name(path), _read(path)
        self.description = describe(data, name)
        interpreter_class, self.runtime = find_interpreter()
        if self.runtime not in self.description["runtimes"]:
            raise BrainError(f"{name} is for {' or '.join(self.description['runtimes'])}, this is "
                             f"{self.runtime}: export with --target portable")
        min_version = self.description["runtimes"][self.runtime]
        _check_version(self.runtime, min_version, name)
        try:
            self.interpreter = interpreter_class(model_content=data, num_threads=threads)
            self.interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise BrainError(f"{name}: {' '.join(str(error).split())}; use {self.runtime} "
                             f"{min_version} or newer") from None
        prefill, explicit = self.description["prefill"], self.description["explicit_state"]
        required = {"step": True, "reset": not explicit, f"prefill_{prefill}": prefill > 0}
        for signature, is_required in required.items():
            if is_required and signature not in self.interpreter.get_signature_list():
                raise BrainError(f"{name} has no signature {signature!r}: export it again")
        self._lock = threading.RLock()   # held in every call that reads or changes the state
        self.vocabulary = self.description["vocabulary"]
        self.step_times_s: deque[float] = deque(maxlen=MAX_TIMED_STEPS)
        inputs = self.interpreter.get_input_details()
        tensors = {t["name"]: t["index"] for t in inputs}
        shapes = {t["name"]: list(t["shape"]) for t in inputs}
        outputs = {t["name"]: t["index"] for t in self.interpreter.get_output_details()}
        self._prefill_bytes = prefill
        states = self.description["states"] if explicit else {}
        try:
            self._token, self._logits = tensors["token"], outputs["logits"]
            self._states = {key: (tensors[key], outputs[f"{key}_out"]) for key in states}
            wrong = [key for key in states if states[key]["shape"] != shapes[key]]
            if wrong:   # before it is allocated
                raise ValueError(f"{wrong[0]} has the shape {shapes[wrong[0]]}")
            self._initial = {key: np.full(state["shape"], state["start"], np.float32)
                             for key, state in states.items()}
            self.reset()
        except KeyError as error:
            raise BrainError(f"{name} has no tensor {error}: export it again") from None
        except (RuntimeError, TypeError, ValueError) as error:
            raise BrainError(f"{name} does not fit its description: {' '.join(str(error).split())}"
                             "; export it again") from None

    @_in_one_thread
    def reset(self) -> None:
        """Back to the state before the first byte."""
        if not self._states:
            self.interpreter.get_signature_runner("reset")(unused=np.zeros(1, np.float32))
        for key, (state_in, _) in self._states.items():
            self.interpreter.set_tensor(state_in, self._initial[key])

    @_in_one_thread
    def step(self, byte: int) -> np.ndarray:
        """Logits (v,) float32 after one more byte. Raises BrainError unless 0 <= byte < 256."""
        byte = _integer("byte", byte, 0, 255)
        started = time.perf_counter()
        self.interpreter.set_tensor(self._token, np.array([byte], np.int32))
        self.interpreter.invoke()
        logits = self.interpreter.get_tensor(self._logits)[0]
        for state_in, state_out in self._states.values():
            self.interpreter.set_tensor(state_in, self.interpreter.get_tensor(state_out))
        self.step_times_s.append(time.perf_counter() - started)
        return logits

    @_in_one_thread
    def prefill(self, prompt: bytes) -> np.ndarray:
        """Logits (v,) after all bytes of the prompt. Raises BrainError if it is empty."""
        if not isinstance(prompt, (bytes, bytearray)):
            raise BrainError(f"the prompt is {type(prompt).__name__}: give bytes")
        if not prompt:
            raise BrainError("the prompt is empty: give at least one byte")
        start, t = 0, self._prefill_bytes
        while t and len(prompt) - start >= t:
            logits = self._prefill_chunk(np.array(list(prompt[start:start + t]), np.int32))
            start += t
        for byte in prompt[start:]:
            logits = self.step(byte)
        return logits

    def _prefill_chunk(self, tokens: np.ndarray) -> np.ndarray:
        """Logits (v,) after tokens (t,), t as exported, in one call."""
        run = self.interpreter.get_signature_runner(f"prefill_{tokens.size}")
        states = {key: self.interpreter.get_tensor(state_in)
                  for key, (state_in, _) in self._states.items()}
        outputs = run(tokens=tokens, **states)
        for key, (state_in, _) in self._states.items():
            self.interpreter.set_tensor(state_in, outputs[f"{key}_out"])
        return outputs["logits"][0]

    def generate_bytes(self, prompt: bytes, max_bytes: int = 128, stop: int | None = None,
                       temperature: float = 0.0, seed: int = 0) -> Iterator[int]:
        """Yields at most max_bytes bytes until `stop` (None: the end of an answer). Temperature 0
        takes the likeliest byte; above 0 the draws are the trainer's of the same seed."""
        stop = self.vocabulary["end"] if stop is None else _integer("stop", stop, 0, 255)
        max_bytes = _integer("max_bytes", max_bytes, 0, MAX_COUNT)
        temperature = _temperature(temperature)
        rng = np.random.default_rng((_integer("seed", seed, 0, MAX_COUNT), GENERATE, 0))
        logits = self.prefill(prompt)
        for _ in range(max_bytes):
            byte = choose(logits, temperature, rng)
            if byte == stop:
                return
            yield byte
            logits = self.step(byte)

    def generate(self, prompt: str, max_bytes: int = 128, stop: int | None = None,
                 temperature: float = 0.0, seed: int = 0) -> str:
        """Text until `stop` (None: the end of an answer), from a fresh state."""
        if not isinstance(prompt, str):
            raise BrainError(f"the prompt is {type(prompt).__name__}: give text")
        try:
            data = prompt.encode()
        except UnicodeEncodeError:
            raise BrainError("the prompt is not UTF-8: give text") from None
        with self._lock:
            self.reset()
            answer = bytes(self.generate_bytes(data, max_bytes, stop, temperature, seed))
        return answer.split(bytes([self.vocabulary["pad"]]))[0].decode("utf-8", errors="replace")

    def latency_us(self) -> tuple[float, float]:
        """Median and 99th percentile of the last steps, in microseconds."""
        if not self.step_times_s:
            raise BrainError("no step has been timed yet: call step first")
        p50, p99 = np.percentile(self.step_times_s, [50, 99])
        return float(p50 * 1e6), float(p99 * 1e6)
