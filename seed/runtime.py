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
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar

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
MAX_MEMORY = 64                     # bytes that operators need at once, for each byte of the file
# The tables of TFLite's schema.fbs as exported, by slot: a number's format in struct,
# "s" a string, "*" and what a vector holds, the name of a table, "@" options; "-" must be absent.
TABLES = {
    "model": ("I", "*code", "*graph", "s", "*buffer", "-", "*name", "*signature"),
    "code": ("b", "-", "i", "i"), "buffer": ("*c",), "name": ("s", "I"),
    "graph": ("*tensor", "*i", "*i", "*operator", "s"),
    "tensor": ("*i", "b", "I", "s", "scales"), "scales": ("-", "-", "*f", "*q", "-", "-", "i"),
    "operator": ("I", "*i", "*i", "B", "@"), "signature": ("*name", "*name", "s", "-", "I")}
NUMBERS = {kind: kind for kind in "bB?iIfq"}
TYPES = {0: ("f", 4), 1: ("h", 2), 2: ("i", 4), 9: ("b", 1), 13: ("r", 0)}   # letter, bytes
# Operators: codes, each with the type of its options; what the options' slots hold; the letters of
# what is read and written, upper case for constants, x for f or F; the shape that is written, from
# the shapes s and constant integers v that are read and the options o. False: never exported.
OPERATORS: list[tuple[dict[int, int], Any, str, Callable[[Any, Any, Any], Any]]] = [
    ({14: 0, 47: 33, 59: 42, 75: 0, 76: 0, 101: 78, 111: 0}, "", "x>f", lambda s, v, o: s[0]),
    ({0: 11, 18: 21, 41: 28, 42: 29, 57: 39}, "B", "xx>f",
     lambda s, v, o: o[0] < 2 and np.broadcast_shapes(*s)),
    ({2: 10}, "i", "x{2,4}>f", lambda s, v, o: len({(*n[:o[0]], *n[o[0] + 1:]) for n in s}) == 1
     and (*s[0][:o[0]], sum(n[o[0]] for n in s), *s[0][o[0] + 1:])),
    ({4: 2}, "biii-ii", "xFF>f", lambda s, v, o: o == [1, 1, 1, 1, 0, 1, 1] and s[0][::2] == (1, 1)
     and s[1] == (1, s[1][1], 1, *s[2]) and (1, s[0][1] - s[1][1] + 1, 1, s[0][3])),
    ({6: 38}, "", "[HB]>f", lambda s, v, o: s[0]),
    ({7: 0}, "", "iB>f", lambda s, v, o: s[1][0] > 255 and s[0] + s[1][1:]),
    ({9: 8}, "--?", "x[fFB][F-]>f", lambda s, v, o: o[2] and len(s[1]) == 2
     and s[0][-1:] == s[1][1:] and s[2] in (None, s[1][:1]) and s[0][:-1] + s[1][:1]),
    ({22: 17}, ("*i",), "xI>f", lambda s, v, o: v[1] == o[0]
     and math.prod(s[0]) == math.prod(v[1][:4]) and v[1]),
    ({25: 9}, "f", "x>f", lambda s, v, o: o == [1] and len(s[0]) == 4 and s[0]),
    ({36: 23}, "", "xi>f|Bi>b", lambda s, v, o: s[0][0] > 255 and s[1] + s[0][1:]),
    ({39: 26}, "", "xI>f", lambda s, v, o: sorted(v[1]) == [*range(len(s[0]))]
     and [s[0][i] for i in v[1]]),
    ({40: 27, 74: 27}, "?", "xI>f", lambda s, v, o: o[0] and v[1] in ((1,), (1, 2))
     and (s[0][0], 1, 1 if 2 in v[1] else s[0][2], s[0][3])),
    ({53: 37}, "bb", "b>f", lambda s, v, o: o == [9, 0] and s[0]),
    ({65: 48}, "", "xII>f", lambda s, v, o: all(0 <= start <= n - size for start, size, n in zip(
        v[1], v[2], s[0], strict=True)) and v[2]),
    ({94: 68}, "", "IF>f", lambda s, v, o: s[1] == () and v[0]),
    ({126: 101}, "", "xx>f", lambda s, v, o: s[0][:2] == s[1][:2] and s[0][3] == s[1][2]
     and s[0][:3] + s[1][3:]),
    ({142: 111}, "ss", ">r", lambda s, v, o: o[0] == "" and ()),
    ({143: 112}, "", "r>f", lambda s, v, o: s[0]),
    ({144: 113}, "", "rx>", lambda s, v, o: s[0] == s[1] and ())]
PACKED = (4, 9, 126)                     # operators that copy their weights
RULES = {code: (kind, slots, letters.replace("x", "[fF]"), shape_fn)
         for codes, slots, letters, shape_fn in OPERATORS for code, kind in codes.items()}
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
        except RuntimeError as error:
            raise BrainError(f"{self.name}: {' '.join(str(error).split()):.200}; export it "
                             f"again") from None
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
    size = int.from_bytes(data[start - 4:start], "little")   # of the vector that holds it
    try:
        description = json.loads(data[start:start + size])
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
    "states": lambda v: all(
        re.fullmatch("mask|[a-z]+_[0-9]+", key) and abs(state["start"]) < 1e38   # a float32
        and len(state["shape"]) <= 4 and all(_is_integer(n, 1, MAX_FILE_BYTES)
                                             for n in state["shape"]) for key, state in v.items()),
}


class _Tensor(NamedTuple):
    letter: str = "-"                 # of its type, in upper case if it is a constant
    shape: Any = None                 # of a handle: its variable's, as the name
    name: str = ""
    size: int = 0                     # bytes
    values: tuple[int, ...] = ()      # of constant integers


def _tensor(buffers: list, shape: tuple, dtype: int, buffer: int, name: str,
            scaled: Any) -> _Tensor:
    """Raises an exception unless its bytes and scales are as many as its shape says."""
    (letter, width), data = TYPES[dtype], buffers[buffer][0]
    size, is_valid = math.prod(shape[:4]) * width, len(shape) <= 4 and min(shape, default=1) > 0
    if data != 0:
        letter, is_valid = letter.upper(), is_valid and buffer > 0 and len(data) == size
    if scaled or letter == "B":
        _, _, scales, zeros, _, _, axis = scaled
        is_valid &= (letter == "B" and axis == 0 and len(scales) in (1, shape[0])
                     and zeros == (0,) * len(scales) and all(0 < n < math.inf for n in scales))
    if not is_valid:
        raise ValueError(f"the tensor {name!r:.60} has a wrong shape, size or scale")
    return _Tensor(letter, shape, name, size, tuple(data.cast("i")) if letter == "I" else ())


def _tables(data: bytes) -> Callable[[Any, int], list]:
    """What reads the table at an offset: the values of its slots, 0 where absent."""
    @functools.cache   # of many tables
    def layout(kinds: Any, vtable: int) -> tuple[struct.Struct, list[tuple[int, int, str]]]:
        count = struct.unpack_from("H", data, vtable)[0] // 2 - 2
        offsets = struct.unpack_from(f"{count}H", data, vtable + 4)
        slots = sorted((offset, i, kinds[i]) for i, offset in enumerate(offsets) if offset)
        form, end = "=", 0
        for offset, _, kind in slots:
            form += f"{offset - end}x{NUMBERS.get(kind, 'I')}"
            end = struct.calcsize(form)
        return struct.Struct(form), slots

    def table(kinds: Any, at: int) -> list:
        fields, slots = layout(kinds, at - struct.unpack_from("i", data, at)[0])
        values = [0] * len(kinds)
        for (offset, i, kind), number in zip(slots, fields.unpack_from(data, at)):
            values[i] = number if kind in NUMBERS else child(kind, at + offset + number)
        return values

    @functools.cache   # many tables share one
    def child(kind: str, at: int) -> Any:
        if kind == "@":
            return at
        count, start = struct.unpack_from("I", data, at)[0], at + 4
        if kind == "s":
            return str(data[start:start + count], "utf-8")
        if kind[0] != "*":
            return table(TABLES[kind], at)
        if kind == "*c":
            return memoryview(data)[start:start + count]
        items = struct.unpack_from(f"{count}{NUMBERS.get(kind[1:], 'I')}", data, start)
        return items if kind[1:] in NUMBERS else [
            child(kind[1:], start + 4 * i + offset) for i, offset in enumerate(items)]
    return table


def _memory(graph: list, tensors: list[_Tensor], codes: list[int], table: Any,
            states: dict[str, tuple]) -> int:
    """The bytes that its operators need at once. Raises an exception unless each is one that is
    exported, reads what is there and writes a new tensor of the shape that follows."""
    @functools.cache   # the rows of a prompt are alike
    def packed(code: int, kind: int, at: int, x: tuple, y: tuple) -> int:
        """Checks one operator; the bytes of weights that it copies."""
        required_kind, slots, pattern, shape_fn = RULES[code]
        letters = ">".join("".join(tensor.letter for tensor in z) for z in (x, y))
        if kind != required_kind or not re.fullmatch(pattern, letters):
            raise ValueError(f"operator {code} has wrong types or options")
        shape = shape_fn([t.shape for t in x], [t.values for t in x], kind and table(slots, at))
        if shape is False or [tuple(shape)][:len(y)] != [tensor.shape for tensor in y]:
            raise ValueError(f"operator {code} has a wrong shape")
        return sum(tensor.size for tensor in x[1:]) if code in PACKED else 0

    _, inputs, outputs, operators, name = graph
    ready = {i: tensor for i, tensor in enumerate(tensors) if tensor.letter.isupper()}
    ready |= {i: tensors[i] for i in inputs} | {-1: _Tensor()}
    last = {i: n for n, row in enumerate(operators) for i in row[1]} | dict.fromkeys(outputs, -1)
    live, peak, copied, assigned = sum(tensors[i].size for i in inputs), 0, 0, set()
    for n, (number, reads, writes, kind, at) in enumerate(operators):
        x = tuple([ready[i] for i in reads[:5]])
        y = tuple([_Tensor() if i in ready else tensors[i] for i in writes])
        copied += packed(codes[number], kind, at, x, y)
        if not x:   # the handle of a variable
            variable = table("ss", at)[1]
            y = (y[0]._replace(name=variable, shape=states[variable]),)
        assigned |= {x[0].name} if not y else set()
        ready |= zip(writes, y)
        live += sum(tensor.size for tensor in y)
        peak = max(peak, live)
        live -= sum(ready[i].size for i in {*reads, *writes}
                    if last.get(i, n) == n and ready[i].letter.islower())
    if set(ready) != {*range(-1, len(tensors))} or name == "reset" and assigned != {*states}:
        raise ValueError(f"the graph {name!r:.60} leaves tensors or states without a value")
    return peak + copied


def check_structure(data: bytes, description: dict[str, Any]) -> None:
    """Raises an exception, of any kind, unless the exporter could have written the file: the
    interpreter trusts it, and a wrong one would crash it."""
    t, explicit = description["prefill"], description["explicit_state"]
    states = {key: tuple(state["shape"]) for key, state in description["states"].items()}
    given = [("f", shape, key) for key, shape in states.items() if explicit]
    logits = [("f", (1, 256), "logits"), *(("f", shape, f"{key}_out") for _, shape, key in given)]
    required = {"step": [[("i", (1,), "token"), *given], logits]}
    if t:
        required[f"prefill_{t}"] = [[("i", (t,), "tokens"), *given], logits]
    if not explicit:
        required["reset"] = [[("f", (1,), "unused")], [("f", (1,), "done")]]
    table, memory = _tables(data), sum(4 * math.prod(shape) for shape in states.values())
    _, rows, graphs, _, buffers, _, metadata, signatures = table(
        TABLES["model"], struct.unpack_from("I", data)[0])
    codes = [code if old == min(code, 127) else -1 for old, _, _, code in rows]
    if [key for key, i in metadata if buffers[i]] != ["min_runtime_version", "seed"]:
        raise ValueError("it has other metadata")
    if [row[2] for row in signatures] != [*required]:
        raise ValueError(f"its signatures are not {', '.join(required)}")
    for i, (key, graph, signature) in enumerate(zip(required, graphs, signatures, strict=True)):
        memory += sum(16 * len(row[4][2]) for row in graph[0] if row[4])   # copies of scales
        if memory > MAX_MEMORY * len(data):
            break
        tensors = [_tensor(buffers, *row) for row in graph[0]]
        memory += _memory(graph, tensors, codes, table, {} if explicit else states)
        names = [[[tensors[j].name, j] for j in indices] for indices in graph[1:3]]
        ends = [[tensors[j][:3] for j in indices] for indices in graph[1:3]]
        if signature != [*names, key, 0, i] or ends != required[key] or graph[4] != key:
            raise ValueError(f"its signature {key} has other tensors")
    if memory > MAX_MEMORY * len(data):
        raise ValueError(f"it would need {memory} bytes of memory")


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
        self.name, self.description = name, describe(data, name)
        interpreter_class, self.runtime = find_interpreter()
        if self.runtime not in self.description["runtimes"]:
            raise BrainError(f"{name} is for {' or '.join(self.description['runtimes'])}, this is "
                             f"{self.runtime}: export with --target portable")
        min_version = self.description["runtimes"][self.runtime]
        _check_version(self.runtime, min_version, name)
        try:
            check_structure(data, self.description)
            self.interpreter = interpreter_class(model_content=data, num_threads=threads)
            self.interpreter.allocate_tensors()
        except Exception as error:   # of any kind: any byte may be wrong
            reason = " ".join(str(error).split()) if isinstance(
                error, (RuntimeError, ValueError)) else "its structure is damaged"
            raise BrainError(f"{name} cannot be run: {reason:.300}; export it again, or use "
                             f"{self.runtime} {min_version} or newer") from None
        self._lock = threading.RLock()   # held in every call that reads or changes the state
        self.vocabulary = self.description["vocabulary"]
        self.step_times_s: deque[float] = deque(maxlen=MAX_TIMED_STEPS)
        tensors = {tensor["name"]: tensor["index"] for tensor in (
            *self.interpreter.get_input_details(), *self.interpreter.get_output_details())}
        self._token, self._logits = tensors["token"], tensors["logits"]
        states = self.description["states"] if self.description["explicit_state"] else {}
        self._states = {key: (tensors[key], tensors[f"{key}_out"]) for key in states}
        self._initial = {key: np.full(state["shape"], state["start"], np.float32)
                         for key, state in states.items()}
        self._prefill_bytes = self.description["prefill"]
        self.reset()

    @_in_one_thread
    def reset(self) -> None:
        """Back to the state before the first byte."""
        if not self.description["explicit_state"]:
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
            if temperature and not np.isfinite(logits).all():
                raise BrainError(f"{self.name} gives logits that are not finite: export it again")
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
