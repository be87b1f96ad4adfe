"""Writes TFLite flatbuffers. Slots and enum numbers are those of TensorFlow Lite's schema.fbs,
version 3, which only appends. The same calls give the same bytes.

Every tensor has a name of its own in its graph: an input's or output's, that of the weights that it
holds, or its operator's within a scope.
"""
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import flatbuffers
import numpy as np

BUFFER_ALIGNMENT = 16   # bytes; kernels load whole vectors
RESOURCE = "resource"
TYPES = {"float32": 0, "float16": 1, "int32": 2, "int8": 9, RESOURCE: 13}
MAX_BYTE_CODE = 127   # of the one-byte field of an operator's code; stands for any larger one


class Operator(NamedTuple):
    code: int                             # BuiltinOperator
    version: int                          # unless another is asked for
    options_type: int                     # BuiltinOptions; 0 for none
    fields: dict[str, tuple[int, str]]    # of the options that are used: name -> (slot, kind)


KEEP_DIMS = {"keep_dims": (0, "bool")}
OPERATORS = {name: Operator(*values) for name, values in {
    "ADD": (0, 1, 11, {}),
    "ASSIGN_VARIABLE": (144, 1, 113, {}),
    "CAST": (53, 3, 37, {"in_type": (0, "byte"), "out_type": (1, "byte")}),
    "CONCATENATION": (2, 1, 10, {"axis": (0, "int")}),
    "ABS": (101, 1, 78, {}),
    "DEPTHWISE_CONV_2D": (4, 1, 2, {
        "padding": (0, "byte"), "stride_w": (1, "int"), "stride_h": (2, "int"),
        "depth_multiplier": (3, "int"), "dilation_w": (5, "int"), "dilation_h": (6, "int")}),
    "DEQUANTIZE": (6, 3, 38, {}),
    "DIV": (42, 1, 29, {}),
    "ELU": (111, 1, 0, {}),
    "EMBEDDING_LOOKUP": (7, 4, 0, {}),
    "FILL": (94, 1, 68, {}),
    "EXP": (47, 1, 33, {}),
    "FULLY_CONNECTED": (9, 6, 8, {"keep_num_dims": (2, "bool")}),
    "GATHER": (36, 1, 23, {}),
    "LOGISTIC": (14, 1, 0, {}),
    "MEAN": (40, 1, 27, KEEP_DIMS),
    "MINIMUM": (57, 1, 39, {}),
    "MUL": (18, 1, 21, {}),
    "READ_VARIABLE": (143, 1, 112, {}),
    "ROUND": (116, 1, 0, {}),
    "RESHAPE": (22, 1, 17, {"new_shape": (0, "vector")}),
    "RSQRT": (76, 1, 0, {}),
    "SLICE": (65, 1, 48, {}),
    "SOFTMAX": (25, 1, 9, {"beta": (0, "float")}),
    "SQRT": (75, 1, 0, {}),
    "SUB": (41, 1, 28, {"activation": (0, "byte")}),
    "TRANSPOSE": (39, 1, 26, {}),
    "VAR_HANDLE": (142, 1, 111, {"container": (0, "string"), "shared_name": (1, "string")}),
}.items()}
# The oldest TFLite with an operator of a version, as its own converter says (runtime_version.cc).
SINCE = {
    "1.5.0": ("ADD 1", "CONCATENATION 1", "DEPTHWISE_CONV_2D 1", "MUL 1", "RESHAPE 1", "SOFTMAX 1"),
    "1.6.0": ("DIV 1", "GATHER 1", "MEAN 1", "SUB 1", "TRANSPOSE 1"), "1.7.0": ("EXP 1",),
    "1.10.0": ("RSQRT 1", "SQRT 1"), "1.13.0": ("ABS 1", "FILL 1"),
    "1.14.0": ("DEQUANTIZE 2", "ELU 1", "GATHER 2", "LOGISTIC 1", "MINIMUM 1", "ROUND 1",
               "SLICE 1"),
    "1.15.0": ("DEQUANTIZE 3",), "2.1.0": ("FULLY_CONNECTED 6",),
    "2.6.0": ("ASSIGN_VARIABLE 1", "READ_VARIABLE 1", "VAR_HANDLE 1"), "2.8.0": ("CAST 3",),
    "2.17.0": ("FULLY_CONNECTED 12",), "2.18.0": ("EMBEDDING_LOOKUP 4",)}


@dataclass(frozen=True)
class Tensor:
    """A value in a graph. `scales`: of an int8 weight, one for all rows or one per row."""
    index: int
    shape: tuple[int, ...]
    dtype: str
    name: str
    buffer: int = 0
    scales: tuple[float, ...] = ()


@dataclass
class Graph:
    """Tensors, and operators in execution order. A runtime calls a graph by its name. `scope`: what
    the names of new tensors begin with."""
    model: "Model"
    name: str
    scope: str = ""
    tensors: list[Tensor] = field(default_factory=list)
    operators: list[tuple] = field(default_factory=list)   # the arguments of _Writer.operator
    inputs: dict[str, Tensor] = field(default_factory=dict)
    outputs: dict[str, Tensor] = field(default_factory=dict)
    constants: dict[tuple, Tensor] = field(default_factory=dict)
    uses: Counter[str] = field(default_factory=Counter)   # of names

    def unique(self, name: str) -> str:
        """The name, with a number if there is one of that name already."""
        self.uses[name] += 1
        return name if self.uses[name] == 1 else f"{name}_{self.uses[name]}"

    def tensor(self, shape: Sequence[int], dtype: str = "float32", name: str = "",
               buffer: int = 0, scales: tuple[float, ...] = ()) -> Tensor:
        self.tensors.append(Tensor(len(self.tensors), tuple(map(int, shape)), dtype, name, buffer,
                                   scales))
        return self.tensors[-1]

    def input(self, name: str, shape: Sequence[int], dtype: str = "float32") -> Tensor:
        self.inputs[name] = self.tensor(shape, dtype, self.unique(name))
        return self.inputs[name]

    def output(self, name: str, tensor: Tensor) -> None:
        self.tensors[tensor.index] = self.outputs[name] = replace(tensor, name=name)

    def constant(self, values: np.ndarray, scales: Iterable[float] = (),
                 name: str = "") -> Tensor:
        """Equal values share one tensor, and one buffer among all graphs of the model. `name`: of
        weights, within the scope."""
        buffer, rows = self.model.buffer(values.tobytes()), tuple(map(float, scales))
        key = (values.shape, str(values.dtype), buffer, rows)
        if key not in self.constants:
            name = self.unique(".".join(filter(None, [self.scope, name])) if name else "constant")
            self.constants[key] = self.tensor(values.shape, str(values.dtype), name, buffer, rows)
        return self.constants[key]

    def add(self, kind: str, inputs: Sequence[Tensor | None], shape: Sequence[int],
            dtype: str = "float32", version: int = 0, name: str = "", **options: Any) -> Tensor:
        """Appends an operator; returns its output, which is called after it unless there is a name.
        Options that are zero need not be given."""
        name = name or "/".join(filter(None, [self.scope, kind.lower()]))
        output = self.tensor(shape, dtype, self.unique(name))
        indices = [-1 if tensor is None else tensor.index for tensor in inputs]
        self.operators.append((self.model.opcode(kind, version), kind, indices, [output.index],
                               options))
        return output

    def variable(self, name: str) -> Tensor:
        """The handle of a variable, which all graphs share by its name."""
        return self.add("VAR_HANDLE", [], (), RESOURCE, name=f"{name}/handle", container="",
                        shared_name=name)

    def assign(self, handle: Tensor, value: Tensor) -> None:
        kind = "ASSIGN_VARIABLE"
        self.operators.append((self.model.opcode(kind), kind, [handle.index, value.index], [], {}))


class Model:
    """Collects graphs and shared constants, then serialises them."""

    def __init__(self, description: str):
        self.description = description
        self.buffers: dict[bytes, int] = {b"": 0}   # the schema requires an empty one first
        self.opcodes: dict[tuple[str, int], int] = {}
        self.graphs: list[Graph] = []
        self.metadata: dict[str, bytes] = {}

    def graph(self, name: str) -> Graph:
        self.graphs.append(Graph(self, name))
        return self.graphs[-1]

    def buffer(self, data: bytes) -> int:
        return self.buffers.setdefault(data, len(self.buffers))

    def opcode(self, kind: str, version: int = 0) -> int:
        key = (kind, version or OPERATORS[kind].version)
        return self.opcodes.setdefault(key, len(self.opcodes))

    @property
    def min_runtime_version(self) -> str:
        """The oldest TFLite that has all its operators, each in its version."""
        used = {f"{kind} {version}" for kind, version in self.opcodes}
        assert used <= {name for names in SINCE.values() for name in names}, used
        return [version for version, names in SINCE.items() if used.intersection(names)][-1]

    def tobytes(self) -> bytes:
        """The file, with the metadata of now in the last buffers."""
        buffers = [*self.buffers, *self.metadata.values()]
        return _Writer(sum(map(len, buffers)) + 2 ** 16).model(self, buffers)


class _Writer:
    """Writes children before the tables that refer to them: a flatbuffer grows backwards."""

    def __init__(self, size: int):
        self.builder = flatbuffers.Builder(size)
        self.prepend: dict[str, Callable[[int, Any, Any], None]] = {
            "int": self.builder.PrependInt32Slot, "uint": self.builder.PrependUint32Slot,
            "byte": self.builder.PrependInt8Slot, "ubyte": self.builder.PrependUint8Slot,
            "bool": self.builder.PrependBoolSlot, "float": self.builder.PrependFloat32Slot,
            "child": self.builder.PrependUOffsetTRelativeSlot}
        self.offsets: dict[tuple, int] = {}

    def shared(self, key: tuple, write_fn: Callable[[], int]) -> int:
        """The offset of the child with this key, which is written once."""
        if key not in self.offsets:
            self.offsets[key] = write_fn()
        return self.offsets[key]

    def table(self, *fields: tuple[int, str, Any]) -> int:
        """A table of (slot, kind, value); kind "child" takes an offset."""
        self.builder.StartObject(max((slot for slot, _, _ in fields), default=-1) + 1)
        for slot, kind, value in fields:
            self.prepend[kind](slot, value, None)   # None: write even a default value
        return self.builder.EndObject()

    def children(self, offsets: Sequence[int]) -> int:
        self.builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            self.builder.PrependUOffsetTRelative(offset)
        return self.builder.EndVector()

    def numbers(self, values: Sequence[float], dtype: type) -> int:
        array: np.ndarray = np.array(values, dtype)
        return self.shared((dtype, array.tobytes()), lambda: self.builder.CreateNumpyVector(array))

    def string(self, text: str) -> int:
        return self.shared((text,), lambda: self.builder.CreateString(text))

    def buffer(self, data: bytes) -> int:
        if not data:
            return self.table()
        self.builder.StartVector(1, len(data), BUFFER_ALIGNMENT)
        self.builder.head -= len(data)
        self.builder.Bytes[self.builder.head:self.builder.head + len(data)] = data
        return self.table((0, "child", self.builder.EndVector()))

    def tensor(self, tensor: Tensor) -> int:
        name, shape = self.string(tensor.name), self.numbers(tensor.shape, np.int32)
        fields = [(0, "child", shape), (2, "uint", tensor.buffer), (3, "child", name)]
        if tensor.dtype != "float32":
            fields.append((1, "byte", TYPES[tensor.dtype]))
        if tensor.scales:
            scales = self.numbers(tensor.scales, np.float32)
            zeros = self.numbers([0] * len(tensor.scales), np.int64)
            table = self.table((2, "child", scales), (3, "child", zeros), (6, "int", 0))
            fields.append((4, "child", table))
        return self.table(*fields)

    def operator(self, opcode: int, kind: str, inputs: list[int], outputs: list[int],
                 options: dict[str, Any]) -> int:
        options_type = OPERATORS[kind].options_type
        fields = [(0, "uint", opcode), (1, "child", self.numbers(inputs, np.int32)),
                  (2, "child", self.numbers(outputs, np.int32))]
        if options_type:
            table = self.shared((kind, repr(options)), lambda: self.options(kind, options))
            fields += [(3, "ubyte", options_type), (4, "child", table)]
        return self.table(*fields)

    def options(self, kind: str, options: dict[str, Any]) -> int:
        fields = []
        for name, value in options.items():
            slot, field_kind = OPERATORS[kind].fields[name]
            if field_kind == "vector":
                fields.append((slot, "child", self.numbers(value, np.int32)))
            elif field_kind == "string":
                fields.append((slot, "child", self.string(value)))
            elif value:                       # an absent field reads as zero
                fields.append((slot, field_kind, value))
        return self.table(*fields)

    def graph(self, graph: Graph) -> int:
        tensors = self.children([self.tensor(t) for t in graph.tensors])
        operators = self.children([self.operator(*o) for o in graph.operators])
        inputs = self.numbers([t.index for t in graph.inputs.values()], np.int32)
        outputs = self.numbers([t.index for t in graph.outputs.values()], np.int32)
        return self.table((0, "child", tensors), (1, "child", inputs), (2, "child", outputs),
                          (3, "child", operators), (4, "child", self.string(graph.name)))

    def names(self, indices: dict[str, int]) -> int:
        """Tables of a name and an index."""
        return self.children([self.table((0, "child", self.string(name)), (1, "uint", index))
                              for name, index in indices.items()])

    def signature(self, number: int, graph: Graph) -> int:
        inputs, outputs = (self.names({name: t.index for name, t in tensors.items()})
                           for tensors in (graph.inputs, graph.outputs))
        return self.table((0, "child", inputs), (1, "child", outputs),
                          (2, "child", self.string(graph.name)), (4, "uint", number))

    def model(self, model: Model, buffer_data: Sequence[bytes]) -> bytes:
        """`buffer_data`: all buffers; the last ones are the model's metadata."""
        buffers = self.children([self.buffer(data) for data in buffer_data])
        first = len(model.buffers)
        metadata = self.names({name: first + i for i, name in enumerate(model.metadata)})
        opcodes = self.children([
            self.table((0, "byte", min(OPERATORS[kind].code, MAX_BYTE_CODE)), (2, "int", version),
                       (3, "int", OPERATORS[kind].code)) for kind, version in model.opcodes])
        graphs = self.children([self.graph(g) for g in model.graphs])
        signatures = self.children([self.signature(i, g) for i, g in enumerate(model.graphs)])
        root = self.table((0, "uint", 3), (1, "child", opcodes), (2, "child", graphs),
                          (3, "child", self.string(model.description)), (4, "child", buffers),
                          (6, "child", metadata), (7, "child", signatures))
        self.builder.Finish(root, file_identifier=b"TFL3")
        return bytes(self.builder.Output())
