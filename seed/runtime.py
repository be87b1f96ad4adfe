"""Runs an exported brain: one file that a robot image can copy.

It needs numpy, and ai-edge-litert or tflite-runtime (Python 3.11 and numpy below 2); nothing else.

    brain = Brain("brain.tflite")
    brain.reset()
    logits = brain.step(65)              # (256,) float32 after one byte
    print(brain.generate("12+30="))
"""
import hashlib
import importlib.metadata
import json
import os
import re
import stat
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np

MAGIC, MARK, DIGITS = b"TFL3", b'{"blake2b":"', 32   # the description begins with its checksum
FORMAT = 1       # of the description
MOST = 2 ** 31   # bytes of a file, as a flatbuffer has them
TIMED = 10_000   # steps whose times are kept
GENERATE = 5   # Stream.GENERATE of seed/rng.py: the same draws as the trainer's


class BrainError(ValueError):
    """The file cannot be run here; the message is one line that names it and the fix."""


def seal(data: bytes) -> bytes:
    """The file with its checksum, that of the file with zeros in the checksum's place."""
    at = data.index(MARK) + len(MARK)
    return data[:at] + _digest(data, at) + data[at + DIGITS:]


def _digest(data: bytes, at: int) -> bytes:
    digest = hashlib.blake2b(data[:at], digest_size=DIGITS // 2)
    digest.update(b"0" * DIGITS)
    digest.update(data[at + DIGITS:])
    return digest.hexdigest().encode()


def describe(data: bytes, name: str) -> dict[str, Any]:
    """What a file says of itself. Raises BrainError unless every byte is as it was written."""
    at = data.find(MARK) + len(MARK)
    if at < len(MARK):
        raise BrainError(f"{name} is not a brain of seed: export one with python -m seed export")
    if data[at:at + DIGITS] != _digest(data, at):
        raise BrainError(f"{name} is damaged: its checksum is wrong, copy it again")
    text = data[at - len(MARK):].decode("utf-8", errors="replace")
    found = json.JSONDecoder().raw_decode(text)[0]
    if found.get("format") != FORMAT:
        raise BrainError(f"{name} is of another version of seed: export it again with this one")
    return found


def _read(path: str | os.PathLike) -> bytes:
    """A regular file whose first bytes are those of a TFLite file. Raises BrainError."""
    name = os.fspath(path)
    try:
        with open(path, "rb", opener=lambda p, flags: os.open(p, flags | os.O_NONBLOCK)) as file:
            about = os.fstat(file.fileno())
            if not stat.S_ISREG(about.st_mode):
                raise BrainError(f"{name} is not a file: name an exported brain")
            start = file.read(8)
            if start[4:] != MAGIC or about.st_size > MOST:
                raise BrainError(f"{name} is not a TFLite file: export a brain with python -m seed "
                                 f"export")
            return start + file.read()
    except OSError as error:
        raise BrainError(f"{name}: {error.strerror}: name an exported brain") from None


def choose(logits: np.ndarray, temperature: float, rng: np.random.Generator) -> int:
    """The likeliest byte at temperature 0, else one drawn from the softmax of (v,) logits."""
    if temperature == 0:
        return int(logits.argmax())
    p = np.exp((logits - logits.max()) / temperature, dtype=np.float64)
    return int(rng.choice(p.size, p=p / p.sum()))


def find_interpreter() -> tuple[Any, str]:
    """The class of the runtime at hand and its name."""
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


def _check_version(package: str, oldest: str, name: str) -> None:
    """Raises BrainError for an older runtime, which may run a file slowly or wrongly."""
    try:
        installed = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return  # copied into an image without its metadata
    now, least = ([int(n) for n in re.findall(r"\d+", text)[:3]] for text in (installed, oldest))
    if now < least:
        raise BrainError(f"{name} needs {package} {oldest} or newer, this is {installed}: pip "
                         f"install --upgrade {package}")


class Brain:
    """A brain with its state. `threads` above 1 never make a step faster.

    Raises BrainError for a file that cannot be read, is damaged, foreign or meant for another
    runtime or a newer one.
    """

    def __init__(self, path: str | os.PathLike, threads: int = 1):
        if threads < 1:
            raise BrainError(f"threads is {threads}: use at least 1")
        name, data = os.fspath(path), _read(path)
        self.description = describe(data, name)
        make, self.runtime = find_interpreter()
        if self.runtime not in self.description["runtimes"]:
            raise BrainError(f"{name} is for {' or '.join(self.description['runtimes'])}, this is "
                             f"{self.runtime}: export with --target portable")
        oldest = self.description["runtimes"][self.runtime]
        _check_version(self.runtime, oldest, name)
        try:
            self.interpreter = make(model_content=data, num_threads=threads)
            self.interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise BrainError(f"{name}: {' '.join(str(error).split())}; use {self.runtime} "
                             f"{oldest} or newer") from None
        prefill, explicit = self.description["prefill"], self.description["explicit_state"]
        wanted = ["step", *([] if explicit else ["reset"]),
                  *([f"prefill_{prefill}"] if prefill else [])]
        for signature in wanted:
            if signature not in self.interpreter.get_signature_list():
                raise BrainError(f"{name} has no signature {signature!r}: export it again")
        self.vocabulary = self.description["vocabulary"]
        self.seconds: deque[float] = deque(maxlen=TIMED)   # of the last steps
        tensors = {t["name"]: t["index"] for t in self.interpreter.get_input_details()}
        outputs = {t["name"]: t["index"] for t in self.interpreter.get_output_details()}
        self._token, self._logits = tensors["token"], outputs["logits"]
        self._prefill = prefill
        self._shapes = self.description["states"] if explicit else {}
        self._states = {key: (tensors[key], outputs[f"{key}_out"]) for key in self._shapes}
        self.reset()

    def reset(self) -> None:
        """Back to the state before the first byte."""
        if not self._states:
            self.interpreter.get_signature_runner("reset")(unused=np.zeros(1, np.float32))
        for key, (into, _) in self._states.items():
            state = self._shapes[key]
            self.interpreter.set_tensor(into, np.full(state["shape"], state["start"], np.float32))

    def step(self, byte: int) -> np.ndarray:
        """Logits (v,) float32 after one more byte. Raises BrainError if it is none."""
        if not 0 <= byte < 256:
            raise BrainError(f"{byte} is not a byte: use 0 to 255")
        started = time.perf_counter()
        self.interpreter.set_tensor(self._token, np.array([byte], np.int32))
        self.interpreter.invoke()
        logits = self.interpreter.get_tensor(self._logits)[0]
        for into, out in self._states.values():
            self.interpreter.set_tensor(into, self.interpreter.get_tensor(out))
        self.seconds.append(time.perf_counter() - started)
        return logits

    def prefill(self, prompt: bytes) -> np.ndarray:
        """Logits (v,) after all bytes of a prompt that has at least one."""
        if not prompt:
            raise BrainError("the prompt is empty: give at least one byte")
        at, t = 0, self._prefill
        while t and len(prompt) - at >= t:
            logits = self._leap(np.frombuffer(prompt, np.uint8)[at:at + t].astype(np.int32))
            at += t
        for byte in prompt[at:]:
            logits = self.step(byte)
        return logits

    def _leap(self, tokens: np.ndarray) -> np.ndarray:
        """Several bytes in one call."""
        run = self.interpreter.get_signature_runner(f"prefill_{tokens.size}")
        states = {key: self.interpreter.get_tensor(into) for key, (into, _) in self._states.items()}
        found = run(tokens=tokens, **states)
        for key, (into, _) in self._states.items():
            self.interpreter.set_tensor(into, found[f"{key}_out"])
        return found["logits"][0]

    def generate_bytes(self, prompt: bytes, max_bytes: int = 128, stop: int | None = None,
                       temperature: float = 0.0, seed: int = 0) -> Iterator[int]:
        """Yields at most max_bytes bytes until `stop` (the end of an answer); temperature 0 takes
        the likeliest byte, above 0 the same draws as the trainer's."""
        stop = self.vocabulary["end"] if stop is None else stop
        rng = np.random.default_rng((seed, GENERATE, 0))
        logits = self.prefill(prompt)
        for _ in range(max_bytes):
            byte = choose(logits, temperature, rng)
            if byte == stop:
                return
            yield byte
            logits = self.step(byte)

    def generate(self, prompt: str, max_bytes: int = 128, stop: int | None = None,
                 temperature: float = 0.0, seed: int = 0) -> str:
        """Text until `stop`, the end of the answer unless given, from a fresh state."""
        self.reset()
        answer = bytes(self.generate_bytes(prompt.encode(), max_bytes, stop, temperature, seed))
        return answer.split(bytes([self.vocabulary["pad"]]))[0].decode("utf-8", errors="replace")

    def latency_us(self) -> tuple[float, float]:
        """Median and 99th percentile of the last steps, in microseconds."""
        if not self.seconds:
            raise BrainError("no step has been timed yet: call step first")
        p50, p99 = np.percentile(self.seconds, [50, 99])
        return float(p50 * 1e6), float(p99 * 1e6)
