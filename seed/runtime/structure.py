"""The structure of an exported file: what the interpreter trusts, and a wrong file would crash."""
import functools
import math
import re
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .acting import choice_rows, hidden_width, input_rows, output_columns, world_columns

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
    ({14: 0, 47: 33, 59: 42, 75: 0, 76: 0, 101: 78, 111: 0, 116: 0}, "", "x>f",
     lambda s, v, o: s[0]),
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
    live, peak, copied = sum(tensors[i].size for i in inputs), 0, 0
    assigned = set[str]()    # states that are written
    variables = set[int]()   # tensors that hold one
    for n, (number, reads, writes, kind, at) in enumerate(operators):
        x = tuple([ready[i] for i in reads[:5]])
        y = tuple([_Tensor() if i in ready else tensors[i] for i in writes])
        copied += packed(codes[number], kind, at, x, y)
        if len({*reads}) < len(reads) and any(reads.count(i) > 1 for i in variables):
            raise ValueError("an operator reads the same state twice")   # XNNPACK crashes
        if not x:   # the handle of a variable
            variable = table("ss", at)[1]
            y = (y[0]._replace(name=variable, shape=states[variable]),)
        assigned |= {x[0].name} if not y else set()
        variables |= {*writes} if x and x[0].letter == "r" else set()
        ready |= zip(writes, y)
        live += sum(tensor.size for tensor in y)
        peak = max(peak, live)
        live -= sum(ready[i].size for i in {*reads, *writes}
                    if last.get(i, n) == n and ready[i].letter.islower())
    is_whole = set(ready) == {*range(-1, len(tensors))}
    if not is_whole or name in ("reset", "load") and assigned != {*states}:
        raise ValueError(f"the graph {name!r:.60} leaves tensors or states without a value")
    return peak + copied


def _required(description: dict[str, Any],
              states: dict[str, tuple]) -> dict[str, list[list[tuple]]]:
    """The signatures that an exported file has, each with its inputs and outputs."""
    t, explicit, bodies = (description[key] for key in ("prefill", "explicit_state", "bodies"))
    values = [("f", shape, key) for key, shape in states.items()]
    given = values if explicit else []
    logits = [("f", (1, 256), "logits"), *(("f", shape, f"{k}_out") for _, shape, k in given)]
    unused, done = [("f", (1,), "unused")], [("f", (1,), "done")]
    codecs = [body["codec"] for body in bodies.values()]

    def row(numbers_fn: Callable[[Any], int], name: str, *ones: int) -> tuple:
        return "f", (1, *ones, sum(map(numbers_fn, codecs))), name
    required = {"step": [[("i", (1,), "token"), *given], logits]}
    hidden = [("f", (1, 1, 1, hidden_width(bodies)), "hidden")] if hidden_width(bodies) else []
    if codecs:
        required["step"] = [
            [("i", (1,), "token"), ("f", (1, 1, 1, 1), "present"),
             row(input_rows, "weights", 1, 1), *given],
            [logits[0], row(output_columns, "control"), *hidden, *logits[1:]]]
    if t:
        required[f"prefill_{t}"] = [[("i", (t,), "tokens"), *given], logits]
    if not explicit:
        required["reset"] = [unused, done]
    if codecs and not explicit:
        required["save"] = [unused, [*done, *values]]
        required["load"] = [[*unused, *values], done]
    if hidden:
        required["predict"] = [[*hidden, row(choice_rows, "choices", 1, 1)],
                               [row(world_columns, "world")]]
    return required


def check_structure(data: bytes, description: dict[str, Any]) -> None:
    """Raises an exception, of any kind, unless the exporter could have written the file: the
    interpreter trusts it, and a wrong one would crash it."""
    explicit = description["explicit_state"]
    states = {key: tuple(state["shape"]) for key, state in description["states"].items()}
    required = _required(description, states)
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
