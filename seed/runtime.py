"""Runs an exported brain. A robot needs only this file, numpy, and ai-edge-litert or tflite-runtime
(Python 3.11 and numpy below 2).

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

MAGIC = b"TFL3"                     # bytes 4 to 8 of every TFLite file
CHECKSUM_KEY = b'{"blake2b":"'      # what the description begins with
CHECKSUM_DIGITS = 32                # hexadecimal
FORMAT = 1                          # version of the description
MAX_FILE_BYTES = 2 ** 31            # of a flatbuffer
MAX_TIMED_STEPS = 10_000            # that latency_us looks back on
GENERATE = 5                        # Stream.GENERATE of seed/rng.py: the trainer draws the same


class BrainError(ValueError):
    """The file cannot be run here. The message is one line that names it and the fix."""
    exit_code = 2   # of a command that ends with it


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
    description = json.JSONDecoder().raw_decode(text)[0]
    if description.get("format") != FORMAT:
        raise BrainError(f"{name} is of another version of seed: export it again with this one")
    return description


def _read(path: str | os.PathLike) -> bytes:
    """The bytes of a regular file that begins as a TFLite file does. Raises BrainError."""
    name = os.fspath(path)
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


def choose(logits: np.ndarray, temperature: float, rng: np.random.Generator) -> int:
    """The likeliest byte at temperature 0, else one drawn from the softmax of (v,) logits."""
    if temperature == 0:
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
    """A brain with its state. More than one thread does not make a step faster.

    Raises BrainError for a file that cannot be read, is damaged, is no brain, or is for another or
    a newer runtime.
    """

    def __init__(self, path: str | os.PathLike, threads: int = 1):
        if threads < 1:
            raise BrainError(f"threads is {threads}: use at least 1")
        name, data = os.fspath(path), _read(path)
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
        self.vocabulary = self.description["vocabulary"]
        self.step_times_s: deque[float] = deque(maxlen=MAX_TIMED_STEPS)
        tensors = {t["name"]: t["index"] for t in self.interpreter.get_input_details()}
        outputs = {t["name"]: t["index"] for t in self.interpreter.get_output_details()}
        self._token, self._logits = tensors["token"], outputs["logits"]
        self._prefill_bytes = prefill
        states = self.description["states"] if explicit else {}
        self._states = {key: (tensors[key], outputs[f"{key}_out"]) for key in states}
        self._initial = {key: np.full(state["shape"], state["start"], np.float32)
                         for key, state in states.items()}
        self.reset()

    def reset(self) -> None:
        """Back to the state before the first byte."""
        if not self._states:
            self.interpreter.get_signature_runner("reset")(unused=np.zeros(1, np.float32))
        for key, (state_in, _) in self._states.items():
            self.interpreter.set_tensor(state_in, self._initial[key])

    def step(self, byte: int) -> np.ndarray:
        """Logits (v,) float32 after one more byte. Raises BrainError unless 0 <= byte < 256."""
        if not 0 <= byte < 256:
            raise BrainError(f"{byte} is not a byte: use 0 to 255")
        started = time.perf_counter()
        self.interpreter.set_tensor(self._token, np.array([byte], np.int32))
        self.interpreter.invoke()
        logits = self.interpreter.get_tensor(self._logits)[0]
        for state_in, state_out in self._states.values():
            self.interpreter.set_tensor(state_in, self.interpreter.get_tensor(state_out))
        self.step_times_s.append(time.perf_counter() - started)
        return logits

    def prefill(self, prompt: bytes) -> np.ndarray:
        """Logits (v,) after all bytes of the prompt. Raises BrainError if it is empty."""
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
        """Text until `stop` (None: the end of an answer), from a fresh state."""
        self.reset()
        answer = bytes(self.generate_bytes(prompt.encode(), max_bytes, stop, temperature, seed))
        return answer.split(bytes([self.vocabulary["pad"]]))[0].decode("utf-8", errors="replace")

    def latency_us(self) -> tuple[float, float]:
        """Median and 99th percentile of the last steps, in microseconds."""
        if not self.step_times_s:
            raise BrainError("no step has been timed yet: call step first")
        p50, p99 = np.percentile(self.step_times_s, [50, 99])
        return float(p50 * 1e6), float(p99 * 1e6)
