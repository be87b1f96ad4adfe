"""The writer's numbers and bytes against the schema that LiteRT ships."""
import inspect
import json
import re
from dataclasses import replace

import pytest
from ai_edge_litert import schema_py_generated as schema

from seed.export import Options
from seed.export.brain_file import BrainFile
from seed.export.flatbuffer import OPERATORS, TYPES
from tests.support.brains import exported

# Our names of option fields that are shortened.
SCHEMA_FIELDS = {"activation": "FusedActivationFunction", "in_type": "InDataType",
                 "out_type": "OutDataType", "dilation_w": "DilationWFactor",
                 "dilation_h": "DilationHFactor"}
# Of operators the lowest version that TFLite's converter (op_version.cc) gives them where it is not
# 1: by the operator and the type of its input or, for weights, of its second.
LEAST = {("GATHER", "INT8"): 2, ("CAST", "INT8"): 3, ("DEQUANTIZE", "INT8"): 2,
         ("DEQUANTIZE", "FLOAT16"): 3}
LEAST_OF_WEIGHTS = {("FULLY_CONNECTED", "FLOAT32"): 5, ("FULLY_CONNECTED", "INT8"): 12,
                    ("EMBEDDING_LOOKUP", "INT8"): 4}
# By target, weights and whether states are explicit: the oldest TFLite (runtime_version.cc).
OLDEST = {("portable", "float32", False): "2.6.0", ("portable", "float32", True): "2.1.0",
          ("portable", "float16", False): "2.6.0", ("portable", "int8", False): "2.8.0",
          ("litert", "float32", False): "2.6.0", ("litert", "float32", True): "2.1.0",
          ("litert", "int8", False): "2.18.0"}
# Operators whose options are not called like them.
OTHER_OPTIONS = {"MEAN": "Reducer", "MINIMUM": "MaximumMinimum"}
SLOT_KINDS = {"int": "Int32", "byte": "Int8", "bool": "Bool", "float": "Float32",
              "vector": "UOffsetTRelative", "string": "UOffsetTRelative"}


def test_tensor_types_are_those_of_the_schema():
    assert TYPES == {name: getattr(schema.TensorType, name.upper()) for name in TYPES}


@pytest.mark.parametrize("name", OPERATORS)
def test_operator_codes_options_and_slots_are_those_of_the_schema(name):
    operator = OPERATORS[name]
    assert operator.code == getattr(schema.BuiltinOperator, name)
    options = {number: key for key, number in vars(schema.BuiltinOptions).items()
               if isinstance(number, int)}[operator.options_type]
    expected = OTHER_OPTIONS.get(name, name.replace("_", "")).lower()
    assert options.lower() in ("none", f"{expected}options")
    for field, (slot, kind) in operator.fields.items():
        camel = SCHEMA_FIELDS.get(field) or field.title().replace("_", "")
        source = inspect.getsource(getattr(schema, f"{options}Add{camel}"))
        assert re.search(rf"Prepend{SLOT_KINDS[kind]}Slot\({slot},", source), source


def test_an_independent_reader_reads_what_was_written(brain, tmp_path):
    data = exported(brain, tmp_path / "f", prefill=4).read_bytes()
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data, 0))
    assert model.version == 3 and schema.Model.ModelBufferHasIdentifier(data, 0)
    assert [s.signatureKey.decode() for s in model.signatureDefs] == ["step", "prefill_4", "reset"]
    step = model.subgraphs[0]
    assert [i.name.decode() for i in model.signatureDefs[0].inputs] == ["token"]
    assert step.tensors[step.outputs[0]].shape.tolist() == [1, 256]
    metadata = {m.name.decode(): model.buffers[m.buffer].data for m in model.metadata}
    assert bytes(metadata["min_runtime_version"]) == b"2.6.0".ljust(16, b"\0")
    assert json.loads(bytes(metadata["seed"]))["step"] == 7
    offsets = [data.find(bytes(b.data)) for b in model.buffers if b.data is not None
               and len(b.data) > 64 and any(b.data)]
    assert offsets and all(offset % 16 == 0 for offset in offsets)


def parsed(data: bytes) -> schema.ModelT:
    return schema.ModelT.InitFromObj(schema.Model.GetRootAs(data, 0))


def names_of(numbers: type) -> dict[int, str]:
    return {number: name for name, number in vars(numbers).items() if isinstance(number, int)}


@pytest.mark.parametrize("target, weights, explicit", OLDEST, ids=str)
def test_operators_have_the_version_that_their_types_need(brain, tmp_path, target, weights,
                                                          explicit):
    model = parsed(exported(brain, tmp_path / "f", target=target, weights=weights,
                            explicit_state=explicit, prefill=3).read_bytes())
    kinds, types = names_of(schema.BuiltinOperator), names_of(schema.TensorType)
    for graph in model.subgraphs:
        for operator in graph.operators:
            code = model.operatorCodes[operator.opcodeIndex]
            read = [(kinds[code.builtinCode], types[graph.tensors[i].type])
                    for i in operator.inputs if i >= 0][:2]
            least = max([1, *(LEAST.get(key, 1) for key in read[:1]),
                         *(LEAST_OF_WEIGHTS.get(key, 1) for key in read[1:])])
            assert code.version >= least, read
    buffer = next(entry.buffer for entry in model.metadata
                  if entry.name == b"min_runtime_version")
    assert bytes(model.buffers[buffer].data).rstrip(b"\0").decode() == OLDEST[
        target, weights, explicit]


@pytest.mark.parametrize("target, weights", [("portable", "float32"), ("portable", "int8"),
                                             ("litert", "int8")])
def test_every_tensor_has_a_name_of_its_own_and_weights_that_of_the_checkpoint(
        brain, tmp_path, target, weights):
    model = parsed(exported(brain, tmp_path / "f", target=target, weights=weights,
                            prefill=3).read_bytes())
    for graph in model.subgraphs:
        names = [tensor.name.decode() for tensor in graph.tensors]
        assert all(names) and len(set(names)) == len(names), graph.name
    step = {tensor.name.decode() for tensor in model.subgraphs[0].tensors}
    matrices = {key for key, array in brain.params.items() if array.ndim > 1}
    assert {key for key in matrices if not any(
        name == key or name.startswith(f"{key}.") for name in step)} == set()
    assert {"layers.0.mixer/sqrt", "conv_0", "conv_0/handle"} <= step or target == "litert"


def test_names_cost_little(brain, tmp_path):
    """Beside what a file without them has."""
    file = BrainFile(brain, Options(prefill=16))
    named = len(file.tobytes())
    for graph in file.model.graphs:
        ends = {tensor.index for tensor in (*graph.inputs.values(), *graph.outputs.values())}
        graph.tensors = [tensor if tensor.index in ends else replace(tensor, name="")
                         for tensor in graph.tensors]
    print(f"{named:,} bytes, {len(file.tobytes()):,} without names")
    assert named < 1.3 * len(file.tobytes())
