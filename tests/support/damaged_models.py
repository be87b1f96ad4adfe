"""Changes of a brain's graphs that leave a file with a right checksum and a wrong structure."""
import dataclasses
import random
import struct
from collections.abc import Callable

import numpy as np

from seed.export.flatbuffer import Graph, Model, Tensor

Damage = Callable[[Model], object]
SIDE = 20_000   # of a matrix of 1.6 GB


def step(model: Model) -> Graph:
    return model.graphs[0]


def changed(kind: str, field: str, value: object, graph: int = 0) -> Damage:
    """A field of the last operator of a kind: reads, writes or options. `value`: or a function of
    its old value."""
    def damage(model: Model) -> None:
        operators = model.graphs[graph].operators
        i = [i for i, row in enumerate(operators) if row[1] == kind][-1]
        row = dict(zip(("code", "kind", "reads", "writes", "options"), operators[i]))
        row[field] = value(row[field]) if callable(value) else value
        operators[i] = tuple(row.values())
    return damage


def tensor(is_meant_fn: Callable, **fields: object) -> Damage:
    """Fields of the last tensor of the step that `is_meant_fn` is true of."""
    def damage(model: Model) -> None:
        tensors = step(model).tensors
        old = [old for old in tensors if is_meant_fn(old)][-1]
        tensors[old.index] = dataclasses.replace(old, **fields)
    return damage


def reads_constant(kind: str, place: int, values: list[int]) -> Damage:
    """The last operator of a kind reads other integers: an axis, a shape."""
    def damage(model: Model) -> None:
        index = step(model).constant(np.array(values, np.int32)).index
        changed(kind, "reads", lambda old: [*old[:place], index, *old[place + 1:]])(model)
    return damage


def other_handle(model: Model) -> None:
    """All states are written to the first: kernels copy beyond its end, and Python aborts."""
    handle = [row[3][0] for row in step(model).operators if row[1] == "VAR_HANDLE"][0]
    for i, row in enumerate(step(model).operators):
        if row[1] == "ASSIGN_VARIABLE":
            step(model).operators[i] = (*row[:2], [handle, row[2][1]], *row[3:])


def doubled_state(model: Model) -> None:
    """A sum of a state with itself, which the state then is: XNNPACK crashes."""
    operators = step(model).operators
    last = [row for row in operators if row[1] == "ASSIGN_VARIABLE"][-1]
    value = [row[3][0] for row in operators if row[1] == "READ_VARIABLE" and row[2] == last[2][:1]]
    i = [i for i, row in enumerate(operators) if row[3] == last[2][1:]][0]
    state = step(model).tensors[value[0]]
    total = step(model).add("ADD", [state, state], state.shape)
    operators.insert(i + 1, operators.pop())
    operators[operators.index(last)] = (*last[:2], [last[2][0], total.index], *last[3:])


def claims_memory(model: Model) -> None:
    """An operator that writes 1.6 GB, from two vectors of 80 KB."""
    row, column = (step(model).constant(np.ones(shape, np.float32)) for shape in (
        (1, SIDE, 1, 1), (1, 1, SIDE, 1)))
    step(model).add("ADD", [row, column], (1, SIDE, SIDE, 1))


def shares_scales(model: Model) -> None:
    """Interpreters copy the scales of each tensor: 70 MB from a file of 0.5 MB."""
    values = step(model).constant(np.ones((20_000, 1), np.int8), [1.0] * 20_000)
    for _ in range(300):
        step(model).tensor(values.shape, "int8", "", values.buffer, values.scales)


def swapped(model: Model) -> None:
    model.graphs[0], model.graphs[-1] = model.graphs[-1], model.graphs[0]


def without_assignment(model: Model) -> None:
    """`reset` leaves a state without a value."""
    operators = model.graphs[-1].operators
    operators.remove([row for row in operators if row[1] == "ASSIGN_VARIABLE"][0])


def is_computed(old) -> bool:
    return old.buffer == 0 and old.dtype == "float32" and len(old.shape) == 4


# Each structural kind: the change. Those named after a signal end Python where nothing checks.
DAMAGES: dict[str, Damage] = {
    "SIGSEGV": changed("READ_VARIABLE", "writes", []),
    "SIGABRT": other_handle,
    "operator reads a tensor that is written later": changed(
        "RESHAPE", "reads", lambda old: [old[0] + 3, old[1]]),
    "operator reads beyond the tensors": changed("MUL", "reads", [10 ** 6, 10 ** 6]),
    "operator reads a negative index": changed("MUL", "reads", [-2, -2]),
    "operator lacks an input": changed("MUL", "reads", [-1, -1]),
    "operator reads nothing": changed("ELU", "reads", []),
    "operator writes beyond the tensors": changed("MUL", "writes", [10 ** 6]),
    "operator writes what is written": changed("MUL", "writes", lambda old: [old[0] - 1]),
    "operator writes an input": changed("MUL", "writes", [0]),
    "operator writes a constant": changed("MUL", "writes", [1]),
    "operator of a wrong code": changed("MUL", "code", 99),
    "operator of another code": changed("MUL", "code", 0),
    "axis beyond the shape": changed("CONCATENATION", "options", {"axis": 7}),
    "negative axis": changed("CONCATENATION", "options", {"axis": -1}),
    "padding": changed("DEPTHWISE_CONV_2D", "options", lambda old: {**old, "padding": 0}),
    "stride": changed("DEPTHWISE_CONV_2D", "options", lambda old: {**old, "stride_h": 0}),
    "activation": changed("SUB", "options", {"activation": 9}),
    "infinite beta": changed("SOFTMAX", "options", {"beta": float("inf")}),
    "slice beyond the tensor": reads_constant("SLICE", 1, [0, 9, 9, 9]),
    "slice of a negative start": reads_constant("SLICE", 1, [0, -5, 0, 0]),
    "slice of too few axes": reads_constant("SLICE", 1, [0]),
    "reshape to another size": reads_constant("RESHAPE", 1, [1, 512]),
    "axes of a transposition": reads_constant("TRANSPOSE", 1, [0, 1, 1, 7]),
    "axis of a mean": reads_constant("MEAN", 1, [9]),
    "larger shape": tensor(is_computed, shape=(1, 2 ** 15, 2 ** 15, 1)),
    "negative shape": tensor(is_computed, shape=(1, -1, 1, 1)),
    "empty shape": tensor(is_computed, shape=(1, 0, 1, 1)),
    "shape of six axes": tensor(is_computed, shape=(1,) * 6),
    "another type": tensor(is_computed, dtype="int8"),
    "buffer beyond the file's": tensor(is_computed, buffer=10 ** 6),
    "buffer of another size": tensor(lambda old: old.buffer > 0, buffer=1),
    "no buffer": tensor(lambda old: old.buffer > 0, buffer=0),
    "scales of a float": tensor(lambda old: old.buffer > 0, scales=(1.0,)),
    "a tensor that nothing writes": lambda model: step(model).tensor((1, 1, 1, 8)),
    "variable of another name": changed("VAR_HANDLE", "options", {
        "container": "", "shared_name": "none"}),
    "variable of another container": changed(
        "VAR_HANDLE", "options", lambda old: {**old, "container": "x"}),
    "variable that reset does not assign": without_assignment,
    "state that is read twice by an operator": doubled_state,
    "memory": claims_memory,
    "memory of scales": shares_scales,
    "graphs in another order": swapped,
    "graph is missing": lambda model: model.graphs.pop(),
    "input of another name": tensor(lambda old: old.name == "token", name="tokem"),
    "output of another name": tensor(lambda old: old.name == "logits", name="logit"),
    "other metadata": lambda model: model.metadata.update(TFLITE_METADATA=b"x" * 16),
}


def rewired(model: Model, number: int) -> None:
    """Some operators read other tensors of the same shape, which are there: nothing to refuse."""
    rng = random.Random(number)
    graph = rng.choice([graph for graph in model.graphs if graph.name != "reset"])
    for _ in range(rng.randint(1, 20)):
        i = rng.randrange(len(graph.operators))
        code, kind, reads, writes, options = graph.operators[i]
        early = [j for row in graph.operators[:i] for j in row[3]]
        early += [tensor.index for tensor in graph.tensors if tensor.buffer]
        reads = [rng.choice([j for j in early if alike(graph.tensors[j], graph.tensors[read])]
                            or [read]) for read in reads]
        if kind not in ("VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE"):
            graph.operators[i] = (code, kind, reads, writes, options)


def alike(a: Tensor, b: Tensor) -> bool:
    return a.dtype != "int32" and (a.shape, a.dtype, a.buffer > 0, len(a.scales)) == (
        b.shape, b.dtype, b.buffer > 0, len(b.scales))


def place(data: bytes, path: str) -> int:
    """Where a field is: "s2 i0 s3" is slot 3 of the first table in slot 2 of the model."""
    at = 0
    for step in path.split():
        at += struct.unpack_from("<I", data, at)[0]
        if step[0] == "s":
            vtable = at - struct.unpack_from("<i", data, at)[0]
            at += struct.unpack_from("<H", data, vtable + 4 + 2 * int(step[1:]))[0]
        else:
            at += 4 + 4 * int(step[1:])
    return at


# Fields that the exporter cannot write wrongly, and a word for each; "length": of the vector there.
BYTES = {
    "root": ("", 2 ** 31 + 4), "schema version": ("s0", 9), "vector of graphs": ("s2", 2 ** 30),
    "vtable": ("s2 i0 table", 2 ** 31 - 1), "length of a vector": ("s2 i0 s0 length", 2 ** 30),
    "length of a shape": ("s2 i0 s0 i9 s0 length", 2 ** 31), "operator": ("s2 i0 s3 i3", 2 ** 31),
    "text": ("s2 i0 s4", 2 ** 31), "name of a signature": ("s7 i0 s2 length", 2 ** 32 - 1),
    "graph of a signature": ("s7 i0 s4", 7), "tensor of a signature": ("s7 i0 s0 i0 s1", 10 ** 6),
    "code of an operator": ("s1 i0 s3", 119), "buffer of metadata": ("s6 i1 s1", 10 ** 6),
    "length of a buffer": ("s4 i1 s0 length", 2 ** 31),
}


def with_word(data: bytes, path: str, word: int) -> bytes:
    """The file with another word at a path, not sealed."""
    *steps, last = path.split() or [""]
    at = place(data, " ".join(steps if last in ("length", "table") else [*steps, last]))
    if last in ("length", "table"):
        at += struct.unpack_from("<I", data, at)[0]
    return data[:at] + struct.pack("<I", word) + data[at + 4:]
